"""What a device is told of its user's spaces: all names and roles once, then those that have changed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.direct import run
from tests.support.harness import Server
from tests.support.many_spaces import many_spaces
from tests.support.socket_device import opened
from tests.support.stream_device import Stream, stream_of
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


class Listener:
    """A device that asks, and keeps what it was told. `told`: of each space, by id, its name and role."""

    def __init__(self, device: Device) -> None:
        self.device, self.since, self.until = device, "", ""
        self.told: dict[str, tuple[str, str]] = {}

    def take(self, page: Any) -> list[str]:
        """Takes a page; the ids of the spaces that it tells of."""
        spaces = page["spaces"]
        self.since, self.until = page["syncedUntil"], spaces.get("rolesUntil", self.until)
        for space in spaces["left"]:
            self.told.pop(space, None)
        self.told |= {space["id"]: (space["name"], space["role"]) for space in spaces.get("roles", [])}
        return [space["id"] for space in spaces.get("roles", [])]

    def sync(self, **query: Any) -> list[str]:
        """Pulls until there is no more; the spaces that it was told of, in order."""
        told: list[str] = []
        for _ in range(100):
            page = self.device.pull(self.since, roles=self.until, **query)
            told += self.take(page)
            if not page["hasMore"]:
                return told
        raise AssertionError("hasMore without end")


@pytest.fixture
def ann(device: Make) -> Device:
    return device(unique("ann"))


@pytest.fixture
def bob(device: Make) -> Listener:
    return Listener(device(unique("bob")))


def renamed(owner: Device, space: str, name: str) -> None:
    answer = owner.request("PATCH", f"/spaces/{space}", json={"name": name})
    assert answer.status_code == 200, answer.text


def shared(ann: Device, bob: Listener, role: str = "writer") -> str:
    space = ann.create(unique("space"))
    ann.member(space, bob.device.user, role)
    return space


def test_all_of_them_first_and_then_what_has_changed(ann: Device, bob: Listener) -> None:
    spaces = [shared(ann, bob) for _ in range(3)]
    assert sorted(bob.sync()) == sorted(spaces)
    assert bob.sync() == []
    renamed(ann, spaces[1], "Harbour")
    assert bob.sync() == [spaces[1]]
    ann.member(spaces[2], bob.device.user, "reader")
    assert bob.sync() == [spaces[2]]
    joined = shared(ann, bob, "owner")
    assert bob.sync() == [joined]
    assert bob.told[spaces[1]] == ("Harbour", "writer")
    assert bob.told[spaces[2]] == (spaces[2], "reader")
    assert bob.told[joined] == (joined, "owner")
    assert bob.sync() == []


def test_a_space_that_was_left_and_joined_again_is_told_again(ann: Device, bob: Listener) -> None:
    space = shared(ann, bob)
    bob.sync()
    ann.remove(space, bob.device.user)
    assert bob.sync() == []
    assert space not in bob.told
    ann.member(space, bob.device.user, "reader")
    assert bob.sync() == [space]
    ann.remove(space, bob.device.user)
    ann.member(space, bob.device.user, "writer")
    bob.sync()
    assert bob.told[space] == (space, "writer")


def test_who_does_not_ask_is_told_nothing(ann: Device, bob: Listener) -> None:
    shared(ann, bob)
    page = bob.device.pull()
    assert page["spaces"].keys() == {"joined", "left"}
    assert bob.device.pull(page["syncedUntil"])["spaces"].keys() == {"joined", "left"}
    answer = bob.device.push(edit("r", v=1), pull=True, since=page["syncedUntil"])
    assert answer["spaces"].keys() == {"joined", "left"}
    assert answer["hasMore"] is False


def test_a_device_of_before_is_told_with_its_next_page_and_downloads_nothing_again(ann: Device, bob: Listener) -> None:
    space = shared(ann, bob)
    ann.write({**edit("r", v=1), "spaceId": space})
    bob.since = bob.device.drain()[1]
    page = bob.device.pull(bob.since, roles="")
    assert page["serverChanges"] == []
    assert page["spaces"]["joined"] == []
    assert bob.take(page) == [space]


@pytest.mark.parametrize("until", ["nonsense", "1.2", "-1.5", "9" * 18 + "." + "9" * 18, "1.2.3.4", "٣.٤"])
def test_what_was_not_said_to_it_counts_as_nothing(ann: Device, bob: Listener, until: str) -> None:
    space = shared(ann, bob)
    bob.sync()
    bob.until = until
    assert bob.sync() == [space]


def test_who_is_in_no_space_is_told_of_none_once(device: Make) -> None:
    nobody = Listener(device(unique("nobody")))
    page = nobody.device.pull(roles="")
    assert page["spaces"]["roles"] == []
    nobody.take(page)
    assert "rolesUntil" not in nobody.device.pull(nobody.since, roles=nobody.until)["spaces"]


def test_the_answer_to_a_push_sends_for_it(ann: Device, bob: Listener) -> None:
    space = shared(ann, bob)
    bob.sync()
    renamed(ann, space, "Harbour")
    answer = bob.device.push(edit("r", v=1), pull=True, since=bob.since, roles=bob.until)
    assert answer["hasMore"] is True
    bob.since = answer["syncedUntil"]
    told = bob.sync()
    assert space in told
    answer = bob.device.push(edit("r", 2, v=2), pull=True, since=bob.since, roles=bob.until)
    assert answer["hasMore"] is False


def test_a_page_tells_of_some_and_all_come_once(server: Server, device: Make) -> None:
    crowd = many_spaces(server, 1200)
    user = Listener(device(crowd.user))
    page = user.device.pull(roles="")
    assert len(page["spaces"]["roles"]) == 500
    assert page["hasMore"] is True
    user.take(page)
    told = user.sync()
    assert len(told) == 700
    assert sorted(user.told) == sorted(crowd.spaces)
    assert user.sync() == []
    user.since = user.until = ""
    assert len(user.take(user.device.pull(roles="", bytes=1024))) == 4


def test_what_changes_while_all_are_told_comes_after_them(server: Server, device: Make) -> None:
    crowd = many_spaces(server, 600)
    user = Listener(device(crowd.user))
    first = user.take(user.device.pull(roles=""))
    query = f"""UPDATE syncd.sync_memberships m SET role = 'reader' FROM syncd.sync_spaces s
                WHERE s.space_no = m.space_no AND s.space_id = '{first[0]}'"""
    asyncio.run(run(server.owner_dsn, query))
    rest = user.sync()
    assert rest[-1] == first[0]
    assert len(rest) == 101
    assert user.told[first[0]] == (first[0], "reader")


async def test_who_listens_hears_at_once(server: Server, ann: Device, bob: Listener) -> None:
    space = shared(ann, bob)
    async with await opened(server) as socket:
        await socket.auth(bob.device.user, protocol=1)
        for page in await socket.subscribe("app", roles=""):
            bob.take(page)
        assert bob.told[space] == (space, "writer")
        renamed(ann, space, "Harbour")
        page = await socket.until(lambda: [f for f in socket.all("changes") if said(f, space, "Harbour", "writer")])
        assert [one["id"] for one in page[0]["spaces"]["roles"]] == [space]
        ann.member(space, bob.device.user, "reader")
        page = await socket.until(lambda: [f for f in socket.all("changes") if said(f, space, "Harbour", "reader")])
        bob.take(page[0])
    assert bob.sync() == []


def said(frame: Any, space: str, name: str, role: str) -> bool:
    return tells(frame["spaces"], space, name, role)


def tells(spaces: Any, *told: str) -> bool:
    """Whether what a page says of spaces tells of one: its id, name and role."""
    return dict(zip(("id", "name", "role"), told, strict=True)) in spaces.get("roles", [])


async def told(stream: Stream, *space: str) -> Any:
    """The event that tells of a space: its id, name and role."""
    return (await stream.until(lambda: [e for e in stream.all("spaces") if tells(e.data, *space)]))[0].data


async def test_so_does_who_is_on_a_stream(server: Server, ann: Device, bob: Listener) -> None:
    space = shared(ann, bob)
    async with stream_of(server, bob.device.user, "app", roles="") as stream:
        await told(stream, space, space, "writer")
        renamed(ann, space, "Harbour")
        event = await told(stream, space, "Harbour", "writer")
        assert [one["id"] for one in event["roles"]] == [space]
        assert (event["joined"], event["left"]) == ([], [])
        ann.member(space, bob.device.user, "reader")
        bob.until = (await told(stream, space, "Harbour", "reader"))["rolesUntil"]
        await stream.until(lambda: stream.events[-1].name == "heartbeat")
        bob.since = stream.last_id
    assert bob.sync() == []
    renamed(ann, space, "Port")
    back = {"Last-Event-ID": bob.since}
    async with stream_of(server, bob.device.user, "app", headers=back, roles=bob.until) as stream:
        event = await told(stream, space, "Port", "reader")
        assert [one["id"] for one in event["roles"]] == [space], "what was told before is not told again"


async def test_on_a_stream_too_who_does_not_ask_is_told_nothing(server: Server, ann: Device, bob: Listener) -> None:
    space = shared(ann, bob)
    user = bob.device.user
    async with stream_of(server, user, "app") as silent, stream_of(server, user, "app", roles="") as stream:
        await silent.next("spaces")
        await told(stream, space, space, "writer")
        renamed(ann, space, "Harbour")
        await told(stream, space, "Harbour", "writer")
        ann.write({**edit("r", v=1), "spaceId": space})
        await silent.brings("r")
    assert [event.data.keys() for event in silent.all("spaces")] == [{"joined", "left"}]


@pytest.fixture(scope="module")
def claims(workspace: Path) -> Iterator[tuple[Server, httpx.Client]]:
    """A server that takes memberships from the token."""
    settings = {"memberships": "token", "jwt_secret": "a secret of more than thirty-two bytes"}
    with (
        Server(workspace / "told-claims", settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        yield server, http


def test_where_they_come_with_the_token_so_do_the_roles(claims: tuple[Server, httpx.Client]) -> None:
    server, http = claims
    user, space, other = unique("user"), unique("space"), unique("other")
    bob = Listener(Device(http, server, user))

    def says(*spaces: tuple[str, str]) -> None:
        listed = [{"id": id, "role": role} for id, role in spaces]
        bob.device.headers["authorization"] = f"Bearer {server.token(user, listed)}"

    says((space, "writer"))
    assert bob.take(bob.device.pull(roles="")) == [space], "with the very page that names it"
    assert bob.told == {space: (space, "writer")}
    time.sleep(1.1)  # a token is dated in whole seconds
    says((space, "reader"), (other, "owner"))
    assert sorted(bob.sync()) == sorted([space, other])
    assert bob.told == {space: (space, "reader"), other: (other, "owner")}
    assert bob.sync() == []
