"""G6: what was acknowledged is there in the very next pull, on whatever worker, also for an emptied device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.device import Device
from tests.support.harness import Server


@pytest.fixture(scope="module")
async def trio(workspace: Path) -> AsyncIterator[Server]:
    """A server with three workers."""
    with Server(workspace / "trio", workers=3) as server:
        yield server


async def devices(server: Server, user: str, count: int) -> list[Device]:
    """Devices on connections of their own, which are spread over the workers."""
    found = [Device(server, user, f"device-{n}") for n in range(count)]
    await asyncio.gather(*(device.pull() for device in found))
    return found


async def test_a_push_is_in_the_next_pull_of_every_connection(trio: Server) -> None:
    found = await devices(trio, "ann", 9)
    cursors = [""] * len(found)
    for turn in range(15):
        pushing = found[turn % len(found)]
        await pushing.push([pushing.change(f"c{turn}", f"r{turn}", turn)])
        for n, device in enumerate(found):
            changes, cursors[n] = await device.drain(cursors[n])
            assert f"r{turn}" in {change["id"] for change in changes}, (turn, n)
        emptied, _ = await found[-1].drain("")
        assert {change["id"] for change in emptied} == {f"r{i}" for i in range(turn + 1)}
    for device in found:
        await device.close()


async def test_a_device_gets_its_own_data_back_under_its_own_client_id(trio: Server) -> None:
    async with Device(trio, "bea", "phone") as phone:
        await phone.push([phone.change(f"c{n}", f"r{n}", n) for n in range(5)])
    async with Device(trio, "bea", "phone") as emptied:
        assert {change["id"] for change in (await emptied.drain())[0]} == {f"r{n}" for n in range(5)}


async def test_a_membership_counts_from_the_next_request_on_every_worker(trio: Server) -> None:
    found = await devices(trio, "cid", 9)
    async with Device(trio, "dora") as dora:
        space = await dora.create_space("shared-by-dora")
        await dora.push([dora.change("c", "r", 1, space=space)])
        for turn in range(4):
            await dora.put_member(space, "cid", "reader")
            pages = await asyncio.gather(*(device.pull() for device in found))
            assert [len(page["serverChanges"]) for page in pages] == [1] * len(found), turn
            assert (await dora.http.delete(f"/spaces/{space}/members/cid")).status_code == 204
            pages = await asyncio.gather(*(device.pull() for device in found))
            assert [len(page["serverChanges"]) for page in pages] == [0] * len(found), turn
    for device in found:
        await device.close()
