"""A feed that cannot be read stops no other: whoever reads is told which it is, and gets the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.holding import change
from tests.support.socket_device import Socket, socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
TABLES = ("sync_records", "sync_changes")


@asynccontextmanager
async def damaged(server: Server, space: str, but_for: str = "") -> AsyncIterator[None]:
    """While it lasts, reading a row of a space's state or log fails, as on a page of a broken disk; not for one user,
    who has to write there."""
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        no = await conn.fetchval("SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1", space)
        writer = await conn.fetchval("SELECT name_no FROM syncd.sync_names WHERE name = $1", but_for) or 0
        for table in TABLES:
            await conn.execute(
                f"CREATE POLICY damaged_{no} ON syncd.{table} AS RESTRICTIVE FOR SELECT TO PUBLIC"
                f" USING (space_no <> {no} OR syncd.sync_user() = {writer} OR 1 / (space_no - {no}) > 0)"
            )
        try:
            yield
        finally:
            for table in TABLES:
                await conn.execute(f"DROP POLICY damaged_{no} ON syncd.{table}")
    finally:
        await conn.close()


class Pair:
    """An owner's two spaces, of which one will be damaged, and what somebody else writes there."""

    def __init__(self, device: Make, app: str = "app") -> None:
        self.owner = device(unique("owner"), app=app)
        self.bad, self.good = (self.owner.create(unique(name)) for name in ("bad", "good"))
        self.write("first")

    def write(self, name: str) -> None:
        for space in (self.bad, self.good):
            self.owner.write({**edit(f"{name} {space}", n=1), "spaceId": space})

    def written(self, name: str, *spaces: str) -> set[str]:
        return {f"{name} {space}" for space in spaces}

    def let_in(self, user: str) -> None:
        for space in (self.bad, self.good):
            self.owner.member(space, user)


@pytest.fixture
def pair(device: Make) -> Pair:
    return Pair(device)


def ids(answer: Any) -> set[str]:
    return {change["id"] for change in answer["serverChanges"]}


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "the first generation"])
async def test_a_new_member_gets_the_other_spaces_and_later_the_rest(
    server: Server, device: Make, pair: Pair, legacy: bool
) -> None:
    reader = device(unique("reader"), legacy=legacy)
    pair.let_in(reader.user)
    async with damaged(server, pair.bad):
        page = reader.pull()
        assert ids(page) == pair.written("first", pair.good)
        assert page["spaces"]["unreadable"] == [pair.bad]
        assert pair.bad not in page["spaces"]["joined"]
        assert not page["hasMore"]
        assert reader.pull(page["syncedUntil"])["spaces"]["unreadable"] == [pair.bad]
    page = reader.pull(page["syncedUntil"])
    assert ids(page) == pair.written("first", pair.bad)
    assert page["spaces"] == {"joined": [pair.bad], "left": []}


async def test_who_knows_the_feed_keeps_its_place_in_it(server: Server, device: Make, pair: Pair) -> None:
    reader = device(unique("reader"))
    pair.let_in(reader.user)
    cursor = reader.drain()[1]
    pair.write("second")
    async with damaged(server, pair.bad):
        page = reader.pull(cursor)
        assert ids(page) == pair.written("second", pair.good)
        assert page["spaces"] == {"joined": [], "left": [], "unreadable": [pair.bad]}
    assert ids(reader.pull(page["syncedUntil"])) == pair.written("second", pair.bad)


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "the first generation"])
async def test_a_push_is_written_and_answered_with_what_can_be_read(
    server: Server, device: Make, pair: Pair, legacy: bool
) -> None:
    reader = device(unique("reader"), legacy=legacy)
    pair.let_in(reader.user)
    cursor = reader.drain()[1]
    pair.write("second")
    async with damaged(server, pair.bad):
        mine = change("mine", pair.good, n=1) if legacy else {**edit("mine", n=1), "spaceId": pair.good}
        answer = reader.push(mine, pull=True, since=cursor)
        assert [result["status"] for result in answer["results"]] == ["applied"]
        assert ids(answer) - {"mine"} == pair.written("second", pair.good)
        assert answer["spaces"]["unreadable"] == [pair.bad]
    assert ids(reader.pull(answer["syncedUntil"])) == pair.written("second", pair.bad)


async def test_many_of_them_are_all_named(server: Server, device: Make) -> None:
    owner = device(unique("owner"))
    spaces = [owner.create(unique("s")) for _ in range(6)]
    owner.write(*({**edit(f"in {space}", n=1), "spaceId": space} for space in spaces))
    async with damaged(server, spaces[1]), damaged(server, spaces[4]), damaged(server, spaces[5]):
        page = owner.pull()
        assert sorted(page["spaces"]["unreadable"]) == sorted([spaces[1], spaces[4], spaces[5]])
        assert ids(page) == {f"in {spaces[n]}" for n in (0, 2, 3)}


@pytest.fixture
def live(device: Make) -> Pair:
    return Pair(device, app="notes")


def told(socket: Socket) -> list[Any]:
    """The frames that name what cannot be read: it is not asked for again and again."""
    return [frame for frame in socket.all("changes") if "unreadable" in frame["spaces"]]


async def test_listeners_are_told_and_hear_of_the_others(server: Server, live: Pair) -> None:
    user = unique("reader")
    live.let_in(user)
    async with (
        damaged(server, live.bad, live.owner.user),
        socket_of(server, user) as socket,
        stream_of(server, user) as stream,
    ):
        await socket.subscribe()
        await socket.brings(f"first {live.good}")
        await stream.brings(f"first {live.good}")
        assert socket.all("changes")[0]["spaces"]["unreadable"] == [live.bad]
        assert (await stream.next("spaces")).data["unreadable"] == [live.bad]
        live.write("second")
        await socket.brings(f"second {live.good}")
        await stream.brings(f"second {live.good}")
        assert {c["spaceId"] for c in (*socket.changes(), *stream.changes())} == {live.good}
        assert len(told(socket)) < 5


async def test_who_listens_already_when_it_breaks_is_told_and_goes_on(server: Server, live: Pair) -> None:
    user = unique("reader")
    live.let_in(user)
    async with socket_of(server, user) as socket:
        await socket.subscribe()
        await socket.brings(f"first {live.bad}")
        async with damaged(server, live.bad, live.owner.user):
            live.owner.write({**edit("second", n=1), "spaceId": live.bad})
            await socket.until(lambda: told(socket))
            live.owner.write({**edit("third", n=1), "spaceId": live.good})
            await socket.brings("third")
            assert len(told(socket)) < 5
        live.owner.write({**edit("fourth", n=1), "spaceId": live.good})
        await socket.brings("fourth")
        cursor = socket.all("changes")[-1]["syncedUntil"]
        async with socket_of(server, user) as again:
            await again.subscribe(since=cursor)
            await again.brings("second")
