"""Reads on a standby: what it answers is as new and as allowed as the primary's, and nothing of it ever fails."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from syncd.cli.doctor import examine
from syncd.core.database_url import server_of
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from syncd.service.counts import Counts
from syncd.settings import Settings
from syncd.store import standbys
from syncd.store.backup import snapshot_of
from syncd.store.pool import Pool
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.standby import Standby, run, url_of
from tests.support.standby_house import (
    DIGEST,
    HOW,
    KEY,
    PAUSE,
    RECORD,
    RESUME,
    SECRET,
    SLOW,
    SYSTEM,
    House,
    comes_to,
    ids_of,
    metric,
    past,
    written,
)
from tests.support.wire import unique

pytestmark = pytest.mark.waits


@pytest.fixture(scope="module")
async def house(workspace: Path) -> AsyncIterator[House]:
    """Who acts is signed. A second URL leads to the primary itself, which is no standby."""
    place = workspace / "standbys"
    place.mkdir(mode=0o755)
    with EmbeddedPostgres(place / "primary", settings={"wal_level": "replica", "shared_buffers": "32MB"}) as primary:
        await migrate(primary.owner_dsn, say=lambda text: None, context_key=KEY, memberships="external")
        async with Standby(primary, place / "standby") as standby:
            await run(standby, "ALTER SYSTEM SET hot_standby_feedback = on")
            await run(standby, "SELECT pg_reload_conf()")
            urls = f"{url_of(standby)},{url_of(primary)}"
            settings = {"database_url": url_of(primary), "read_urls": urls, "jwt_secret": SECRET, "context_key": KEY}
            server = Server(place / "served", settings=settings, start=False)
            plain = Server(place / "plain", settings={**settings, "read_urls": ""}, start=False)
            try:
                for one in (server, plain):
                    await asyncio.to_thread(one.start)
                found = House(primary, standby, server, plain)
                await comes_to(found, up=True)
                yield found
            finally:
                for one in (server, plain):
                    await asyncio.to_thread(one.stop)


async def test_first_syncs_history_digests_and_exports_are_read_there(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        ids = await written(ann, 30)
        page = await house.answered_by("standby", ann.pull)
        assert sorted(ids_of(page)) == ids
        assert not (await ann.pull(page["syncedUntil"]))["serverChanges"]
        for path in (f"{RECORD}/r0001", f"{RECORD}/r0001/history", past(f"_personal:{ann.user}"), DIGEST):
            answer = await house.answered_by("standby", partial(ann.http.get, path))
            assert answer.status_code == 200, (path, answer.text)
            assert answer.text == (await house.at_the_primary(ann, path)).text
        export = await house.answered_by("standby", partial(ann.http.get, "/backup/export"))
        lines = [json.loads(line) for line in export.text.splitlines()]
        assert sorted(line["id"] for line in lines if line.get("table") == "items") == ids
        assert await metric(house.server, "syncd_standby_up", "standby") == {
            server_of(url_of(house.standby)): 1,
            server_of(url_of(house.primary)): 0,
        }


async def test_a_socket_and_a_device_of_the_first_generation_begin_there_too(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann, Device(house.plain, ann.user) as plainly:
        ids = await written(ann, 10)
        for device in (ann, plainly):
            del device.http.headers["X-Sync-Protocol"]
        old = (await house.answered_by("standby", ann.ask)).json()
        assert {**old, "syncedUntil": ""} == {**(await plainly.ask()).json(), "syncedUntil": ""}
        assert len(ids_of(old)) == len(ids)

        async def listen() -> None:
            async with socket_of(house.server, ann.user, "listener") as listener:
                await listener.subscribe()
                await listener.brings("r0009")
                await plainly.push([ann.change("live", "live", 1)], clientId="phone")
                await listener.brings("live")

        await house.answered_by("standby", listen)


async def test_pages_of_a_first_sync_come_from_either_and_are_whole(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        ids = await written(ann, 60)
        kinds: list[dict[str, Any]] = [{"limit": 7}, {"limit": 7, "history": 1}, {"limit": 7, "first": "items"}]
        begun = list[tuple[list[str], str]]()
        for query in kinds:
            first = await house.answered_by("standby", partial(ann.pull, **query))
            second = await ann.pull(first["syncedUntil"], **query)
            begun.append((ids_of(first) + ids_of(second), second["syncedUntil"]))
        await run(house.standby, PAUSE)
        try:
            await ann.push([ann.change("c-more", "more", 1)])
            for query, (found, since) in zip(kinds, begun, strict=True):
                rest, _ = await ann.drain(since, **query)
                assert sorted(found + [change["id"] for change in rest]) == ["more", *ids]
        finally:
            await run(house.standby, RESUME)
        await comes_to(house, up=True)


async def test_what_was_acknowledged_is_in_the_next_read_of_a_standby_that_is_behind(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        for turn in range(20):
            await ann.push([ann.change(f"c{turn}", f"r{turn}", turn)])
            assert f"r{turn}" in ids_of(await ann.pull())
        await run(house.standby, PAUSE)
        try:
            await ann.push([ann.change("late", "late", 1)])
            assert "late" in ids_of(await house.answered_by("primary", ann.pull))
            await comes_to(house, up=False)
            assert "late" in ids_of(await house.answered_by("primary", ann.pull))
            assert (await ann.http.get(f"{RECORD}/late")).status_code == 200
            assert '"late"' in (await ann.http.get("/backup/export")).text
        finally:
            await run(house.standby, RESUME)
        await comes_to(house, up=True)
        assert "late" in ids_of(await house.answered_by("standby", ann.pull))


async def test_who_was_removed_reads_nothing_of_a_standby_that_does_not_know(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann, Device(house.server, unique("bob")) as bob:
        space = await ann.create_space(unique("space"), **{bob.user: "reader"})
        await ann.push([ann.change("c", "canary", 1, space=space)])
        asked = ("/sync/notes/pull", past(space), DIGEST, "/backup/export")
        assert "canary" in (await bob.http.get(asked[0])).text
        await run(house.standby, PAUSE)
        try:
            assert (await ann.http.delete(f"/spaces/{space}/members/{bob.user}")).status_code == 204
            for path in asked:
                answer = await bob.http.get(path)
                assert "canary" not in answer.text, path
                assert space not in answer.text or answer.status_code == 404, path
        finally:
            await run(house.standby, RESUME)
        await comes_to(house, up=True)
        assert "canary" not in (await house.answered_by("standby", partial(bob.http.get, asked[0]))).text
        async with Device(house.server, unique("eve")) as stranger:
            assert "canary" not in (await house.answered_by("standby", stranger.ask)).text


async def test_a_standby_that_stops_or_stands_still_fails_no_request(house: House) -> None:
    async with Device(house.server, unique("ann"), timeout=20) as ann:
        await ann.push([ann.change("c", "r", 1)])
        await house.standby.stop()
        assert ids_of(await ann.pull()) == ["r"]
        await comes_to(house, up=False)
        assert ids_of(await house.answered_by("primary", ann.pull)) == ["r"]
        await house.standby.start()
        await comes_to(house, up=True)
        assert ids_of(await house.answered_by("standby", ann.pull)) == ["r"]
        still = house.standby.processes()
        for process in still:
            process.send_signal(signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert ids_of(await ann.pull()) == ["r"]
            assert time.monotonic() - began < 6
            await comes_to(house, up=False)
        finally:
            for process in still:
                process.send_signal(signal.SIGCONT)
        await comes_to(house, up=True)


async def test_what_lies_behind_comes_from_the_primary(house: House) -> None:
    """What writes, and what goes on from a cursor: none of it is a standby's."""
    async with Device(house.server, unique("ann")) as ann:
        await ann.push([ann.change("c1", "r1", 1)])
        since = (await ann.pull())["syncedUntil"]
        before = await house.reads()
        await ann.push([ann.change("c2", "r2", 2)])
        assert ids_of(await ann.pull(since)) == ["r2"]
        assert await house.reads() == before


