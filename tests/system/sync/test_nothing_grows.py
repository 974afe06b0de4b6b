"""What somebody asks for again and again, under another name each time, leaves no rows behind: of no table, whatever it
is that grows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest

from tests.support.harness import Server
from tests.support.socket_device import Socket, opened
from tests.support.wire import edit, unique

# What leaves a row each time leaves so many; the server itself notes one now and then, as the size of a space, or how
# many tokens of others were refused in a minute.
TIMES, BESIDE = 25, 4
TABLES = """
    SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind = 'r' ORDER BY 1"""
# Of which as much lies ready as is needed, and what is noted for so long.
KEPT_SHORT = {"sync_numbers", "sync_membership_events"}


async def rows(server: Server) -> dict[str, int]:
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        tables = [row[0] for row in await conn.fetch(TABLES)]
        return {
            name: await conn.fetchval(f"SELECT count(*) FROM syncd.{name}") for name in tables if name not in KEPT_SHORT
        }
    finally:
        await conn.close()


async def counted(server: Server) -> None:
    """Returns when every feed that others wrote is counted: each gets a row then, which the server adds at leisure
    else. The server may be at it meanwhile, and then this look does nothing."""
    conn = await asyncpg.connect(server.owner_dsn)
    left = """
        SELECT EXISTS (SELECT FROM syncd.sync_feeds h LEFT JOIN syncd.sync_feed_usage c USING (space_no, app_no)
        WHERE h.head > coalesce(c.counted, 0)
          AND EXISTS (SELECT FROM syncd.sync_memberships m WHERE m.space_no = h.space_no))"""
    try:
        for _ in range(1000):
            await conn.execute("SELECT syncd.sync_usage_look('{}', '{}', 100000, true)")
            if not await conn.fetchval(left):
                return
    finally:
        await conn.close()
    raise AssertionError("there was always something left to count")


class Asking:
    """A user who asks, and a space of somebody else's."""

    def __init__(self, server: Server, http: httpx.AsyncClient) -> None:
        self.server, self.http, self.user, self.foreign = server, http, unique("mallory"), unique("space")
        self.own = f"_personal:{self.user}"

    async def ask(self, method: str, path: str, client: str | None = None, **how: Any) -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {self.server.token(self.user)}", "X-Sync-Protocol": "1",
            "X-Client-Id": client or unique("device"), **how.pop("headers", {}),
        }  # fmt: skip
        return await self.http.request(method, path, headers=headers, **how)

    async def socket(self) -> Socket:
        found = await opened(self.server)
        await found.auth(self.user, unique("device"))
        return found


async def pulls(one: Asking) -> None:
    await one.ask("GET", f"/sync/{unique('app')}/pull", params={"since": "", "collections": unique("table")})


async def pushes_where_it_may_not(one: Asking) -> None:
    changes = [{**edit(unique("r"), x=1), "table": unique("table"), "spaceId": one.foreign}]
    await one.ask("POST", f"/sync/{unique('app')}", json={"changes": changes, "incarnations": ["1." + "x" * 8]})


async def pushes_what_is_refused(one: Asking) -> None:
    changes = [{**edit(unique("r"), x="x" * 1_100_000), "table": unique("table")}]
    await one.ask("POST", f"/sync/{unique('app')}", json={"changes": changes, "atomic": True, "x": 1})


async def looks_into_the_past(one: Asking) -> None:
    await one.ask("GET", f"/sync/{unique('app')}/records/{unique('table')}/r/history")
    await one.ask("GET", f"/sync/{unique('app')}/spaces/{one.foreign}/at")


async def restores_what_is_not_there(one: Asking) -> None:
    body = {"seq": 1, "clientId": unique("device"), "changeId": unique("change")}
    await one.ask("POST", f"/sync/{unique('app')}/records/{unique('table')}/r/restore", json=body)
    await one.ask("POST", f"/sync/{unique('app')}/spaces/{one.foreign}/restore", json=body)


async def compares_digests(one: Asking) -> None:
    await one.ask("POST", f"/sync/{unique('app')}/digest", json={"spaces": [one.foreign, one.own], "since": ""})


async def asks_for_members_that_it_may_not_have(one: Asking) -> None:
    await one.ask("PUT", f"/spaces/{one.foreign}/members/{unique('bob')}", json={"role": "owner"})
    await one.ask("DELETE", f"/spaces/{one.foreign}/members/{unique('bob')}")
    await one.ask("POST", f"/invitations/{unique('space')}/accept")
    await one.ask("POST", "/invitations", json={"token": unique("token")})
    await one.ask("POST", f"/spaces/{one.foreign}/invitations", json={"role": "reader"})
    await one.ask("PATCH", f"/spaces/{one.foreign}", json={"name": unique("name")})
    await one.ask("DELETE", f"/invitations/{unique('space')}")
    await one.ask("DELETE", f"/blocks/{unique('bob')}")
    await one.ask("DELETE", f"/spaces/{unique('space')}")


