"""G11: what starts after a removal neither reads nor writes; who cannot say who is a member lets nobody in."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import jwt
import pytest

from tests.support.device import Device, statuses
from tests.support.direct import somebody_waits
from tests.support.harness import Server
from tests.support.provider import Provider

pytestmark = pytest.mark.waits

UNIQUE = itertools.count()
SECRET = "a secret of more than thirty-two bytes"


def writer_of(*spaces: str) -> list[dict[str, str]]:
    return [{"id": space, "role": "writer"} for space in spaces]


def outcome(body: dict[str, Any]) -> list[str]:
    """The code of what was rejected, else the status."""
    return [result.get("code", result["status"]) for result in body["results"]]


@asynccontextmanager
async def started(folder: Path, **settings: Any) -> AsyncIterator[Server]:
    """A server, started and stopped beside the event loop, in which its providers live."""
    server = Server(folder / "data", settings={"jwt_secret": SECRET, **settings}, start=False)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@pytest.fixture(scope="module")
async def claims(workspace: Path) -> AsyncIterator[Server]:
    folder = workspace / "claims"
    folder.mkdir(mode=0o755)
    async with started(folder, memberships="token") as server:
        yield server


@pytest.fixture(scope="module")
async def members() -> AsyncIterator[Provider]:
    async with Provider([]) as provider:
        yield provider


@pytest.fixture(scope="module")
async def asking(workspace: Path, members: Provider) -> AsyncIterator[Server]:
    folder = workspace / "asking"
    folder.mkdir(mode=0o755)
    async with started(folder, memberships="service", memberships_url=members.url) as server:
        yield server


class TestTheTable:
    async def test_no_push_that_starts_after_a_removal_is_taken_and_none_is_half(self, server: Server) -> None:
        for _ in range(6):
            n = next(UNIQUE)
            async with (
                Device(server, f"owner-{n}") as owner,
                Device(server, f"member-{n}") as member,
                Device(server, f"member-{n}", "other") as other,
            ):
                space = await owner.create_space(f"revoked-{n}", **{member.user: "writer"})
                removed = asyncio.Event()
                seen: list[tuple[bool, str]] = []

                async def keep_pushing(device: Device, size: int, space: str = space, removed: asyncio.Event = removed,
                                       seen: list[tuple[bool, str]] = seen) -> None:  # fmt: skip
                    for turn in range(1000):
                        late = removed.is_set()
                        ids = [f"{device.client}-{turn}-{i}" for i in range(size)]
                        body = await device.push([device.change(i, i, turn, space=space) for i in ids])
                        assert len(set(outcome(body))) == 1
                        seen.append((late, outcome(body)[0]))
                        if late:
                            return

                pushing = [asyncio.create_task(keep_pushing(d, size)) for d, size in ((member, 1), (other, 150))]
                for _ in range(600):
                    if (False, "applied") in seen:
                        break
                    await asyncio.sleep(0.05)
                assert (await owner.http.delete(f"/spaces/{space}/members/{member.user}")).status_code == 204
                removed.set()
                at_removal = len((await owner.drain(history=1))[0])
                await asyncio.gather(*pushing)
                assert {result for _, result in seen} == {"applied", "space_not_found"}
                assert [result for late, result in seen if late] == ["space_not_found"] * 2
                assert len((await owner.drain(history=1))[0]) == at_removal

    async def test_a_removal_waits_for_a_push_that_is_under_way(self, server: Server) -> None:
        n = next(UNIQUE)
        async with Device(server, f"owner-{n}") as owner, Device(server, f"member-{n}") as member:
            space = await owner.create_space(f"waits-{n}", **{member.user: "writer"})
            await owner.push([owner.change("first", "r", 1, space=space)])
            holder = await asyncpg.connect(server.owner_dsn)
            transaction = holder.transaction()
            await transaction.start()
            feeds = "syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no)"
            lock = f"SELECT FROM {feeds} WHERE s.space_id = $1 FOR UPDATE OF f"
            await holder.fetch(lock, space)
            # Two changes, so that it waits for the feed while it holds its membership.
            changes = [member.change(f"c{i}", f"r{i}", 1, space=space) for i in range(2)]
            pushing = asyncio.create_task(member.push(changes))
            await somebody_waits(holder)
            removing = asyncio.create_task(owner.http.delete(f"/spaces/{space}/members/{member.user}"))
            await somebody_waits(holder, behind=True)
            assert not pushing.done()
            assert not removing.done()
            await transaction.rollback()
            await holder.close()
            assert statuses(await pushing) == ["applied"] * 2
            assert (await removing).status_code == 204
            assert outcome(await member.push([member.change("late", "r", 1, space=space)])) == ["space_not_found"]

    async def test_who_becomes_a_reader_writes_no_more_and_reads_on(self, server: Server) -> None:
        n = next(UNIQUE)
        async with Device(server, f"owner-{n}") as owner, Device(server, f"member-{n}") as member:
            space = await owner.create_space(f"reader-{n}", **{member.user: "writer"})
            assert outcome(await member.push([member.change("a", "r", 1, space=space)])) == ["applied"]
            await owner.put_member(space, member.user, "reader")
            assert outcome(await member.push([member.change("b", "r", 2, space=space)])) == ["not_a_writer"]
            assert len((await member.drain(history=1))[0]) == 1

    async def test_who_was_removed_is_told_to_purge_and_gets_nothing_with_any_cursor(self, server: Server) -> None:
        n = next(UNIQUE)
        async with Device(server, f"owner-{n}") as owner, Device(server, f"member-{n}") as member:
            space = await owner.create_space(f"purge-{n}", **{member.user: "writer"})
            await owner.push([owner.change("a", "r", 1, space=space)])
            _, cursor = await member.drain()
            await owner.http.delete(f"/spaces/{space}/members/{member.user}")
            await owner.push([owner.change("b", "r", 2, space=space)])
            page = await member.pull(cursor)
            assert page["serverChanges"] == []
            assert page["spaces"]["left"] == [space]
            assert (await member.pull())["serverChanges"] == []
            assert (await member.pull(page["syncedUntil"]))["spaces"]["left"] == []


class TestTheToken:
    def token(self, user: str, age: int, *spaces: str) -> str:
        """A token that is that many seconds old."""
        now = int(time.time())
        claims = {"sub": user, "iat": now - age, "exp": now + 600, "spaces": writer_of(*spaces)}
        return jwt.encode(claims, SECRET, algorithm="HS256")

    async def may(self, server: Server, user: str, token: str, space: str) -> bool:
        """Whether this token lets its user write in a space, and read it."""
        async with Device(server, user, token=token) as device:
            change = device.change(f"c{next(UNIQUE)}", f"{space}-{next(UNIQUE)}", 1, space=space)
            wrote = outcome(await device.push([change])) == ["applied"]
            read = any(change["spaceId"] == space for change in (await device.drain())[0])
            assert wrote == read
            return wrote

    async def test_the_newest_token_says_what_its_user_may(self, claims: Server) -> None:
        user = f"claims-{next(UNIQUE)}"
        assert await self.may(claims, user, self.token(user, 100, f"{user}-a"), f"{user}-a")
        assert not await self.may(claims, user, self.token(user, 90, f"{user}-b"), f"{user}-a")
        assert await self.may(claims, user, self.token(user, 90, f"{user}-b"), f"{user}-b")

    async def test_an_older_token_cannot_bring_a_space_back(self, claims: Server) -> None:
        user = f"claims-{next(UNIQUE)}"
        old, space = self.token(user, 100, f"{user}-a"), f"{user}-a"
        assert await self.may(claims, user, old, space)
        assert not await self.may(claims, user, self.token(user, 50), space)
        assert not await self.may(claims, user, old, space)

    async def test_nor_one_from_between_two_that_said_the_same(self, claims: Server) -> None:
        user = f"claims-{next(UNIQUE)}"
        space = f"{user}-a"
        assert not await self.may(claims, user, self.token(user, 100), space)
        assert not await self.may(claims, user, self.token(user, 20), space)
        assert not await self.may(claims, user, self.token(user, 60, space), space)

    async def test_memberships_from_outside_are_not_changed_here(self, claims: Server) -> None:
        user = f"claims-{next(UNIQUE)}"
        space = f"/spaces/{user}-a"
        async with Device(claims, user, token=self.token(user, 10, f"{user}-a")) as device:
            for method, path, body in (
                ("POST", "/spaces", {"name": "x"}), ("PATCH", space, {"name": "x"}), ("DELETE", space, None),
                ("DELETE", f"{space}/membership", None), ("POST", f"{space}/invitations", {"role": "reader"}),
                ("DELETE", f"{space}/invitations/x", None), ("POST", "/invitations", {"token": "x"}),
            ):  # fmt: skip
                answer = await device.http.request(method, path, json=body)
                assert (answer.status_code, answer.json()["code"]) == (409, "managed_elsewhere"), (method, path)

    async def test_a_token_without_the_claim_is_refused_not_taken_for_an_empty_list(self, claims: Server) -> None:
        async with Device(claims, "nobody") as device:
            assert (await device.ask()).status_code == 401


async def unavailable(device: Device, code: str = "memberships_unavailable") -> None:
    """Reading, writing and listing are all refused, with when to try again."""
    requests = [device.ask(), device.send([device.change("refused", "refused", 1)]), device.http.get("/spaces")]
    for response in await asyncio.gather(*requests):
        assert (response.status_code, response.json()["code"]) == (503, code), response.text
        assert int(response.headers["retry-after"]) >= 1


class TestTheService:
    @pytest.fixture
    async def device(self, asking: Server, members: Provider) -> AsyncIterator[Device]:
        """A member of one space, who has written there."""
        async with Device(asking, f"user-{next(UNIQUE)}") as device:
            members.by_user[device.user] = writer_of(f"{device.user}-space")
            change = device.change("first", "r", 1, space=f"{device.user}-space")
            assert outcome(await device.push([change])) == ["applied"]
            yield device
            members.status, members.headers, members.silent, members.dribble = 200, "", False, False
            if members._server is None:
                await members.up()
            members.by_user[device.user] = writer_of(f"{device.user}-space")
            changes, _ = await device.drain(history=1)
            assert [change["changeId"] for change in changes] == ["first"]

    async def test_what_it_says_counts_from_the_next_request(self, device: Device, members: Provider) -> None:
        members.by_user[device.user] = []
        assert (await device.pull())["serverChanges"] == []
        change = device.change("late", "r", 2, space=f"{device.user}-space")
        assert outcome(await device.push([change])) == ["space_not_found"]

    async def test_when_it_is_down_nothing_is_allowed(self, device: Device, members: Provider) -> None:
        await members.down()
        await unavailable(device)

    @pytest.mark.parametrize("how", ["silent", "dribble"])
    async def test_when_it_is_slow_nothing_is_allowed_and_nobody_waits_for_long(
        self, device: Device, members: Provider, how: str
    ) -> None:
        setattr(members, how, True)
        began = time.monotonic()
        await unavailable(device)
        assert time.monotonic() - began < 30

    @pytest.mark.parametrize(
        "lie",
        [
            None, {}, "", 0, {"spaces": None}, {"error": "no"}, b"", b"<html>", b"[" * 100_000, b"\xff",
            [{"id": "s"}], [{"role": "writer"}], ["s"], [{"id": "s", "role": "king"}], [{"id": 1, "role": "writer"}],
            [{"id": "", "role": "writer"}], [{"id": "s", "role": "reader"}, {"id": "s", "role": "owner"}],
        ],
    )  # fmt: skip
    async def test_what_is_no_list_of_spaces_is_never_an_empty_one(
        self, device: Device, members: Provider, lie: Any
    ) -> None:
        members.by_user[device.user] = lie
        await unavailable(device)

    @pytest.mark.parametrize("status", [204, 302, 404, 429, 500])
    async def test_an_error_of_its_is_never_an_empty_list(self, device: Device, members: Provider, status: int) -> None:
        members.status, members.headers = status, "Location: /elsewhere\r\n"
        members.by_user[device.user] = b"" if status == 204 else []
        await unavailable(device)


async def test_an_address_of_a_service_that_is_not_to_be_asked_is_not(folder: Path) -> None:
    async with Provider([]) as provider, started(folder, memberships_url=provider.url) as server:
        async with Device(server, "ann") as ann:
            space = await ann.create_space("own")
            assert outcome(await ann.push([ann.change("c", "r", 1, space=space)])) == ["applied"]
        assert provider.asked == 0
