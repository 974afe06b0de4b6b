"""A primary with a standby, and servers that read there and that do not."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from syncd.core.database_url import server_of
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.standby import Standby, url_of

SECRET = "a secret that the server has, of 32 bytes and more"
SYSTEM = "another_system"
KEY = "a key of the tests, of 32 characters or more"
RECORD, DIGEST = "/sync/notes/records/items", "/sync/notes/digest"
HOW = {"limit": 100, "bytes": 1 << 20}
SLOW = "SELECT pg_sleep(25), count(*) FROM syncd.sync_memberships"
PAUSE, RESUME = "SELECT pg_wal_replay_pause()", "SELECT pg_wal_replay_resume()"


def past(space: str) -> str:
    """Where a space as it was is asked for."""
    return f"/sync/notes/spaces/{quote(space)}/at?seq=1"


class House(NamedTuple):
    """A primary, a standby of it, a server that reads there, and one that does not."""

    primary: EmbeddedPostgres
    standby: Standby
    server: Server
    plain: Server

    async def reads(self) -> dict[str, int]:
        """How many reads were answered by whom: "standby", "primary"."""
        found = await metric(self.server, "syncd_reads_total", "where")
        name = server_of(url_of(self.standby))
        assert set(found) <= {name, "primary"}
        return {"standby": found.get(name, 0), "primary": found.get("primary", 0)}

    async def answered_by(self, where: str, ask: Callable[[], Any]) -> Any:
        """What is answered there: by the standby now and then where the machine is busy, by the primary at once."""
        deadline = time.monotonic() + 30
        while True:
            before = await self.reads()
            answer = await ask()
            after = await self.reads()
            found = {name: after[name] - before[name] for name in after if after[name] != before[name]}
            if found == {where: 1}:
                return answer
            turned = await metric(self.server, "syncd_reads_turned_total", "why")
            assert (where, found) == ("standby", {"primary": 1}), turned
            assert time.monotonic() < deadline, turned

    async def at_the_primary(self, device: Device, path: str) -> httpx.Response:
        """What the server answers that reads on no standby."""
        async with Device(self.plain, device.user, device.client) as same:
            return await same.http.get(path)


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
