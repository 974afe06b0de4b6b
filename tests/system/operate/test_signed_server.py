"""A server that signs who acts serves as any other; its role's login acts as nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from syncd.postgres.contexts import SQLSTATE
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.wire import edit, unique

KEY = "a key of the tests, of 32 characters or more"


@pytest.fixture(scope="module")
def signing(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "signing", settings={"context_key": KEY}) as server:
        yield server


async def test_what_members_write_and_say_reaches_members_alone(signing: Server) -> None:
    ann, bob, eve = unique("ann"), unique("bob"), unique("eve")
    async with Device(signing, ann) as owner, Device(signing, eve, app="notes") as stranger:
        space = await owner.create_space(unique("space"), **{bob: "writer"})
        async with socket_of(signing, ann) as first, socket_of(signing, bob) as second:
            await second.subscribe()
            for socket in (first, second):
                await socket.send({"type": "presence", "spaceId": space, "state": "typing"})
            await second.next("presence", userId=ann, state="typing")
            await first.push({**edit("r", x="canary"), "spaceId": space})
            await second.brings("r")
        assert "canary" not in (await stranger.ask()).text


async def test_its_role_s_login_acts_as_nobody(signing: Server) -> None:
    conn = await asyncpg.connect(signing.runtime_dsn)
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await conn.execute("SELECT syncd.sync_act_as('ann')")
        assert refused.value.sqlstate == SQLSTATE
    finally:
        await conn.close()