async def test_doctor_says_which_is_read(house: House) -> None:
    urls = (url_of(house.standby), url_of(house.primary), url_of(house.standby).replace("syncd_runtime", "postgres"))
    settings = Settings(database_url=url_of(house.primary), read_urls=(*urls, "postgresql://nobody@127.0.0.1:9/none"))
    found = [finding for finding in await examine(settings) if finding.check.startswith("standby ")]
    assert [finding.status for finding in found] == ["ok", "warn", "warn", "warn"]
    assert [finding.detail.split(":")[0].split(",")[0] for finding in found] == [
        "follows", "is no standby", "is asked by postgres as postgres", "cannot be reached",
    ]  # fmt: skip


# -- beneath the server ------------------------------------------------------------------------------------------------


class Meanwhile(standbys.Standby):
    """A standby after whose reading something happens, before the answer leaves."""

    happens: Callable[[], Awaitable[object]]

    async def wait(self, *asked: Any) -> Any:
        row = await super().wait(*asked)
        await self.happens()
        return row


class Cancelled(standbys.Standby):
    """A standby whose readers take long and are cancelled for what it replays."""

    async def wait(self, *asked: Any) -> Any:
        async with self.pool.connection() as connection:
            return await connection.fetchrow(SLOW)


def pool(url: str, **more: Any) -> Pool:
    return Pool(url, size=2, context_key=KEY, **more)


