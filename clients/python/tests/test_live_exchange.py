"""What a live sync says, and what each kind of frame, silence and refusal does to it. The server is scripted."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import (
    Answered,
    AsyncReplica,
    Changes,
    LiveState,
    Offline,
    Presence,
    RecordKey,
    Replica,
    RetryPolicy,
    SyncBusy,
)

from tests.support.scripted import Script, page, wire
from tests.support.scripted_live import QUICK, Frame, LiveScript, changes, refuse, result, until

EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"
YEARS_ON = "Thu, 01 Jan 2099 00:00:00 GMT"
BUSY = {
    "a date by the server's clock": {"Retry-After": YEARS_ON, "Date": YEARS_ON},
    "a date by no clock that it tells": {"Retry-After": YEARS_ON, "Date": "soon"},
    "seconds without end": {"Retry-After": "9" * 400},
}
# Who takes a silence for the end at once, which a busy machine has too.
HASTY = replace(QUICK, open_timeout=1.0, ping_timeout=0.3, answer_timeout=0.5)
Open = Callable[..., AsyncReplica]


@pytest.fixture
async def open_async(tmp_path: Path, script: Script, live_script: LiveScript) -> AsyncIterator[Open]:
    """Opens replicas whose sockets go to one script and whose HTTP goes to the other."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(transport=httpx.MockTransport(script)))
        opened: list[AsyncReplica] = []

        def open_one(name: str = "replica", **options: Any) -> AsyncReplica:
            standard = {"app": "app", "url": live_script.url, "token": "t", "durability": "normal", "http": http}
            replica = AsyncReplica(tmp_path / f"{name}.db", **(standard | {"retry": RetryPolicy(attempts=1)} | options))
            opened.append(replica)
            return replica

        yield open_one
        for replica in opened:
            await replica.close()


@pytest.fixture
def replica(open_async: Open) -> AsyncReplica:
    return open_async()


def is_live(live: Any) -> Callable[[], bool]:
    return lambda: live.state.name == "live"


