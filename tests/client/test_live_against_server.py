"""Live sync of the Python client with the real server: what one writes the others have at once, whatever breaks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica, Changes, Limits, LiveState, Presence, RecordKey, Replica

from tests.support.agreeing import check_same, create_space, set_role
from tests.support.harness import Server
from tests.support.proxy import Proxy
from tests.support.quick_live import HASTY, QUICK, until

pytestmark = pytest.mark.alone

Open = Callable[..., AsyncReplica]


@pytest.fixture
def user() -> str:
    return f"live-user-{random.getrandbits(60):x}"


@pytest.fixture
async def device(server: Server, tmp_path: Path, user: str) -> AsyncIterator[Open]:
    """Opens devices of one user, or of another."""
    opened: list[AsyncReplica] = []

    def open_device(name: str, of: str = user, **options: Any) -> AsyncReplica:
        token = options.pop("server", server).token(of) if "token" not in options else options.pop("token")
        standard = {"app": "app", "url": server.url, "token": token, "durability": "normal"}
        replica = AsyncReplica(tmp_path / f"{name}.db", **(standard | options))
        opened.append(replica)
        return replica

    yield open_device
    for replica in opened:
        await replica.close()


async def test_two_devices_see_each_other_s_writes_at_once(device: Open) -> None:
    phone, laptop = device("phone"), device("laptop")
    await phone.put("t", "before", {"n": 1})
    seen: list[Changes] = []
    async with phone.live(policy=QUICK) as one, laptop.live(policy=QUICK, on_change=seen.append) as two:
        await until(lambda: one.state.name == two.state.name == "live", "both are live")
        assert await one.wait_until_synced(180)
        await until(lambda: laptop.local.get("t", "before") == {"n": 1}, "the backlog")
        await phone.patch("t", "a", {"n": 1}, upsert=True)
        await until(lambda: laptop.local.get("t", "a") == {"n": 1}, "there")
        await laptop.patch("t", "a", {"m": 2})
        await until(lambda: phone.local.get("t", "a") == {"n": 1, "m": 2}, "and back")
        await until(lambda: Changes((RecordKey(None, "t", "a"),), "server") in seen, "told")
        await until(lambda: Changes((RecordKey(None, "t", "a"),), "device") in seen, "its own too")
        assert await two.wait_until_synced(180)
        assert (await phone.why("t", "a")).state == "synced"
    check_same(phone.local, laptop.local)


async def test_what_was_written_offline_goes_first_and_the_others_news_come(device: Open) -> None:
    phone, laptop = device("phone"), device("laptop")
    async with laptop.live(policy=QUICK) as two:
        for n in range(1500):
            await phone.put("t", f"p{n}", {"n": n})
        await laptop.put("t", "l", {"n": 1})
        assert await two.wait_until_synced(180)
        async with phone.live(policy=QUICK) as one:
            assert await one.wait_until_synced(180)
            await until(lambda: len(laptop.local.query("t")) == len(phone.local.query("t")) == 1501, "all of it")
    check_same(phone.local, laptop.local)


async def test_a_write_that_was_taken_stands_though_its_space_was_left_and_joined_before_the_answer_came(
    device: Open, server: Server, user: str
) -> None:
    """The line stands still on its way down: the device hears of leaving, joining and its own write in this order."""
    guest = f"guest-of-{user}"
    space = create_space(server, user)
    set_role(server, user, space, guest, "writer")
    mine = device("mine")
    await mine.put("t", "r", {"n": "before"}, space=space)
    await mine.sync()
    patient = replace(QUICK, ping_interval=30.0, answer_timeout=30.0)
    async with Proxy(server.port) as proxy:
        theirs = device("theirs", of=guest, url=proxy.url)
        async with theirs.live(policy=patient) as live:
            await until(lambda: live.state.name == "live", "live")
            proxy.faults.stall = {"down"}
            for role in (None, "writer"):
                await asyncio.to_thread(set_role, server, user, space, guest, role)
                await asyncio.sleep(1.5)
            await theirs.patch("t", "r", {"n": "theirs"}, space=space, upsert=True)
            await until(lambda: mine.local.pull() and mine.local.get("t", "r", space=space) == {"n": "theirs"}, "taken")
            proxy.heal()
            assert await live.wait_until_synced(180)
            await asyncio.sleep(0.5)
            assert await theirs.get("t", "r", space=space) == {"n": "theirs"}
    check_same(mine.local, theirs.local)


async def test_a_shared_space_is_joined_and_left_while_live(device: Open, server: Server, user: str) -> None:
    guest = f"guest-of-{user}"
    space = create_space(server, user)
    mine, theirs = device("mine"), device("theirs", of=guest)
    told: list[LiveState] = []
    async with mine.live(policy=QUICK), theirs.live(policy=QUICK, on_state=told.append) as live:
        await mine.put("t", "r", {"n": 1}, space=space)
        await until(lambda: live.state.name == "live", "live")
        await asyncio.to_thread(set_role, server, user, space, guest, "writer")
        await until(lambda: theirs.local.get("t", "r", space=space) == {"n": 1}, "the space comes whole")
        await theirs.put("t", "theirs", {"n": 2}, space=space)
        await until(lambda: mine.local.get("t", "theirs", space=space) == {"n": 2}, "a guest writes")
        await asyncio.to_thread(set_role, server, user, space, guest, "reader")
        refused = await theirs.put("t", "theirs", {"n": 3}, space=space)
        await until(lambda: [c.change_id for c in theirs.local.rejected()] == [refused], "a reader does not")
        assert (await theirs.why("t", "theirs", space=space)).state == "no_permission"
        await asyncio.to_thread(set_role, server, user, space, guest, None)
        await until(lambda: theirs.local.get("t", "r", space=space) is None, "the space is purged")
        assert await theirs.spaces() == []
        assert [change.change_id for change in await theirs.kept_aside()] == [refused]
        await mine.put("t", "secret", {"n": 1}, space=space)
        await theirs.put("t", "own", {"n": 1})
        assert await live.wait_until_synced(180)
        assert await theirs.get("t", "secret", space=space) is None
    assert [state.name for state in told].count("offline") == 0


async def test_presence_is_seen_by_the_members_and_ends_with_the_connection(
    device: Open, server: Server, user: str
) -> None:
    space = create_space(server, user)
    one, two = device("one"), device("two")
    async with two.live(policy=QUICK) as second:
        await until(lambda: second.state.name == "live", "live")
        events = second.events()
        second.presence(space, {"looking": True})
        async with one.live(policy=QUICK) as first:
            first.presence(space, {"at": "t1"})
            seen = await presence(events)
            assert seen == Presence(space, user, one.client_id, {"at": "t1"})
        seen = await presence(events)
        assert seen == Presence(space, user, one.client_id, None)


async def presence(events: Any) -> Presence:
    """The next word of somebody's presence."""
    async with asyncio.timeout(60):
        while True:
            event = await anext(events)
            if isinstance(event, Presence):
                return event