@asynccontextmanager
async def reading(
    primary: EmbeddedPostgres | Standby, there: str, kind: type[standbys.Standby] = standbys.Standby
) -> AsyncIterator[tuple[standbys.Standbys, Any]]:
    """What reads on a standby by its URL, which it has looked at once."""
    main, one = pool(url_of(primary)), kind("there", pool(there, writes=False))
    found = standbys.Standbys(main, [one], Counts())
    try:
        if kind is standbys.Standby:
            await found.look(one)
        else:
            one.why = None
        yield found, one
    finally:
        await found.close()
        await main.close()


def asked(user: str, **more: Any) -> bytes:
    return json.dumps({"user": user, "app": "notes", "since": {}, "how": HOW, **more}).encode()


async def test_a_removal_while_a_standby_reads_is_seen_before_the_answer_leaves(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        bob = unique("bob")
        space = await ann.create_space(unique("space"), **{bob: "reader"})
        await ann.push([ann.change("c", "canary", 1, space=space)])
        async with reading(house.primary, url_of(house.standby), Meanwhile) as (reads, one):
            one.happens = partial(asyncio.sleep, 0)
            row = await until_read(reads, asked(bob))
            assert b"canary" in row["page"][0]
            one.happens = lambda: ann.http.delete(f"/spaces/{space}/members/{bob}")
            one.why = None
            assert await reads.read("pull_there", asked(bob)) is None
            assert one.why is None, "it is not the standby's fault"


async def until_read(reads: standbys.Standbys, call: bytes) -> Any:
    """What the standby answers, once it has caught up."""
    deadline = time.monotonic() + 30
    reads.all[0].why = None
    while (found := await reads.read("pull_there", call)) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
        reads.all[0].why = None
    reads.turned.clear()
    return found[0]


async def test_more_at_once_than_a_standby_has_connections_for_is_the_primary_s(house: House) -> None:
    user, busy, done = unique("ann"), asyncio.Event(), asyncio.Event()

    class Occupied(standbys.Standby):
        async def wait(self, *asked: Any) -> Any:
            with self.place():
                busy.set()
                await done.wait()
            return await super().wait(*asked)

    async with reading(house.primary, url_of(house.standby), Occupied) as (reads, one):
        done.set()
        await until_read(reads, asked(user))
        done.clear()
        busy.clear()
        first = asyncio.create_task(until_read(reads, asked(user)))
        await busy.wait()
        assert await asyncio.wait_for(reads.read("pull_there", asked(user)), 1.5) is None, "nobody waits for the other"
        assert (reads.turned, one.why) == ({}, None)
        done.set()
        assert (await first)["page"] is not None


async def test_a_list_of_memberships_counts_from_the_read_that_it_comes_with(house: House) -> None:
    """It is taken over in the transaction that says how far a standby must be: one that is so far has it not yet."""
    async with Device(house.server, unique("ann")) as ann:
        bob, now = unique("bob"), time.time_ns() // 1000
        space = await ann.create_space(unique("space"))
        await ann.push([ann.change("c", "canary", 1, space=space)])
        member = [{"id": space, "role": "reader"}]
        async with reading(house.primary, url_of(house.standby)) as (reads, one):
            for turn in range(20):
                at = now + turn * 10_000_000
                row = await until_read(reads, asked(bob, list=member, asOf=at))
                assert b"canary" in row["page"][0]
                await run(house.standby, PAUSE)
                try:
                    one.why = None
                    assert await reads.read("pull_there", asked(bob, list=[], asOf=at + 5_000_000)) is None
                finally:
                    await run(house.standby, RESUME)
                if "members" in reads.turned:
                    return
            raise AssertionError(f"it was never so far: {reads.turned}")


async def test_an_export_is_begun_where_its_user_was_not_removed_meanwhile(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        bob = unique("bob")
        space = await ann.create_space(unique("space"), **{bob: "reader"})
        await ann.push([ann.change("c", "canary", 1, space=space)])
        async with reading(house.primary, url_of(house.standby)) as (reads, one):
            await until_read(reads, asked(bob))

            @asynccontextmanager
            async def begin(connection: Any) -> AsyncIterator[str]:
                async with snapshot_of(connection, bob, connection.session):
                    assert (await ann.http.delete(f"/spaces/{space}/members/{bob}")).status_code == 204
                    yield "begun"

            one.why, one.patient = None, True
            async with AsyncExitStack() as stack:
                assert await reads.begin(stack, bob, begin) is None


async def test_who_is_cancelled_for_what_is_replayed_asks_the_primary(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standbys, "PATIENCE", 30.0)
    await run(house.standby, "ALTER SYSTEM SET max_standby_streaming_delay = 0")
    await run(house.standby, "SELECT pg_reload_conf()")
    try:
        async with reading(house.primary, url_of(house.standby), Cancelled) as (reads, one):
            asking = asyncio.create_task(reads.read("pull_there", asked("ann")))
            deadline = time.monotonic() + 20
            while not await run(house.standby, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            connection = await asyncpg.connect(house.primary.owner_dsn)
            await connection.execute("BEGIN; LOCK TABLE syncd.sync_memberships IN ACCESS EXCLUSIVE MODE; COMMIT")
            await connection.close()
            assert await asking is None
            assert (reads.turned, one.why) == ({"conflict": 1}, None)
    finally:
        await run(house.standby, "ALTER SYSTEM RESET max_standby_streaming_delay")
        await run(house.standby, "SELECT pg_reload_conf()")


async def test_a_standby_is_read_as_the_role_that_serves_and_of_this_database_alone(
    house: House, database: EmbeddedPostgres
) -> None:
    superuser = url_of(house.standby).replace("syncd_runtime", "postgres")
    for url, why in ((superuser, "another_role"), (url_of(house.primary), "promoted"), (database.runtime_dsn, SYSTEM)):
        async with reading(house.primary, url) as (reads, one):
            assert one.why == why
            assert await reads.read("pull_there", asked("ann")) is None
            assert reads.turned == {}, "it is not even asked"
            one.why = None
            assert await reads.read("pull_there", asked("ann")) is None, why


async def test_after_a_switchover_what_follows_the_old_primary_is_not_read(house: House, folder: Path) -> None:
    async with Standby(house.primary, folder / "promoted") as promoted:
        await promoted.promote()
        async with reading(house.primary, url_of(promoted)) as (_, one):
            assert one.why == "promoted"
        async with Device(house.plain, unique("ann")) as ann:
            await written(ann, 20)  # the old primary, and what follows it, are further than the new one
        async with reading(promoted, url_of(house.standby)) as (reads, one):
            assert one.why == "another_history"
            one.why = None
            assert await reads.read("pull_there", asked("ann")) is None
