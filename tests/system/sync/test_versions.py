"""Debian's PostgreSQL 15, directly and through PgBouncer: pushes, pulls and spaces, and no user meets another."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from tests.support.device import Device, answer, statuses
from tests.support.harness import Server
from tests.support.pooler import Pooler
from tests.support.programs import postgresql_15

UNIQUE = itertools.count()


@pytest.fixture(scope="module")
def fifteen(workspace: Path) -> Iterator[EmbeddedPostgres]:
    """A migrated database of the oldest version that is served."""
    with EmbeddedPostgres(workspace / "fifteen", bindir=postgresql_15()) as postgres:
        applied = asyncio.run(migrate(postgres.owner_dsn, say=lambda text: None))
        assert applied
        yield postgres


@pytest.fixture(scope="module", params=["direct", "pooled"])
async def served(request: pytest.FixtureRequest, fifteen: EmbeddedPostgres, workspace: Path) -> AsyncIterator[Server]:
    """A server on it; pooled means that four server connections are shared by the transactions of all."""
    folder = workspace / f"fifteen-{request.param}"
    if request.param == "direct":
        with Server(folder, workers=2, settings={"database_url": fifteen.runtime_dsn}) as server:
            yield server
        return
    with (
        Pooler(fifteen, workspace / "pooler-15") as pooler,
        Server(folder, workers=2, settings={"database_url": pooler.dsn("syncd_runtime")}) as server,
    ):
        yield server


async def test_it_is_version_15(fifteen: EmbeddedPostgres) -> None:
    connection = await asyncpg.connect(fifteen.owner_dsn)
    assert (await connection.fetchval("SHOW server_version")).startswith("15.")
    await connection.close()


async def test_pushes_merges_retries_and_pulls(served: Server) -> None:
    async with Device(served, f"ann-{next(UNIQUE)}") as ann:
        first = [ann.change(f"c{n}", f"r{n % 20}", n) for n in range(60)]
        assert statuses(await ann.push(first)) == ["applied"] * 60
        assert statuses(await ann.push(first)) == ["duplicate"] * 60
        older = ann.change("older", "r1", "late", at="2020-01-01T00:00:00Z")
        body = await ann.push([older])
        assert statuses(body) == ["superseded"]
        assert [conflict["field"] for conflict in body["conflicts"]] == ["value"]
        state, cursor = await ann.drain(limit=7)
        assert {c["id"]: c["fields"]["value"]["value"] for c in state} == {f"r{n}": n + 40 for n in range(20)}
        gone = {"changeId": "gone", "table": "items", "id": "r3", "op": "delete", "deletedAt": ann.clock()}
        assert statuses(await ann.push([gone, ann.change("one", "r4", "one")])) == ["applied"] * 2
        assert [change["op"] for change in (await ann.drain(cursor))[0]] == ["delete", "update"]
        assert (await ann.pull((await ann.drain(cursor))[1]))["serverChanges"] == []
        assert [change["seq"] for change in (await ann.drain(history=1, limit=11))[0]] == [*range(1, 61), 62, 63]


async def test_history_and_restores(served: Server) -> None:
    n = next(UNIQUE)
    async with Device(served, f"ann-{n}") as ann, Device(served, f"bob-{n}") as bob:
        space = await ann.create_space(f"past-{n}")
        for value in range(3):
            await ann.push([ann.change(f"c{record}{value}", record, value, space=space) for record in "rs"])
        path, query = "/sync/notes/records/items/r", {"spaceId": space}
        found = answer(await ann.http.get(f"{path}/history", params={**query, "limit": 2}))
        assert [change["seq"] for change in found["changes"]] == [5, 3]
        then = answer(await ann.http.get(path, params={**query, "at": found["changes"][1]["createdAt"]}))
        assert then["fields"]["value"]["value"] == 1
        answer(await ann.http.post(f"{path}/restore", params=query, json={"seq": 1}))
        back = answer(await ann.http.post(f"/sync/notes/spaces/{space}/restore", json={"seq": 4, "changeId": "back"}))
        assert statuses(back) == ["applied"] * 2
        listed = answer(await ann.http.get(f"/sync/notes/spaces/{space}/at"))["records"]
        assert [record["fields"]["value"]["value"] for record in listed] == [1, 1]
        assert (await bob.http.get(path, params=query)).status_code == 404


async def test_spaces_and_members(served: Server) -> None:
    n = next(UNIQUE)
    async with Device(served, f"ann-{n}") as ann, Device(served, f"bob-{n}") as bob:
        space = await ann.create_space(f"space-{n}", **{bob.user: "writer"})
        assert statuses(await bob.push([bob.change("c", "r", 1, space=space)])) == ["applied"]
        assert len((await ann.pull())["serverChanges"]) == 1
        members = (await ann.http.get(f"/spaces/{space}/members")).json()["members"]
        assert {member["userId"]: member["role"] for member in members} == {ann.user: "owner", bob.user: "writer"}
        assert (await bob.http.delete(f"/spaces/{space}/members/{bob.user}")).status_code == 204
        assert (await bob.pull())["serverChanges"] == []
        assert (await bob.http.get(f"/spaces/{space}")).status_code == 404
        assert (await ann.http.delete(f"/spaces/{space}")).status_code == 204


async def test_eight_users_at_once_never_see_each_others_data(served: Server) -> None:
    n = next(UNIQUE)
    devices = [Device(served, f"user-{n}-{i}", "same-device") for i in range(8)]

    async def live(device: Device) -> None:
        cursor = ""
        for turn in range(15):
            one = device.change(f"c{turn}", f"r{turn}", device.user)
            foreign = device.change(f"f{turn}", "r", device.user, space=f"_personal:{devices[turn % 8].user}")
            body = await device.push([one] if devices[turn % 8] is device else [one, foreign])
            assert statuses(body) in (["applied"], ["applied", "rejected"])
            changes, cursor = await device.drain(cursor)
            assert {change["fields"]["value"]["value"] for change in changes} == {device.user}
            assert {change["spaceId"] for change in changes} == {f"_personal:{device.user}"}
            spaces = (await device.http.get("/spaces")).json()["spaces"]
            assert [space["id"] for space in spaces] == [f"_personal:{device.user}"]

    await asyncio.gather(*(live(device) for device in devices))
    for device in devices:
        assert len((await device.drain())[0]) == 15
        await device.close()


async def test_a_connection_that_is_given_back_acts_as_nobody(served: Server) -> None:
    async with Device(served, f"ann-{next(UNIQUE)}") as ann:
        await ann.push([ann.change("c", "r", 1)])
    # The next transactions may be on any of the connections that have just been somebody's.
    connections = [await asyncpg.connect(served.settings["database_url"], statement_cache_size=0) for _ in range(6)]
    for table in ("sync_changes", "sync_records", "sync_feeds", "sync_memberships", "sync_names", "sync_spaces"):
        counts = [connection.fetchval(f"SELECT count(*) FROM syncd.{table}") for connection in connections]
        assert await asyncio.gather(*counts) == [0] * 6, table
    for connection in connections:
        await connection.close()