async def test_the_server_is_killed_and_comes_back(device: Open, folder: Path, user: str) -> None:
    with Server(folder / "server") as own:
        token = own.token(user)
        phone = device("phone", url=own.url, token=token)
        laptop = device("laptop", url=own.url, token=token)
        async with phone.live(policy=QUICK) as one, laptop.live(policy=QUICK) as two:
            await phone.put("t", "before", {"n": 1})
            await until(lambda: laptop.local.get("t", "before") is not None, "live")
            await asyncio.to_thread(own.kill)
            await phone.put("t", "a", {"n": 1})
            await laptop.put("t", "b", {"n": 1})
            await until(lambda: phone.local.why("t", "a").state == "offline", "offline is said")
            assert one.state.name == "offline"
            await asyncio.to_thread(own.start)
            assert await one.wait_until_synced(180)
            assert await two.wait_until_synced(180)
            await until(lambda: phone.local.get("t", "b") and laptop.local.get("t", "a"), "both have both")
            assert (await phone.why("t", "a")).state == "synced"
            await asyncio.to_thread(own.stop)
            await until(lambda: one.state.name == "offline", "a proper stop is noticed too")
            await asyncio.to_thread(own.start)
            await laptop.put("t", "c", {"n": 1})
            await until(lambda: phone.local.get("t", "c"), "and again")
        check_same(phone.local, laptop.local)


