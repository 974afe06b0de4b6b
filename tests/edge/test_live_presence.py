"""Who is here: said by devices, heard by the members of the space, on every worker, and over when they go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.listening import unheard
from tests.support.socket_device import Socket, socket_on
from tests.support.wire import unique

PLACES = [(0, 0), (0, 1)]


@pytest.fixture(scope="module")
def pair(workspace: Path) -> Iterator[Server]:
    """A server with two workers."""
    with Server(workspace / "presence", workers=2) as server:
        yield server


class Shared(NamedTuple):
    """A space of three users."""

    id: str
    ann: str
    bob: str
    cid: str
    owner: Device


@pytest.fixture
async def space(pair: Server) -> AsyncIterator[Shared]:
    ann, bob, cid = unique("ann"), unique("bob"), unique("cid")
    async with Device(pair, ann) as owner:
        made = await owner.create_space(unique("space"), **{bob: "writer", cid: "reader"})
        yield Shared(made, ann, bob, cid, owner)


async def announce(socket: Socket, space: str, state: Any) -> None:
    await socket.send({"type": "presence", "spaceId": space, "state": state})


async def hears(socket: Socket, user: str, state: Any, client: str = "c1") -> dict[str, Any]:
    """Waits until a socket is told this of a user."""
    return await socket.next("presence", userId=user, clientId=client, state=state)


async def is_refused(socket: Socket, space: str) -> None:
    """What it says there is, once its worker has noticed."""
    for _ in range(1200):
        await announce(socket, space, "still")
        await socket.fence()
        if socket.all("error"):
            break
        await asyncio.sleep(0.05)
    assert socket.all("error", code="space_not_found")


@pytest.mark.parametrize("places", PLACES, ids=["one worker", "two workers"])
async def test_who_comes_hears_who_is_there_and_is_heard(pair: Server, space: Shared, places: tuple[int, int]) -> None:
    here, there = places
    async with socket_on(pair, here, space.ann) as ann, socket_on(pair, there, space.bob) as bob:
        await announce(ann, space.id, {"cursor": [1, 2], "name": "ü"})
        await announce(bob, space.id, "typing")
        told = await hears(bob, space.ann, {"cursor": [1, 2], "name": "ü"})
        assert told["spaceId"] == space.id
        await hears(ann, space.bob, "typing")
        async with socket_on(pair, there, space.cid) as reader:
            await announce(reader, space.id, None)
            await hears(reader, space.ann, {"cursor": [1, 2], "name": "ü"})
            await reader.until(lambda: reader.all("presence", userId=space.bob, state="typing"))
            assert ann.all("presence", userId=space.cid) == []


@pytest.mark.parametrize("places", PLACES, ids=["one worker", "two workers"])
async def test_changes_are_heard_and_the_end_is(pair: Server, space: Shared, places: tuple[int, int]) -> None:
    here, there = places
    async with socket_on(pair, here, space.ann) as ann:
        await announce(ann, space.id, None)
        async with socket_on(pair, there, space.bob) as bob, socket_on(pair, here, space.bob, "c2") as other:
            states: list[Any] = [1, [], {"a": None}, False, "x" * 3000]
            for state in states:
                await announce(bob, space.id, state)
                await hears(ann, space.bob, state)
            await announce(other, space.id, "second device")
            await hears(ann, space.bob, "second device", "c2")
            await announce(bob, space.id, None)
            await hears(ann, space.bob, None)
            await announce(bob, space.id, "back")
            await hears(ann, space.bob, "back")
        await ann.until(lambda: {f["clientId"] for f in ann.all("presence", state=None)} == {"c1", "c2"})
        assert ann.all("presence", userId=space.ann) == []


@pytest.mark.parametrize("places", PLACES, ids=["one worker", "two workers"])
async def test_who_is_removed_is_gone_and_hears_no_more(pair: Server, space: Shared, places: tuple[int, int]) -> None:
    here, there = places
    async with socket_on(pair, here, space.ann) as ann, socket_on(pair, there, space.bob) as bob:
        await announce(ann, space.id, "here")
        await announce(bob, space.id, "me too")
        await hears(ann, space.bob, "me too")
        await hears(bob, space.ann, "here")
        # So that no worker is told of it, and has to notice by itself.
        await unheard(pair, space.id, space.bob)
        await announce(ann, space.id, "canary")
        await hears(ann, space.bob, None)
        await announce(ann, space.id, "another canary")
        await is_refused(bob, space.id)
        assert not [f for f in bob.all("presence") if "canary" in str(f["state"])]
        assert ann.all("presence", state="still") == []


@pytest.mark.parametrize("turn", range(3))
async def test_nothing_said_after_a_removal_is_heard(pair: Server, space: Shared, turn: int) -> None:
    async with socket_on(pair, 0, space.ann) as ann, socket_on(pair, 0, space.bob) as bob:
        await announce(ann, space.id, "here")
        await announce(bob, space.id, None)
        await hears(bob, space.ann, "here")
        async with socket_on(pair, 0, space.cid) as cid:
            await announce(cid, space.id, None)
            await unheard(pair, space.id, space.bob)
            await announce(ann, space.id, "canary")
            await hears(cid, space.ann, "canary")
            await bob.fence()
            assert bob.all("presence", state="canary") == []


async def test_a_stranger_neither_says_nor_hears(pair: Server, space: Shared) -> None:
    eve = unique("eve")
    async with socket_on(pair, 0, space.ann) as ann, socket_on(pair, 0, eve) as stranger:
        await announce(ann, space.id, "here")
        for unknown in (space.id, "nowhere", "", f"_personal:{space.ann}"):
            said = await stranger.ask({"type": "presence", "spaceId": unknown, "state": "hello"}, "error")
            assert said["code"] == "space_not_found"
        async with socket_on(pair, 0, space.bob) as bob:
            await announce(bob, space.id, 1)
            await hears(ann, space.bob, 1)
        assert stranger.all("presence") == []
        assert ann.all("presence", userId=eve) == []


BAD_STATES = ['"' + "x" * 4096 + '"', r'"\u0000"', r'"\ud800"', r'{"\u0000":1}', "1e999", "1e-999", "[" * 65 + "]" * 65]


@pytest.mark.parametrize("state", BAD_STATES, ids=lambda s: str(s)[:14])
async def test_a_state_that_cannot_be_told_is_refused_and_harms_nobody(pair: Server, space: Shared, state: str) -> None:
    began = len(pair.output())
    async with socket_on(pair, 0, space.ann) as ann, socket_on(pair, 0, space.bob) as bob:
        await announce(ann, space.id, None)
        frame = json.dumps({"type": "presence", "spaceId": space.id, "state": "HERE"}).replace('"HERE"', state)
        await bob.send(frame)
        said = await bob.next("error")
        assert said["code"] == ("state_too_large" if "xx" in state else "invalid_value")
        await announce(bob, space.id, "good")
        await hears(ann, space.bob, "good")
        assert len(ann.all("presence")) == 1
    assert "failed" not in pair.output()[began:]


async def test_who_did_not_name_its_device_cannot_say(pair: Server, space: Shared) -> None:
    async with socket_on(pair, 0, space.ann, None) as ann:  # type: ignore[arg-type]
        said = await ann.ask({"type": "presence", "spaceId": space.id, "state": 1}, "error")
        assert said["code"] == "invalid_request"


@pytest.mark.parametrize("places", PLACES, ids=["one worker", "two workers"])
async def test_a_device_that_came_back_is_not_gone_when_its_old_connection_ends(
    pair: Server, space: Shared, places: tuple[int, int]
) -> None:
    here, there = places
    async with socket_on(pair, here, space.ann) as ann:
        await announce(ann, space.id, None)
        async with socket_on(pair, there, space.bob) as now:
            async with socket_on(pair, here, space.bob) as before:
                await announce(before, space.id, "before")
                await hears(ann, space.bob, "before")
                await announce(now, space.id, "now")
                await hears(ann, space.bob, "now")
            async with socket_on(pair, here, space.cid) as late:
                await announce(late, space.id, "late")
                await hears(ann, space.cid, "late")
                await hears(late, space.bob, "now")
            await ann.until(lambda: ann.all("presence", userId=space.bob)[-1]["state"] == "now", 5)
            if places == (0, 0):
                assert [f["state"] for f in ann.all("presence", userId=space.bob)] == ["before", "now"]
