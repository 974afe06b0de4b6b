"""What an application is told by a live sync: changes, states, presence. The server is scripted."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from syncd_client import (
    AsyncReplica,
    Changes,
    LiveState,
    Presence,
    RecordKey,
)

from tests.support.live_replicas import EARLY, is_live
from tests.support.scripted import wire
from tests.support.scripted_live import QUICK, LiveScript, changes, until


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


async def test_a_read_is_told_again_when_it_answers_otherwise(replica: AsyncReplica, live_script: LiveScript) -> None:
    async with replica.live(policy=QUICK) as live:
        waiting, rows = live.watch(replica.pending), live.watch(lambda: replica.query("t"))
        assert await anext(waiting) == await anext(rows) == []
        await replica.put("t", "mine", {"n": 1})
        assert [change.id for change in await anext(waiting)] == ["mine"]
        assert [row.id for row in await anext(rows)] == ["mine"]
        await until(is_live(live))
        assert await live.wait_until_synced(60)
        assert await anext(waiting) == []
        await live_script.say(changes(wire("another", n=(1, EARLY)), cursor="c2"))
        assert [row.id for row in await anext(rows)] == ["another", "mine"]
        await replica.patch("t", "mine", {"n": True})
        assert [row["n"] for row in await anext(rows)] == [1, True], "True is not 1"
        await replica.delete("t", "another")
        assert [row.id for row in await anext(rows)] == ["mine"]
    assert [len(one) async for one in rows] == []


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