@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_connection_that_swallows_one_way_is_noticed(device: Open, server: Server, way: str) -> None:
    laptop = device("laptop")
    async with Proxy(server.port) as proxy, laptop.live(policy=QUICK) as two:
        phone = device("phone", url=proxy.url)
        async with phone.live(policy=HASTY) as one:
            await until(lambda: one.state.name == two.state.name == "live", "live")
            proxy.faults.blackhole = {way}
            await laptop.put("t", "news", {"n": 1})
            await phone.put("t", "mine", {"n": 1})
            await until(lambda: one.state.name == "offline", "the dead connection is noticed")
            await until(lambda: phone.local.why("t", "mine").state == "offline", "it is said why")
            proxy.heal()
            await until(lambda: phone.local.get("t", "news") and laptop.local.get("t", "mine"), "everything comes")
            assert await one.wait_until_synced(180)
    check_same(phone.local, laptop.local)


async def test_a_token_is_renewed_before_it_ends_on_the_same_connection(
    device: Open, server: Server, user: str
) -> None:
    asked: list[float] = []

    def token() -> str:
        asked.append(time.monotonic())
        return server.token(user, ttl=8)

    phone, laptop = device("phone", token=token), device("laptop")
    states: list[str] = []
    async with phone.live(policy=QUICK, on_state=lambda state: states.append(state.name)), laptop.live(policy=QUICK):
        start = time.monotonic()
        while time.monotonic() - start < 17:
            await laptop.put("t", "r", {"n": time.monotonic()})
            await asyncio.sleep(0.2)
        await until(lambda: phone.local.get("t", "r") == laptop.local.get("t", "r"), "still live")
        assert len(asked) >= 3
    assert states.count("live") == 1, f"it was live all the time: {states}"


async def test_a_token_that_ends_and_is_not_renewed_is_refused(device: Open, server: Server, user: str) -> None:
    tokens = [server.token(user, ttl=8)]
    phone = device("phone", token=lambda: tokens[0])
    async with phone.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "live")
        await until(lambda: live.state.name == "refused", "refused")
        await phone.put("t", "a", {"n": 1})
        assert (await phone.why("t", "a")).state == "no_permission"
        tokens[0] = server.token(user)
        assert await live.wait_until_synced(180)


async def test_blocked_sockets_are_replaced_by_polling_until_they_work(device: Open, server: Server) -> None:
    laptop = device("laptop")
    async with Proxy(server.port) as proxy, laptop.live(policy=QUICK):
        proxy.faults.refuse = True
        phone = device("phone")
        by_proxy = {"host": "127.0.0.1", "port": proxy.port}  # the sockets alone
        async with phone.live(policy=QUICK, socket=by_proxy) as live:
            await until(lambda: live.state.name == "polling", "polling")
            await phone.put("t", "a", {"n": 1})
            await until(lambda: laptop.local.get("t", "a"), "pushed")
            await laptop.put("t", "b", {"n": 1})
            await until(lambda: phone.local.get("t", "b"), "pulled")
            proxy.heal()
            await until(lambda: live.state.name == "live", "back")
            await laptop.put("t", "c", {"n": 1})
            await until(lambda: phone.local.get("t", "c"), "live")


