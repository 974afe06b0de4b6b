"""Hints between workers, over PostgreSQL and over NATS alike: they arrive, coalesced, and nothing breaks the bus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import nats
import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.bus.hints import LONGEST, MOST_WAITING, Hint, Outbox, decode, encode, key
from syncd.bus.link import HeartbeatBus
from syncd.bus.nats import NatsBus
from syncd.bus.postgres import CHANNEL, NotifyBus
from syncd.postgres.embedded import EmbeddedPostgres
from tests.store.listening import Listener, feed, until
from tests.support.nats_server import NatsServer

KEYS = st.text(max_size=20).map(key)
HINTS = st.one_of(
    st.builds(Hint, st.just("f"), KEYS, KEYS, st.integers(0, 2**63 - 1)),
    KEYS.map(lambda space: Hint("p", space)),
    st.just(Hint("m")),
)


@given(st.lists(HINTS))
def test_hints_come_out_as_they_went_in(hints: list[Hint]) -> None:
    payloads = encode(hints)
    assert all(len(payload.encode()) <= LONGEST for payload in payloads)
    assert [hint for payload in payloads for hint in decode(payload)[0]] == hints
    assert sum(decode(payload)[1] for payload in payloads) == 0


def test_payloads_are_as_full_as_they_may_be() -> None:
    payloads = encode([feed(f"space {n}", 10**9) for n in range(5000)])
    word = len(f"f{key('a')}{key('b')}{10**9} ")
    assert {len(payload.split()) for payload in payloads[:-1]} == {(LONGEST + 1) // word}


@given(st.text())
def test_whatever_comes_is_read_without_an_error(payload: str) -> None:
    hints, strange = decode(payload)
    assert len(hints) + strange == len(payload.split(" "))


@pytest.mark.parametrize(
    "word",
    [
        "",
        "hello",
        "m1",
        "f",
        f"f{key('a')}{key('b')}",
        f"f{key('a')}{key('b')}-1",
        f"f{key('a')}{key('b')}01",
        f"f{key('a')}{key('b')}1\n",
        f"f{key('a')}{key('b')}٣",
        f"f{key('a')}{key('b')}{10**20}",
        f"p{key('a')}{key('b')}",
        "x" * (LONGEST + 1),
        " ".join(["m"] * LONGEST),
    ],
)
def test_what_is_no_hint_is_counted_and_skipped(word: str) -> None:
    assert decode(word) == ([], 1)
    if len(word) < LONGEST:
        assert decode(f"m {word} p{key('a')}") == ([Hint("m"), Hint("p", key("a"))], 1)


def test_what_could_break_a_payload_is_not_sent() -> None:
    bad = [Hint("f", "a b", key("b"), 1), Hint("f", key("a"), key("b"), -1), Hint("p", "\0" * 11), Hint("x"), Hint("")]
    assert encode([*bad, Hint("m"), *bad]) == ["m"]


def test_a_key_hides_the_name_and_has_one_length() -> None:
    keys = {key(name) for name in ("", "personal:ada", "ä" * 500, "\ud800", "a b\0")}
    assert {len(one) for one in keys} == {11}
    assert len(keys) == 5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99))))
def test_of_each_feed_the_greatest_seq_waits(told: list[tuple[int, int]]) -> None:
    outbox, greatest = Outbox(), dict[int, int]()
    for space, seq in told:
        outbox.add(feed(str(space), seq))
        greatest[space] = max(seq, greatest.get(space, 0))
    assert set(outbox.take()) == {feed(str(space), seq) for space, seq in greatest.items()}
    assert len(outbox) == 0


def test_more_things_than_there_is_room_for_are_dropped_and_counted() -> None:
    outbox = Outbox()
    for n in range(MOST_WAITING + 7):
        outbox.add(Hint("f", str(n), "", 1))
    outbox.add(Hint("f", "0", "", 2))
    assert (len(outbox), outbox.dropped) == (MOST_WAITING, 7)
    assert outbox.take()[0].seq == 2


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    with NatsServer() as running:
        yield running


@pytest.fixture(params=["postgres", "nats"])
def make(request: pytest.FixtureRequest, database: EmbeddedPostgres, server: NatsServer) -> Callable[[], HeartbeatBus]:
    """Makes ends of one bus, which are not open yet."""
    if request.param == "nats":
        return lambda: NatsBus(server.url, "test")
    return lambda: NotifyBus(database.runtime_dsn)


async def test_everybody_hears_a_hint_and_so_does_who_told_it(make: Callable[[], HeartbeatBus]) -> None:
    async with Listener(make()) as one, Listener(make()) as two, Listener(make()) as three:
        hints = [feed("garden", 7), Hint("m"), Hint("p", key("garden"))]
        two.publish(*hints)
        for listener in (one, two, three):
            await listener.hears(*hints)
        assert (one.bus.told, one.bus.sent, one.bus.heard) == (0, 0, 3)
        assert (two.bus.told, two.bus.sent, two.bus.heard) == (3, 1, 3)


async def test_a_hint_waits_for_no_heartbeat(make: Callable[[], HeartbeatBus], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.bus.link.HEARTBEAT_EVERY", 3600.0)
    async with Listener(make()) as one, Listener(make()) as two:
        for seq in range(20):
            one.publish(feed("quick", seq))
            await two.hears(feed("quick", seq))


async def test_of_many_hints_about_a_feed_the_greatest_travels(make: Callable[[], HeartbeatBus]) -> None:
    async with Listener(make()) as one, Listener(make()) as two:
        one.publish(*(feed("hot", seq) for seq in (*range(1000), *range(500))), feed("cold", 1))
        await two.hears(feed("hot", 999), feed("cold", 1))
        async with asyncio.timeout(60):
            while not one.bus.sent:  # noqa: ASYNC110 (others may hear it before its sender has its confirmation)
                await asyncio.sleep(0.01)
        assert (one.bus.told, one.bus.sent, len(two.hints)) == (1501, 1, 2)


async def test_a_burst_of_thousands_arrives_whole_in_few_payloads(make: Callable[[], HeartbeatBus]) -> None:
    hints = [feed(f"space {n}", n) for n in range(5000)]
    async with Listener(make()) as one, Listener(make()) as two:
        one.publish(*hints)
        await two.hears(*hints)
        # It counts what the database has answered, which may come after what the other one hears.
        await until(lambda: one.bus.sent >= len(encode(hints)))
        assert one.bus.sent == len(encode(hints)) < 30
        assert sorted(two.hints) == sorted(hints)


async def test_what_strangers_say_is_ignored_and_counted(
    make: Callable[[], HeartbeatBus], database: EmbeddedPostgres, server: NatsServer
) -> None:
    payloads = ["nonsense", "", "{}", "!somebody.1", "f" * 7000, f"m {key('a')}"]
    async with Listener(make()) as one:
        if isinstance(one.bus, NatsBus):
            client = await nats.connect(server.url)
            for payload in (*(payload.encode() for payload in payloads), b"\xff\x00", b"m " * 9000):
                await client.publish("syncd.hints.test", payload)
            await client.close()
            expected = 7
        else:
            connection = await asyncpg.connect(database.runtime_dsn)
            for payload in payloads:
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
            await connection.close()
            expected = 5
        await until(lambda: one.bus.ignored == expected)
        assert (one.hints, one.bus.state) == ([Hint("m")], "up")


async def test_a_listener_that_fails_costs_its_hint_and_nothing_else(make: Callable[[], HeartbeatBus]) -> None:
    bus, taken = make(), []

    def hear(hint: Hint) -> None:
        if hint.kind == "m":
            raise RuntimeError("not now")
        taken.append(hint)

    await bus.open(hear)
    await until(lambda: bus.state == "up")
    for hint in (Hint("m"), feed("after", 1)):
        bus.publish(hint)
    await until(lambda: taken == [feed("after", 1)])
    assert bus.state == "up"
    await bus.close()


async def test_what_was_told_just_before_the_end_is_still_sent(make: Callable[[], HeartbeatBus]) -> None:
    async with Listener(make()) as one:
        async with Listener(make()) as two:
            two.publish(feed("last", 1))
        await one.hears(feed("last", 1))


async def test_closing_leaves_no_task_and_no_connection(
    make: Callable[[], HeartbeatBus], database: EmbeddedPostgres, server: NatsServer
) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'syncd bus'"

    async def connections() -> int:
        return await connection.fetchval(query) + await asyncio.to_thread(server.connections)

    while await connections():  # noqa: ASYNC110  those of the tests before are on their way out
        await asyncio.sleep(0.01)
    before = asyncio.all_tasks()
    async with Listener(make()), Listener(make()):
        assert await connections() == 2
        assert len(asyncio.all_tasks() - before) >= 4
    deadline = time.monotonic() + 60
    while await connections():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    await until(lambda: not asyncio.all_tasks() - before)
    await connection.close()


async def test_a_bus_may_be_closed_twice_and_without_having_been_opened(make: Callable[[], HeartbeatBus]) -> None:
    bus = make()
    await bus.close()
    await bus.open(lambda hint: None)
    await bus.close()
    await bus.close()
    bus.publish(Hint("m"))
    assert bus.state == "down"


@pytest.mark.parametrize("kind", ["postgres", "nats"])
async def test_a_bus_opens_though_nobody_is_there_and_connects_when_somebody_is(
    kind: str, folder: Path, database: EmbeddedPostgres
) -> None:
    late = EmbeddedPostgres(folder / "late") if kind == "postgres" else NatsServer()
    bus = NotifyBus(late.owner_dsn) if isinstance(late, EmbeddedPostgres) else NatsBus(late.url, "test")
    async with Listener(bus, wait=False) as one:
        assert bus.state == "down"
        one.publish(*(feed("early", seq) for seq in range(100)), *(feed(str(n), 1) for n in range(MOST_WAITING)))
        assert bus.dropped == 1
        late.start()
        await one.hears(feed("early", 99), feed("0", 1))
        assert (bus.state, bus.reconnects) == ("up", 0)
    late.stop() if isinstance(late, EmbeddedPostgres) else late.kill()
