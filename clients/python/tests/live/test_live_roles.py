"""What a live sync says of spaces that were joined, left, or are told to have another name or role."""

from __future__ import annotations

from typing import Any

from syncd_client import AsyncReplica, JoinedSpace, SpacesChanged

from tests.support.live_replicas import is_live
from tests.support.scripted_live import QUICK, LiveScript, changes, until


def named(role: str) -> dict[str, str]:
    return {"id": "s", "name": "Reading", "role": role}


async def test_what_has_changed_is_an_event_and_a_read_that_is_watched(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    events: list[Any] = []
    async with replica.live(policy=QUICK, on_event=events.append) as live:
        await until(is_live(live))
        first = {"joined": ["s"], "left": [], "roles": [named("reader")], "rolesUntil": "1.1"}
        await live_script.say({**changes(cursor="c2"), "spaces": first})
        await until(lambda: replica.local.spaces() == [JoinedSpace("s", "Reading", "reader")])
        await live_script.say({**changes(cursor="c3"), "spaces": {"roles": [named("writer")], "rolesUntil": "2.1"}})
        await live_script.say(changes(cursor="c4", left=["s"]))
        await until(lambda: replica.local.spaces() == [])
        await until(lambda: sum(isinstance(event, SpacesChanged) for event in events) == 3)
    said = [event for event in events if isinstance(event, SpacesChanged)]
    assert said == [
        SpacesChanged(("s",), (), (JoinedSpace("s", "Reading", "reader"),)),
        SpacesChanged((), (), (JoinedSpace("s", "Reading", "writer"),)),
        SpacesChanged((), ("s",), ()),
    ]
    answers: list[Any] = []
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        async for answer in live.watch(replica.spaces):
            answers.append([(space.id, space.role) for space in answer])
            if len(answers) == 1:
                await live_script.say({**changes(cursor="c5"), "spaces": first})
            elif len(answers) == 2:
                later = {"roles": [named("owner")], "rolesUntil": "3.1"}
                await live_script.say({**changes(cursor="c6"), "spaces": later})
            else:
                break
    assert answers == [[], [("s", "reader")], [("s", "owner")]]
    assert [frame["roles"] for frame in live_script.frames("subscribe")] == ["", "2.1"]
