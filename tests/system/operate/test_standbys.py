"""Reads on a standby: what it answers is as new and as allowed as the primary's, and nothing of it ever fails."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from syncd.core.database_url import server_of
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.standby import Standby, run, url_of
from tests.support.wire import unique

pytestmark = pytest.mark.waits

SECRET = "a secret that the server has, of 32 bytes and more"
KEY = "a key of the tests, of 32 characters or more"
PAUSE, RESUME = "SELECT pg_wal_replay_pause()", "SELECT pg_wal_replay_resume()"


class House(NamedTuple):
    """A primary, a standby of it, and a server that reads there."""

    primary: EmbeddedPostgres
    standby: Standby
    server: Server

    async def reads(self) -> dict[str, int]:
        """How many reads were answered by whom: "standby", "primary"."""
        found = await metric(self.server, "syncd_reads_total", "where")
        name = server_of(url_of(self.standby))
        assert set(found) <= {name, "primary"}
        return {"standby": found.get(name, 0), "primary": found.get("primary", 0)}

    async def answered_by(self, where: str, ask: Callable[[], Any]) -> Any:
        """What is answered, and that it was there."""
        before = await self.reads()
        answer = await ask()
        after = await self.reads()
        assert {name: after[name] - before[name] for name in after if after[name] != before[name]} == {where: 1}
        return answer


@pytest.fixture(scope="module")
async def house(workspace: Path) -> AsyncIterator[House]:
    """Who acts is signed. A second URL leads to the primary itself, which is no standby."""
    place = workspace / "standbys"
    place.mkdir(mode=0o755)
    with EmbeddedPostgres(place / "primary", settings={"wal_level": "replica", "shared_buffers": "32MB"}) as primary:
        await migrate(primary.owner_dsn, say=lambda text: None, context_key=KEY)
        async with Standby(primary, place / "standby") as standby:
            await run(standby, "ALTER SYSTEM SET hot_standby_feedback = on")
            await run(standby, "SELECT pg_reload_conf()")
            urls = f"{url_of(standby)},{url_of(primary)}"
            settings = {"database_url": url_of(primary), "read_urls": urls, "jwt_secret": SECRET, "context_key": KEY}
            server = Server(place / "served", settings=settings, start=False)
            await asyncio.to_thread(server.start)
            try:
                found = House(primary, standby, server)
                await comes_to(found, up=True)
                yield found
            finally:
                await asyncio.to_thread(server.stop)


async def metric(server: Server, name: str, label: str) -> dict[str, int]:
    """A metric's values by one of its labels."""
    async with httpx.AsyncClient(timeout=30) as http:
        text = (await http.get(f"{server.url}/metrics")).text
    return {
        key: int(float(value)) for key, value in re.findall(rf'^{name}{{.*?{label}="([^"]*)".*?}} (\S+)$', text, re.M)
    }


async def comes_to(house: House, *, up: bool) -> None:
    """Waits until the server reads on the standby, or does not any more."""
    deadline, name = time.monotonic() + 60, server_of(url_of(house.standby))
    while (found := await metric(house.server, "syncd_standby_up", "standby")).get(name) != int(up):
        assert time.monotonic() < deadline, (found, house.server.output()[-2000:])
        await asyncio.sleep(0.05)


async def written(device: Device, count: int, space: str = "") -> list[str]:
    """Records of these ids, in pushes of ten."""
    ids = [f"r{n:04}" for n in range(count)]
    for at in range(0, count, 10):
        await device.push([device.change(f"c-{id_}", id_, id_, space=space) for id_ in ids[at : at + 10]])
    return ids


def ids_of(page: dict[str, Any]) -> list[str]:
    return [change["id"] for change in page["serverChanges"]]


async def test_first_syncs_history_digests_and_exports_are_read_there(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        ids = await written(ann, 30)
        page = await house.answered_by("standby", ann.pull)
        assert sorted(ids_of(page)) == ids
        assert not (await ann.pull(page["syncedUntil"]))["serverChanges"]
        space = f"/sync/notes/spaces/_personal:{ann.user}"
        for path in (f"{space}/items/r0001", f"{space}/items/r0001/history", space, "/sync/notes/digest"):
            answer = await house.answered_by("standby", lambda path=path: ann.http.get(path))
            assert answer.status_code == 200, (path, answer.text)
        export = await house.answered_by("standby", lambda: ann.http.get("/backup/export"))
        lines = [json.loads(line) for line in export.text.splitlines()]
        assert sorted(line["id"] for line in lines if line.get("table") == "items") == ids
        assert await metric(house.server, "syncd_standby_up", "standby") == {
            server_of(url_of(house.standby)): 1,
            server_of(url_of(house.primary)): 0,
        }


async def test_pages_of_a_first_sync_come_from_either_and_are_whole(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann:
        ids = await written(ann, 60)
        for query in ({"limit": 7}, {"limit": 7, "history": 1}, {"limit": 7, "first": "items"}):
            found, since, more, turn = list[str](), "", True, 0
            while more:
                if turn == 3:
                    await run(house.standby, PAUSE)
                    await ann.push([ann.change(unique("c"), "more", turn)])
                page = await ann.pull(since, **query)
                found, since, more, turn = found + ids_of(page), page["syncedUntil"], page["hasMore"], turn + 1
            assert sorted({*found} - {"more"}) == ids
            assert "more" in found
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
            assert (await ann.http.get(f"/sync/notes/spaces/_personal:{ann.user}/items/late")).status_code == 200
            assert '"late"' in (await ann.http.get("/backup/export")).text
        finally:
            await run(house.standby, RESUME)
        await comes_to(house, up=True)
        assert "late" in ids_of(await house.answered_by("standby", ann.pull))


async def test_who_was_removed_reads_nothing_of_a_standby_that_does_not_know(house: House) -> None:
    async with Device(house.server, unique("ann")) as ann, Device(house.server, unique("bob")) as bob:
        space = await ann.create_space(unique("space"), **{bob.user: "reader"})
        await ann.push([ann.change("c", "canary", 1, space=space)])
        asked = ("/sync/notes/pull", f"/sync/notes/spaces/{space}", "/sync/notes/digest", "/backup/export")
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
        assert "canary" not in (await house.answered_by("standby", lambda: bob.http.get(asked[0]))).text
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
