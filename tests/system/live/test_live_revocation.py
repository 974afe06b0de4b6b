"""G11 live: who is removed hears nothing that was written later, is told to purge within a second, writes no more.

Whoever removes is on one worker, the removed one's socket and stream on another, and canaries are written at once.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.listening import SOON, Listening, listening, on_the_first, unheard
from tests.support.provider import Provider
from tests.support.socket_device import Socket, socket_on
from tests.support.wire import unique

pytestmark = pytest.mark.waits

SECRET = "a secret of more than thirty-two bytes"
TURNS = 14


def listing(*spaces: str, role: str = "writer") -> list[dict[str, str]]:
    return [{"id": space, "role": role} for space in spaces]


def outcome(body: dict[str, Any]) -> list[str]:
    return [result.get("code", result["status"]) for result in body["results"]]


async def put(device: Device, space: str, *records: str) -> None:
    """Writes records, one push each."""
    for record in records:
        assert outcome(await device.push([device.change(unique("c"), record, record, space=space)])) == ["applied"]


@asynccontextmanager
async def started(folder: Path, **settings: Any) -> AsyncIterator[Server]:
    """A server with two workers, started and stopped beside the event loop, in which its providers live."""
    server = Server(folder, workers=2, settings={"jwt_secret": SECRET, **settings}, start=False)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@pytest.fixture(scope="module")
def pair(workspace: Path) -> Iterator[Server]:
    """A server with two workers."""
    with Server(workspace / "live-table", workers=2) as server:
        yield server


@pytest.fixture(scope="module")
async def claims(workspace: Path) -> AsyncIterator[Server]:
    async with started(workspace / "live-claims", memberships="token") as server:
        yield server


@pytest.fixture(scope="module")
async def members() -> AsyncIterator[Provider]:
    async with Provider([]) as provider:
        yield provider


@pytest.fixture(scope="module")
async def asking(workspace: Path, members: Provider) -> AsyncIterator[Server]:
    settings = {"memberships": "service", "memberships_url": members.url}
    async with started(workspace / "live-asking", **settings) as server:
        yield server


class TestTheTable:
    async def test_nothing_written_after_a_removal_is_ever_sent(self, pair: Server) -> None:
        seed = random.randrange(1 << 30)
        print(f"seed {seed}")
        chance = random.Random(seed)
        bob, cid = unique("bob"), unique("cid")
        async with (
            on_the_first(pair, unique("ann")) as ann,
            socket_on(pair, 1, cid) as stays,
            listening(pair, bob) as heard,
        ):
            # One who stays a member is listening too, so that the feed is read for both.
            space = await ann.create_space(unique("space"), **{cid: "reader"})
            await stays.subscribe()
            for turn in range(TURNS):
                before = heard.told("left", space)
                await ann.put_member(space, bob)
                await put(ann, space, f"allowed-{turn}")
                if noticed := chance.random() < 0.7:
                    await heard.bring(f"allowed-{turn}")
                if chance.random() < 0.5:
                    await ann.http.delete(f"/spaces/{space}/members/{bob}")
                else:
                    await unheard(pair, space, bob)
                for n in range(chance.choice((1, 3, 10))):
                    await put(ann, space, f"canary-{turn}-{n}")
                if noticed and chance.random() < 0.7:
                    await heard.are_told("left", space, before)
                else:
                    await asyncio.sleep(chance.uniform(0, 0.3))
                await heard.settled()
                # Whoever is a member again gets the whole space, so they are looked for before.
                assert not [r for r in heard.ids() if r.startswith(f"canary-{turn}")], turn
            await ann.put_member(space, bob)
            await put(ann, space, "end")
            await heard.bring("end")
            await stays.brings(f"canary-{TURNS - 1}-0", within=SOON)
            async with Device(pair, bob) as fresh:
                everything = {c["id"] for c in (await fresh.drain())[0]}
            await heard.socket.until(lambda: kept(heard.socket) == everything, SOON)

    async def test_it_stops_at_once_and_both_are_told_within_a_second(self, pair: Server) -> None:
        bob = unique("bob")
        waits = []
        async with on_the_first(pair, unique("ann")) as ann, listening(pair, bob) as heard:
            for turn in range(5):
                space = await ann.create_space(unique("space"), **{bob: "reader"})
                await put(ann, space, f"before-{turn}")
                await heard.bring(f"before-{turn}")
                await ann.http.delete(f"/spaces/{space}/members/{bob}")
                began = time.monotonic()
                await put(ann, space, f"canary-{turn}")
                await heard.are_told("left", space)
                waits.append(time.monotonic() - began)
            await heard.settled()
            assert not [record for record in heard.ids() if record.startswith("canary")]
            assert sorted(waits)[len(waits) // 2] < 2, waits

    async def test_a_space_that_is_deleted_is_left(self, pair: Server) -> None:
        bob = unique("bob")
        async with on_the_first(pair, unique("ann")) as ann, listening(pair, bob) as heard:
            space = await ann.create_space(unique("space"), **{bob: "writer"})
            await put(ann, space, "before")
            await heard.bring("before")
            assert (await ann.http.delete(f"/spaces/{space}")).status_code == 204
            answer = await heard.socket.push(ann.change("c", "r", 1, space=space))
            assert outcome(answer) == ["space_not_found"]
            await heard.are_told("left", space)

    async def test_a_role_counts_at_once(self, pair: Server) -> None:
        bob = unique("bob")
        async with on_the_first(pair, unique("ann")) as ann, listening(pair, bob) as heard:
            space = await ann.create_space(unique("space"))
            for _ in range(6):
                for role, result in (("writer", "applied"), ("reader", "not_a_writer"), ("owner", "applied")):
                    await ann.put_member(space, bob, role)
                    change = ann.change(unique("c"), unique("r"), 1, space=space)
                    assert outcome(await heard.socket.push(change)) == [result]
                await ann.http.delete(f"/spaces/{space}/members/{bob}")
                change = ann.change(unique("c"), "late", 1, space=space)
                assert outcome(await heard.socket.push(change)) == ["space_not_found"]
            await put(ann, space, "canary")
            await heard.settled()
            assert "canary" not in heard.ids()

    async def test_who_joins_gets_the_space_whole_within_a_second(self, pair: Server) -> None:
        bob = unique("bob")
        async with on_the_first(pair, unique("ann")) as ann, listening(pair, bob) as heard:
            space = await ann.create_space(unique("space"))
            records = [f"r{n}" for n in range(1500)]
            for start in range(0, 1500, 500):
                await ann.push([ann.change(r, r, r, space=space) for r in records[start : start + 500]])
            await ann.put_member(space, bob, "reader")
            began = time.monotonic()
            await heard.are_told("joined", space)
            print(f"told after {time.monotonic() - began:.2f} s")
            await put(ann, space, "after")
            await heard.bring("after")
            for changes in (heard.socket.changes(), heard.stream.changes()):
                here = [c["id"] for c in changes if c["spaceId"] == space]
                assert sorted(here) == sorted([*records, "after"])

    async def test_narrowed_and_legacy_listeners_are_cut_off_too(self, pair: Server) -> None:
        bob = unique("bob")
        async with (
            on_the_first(pair, unique("ann")) as ann,
            socket_on(pair, 1, bob, "narrow") as narrow,
            socket_on(pair, 1, bob, "legacy", path="/ws/notes") as legacy,
        ):
            space = await ann.create_space(unique("space"), **{bob: "writer"})
            await legacy.next("sync-available", tables=[])
            await narrow.subscribe(collections=["items"])
            await put(ann, space, "before")
            await narrow.brings("before")
            await legacy.next("sync-available", tables=["items"])
            await ann.http.delete(f"/spaces/{space}/members/{bob}")
            await put(ann, space, "canary-1", "canary-2")
            await narrow.until(lambda: [f for f in narrow.all("changes") if space in f["spaces"]["left"]], SOON)
            await legacy.next("sync-available", SOON, tables=[])
            await put(ann, space, "canary-3")
            await narrow.fence()
            await legacy.fence()
            assert {c["id"] for c in narrow.changes()} == {"before"}
            assert len(legacy.all("sync-available", tables=["items"])) == 1


def kept(socket: Socket) -> set[str]:
    """What a device holds that does as it is told: the records of the spaces it was not told to purge."""
    spaces: dict[str, set[str]] = {}
    for frame in socket.all("changes"):
        for space in frame["spaces"]["left"]:
            spaces.pop(space, None)
        for change in frame["changes"]:
            spaces.setdefault(change["spaceId"], set()).add(change["id"])
    return {record for records in spaces.values() for record in records}


class TestTheToken:
    def token(self, user: str, age: int, *spaces: str, role: str = "writer") -> str:
        """A token that is that many seconds old."""
        now = int(time.time())
        claims = {"sub": user, "iat": now - age, "exp": now + 600, "spaces": listing(*spaces, role=role)}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    @pytest.mark.parametrize("how", ["renewed on the socket", "any request of the user"])
    async def test_a_newer_token_takes_and_gives_spaces(self, claims: Server, how: str) -> None:
        ann, bob, space = unique("ann"), unique("bob"), unique("space")
        shown = self.token(bob, 300, space)
        async with (
            on_the_first(claims, ann, self.token(ann, 300, space)) as owner,
            listening(claims, bob, shown) as heard,
        ):
            show = self.showing(heard, claims, bob, how)
            for turn in range(3):
                await put(owner, space, f"allowed-{turn}")
                await heard.bring(f"allowed-{turn}")
                before = heard.told("left", space)
                await show(self.token(bob, 200 - 20 * turn))
                await put(owner, space, f"canary-{turn}")
                change = owner.change(unique("c"), "no", 1, space=space)
                assert outcome(await heard.socket.push(change)) == ["space_not_found"]
                await heard.are_told("left", space, before)
                await heard.settled()
                assert f"canary-{turn}" not in heard.ids()
                await show(self.token(bob, 190 - 20 * turn, space))
                change = owner.change(unique("c"), unique("r"), 1, space=space)
                assert outcome(await heard.socket.push(change)) == ["applied"]
            await show(self.token(bob, 100, space, role="reader"))
            change = owner.change(unique("c"), "no", 1, space=space)
            assert outcome(await heard.socket.push(change)) == ["not_a_writer"]

    def showing(self, heard: Listening, server: Server, user: str, how: str) -> Callable[[str], Awaitable[None]]:
        """Shows the server a token, and returns when that was answered."""

        async def show(token: str) -> None:
            if how == "renewed on the socket":
                await heard.socket.auth(user, "phone", token)
            else:
                async with Device(server, user, "tablet", token=token) as tablet:
                    await tablet.pull()

        return show

    async def test_an_older_token_brings_nothing_back(self, claims: Server) -> None:
        ann, bob, space = unique("ann"), unique("bob"), unique("space")
        old = self.token(bob, 300, space)
        async with (
            on_the_first(claims, ann, self.token(ann, 300, space)) as owner,
            listening(claims, bob, old) as heard,
        ):
            await heard.socket.auth(bob, "phone", self.token(bob, 200))
            await heard.are_told("left", space)
            await heard.socket.auth(bob, "phone", old)
            await put(owner, space, "canary")
            change = owner.change(unique("c"), "no", 1, space=space)
            assert outcome(await heard.socket.push(change)) == ["space_not_found"]
            await heard.settled()
            assert "canary" not in heard.ids()


class TestTheService:
    async def test_what_it_says_reaches_open_connections_within_about_a_second(
        self, asking: Server, members: Provider
    ) -> None:
        ann, bob, space = unique("ann"), unique("bob"), unique("space")
        members.by_user |= {ann: listing(space), bob: listing(space)}
        async with on_the_first(asking, ann) as owner, listening(asking, bob) as heard:
            for turn in range(2):
                await put(owner, space, f"allowed-{turn}")
                await heard.bring(f"allowed-{turn}")
                before = heard.told("left", space)
                members.by_user[bob] = []
                await heard.are_told("left", space, before)
                await put(owner, space, f"canary-{turn}")
                await heard.settled()
                assert f"canary-{turn}" not in heard.ids()
                members.by_user[bob] = listing(space)

    async def test_a_push_counts_on_what_it_says_now(self, asking: Server, members: Provider) -> None:
        ann, bob, space = unique("ann"), unique("bob"), unique("space")
        members.by_user |= {ann: listing(space), bob: listing(space)}
        async with on_the_first(asking, ann) as owner, listening(asking, bob) as heard:
            for listed, result in (
                (listing(space), "applied"), (listing(space, role="reader"), "not_a_writer"), ([], "space_not_found"),
                (listing(space), "applied"), ([], "space_not_found"),
            ):  # fmt: skip
                members.by_user[bob] = listed
                change = owner.change(unique("c"), unique("r"), 1, space=space)
                assert outcome(await heard.socket.push(change)) == [result]
            assert bob not in asking.output(), "a line of the HTTP library for each question"
            # That push has told the database, so nothing written from now on may come.
            await put(owner, space, "canary")
            await heard.are_told("left", space)
            await heard.settled()
            assert "canary" not in heard.ids()

    @pytest.mark.parametrize("how", ["refuses connections", "never answers"])
    async def test_while_it_is_away_nobody_is_told_anything_but_to_come_back(
        self, asking: Server, members: Provider, how: str
    ) -> None:
        bob, space = unique("bob"), unique("space")
        members.by_user[bob] = listing(space)
        async with Device(asking, bob) as device, listening(asking, bob) as heard:
            await put(device, space, "before")
            await heard.bring("before")
            if how == "refuses connections":
                await members.down()
            else:
                members.silent = True
            began = time.monotonic()
            try:
                frame = {"type": "push", "requestId": "r", "appId": "notes", "changes": [device.change("c", "x", 1)]}
                said = await heard.socket.ask(frame, "error", requestId="r")
                assert (said["code"], said["retryAfter"] > 0) == ("memberships_unavailable", True)
                assert await heard.socket.ends() == 1013
                await heard.stream.ends()
                assert time.monotonic() - began < 30
                assert heard.told("left", space) == (0, 0)
            finally:
                members.silent = False
                if how == "refuses connections":
                    await members.up()
        async with listening(asking, bob) as again:
            await again.bring("before")
