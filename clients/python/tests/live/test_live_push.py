"""What a live sync pushes and when, and what each answer does to it. The server is scripted."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from syncd_client import (
    Answered,
    AsyncReplica,
    LiveState,
    Offline,
)

from tests.support.live_replicas import EARLY, Open, is_live
from tests.support.scripted import Script, wire
from tests.support.scripted_live import QUICK, Frame, LiveScript, changes, refuse, result, until


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
    script.answers = [httpx2.ConnectError("no")]
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
    change_id = await replica.patch("t", "r", {"n": 1}, upsert=True)
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