async def test_it_introduces_itself_subscribes_and_applies_what_comes(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        await live_script.say(changes(wire("a", n=(1, EARLY)), cursor="c2"), changes(cursor="c3"))
        await until(lambda: replica.local.cursor == "c3")
    auth, subscribe = live_script.heard
    assert auth == {"type": "auth", "token": "t", "clientId": replica.client_id, "protocol": 1}
    assert subscribe == {"type": "subscribe", "appId": "app", "since": ""}
    assert live_script.paths == ["/ws/app"]
    assert live_script.headers[0]["x-sync-protocol"] == "1"
    assert await replica.get("t", "a") == {"n": 1}


async def test_the_path_of_the_address_is_kept_and_the_app_escaped(open_async: Open, live_script: LiveScript) -> None:
    replica = open_async(app="a/b c", url=f"{live_script.url}/below/")
    async with replica.live(policy=QUICK):
        await until(lambda: live_script.paths)
    assert live_script.paths[0] == "/below/ws/a%2Fb%20c"


async def test_what_waits_is_pushed_before_the_subscription_and_what_is_written_then_at_once(
    open_async: Open, live_script: LiveScript
) -> None:
    replica = open_async(schema_version=3)
    first = await replica.put("t", "a", {"n": 1})
    async with replica.batch() as batch:
        batch.put("t", "b", {"n": 1})
        batch.put("t", "c", {"n": 1})
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        assert [frame["type"] for frame in live_script.heard] == ["auth", "push", "subscribe"]
        second = await replica.put("t", "d", {"n": 1})
        assert await live.wait_until_synced(60)
    one, two = live_script.frames("push")
    assert [change["changeId"] for change in one["changes"]] == [first, *batch.change_ids]
    assert (one["atomic"], one["schemaVersion"], one["appId"]) == (True, 3, "app")
    assert [change["changeId"] for change in two["changes"]] == [second]
    assert "atomic" not in two
    assert (await replica.why("t", "d")).state == "synced"


async def test_who_never_stops_writing_still_gets_the_news(replica: AsyncReplica, live_script: LiveScript) -> None:
    def answer(frame: Frame, socket: Any) -> Frame:
        replica.local.put("t", "more", {"n": len(live_script.heard)})
        return result(frame)

    await replica.put("t", "a", {"n": 1})
    live_script.once("push", *[answer] * 5)
    async with replica.live(policy=QUICK) as live:
        assert await live.wait_until_synced(60)
    assert [frame["type"] for frame in live_script.heard[:4]] == ["auth", "push", "subscribe", "push"]


async def test_trouble_of_an_earlier_sync_is_over_when_the_token_is_accepted(
    replica: AsyncReplica, live_script: LiveScript, script: Script
) -> None:
    await replica.put("t", "a", {"n": 1})
    script.answers = [httpx.ConnectError("no")]
    with pytest.raises(Offline):
        await replica.sync()
    assert (await replica.why("t", "a")).state == "offline"
    live_script.on["push"] = lambda frame, socket: None
    async with replica.live(policy=QUICK):
        await until(lambda: live_script.frames("push"))
        assert (await replica.why("t", "a")).state == "waiting"


@pytest.mark.waits
async def test_a_push_without_an_answer_is_sent_again_after_reconnecting(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    await replica.put("t", "a", {"n": 1})
    live_script.once("push", live_script.closing(1011), lambda frame, socket: None, lambda f, s: result(f, "duplicate"))
    async with replica.live(policy=replace(QUICK, answer_timeout=4.0)) as live:
        assert await live.wait_until_synced(60)
    assert len({json.dumps(frame["changes"]) for frame in live_script.frames("push")}) == 1
    assert len(live_script.frames("push")) == 3, "one was cut off, one never answered"


async def test_an_answer_that_says_duplicate_waits_for_the_form_of_the_server(
    open_async: Open, live_script: LiveScript
) -> None:
    """The reply was lost that told of the lowered stamp: only the log has it."""
    replica = open_async(wall=lambda: 3_000_000_000_000_000)
    change_id = await replica.patch("t", "r", {"n": 1})
    (pending,) = await replica.pending()
    back = wire("r", client=replica.client_id, n=(1, "2026-01-01T00:00:00Z")) | {"changeId": change_id}
    back["fields"]["n"]["sent"] = pending.change["fields"]["n"]["at"]
    live_script.once("push", lambda frame, socket: result(frame, "duplicate"))
    live_script.once("subscribe", lambda frame, socket: [changes(cursor="c1", more=True), changes(back, cursor="c2")])
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        await live_script.say(changes(wire("r", n=(2, "2026-01-01T00:00:01Z")), cursor="c3"))
        await until(lambda: replica.local.cursor == "c3")
    assert await replica.get("t", "r") == {"n": 2}, "the wrong clock does not win for ever"


async def test_a_duplicate_while_live_is_followed_by_a_fresh_subscription(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        live_script.once("push", lambda f, s: refuse(f, "database_unavailable"), lambda f, s: result(f, "duplicate"))
        await replica.put("t", "a", {"n": 1})
        assert await live.wait_until_synced(60)
        assert len(live_script.frames("subscribe")) == 2


async def test_a_write_to_a_space_that_was_not_named_yet_goes_without_a_subscription(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    """What is read of it is read after the push then: it may be deleted already, and that is told by nothing."""
    later = changes(wire("other", space="s", n=(2, EARLY)), joined=["s"], cursor="c2")
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        live_script.once("subscribe", lambda frame, socket: [changes(more=True), later])
        async with replica.batch() as batch:
            batch.put("t", "a", {"n": 1}, space="s")
            batch.put("t", "mine", {"n": 1})
        assert await live.wait_until_synced(60)
        kinds = [frame["type"] for frame in live_script.heard if frame["type"] != "ping"]
        assert kinds == ["auth", "subscribe", "unsubscribe", "push", "subscribe"]
        assert live_script.frames("unsubscribe") == [{"type": "unsubscribe", "appId": "app"}]
        assert await replica.get("t", "a", space="s") is None
        assert await replica.get("t", "other", space="s") == {"n": 2}
        assert await replica.get("t", "mine") == {"n": 1}
        await replica.put("t", "b", {"n": 1}, space="s")
        assert await live.wait_until_synced(60)
        assert await replica.get("t", "b", space="s") == {"n": 1}
    assert [frame["type"] for frame in live_script.heard][5:] == ["push"], "now it is known"


async def test_what_is_written_before_the_first_page_came_waits_for_it_to_name_the_spaces(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    live_script.once("subscribe", lambda frame, socket: None)
    async with replica.live(policy=QUICK) as live:
        await until(lambda: live_script.frames("subscribe"))
        await replica.put("t", "a", {"n": 1}, space="s")
        await asyncio.sleep(0.1)
        assert live_script.frames("push") == live_script.frames("unsubscribe") == []
        await live_script.say(changes(cursor="c1", more=True, joined=["s"]))
        await until(lambda: live_script.frames("push"))
        await live_script.say(changes(cursor="c2"))
        assert await live.wait_until_synced(60)
    assert live_script.frames("unsubscribe") == []
    assert await replica.get("t", "a", space="s") == {"n": 1}


async def test_a_rejected_change_is_kept_with_its_reason(replica: AsyncReplica, live_script: LiveScript) -> None:
    bad = await replica.put("t", "bad", {"n": 1}, space="s")
    await replica.put("t", "good", {"n": 1})

    def answer(frame: Frame, socket: Any) -> Frame:
        said = result(frame)
        said["results"][0] |= {"status": "rejected", "code": "not_a_writer", "detail": "You read."}
        return said

    live_script.once("push", answer)
    live_script.once("subscribe", lambda frame, socket: changes(wire("good", n=(1, EARLY)), joined=["_personal:u"]))
    told: list[Any] = []
    async with replica.live(policy=QUICK, on_event=told.append) as live:
        await until(is_live(live))
        await until(lambda: Answered(1, (bad,)) in told)
        assert (await replica.why("t", "bad", space="s")).state == "no_permission"
        assert (await replica.why("t", "good")).state == "synced"


async def test_conflicts_are_told(open_async: Open, live_script: LiveScript) -> None:
    told: list[Any] = []
    replica = open_async(on_conflict=told.append)
    conflict = {"table": "t", "id": "a", "field": "n", "clientValue": 1, "serverValue": 2}
    live_script.once("push", lambda frame, socket: result(frame, conflicts=[conflict]))
    await replica.put("t", "a", {"n": 1}, space="s")
    async with replica.live(policy=QUICK):
        await until(lambda: told)
    assert (told[0].space, told[0].server_value) == ("s", 2)
    assert await replica.conflicts() == told


async def test_a_push_refused_whole_is_repeated_over_http_which_names_the_culprit(
    replica: AsyncReplica, live_script: LiveScript, script: Script
) -> None:
    from tests.support.scripted import problem

    bad, good = await replica.put("t", "bad", {"n": 1}), await replica.put("t", "good", {"n": 1})
    live_script.once("push", lambda frame, socket: refuse(frame, "invalid_value"))
    script.answers = [problem(400, "invalid_value", "/changes/0/fields/n")]
    async with replica.live(policy=QUICK) as live:
        assert await live.wait_until_synced(60)
        await until(is_live(live))
    assert [change.change_id for change in await replica.rejected()] == [bad]
    assert [change["changeId"] for change in script.pushes[1]["changes"]] == [good]


@pytest.mark.parametrize("code", [1009, 4400])
async def test_a_push_that_makes_the_server_hang_up_does_not_wedge_the_device(
    replica: AsyncReplica, live_script: LiveScript, script: Script, code: int
) -> None:
    from tests.support.scripted import problem

    bad = await replica.put("t", "bad", {"n": 1})
    live_script.once("push", live_script.closing(code))
    script.answers = [problem(413, "body_too_large")]
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
    assert [change.change_id for change in await replica.rejected()] == [bad]


async def test_a_busy_server_is_waited_for_on_the_same_socket(replica: AsyncReplica, live_script: LiveScript) -> None:
    await replica.put("t", "a", {"n": 1})
    states: list[Any] = []
    live_script.once("push", *[lambda frame, socket: refuse(frame, "busy", "Later.")] * 3)
    async with replica.live(policy=QUICK, on_state=states.append) as live:
        await until(lambda: LiveState("busy", "busy", "Later.") in states)
        assert await live.wait_until_synced(60)
        await until(is_live(live))
        assert (await replica.why("t", "a")).state == "synced"
    assert len(live_script.sockets) == 1
    assert len(live_script.frames("push")) == 4


async def test_why_says_busy_while_the_server_is_though_news_come(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    live_script.on["push"] = lambda frame, socket: [refuse(frame, "busy"), changes(cursor="c5")]
    async with replica.live(policy=QUICK):
        await replica.put("t", "a", {"n": 1})
        await until(lambda: len(live_script.frames("push")) > 3 and replica.local.cursor == "c5")
        status = await replica.why("t", "a")
        assert (status.state, status.code) == ("busy", "busy")


@pytest.mark.parametrize("code", ["cursor_lost", "bad_cursor"])
async def test_a_lost_cursor_begins_again_and_keeps_what_is_unsent(
    open_async: Open, live_script: LiveScript, script: Script, code: str
) -> None:
    replica = open_async()
    script.answers = [page(wire("kept", n=(1, EARLY)), wire("gone", n=(1, EARLY)), cursor="old")]
    await replica.pull()
    error = {"type": "error", "appId": "app", "code": code, "detail": "Unknown."}
    live_script.once(
        "subscribe",
        lambda frame, socket: error,
        lambda frame, socket: [changes(cursor="n1", more=True), changes(wire("kept", n=(0, EARLY)), cursor="n2")],
    )
    told: list[Any] = []
    async with replica.live(policy=QUICK, on_change=told.append) as live:
        await until(is_live(live))
        await until(lambda: any(change.everything for change in told))
    assert [frame["since"] for frame in live_script.frames("subscribe")] == ["old", ""]
    assert await replica.get("t", "kept") == {"n": 0}
    assert await replica.get("t", "gone") is None


async def test_nothing_is_pushed_in_the_middle_of_a_restart(replica: AsyncReplica, live_script: LiveScript) -> None:
    from syncd_client.sync.apply import begin_restart

    with replica.local.store.write() as db:
        begin_restart(db)
    await replica.put("t", "mine", {"n": 1})
    async with replica.live(policy=QUICK) as live:
        assert await live.wait_until_synced(60)
    assert [frame["type"] for frame in live_script.heard] == ["auth", "subscribe", "push"]
    assert await replica.get("t", "mine") == {"n": 1}


async def test_a_space_that_was_left_is_purged_and_told(replica: AsyncReplica, live_script: LiveScript) -> None:
    told: list[Any] = []
    async with replica.live(policy=QUICK, on_change=told.append) as live:
        await until(is_live(live))
        await live_script.say(changes(wire("r", space="s", n=(1, EARLY)), cursor="c2", joined=["s"]))
        await until(lambda: replica.local.spaces() == ["s"])
        await live_script.say(changes(cursor="c3", left=["s"]))
        await until(lambda: replica.local.spaces() == [])
        await until(lambda: len(told) == 2)
    assert [change.records for change in told] == [(RecordKey("s", "t", "r"),)] * 2
    assert await replica.get("t", "r", space="s") is None


async def test_an_answer_that_comes_after_its_space_was_left_brings_nothing_back(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    live_script.on["push"] = lambda frame, socket: [changes(cursor="c2", left=["s"]), result(frame)]
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        live_script.cursor = "c2"  # and that is where the next subscription begins
        await replica.put("t", "r", {"n": 1}, space="s")
        await until(lambda: live_script.frames("push"))
        await until(lambda: replica.local.cursor == "c2")
        assert await live.wait_until_synced(60)
        await until(lambda: replica.local.kept_aside() == [], "the server has it")
    assert await replica.get("t", "r", space="s") is None


async def test_own_and_foreign_changes_are_told_each_with_its_source(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        events = live.changes()
        await replica.put("t", "mine", {"n": 1})
        assert await live.wait_until_synced(60)
        await live_script.say(changes(wire("theirs", n=(1, EARLY)), wire("old", n=(1, EARLY)), cursor="c2"))
        await live_script.say(changes(wire("theirs", n=(1, EARLY)), cursor="c3"))
        await live_script.say(changes(wire("last", n=(1, EARLY)), cursor="c4"))
        told = [await anext(events) for _ in range(3)]
    assert told == [
        Changes((RecordKey(None, "t", "mine"),), "device"),
        Changes((RecordKey(None, "t", "theirs"), RecordKey(None, "t", "old")), "server"),
        Changes((RecordKey(None, "t", "last"),), "server"),
    ], "what changed nothing is not told"
    assert [event async for event in events] == []


@pytest.mark.waits
async def test_an_iterator_that_is_not_read_does_not_grow(replica: AsyncReplica, live_script: LiveScript) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        events = live.events()
        for n in range(30):
            many = [wire(f"{n}-{m}", n=(1, EARLY)) for m in range(100)]
            await live_script.say(changes(*many, cursor=f"c{n}"))
        await until(lambda: replica.local.cursor == "c29")
        told = events._box.take()
    assert Changes((), "server", everything=True) in told
    assert sum(len(event.records) for event in told if isinstance(event, Changes)) <= 1000


@pytest.mark.waits
async def test_a_callback_that_raises_or_dawdles_stops_nothing(
    replica: AsyncReplica, live_script: LiveScript, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = asyncio.Event()

    async def dawdle(change: Changes) -> None:
        await stuck.wait()

    def fail(state: LiveState) -> None:
        raise ValueError("on purpose")

    with caplog.at_level(logging.CRITICAL, "syncd_client"):
        async with replica.live(policy=QUICK, on_change=dawdle, on_state=fail) as live:
            await until(is_live(live))
            for n in range(5):
                await live_script.say(changes(wire(f"r{n}", n=(1, EARLY)), cursor=f"d{n}"))
            await until(lambda: replica.local.cursor == "d4")
            await replica.put("t", "a", {"n": 1})
            assert await live.wait_until_synced(60)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4408, 4429, 4999])
async def test_it_comes_back_after_every_kind_of_goodbye(
    replica: AsyncReplica, live_script: LiveScript, code: int
) -> None:
    async with replica.live(policy=QUICK) as live:
        for n in range(1, 4):
            await until(lambda n=n: len(live_script.sockets) == n and live.state.name == "live")  # type: ignore[misc]
            await live_script.sockets[-1].close(code)


@pytest.mark.parametrize("said", BUSY.values(), ids=BUSY)
async def test_a_time_to_come_again_keeps_no_live_device_away_for_ever(
    replica: AsyncReplica, live_script: LiveScript, said: dict[str, str]
) -> None:
    live_script.refuse_with, live_script.refuse_saying = 503, said
    async with replica.live(policy=replace(QUICK, patience=60.0 if said.get("Date") == YEARS_ON else 0.05)) as live:
        await until(lambda: live.state.code == "http_503")
        live_script.refuse_with = None
        await until(is_live(live), patience=20.0)


async def test_a_held_push_comes_again_however_long_it_is_to_wait(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    live_script.once("push", lambda frame, socket: refuse(frame, "too_many_requests") | {"retryAfter": 10**9})
    async with replica.live(policy=replace(QUICK, patience=0.05)) as live:
        await until(is_live(live))
        await replica.put("t", "a", {"n": 1})
        await until(lambda: len(live_script.frames("push")) == 2, patience=20.0)
        assert await live.wait_until_synced(60)


async def test_a_cut_connection_is_offline_until_it_is_back(replica: AsyncReplica, live_script: LiveScript) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        live_script.refuse_with = 404
        script_down = httpx.MockTransport(lambda request: (_ for _ in ()).throw(httpx.ConnectError("down")))
        assert replica._http is not None
        before, replica._http._transport = replica._http._transport, script_down
        live_script.sockets[-1].transport.abort()
        await replica.put("t", "a", {"n": 1})
        await until(lambda: live.state.name == "offline")
        await until(lambda: replica.local.why("t", "a").state == "offline")
        replica._http._transport = before
        live_script.refuse_with = None
        assert await live.wait_until_synced(60)
        assert (await replica.why("t", "a")).state == "synced"


@pytest.mark.waits
async def test_silence_is_noticed(replica: AsyncReplica, live_script: LiveScript) -> None:
    async with replica.live(policy=HASTY) as live:
        await until(is_live(live))
        live_script.sockets[-1].transport.pause_reading()  # no pong comes back any more
        await until(lambda: len(live_script.sockets) > 1 and live.state.name == "live")


def jwt(sub: str, exp: float) -> str:
    part = base64.urlsafe_b64encode(json.dumps({"sub": sub, "exp": exp}).encode()).decode().rstrip("=")
    return f"x.{part}.x"


@pytest.mark.waits
async def test_a_refused_token_is_asked_for_once_then_slowly(open_async: Open, live_script: LiveScript) -> None:
    asked: list[float] = []

    async def token() -> str:
        asked.append(time.monotonic())
        return f"token-{len(asked)}"

    replica = open_async(token=token)
    live_script.on["auth"] = live_script.closing(4401)
    async with replica.live(policy=replace(QUICK, refused_interval=6.0)) as live:
        await until(lambda: live.state.name == "refused")
        assert live.state.code == "unauthorized"
        await replica.put("t", "a", {"n": 1})
        assert (await replica.why("t", "a")).state == "no_permission"
        await until(lambda: len(asked) >= 3)
        assert asked[1] - asked[0] < 2.9 < asked[2] - asked[1], asked
        del live_script.on["auth"]
        live.retry_now()
        assert await live.wait_until_synced(60)
        assert (await replica.why("t", "a")).state == "synced"


@pytest.mark.waits
async def test_a_token_is_renewed_in_place_before_it_ends(open_async: Open, live_script: LiveScript) -> None:
    base = 4_070_908_800.0  # what the scripted server takes for now, far from this machine's clock
    live_script.time = LATE
    tokens = iter([jwt("u", base + 2.5), jwt("u", base + 3600)])
    replica = open_async(token=lambda: next(tokens))
    async with replica.live(policy=QUICK) as live:
        await until(lambda: len(live_script.frames("auth")) == 2)
        await until(is_live(live))
        assert len(live_script.sockets) == 1


async def test_a_token_of_somebody_else_never_gets_the_file(open_async: Open, live_script: LiveScript) -> None:
    replica = open_async(token=jwt("ann", 9e9))
    async with replica.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "refused")
        assert live.state.code == "wrong_replica"
    assert live_script.frames("subscribe") == []


@pytest.mark.waits
async def test_a_token_provider_that_fails_is_asked_again(open_async: Open, live_script: LiveScript) -> None:
    asked: list[int] = []

    def token() -> str:
        asked.append(1)
        if len(asked) < 6:
            raise OSError("no network")
        return "t"

    async with open_async(token=token).live(policy=QUICK) as live:
        await until(is_live(live))


@pytest.mark.waits
@pytest.mark.parametrize("blocked", [403, 404, 426, 502, "mute"])
async def test_blocked_sockets_are_replaced_by_polling_until_they_work(
    replica: AsyncReplica, live_script: LiveScript, script: Script, blocked: Any
) -> None:
    live_script.mute = blocked == "mute"
    live_script.refuse_with = None if blocked == "mute" else blocked
    states: list[LiveState] = []
    async with replica.live(policy=HASTY, on_state=states.append) as live:
        await until(lambda: live.state.name == "polling")
        change_id = await replica.put("t", "a", {"n": 1})
        await until(lambda: replica.local.pending() == [])
        assert script.pushes[0]["changes"][0]["changeId"] == change_id
        assert (await replica.why("t", "a")).state == "synced"
        script.answers = [page(wire("b", n=(1, EARLY)))]
        await until(lambda: replica.local.get("t", "b") is not None)
        await until(lambda: len(live_script.paths) > 4, "sockets are tried again")
        assert live.state.name == "polling"
        live_script.mute, live_script.refuse_with = False, None
        await until(is_live(live))
    assert [state.name for state in states].count("polling") == 1


@pytest.mark.waits
async def test_a_sync_while_live_does_what_it_always_does(
    replica: AsyncReplica, live_script: LiveScript, script: Script
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        script.answers = [page(wire("news", n=(1, EARLY)))]
        report = await replica.sync(patience=60)
        assert report.pulled == 1
        live_script.on["push"] = lambda frame, socket: None
        await replica.put("t", "a", {"n": 1})
        await until(lambda: live_script.frames("push"))
        with pytest.raises(SyncBusy):
            await replica.sync(patience=0.05)
        del live_script.on["push"]
        await live_script.say(result(live_script.frames("push")[0]))
        assert await live.wait_until_synced(60)
        script.answers = [httpx.ConnectError("no")]
        with pytest.raises(Offline):
            await replica.sync()


async def test_one_live_sync_a_replica(replica: AsyncReplica) -> None:
    async with replica.live(policy=QUICK):
        with pytest.raises(SyncBusy):
            replica.live(policy=QUICK).start()


async def test_the_second_on_a_file_follows_and_takes_over(open_async: Open, live_script: LiveScript) -> None:
    one, two = open_async(), open_async()
    told: list[Any] = []
    async with two.live(policy=QUICK, on_change=told.append) as second:
        pass
    first = one.live(policy=QUICK)
    first.start()
    await until(is_live(first))
    async with two.live(policy=QUICK, on_change=told.append) as second:
        await until(lambda: second.state.name == "following")
        await two.put("t", "a", {"n": 1})
        await until(lambda: live_script.frames("push"), "the leader sends what others write")
        await live_script.say(changes(wire("b", n=(1, EARLY)), cursor="c7"))
        await until(lambda: Changes((), "file", everything=True) in told)
        await until(lambda: two.local.get("t", "b") is not None)
        assert second.state.name == "following"
        await first.close()
        await until(is_live(second))


async def test_presence_is_announced_again_after_reconnecting_and_told(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        live.presence("s", {"cursor": 1})
        live.presence(None, "typing")
        await until(lambda: len(live_script.frames("presence")) == 2)
        events = live.events()
        there = {"type": "presence", "spaceId": "s", "userId": "bo", "clientId": "c", "state": {"x": 1}}
        own = there | {"clientId": replica.client_id}
        await live_script.say(own, there)
        assert await anext(events) == Presence("s", "bo", "c", {"x": 1})
        await live_script.sockets[-1].close(1011)
        assert await anext(events) == Presence("s", "bo", "c", None), "nobody is known to be there"
        await until(lambda: len(live_script.frames("presence")) == 4)
    said = {(frame["spaceId"], json.dumps(frame["state"])) for frame in live_script.frames("presence")}
    assert said == {("s", '{"cursor": 1}'), ("_personal:u", '"typing"')}


async def test_a_frame_that_cannot_be_read_is_not_applied_in_part(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        await live_script.say(changes(wire("a", n=(1, EARLY)), wire("b", n=(1, "yesterday")), cursor="c2"))
        await until(lambda: live.state.name == "refused")
        assert live.state.code == "bad_reply"
    assert await replica.get("t", "a") is None
    assert replica.local.cursor == "c1"


async def test_frames_of_other_apps_and_later_protocols_are_passed_over(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        await live_script.say(changes(wire("a", n=(1, EARLY)), app="other", cursor="c9"))
        await live_script.say({"type": "weather"}, {"type": "pong"}, {"type": "sync-available", "appId": "app"})
        await live_script.say(changes(cursor="c2"))
        await until(lambda: replica.local.cursor == "c2")
        assert live.state.name == "live"
    assert await replica.get("t", "a") is None


async def test_a_replica_of_threads_is_live_too(tmp_path: Path, live_script: LiveScript, script: Script) -> None:
    def work() -> list[Any]:
        told: list[Any] = []
        http = httpx.Client(transport=httpx.MockTransport(script))
        options: Any = {"app": "app", "url": live_script.url, "token": "t", "http": http, "durability": "normal"}
        with http, Replica(tmp_path / "threads.db", **options) as replica:
            with replica.live(policy=QUICK, on_change=told.append, on_state=told.append) as live:
                replica.put("t", "a", {"n": 1})
                assert live.wait_until_synced(60)
                assert replica.why("t", "a").state == "synced"
                assert replica.sync(patience=5).pulled == 0
                live.presence("s", 1)
                live.retry_now()
                with pytest.raises(SyncBusy):
                    replica.live()
            assert live.state == LiveState("closed")
            live.close()
            replica.put("t", "b", {"n": 1})
            assert replica.sync().pushed == 1
        return told

    told = await asyncio.to_thread(work)
    assert Changes((RecordKey(None, "t", "a"),), "device") in told
    assert told[-1] == LiveState("closed")


async def test_closing_the_replica_ends_its_live_sync(tmp_path: Path, live_script: LiveScript) -> None:
    def work() -> Any:
        replica = Replica(tmp_path / "closing.db", app="app", url=live_script.url, token="t", durability="normal")
        live = replica.live(policy=QUICK)
        replica.close()
        return live.state

    assert (await asyncio.to_thread(work)).name == "closed"