async def blocks_and_unblocks(one: Asking) -> None:
    bob = unique("bob")
    assert (await one.ask("PUT", f"/blocks/{bob}")).status_code == 204
    await one.ask("DELETE", f"/blocks/{bob}")


async def imports_nothing(one: Asking) -> None:
    await one.ask("POST", "/backup/import", content=b"{}\n", headers={"content-type": "application/x-ndjson"})


async def is_present(one: Asking) -> None:
    socket = await one.socket()
    await socket.send({"type": "presence", "spaceId": one.own, "state": {"at": unique("place")}})
    await socket.send({"type": "presence", "spaceId": one.foreign, "state": "x"})
    await socket.send({"type": "subscribe", "appId": unique("app"), "since": ""})
    await socket.fence()
    await socket.close()


ASKED: list[Callable[[Asking], Awaitable[None]]] = [
    pulls, pushes_where_it_may_not, pushes_what_is_refused, looks_into_the_past, restores_what_is_not_there,
    compares_digests, asks_for_members_that_it_may_not_have, blocks_and_unblocks, imports_nothing, is_present,
]  # fmt: skip


@pytest.mark.parametrize("asked", ASKED, ids=[asked.__name__ for asked in ASKED])
async def test_what_is_asked_for_again_and_again_leaves_nothing(
    server: Server, asked: Callable[[Asking], Awaitable[None]]
) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        one = Asking(server, http)
        headers = {"Authorization": f"Bearer {server.token(unique('owner'))}"}
        (await http.post("/spaces", headers=headers, json={"id": one.foreign, "name": "x"})).raise_for_status()
        for _ in range(2):
            await asked(one)
        await counted(server)
        before = await rows(server)
        for _ in range(TIMES):
            await asked(one)
        for _ in range(100):
            grown = {name: n - before[name] for name, n in (await rows(server)).items() if n > before[name] + BESIDE}
            if not grown:
                break
            await asyncio.sleep(0.1)
        assert not grown


async def test_of_restores_that_had_nothing_to_do_so_many_are_kept(server: Server) -> None:
    """They count in no quota. The others are kept whatever there is."""
    fill = """
        INSERT INTO syncd.sync_restores (user_no, client_no, change_id, space_no, app_no, target, first_seq, last_seq)
        SELECT d.user_no, d.client_no, 'made-' || g, d.space_no, d.app_no, d.target, 2, 1
        FROM generate_series(2, 1000) g, syncd.sync_restores d WHERE d.change_id = $1"""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        one, device, first = Asking(server, http), unique("device"), unique("change")

        async def restored(change: str, **goal: Any) -> int:
            body = {"clientId": device, "changeId": change, **goal}
            answer = await one.ask("POST", f"/sync/app/spaces/{one.own}/restore", device, json=body)
            assert answer.status_code == 200, answer.text
            return len(answer.json()["results"])

        await one.ask("POST", "/sync/app", device, json={"changes": [edit("r", x=1)]})
        assert await restored(first, seq=1) == 0
        conn = await asyncpg.connect(server.owner_dsn)
        try:
            await conn.execute(fill, first)
            for change, goal, kept in ((unique("none"), 1, 0), (unique("some"), 0, 1)):
                assert await restored(change, seq=goal) == kept
                query = "SELECT count(*) FROM syncd.sync_restores WHERE change_id = $1"
                assert await conn.fetchval(query, change) == kept
        finally:
            await conn.close()


async def test_what_a_device_was_that_never_came_back_is_forgotten(server: Server) -> None:
    """Its server was killed before it could take it back."""
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        one = Asking(server, http)
        conn, socket = await asyncpg.connect(server.owner_dsn), await one.socket()
        here = """
            SELECT p.client_id FROM syncd.sync_presence p JOIN syncd.sync_spaces s USING (space_no)
            WHERE s.space_id = $1 ORDER BY 1"""
        lost = """
            INSERT INTO syncd.sync_presence (space_no, user_no, client_id, state, seen)
            SELECT m.space_no, m.user_no, d.id, '"x"', clock_timestamp() - d.ago
            FROM syncd.sync_memberships m JOIN syncd.sync_spaces s USING (space_no),
                 (VALUES ('a-lost', interval '2 hours'), ('a-late', interval '2 minutes')) AS d (id, ago)
            WHERE s.space_id = $1"""
        try:
            await conn.execute(lost, one.own)
            await socket.send({"type": "presence", "spaceId": one.own, "state": "here"})
            for _ in range(200):
                found = [row[0] for row in await conn.fetch(here, one.own)]
                if any(name.startswith("device") for name in found):
                    break
                await asyncio.sleep(0.05)
            assert found[:-1] == ["a-late"]
        finally:
            await socket.close()
            await conn.close()