async def test_a_sync_by_hand_while_live_brings_what_another_has_pushed(device: Open) -> None:
    phone, laptop = device("phone"), device("laptop")
    async with phone.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "live")
        for n in range(10):
            await laptop.put("t", "r", {"n": n})
            await laptop.sync()
            await phone.put("t", "p", {"n": n})
            await phone.sync()
            assert await phone.get("t", "r") == {"n": n}
            assert await phone.pending() == []
    await laptop.sync()
    check_same(phone.local, laptop.local)


async def test_a_cursor_of_nobody_begins_again(device: Open) -> None:
    phone = device("phone")
    await phone.put("t", "r", {"n": 1})
    await phone.sync()
    await phone.put("t", "s", {"n": 2})
    with phone.local.store.write() as db:
        db.execute("UPDATE meta SET value = 'nonsense' WHERE key = 'cursor'")
    async with phone.live(policy=QUICK) as live:
        assert await live.wait_until_synced(180)
        await until(lambda: live.state.name == "live", "live")
    assert sorted(record.id for record in await phone.query("t")) == ["r", "s"]


async def test_an_atomic_batch_and_a_poisoned_change_do_not_wedge_a_live_device(
    device: Open, server: Server, user: str
) -> None:
    foreign = create_space(server, f"stranger-{user}")
    phone, laptop = device("phone", limits=Limits(change_bytes=2_000_000)), device("laptop")
    huge = await phone.put("t", "huge", {"text": "x" * 1_100_000})
    async with phone.live(policy=QUICK) as live, laptop.live(policy=QUICK):
        async with phone.batch() as batch:
            batch.put("t", "a", {"n": 1})
            batch.put("t", "b", {"n": 1}, space=foreign)
        await phone.put("t", "after", {"n": 1})
        assert await live.wait_until_synced(180)
        await until(lambda: laptop.local.get("t", "after"), "the rest goes through")
        assert await laptop.get("t", "a") is None
    rejected = {change.change_id: change.code for change in await phone.rejected()}
    assert sorted(rejected) == sorted([huge, *batch.change_ids])
    assert rejected[huge] == "change_too_large"


async def test_a_lowered_clock_is_adopted_live(device: Open) -> None:
    wrong, right = device("wrong", wall=lambda: 253_370_764_800_000_000), device("right")
    async with wrong.live(policy=QUICK) as one, right.live(policy=QUICK) as two:
        await wrong.put("t", "r", {"n": "wrong"})
        assert await one.wait_until_synced(180)
        await until(lambda: (wrong.local.why("t", "r")).state == "clock_lowered", "lowered")
        await until(lambda: right.local.get("t", "r") == {"n": "wrong"}, "seen")
        await right.patch("t", "r", {"n": "right"})
        assert await two.wait_until_synced(180)
        await until(lambda: wrong.local.get("t", "r") == {"n": "right"}, "it does not win for ever")
    check_same(wrong.local, right.local)


LEADER = """
import os, sys, time
from syncd_client import LivePolicy, Replica
path, url, token = sys.argv[1:]
replica = Replica(path, app="app", url=url, token=token, durability="normal")
live = replica.live()
replica.put("t", "leader", {"pid": os.getpid()})
while True:
    print(live.state.name, flush=True)
    time.sleep(0.05)
"""


