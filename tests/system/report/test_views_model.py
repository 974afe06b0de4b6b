"""G10: whatever users, spaces and memberships do, a login reads in the views what its user's device is given."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.consuming import eventually
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.reports import done, schema
from tests.support.wire import Device, edit, unique

USERS, SPACES, ROUNDS, STEPS = 5, 4, 8, 6
SCHEMA = {"properties": {"secret": {"type": "string", "x-index": True}}}
LAG = "SELECT coalesce(sum(changes), 0)::integer FROM syncd.sync_projection_lags()"

Shown = set[tuple[str, str, Any]]


class World:
    """Users with a login each, and spaces of theirs."""

    def __init__(self, server: Server, http: httpx.Client, drawn: random.Random) -> None:
        self.server, self.drawn = server, drawn
        self.devices = [Device(http, server, unique(f"u{n}"), f"c{n}") for n in range(USERS)]
        self.spaces = [drawn.choice(self.devices).create(unique(f"s{n}")) for n in range(SPACES)]
        self.logins = [f"bi_{n}" for n in range(USERS)]
        self.clock = 0

    async def begin(self) -> None:
        await schema(self.server, "app", t=SCHEMA)
        await done(self.server, "views", "apply")
        for login, device in zip(self.logins, self.devices, strict=True):
            await run(self.server.owner_dsn, f"CREATE ROLE {login} LOGIN IN ROLE syncd_reports")
            await run(self.server.owner_dsn, f"SELECT syncd.sync_report_grant('{login}', '{device.user}', NULL)")

    def step(self) -> None:
        """Something that somebody does, who may or may not."""
        who, space = self.drawn.choice(self.devices), self.drawn.choice(self.spaces)
        self.clock += 1
        what, record = self.drawn.random(), f"r{self.drawn.randrange(6)}"
        if what < 0.5:
            who.push({**edit(record, self.clock, secret=f"v{self.clock}"), "spaceId": space})
        elif what < 0.6:
            who.push({"table": "t", "id": record, "op": "delete", "spaceId": space, "changeId": unique("c")})
        elif what < 0.85:
            role, other = self.drawn.choice(["owner", "writer", "reader"]), self.drawn.choice(self.devices)
            who.request("PUT", f"/spaces/{space}/members/{other.user}", json={"role": role})
        else:
            who.request("DELETE", f"/spaces/{space}/members/{self.drawn.choice(self.devices).user}")

    def given(self, device: Device) -> Shown:
        """What a fresh device of the user's is given."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for change in device.drain()[0]:
            fields = found.setdefault((change["spaceId"], change["id"]), {})
            fields.update({name: register["value"] for name, register in change["fields"].items()})
        return {(*key, fields.get("secret")) for key, fields in found.items() if fields.get("deletedAt") is None}

    async def read(self, login: str, view: str) -> Shown:
        asked = f"SELECT space_id, id, secret FROM syncd_app.{view} WHERE NOT deleted"
        return set(await run(self.server.dsn(login), asked))


@pytest.mark.timeout(300)
async def test_a_login_reads_what_its_user_s_device_is_given(workspace: Path) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    seen: Shown = set()
    with Server(workspace / "model") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        world = await asyncio.to_thread(World, server, http, random.Random(seed))
        await world.begin()
        lag: Callable[[], Coroutine[Any, Any, list[Any]]] = lambda: run(server.owner_dsn, LAG)  # noqa: E731
        for _ in range(ROUNDS):
            for _ in range(STEPS):
                await asyncio.to_thread(world.step)
            await eventually(lag, lambda rows: rows == [(0,)])
            for login, device in zip(world.logins, world.devices, strict=True):
                expected = await asyncio.to_thread(world.given, device)
                assert await world.read(login, "app_t") == expected
                assert await world.read(login, "app_t_indexed") == expected
                seen |= expected
    assert seen
