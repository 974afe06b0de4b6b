"""What a live sync says first, and what it does with what comes. The server is scripted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncReplica,
    Changes,
    HttpSender,
    LiveState,
    Offline,
    RecordKey,
    Replica,
    SyncBusy,
)

from tests.support.live_replicas import EARLY, Open, is_live
from tests.support.scripted import Script, page, wire
from tests.support.scripted_live import QUICK, LiveScript, changes, result, until


async def test_it_introduces_itself_subscribes_and_applies_what_comes(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        await live_script.say(changes(wire("a", n=(1, EARLY)), cursor="c2"), changes(cursor="c3"))
        await until(lambda: replica.local.cursor == "c3")
    auth, subscribe = live_script.heard
    assert auth == {"type": "auth", "token": "t", "clientId": replica.client_id, "protocol": 1}
    assert subscribe == {"type": "subscribe", "appId": "app", "since": "", "roles": ""}
    assert live_script.paths == ["/ws/app"]
    assert live_script.headers[0]["x-sync-protocol"] == "1"
    assert await replica.get("t", "a") == {"n": 1}


async def test_the_path_of_the_address_is_kept_and_the_app_escaped(open_async: Open, live_script: LiveScript) -> None:
    replica = open_async(app="a/b c", url=f"{live_script.url}/below/")
    async with replica.live(policy=QUICK):
        await until(lambda: live_script.paths)
    assert live_script.paths[0] == "/below/ws/a%2Fb%20c"


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


async def test_a_wider_choice_begins_again_with_a_server_that_does_not_filter(
    open_async: Open, live_script: LiveScript, script: Script
) -> None:
    """Its first frame has moved the cursor past what the device has given up."""
    from syncd_client.sync.partial import choose

    replica = open_async()
    script.answers = [page(wire("r", n=(1, EARLY)), cursor="old")]
    await replica.pull()
    for tables in (["other"], ["other", "t"]):  # of "other" the device has all
        choose(replica.local.store, None, tables, None)
    frames = {"old": changes(cursor="n1"), "": changes(wire("r", n=(1, EARLY)), cursor="n2")}
    live_script.on["subscribe"] = lambda frame, socket: frames[frame["since"]]
    async with replica.live(policy=QUICK):
        await until(lambda: replica.local.cursor == "n2")
    assert await replica.get("t", "r") == {"n": 1}


async def test_the_frames_after_the_first_of_a_wider_choice_are_taken_as_they_are(
    open_async: Open, live_script: LiveScript, script: Script
) -> None:
    """The first alone says that the server filters."""
    from syncd_client.sync.partial import choose

    replica = open_async()
    script.answers = [page(cursor="old")]
    await replica.pull()
    for tables in (["other"], ["other", "t"]):
        choose(replica.local.store, None, tables, None)
    first = changes(wire("r", n=(1, EARLY)), cursor="n1")
    first["spaces"] = {"partial": True}
    live_script.on["subscribe"] = lambda frame, socket: [first, changes(wire("s", n=(1, EARLY)), cursor="n2")]
    async with replica.live(policy=QUICK):
        await until(lambda: replica.local.cursor == "n2")
    assert [frame["since"] for frame in live_script.frames("subscribe")] == ["old"]


async def test_nothing_is_pushed_in_the_middle_of_a_restart(replica: AsyncReplica, live_script: LiveScript) -> None:
    from syncd_client.sync.partial import begin_restart

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
        await until(lambda: [one.id for one in replica.local.spaces()] == ["s"])
        await live_script.say(changes(cursor="c3", left=["s"]))
        await until(lambda: [one.id for one in replica.local.spaces()] == [])
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
        script.answers = [httpx2.ConnectError("no")]
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
        http = httpx2.Client(transport=httpx2.MockTransport(script))
        options: Any = {
            "app": "app",
            "url": live_script.url,
            "token": "t",
            "send": HttpSender(http),
            "durability": "normal",
        }
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