async def test_two_processes_share_a_file_and_the_one_that_is_left_takes_over(
    device: Open, server: Server, tmp_path: Path, user: str
) -> None:
    laptop = device("laptop")
    leader = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-c", LEADER, str(tmp_path / "shared.db"), server.url, server.token(user)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        text=True,
    )
    try:
        assert leader.stdout is not None
        while (line := await asyncio.to_thread(leader.stdout.readline)).strip() != "live":
            assert line, "the leader died"
        shared = device("shared")
        async with laptop.live(policy=QUICK) as other, shared.live(policy=QUICK) as live:
            await until(lambda: live.state.name == "following" and other.state.name == "live", "it follows")
            news = live.changes()
            await shared.put("t", "follower", {"n": 1})
            await until(lambda: laptop.local.get("t", "follower"), "the leader sends it")
            await until(lambda: laptop.local.get("t", "leader"), "and its own")
            await laptop.put("t", "news", {"n": 1})
            await until(lambda: shared.local.get("t", "news"), "the leader fetches it")
            while not (await asyncio.wait_for(anext(news), 60)).everything:
                pass
            leader.kill()
            await until(lambda: live.state.name == "live", "it takes over")
            await shared.put("t", "alone", {"n": 1})
            await until(lambda: laptop.local.get("t", "alone"), "and syncs")
    finally:
        leader.kill()
        leader.wait()
        leader.stdout.close()
    check_same(shared.local, laptop.local)


def test_a_replica_of_threads_is_live_too(server: Server, tmp_path: Path, user: str) -> None:
    token, told = server.token(user), []
    with contextlib.ExitStack() as stack:
        one, two = (
            stack.enter_context(
                Replica(tmp_path / f"{name}.db", app="app", url=server.url, token=token, durability="normal")
            )
            for name in "ab"
        )
        live = stack.enter_context(one.live(policy=QUICK, on_change=told.append))
        other = stack.enter_context(two.live(policy=QUICK))
        one.put("t", "r", {"n": 1})
        assert live.wait_until_synced(180)
        deadline = time.monotonic() + 180
        while two.get("t", "r") is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        two.put("t", "s", {"n": 1})
        assert other.wait_until_synced(180)
        while Changes((RecordKey(None, "t", "s"),), "server") not in told:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.mark.parametrize("seed", range(2))
async def test_devices_whose_connections_break_at_random_converge(
    device: Open, server: Server, user: str, seed: int
) -> None:
    name = f"{seed}-{user}"
    print(f"seed {name!r}")
    rng = random.Random(name)
    space = create_space(server, user)
    async with Proxy(server.port) as proxy, contextlib.AsyncExitStack() as stack:
        skews = [0, 0, 1800, 10**7]
        clocks = [(lambda by=by: time.time_ns() // 1000 + by * 1_000_000) for by in skews]
        devices = [device(f"d{n}", url=proxy.url, wall=clock) for n, clock in enumerate(clocks)]
        lives = [await stack.enter_async_context(replica.live(policy=QUICK)) for replica in devices]
        # Who comes after a deletion never hears of it, and keeps what it wrote of that record with an earlier stamp.
        await until(lambda: all(live.state.name == "live" for live in lives), "all are live")
        for round_ in range(60):
            replica, where = rng.choice(devices), rng.choice([None, space])
            match rng.randrange(6):
                case 0:
                    await replica.delete("t", rng.choice("abcd"), space=where, upsert=True)
                case 1:
                    await replica.put("t", rng.choice("abcd"), {"x": round_}, space=where)
                case 2:
                    async with replica.batch() as batch:
                        for record in rng.sample("abcd", 3):
                            batch.patch("t", record, {"y": round_}, space=where, upsert=True)
                case _:
                    await replica.patch("t", rng.choice("abcd"), {rng.choice("xy"): round_}, space=where, upsert=True)
            if rng.random() < 0.15:
                rng.choice([proxy.cut, proxy.reset])()
            await asyncio.sleep(rng.choice([0, 0, 0.01, 0.1]))
        for live in lives:
            assert await live.wait_until_synced(180)
        cursor = await settled(devices)
    assert all(replica.local.rejected() == [] for replica in devices)
    fresh = device("fresh")
    await fresh.sync()
    check_same(fresh.local, *[replica.local for replica in devices])
    assert cursor


async def settled(devices: list[AsyncReplica]) -> bool:
    """Waits until every device shows the same, or as long as the caller's check would say why not."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError):
            check_same(*[replica.local for replica in devices])
            return True
        await asyncio.sleep(0.05)
    return False
