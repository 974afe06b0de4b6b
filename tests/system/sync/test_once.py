"""G3: a change that is sent again has one effect and one place in the log, and the retry gets the first answer."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.support.device import Change, Device, statuses
from tests.support.harness import Server
from tests.support.proxy import Proxy

UNIQUE = itertools.count()
LOST = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, httpx.ConnectError)


@pytest.fixture
def user() -> str:
    return f"once-{next(UNIQUE)}"


@pytest.fixture
async def device(server: Server, user: str) -> AsyncIterator[Device]:
    """A device that speaks to the server directly."""
    async with Device(server, user) as direct:
        yield direct


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[Proxy]:
    """A proxy in front of the server."""
    async with Proxy(server.port) as running:
        yield running


@pytest.fixture
async def unlucky(server: Server, user: str, proxy: Proxy) -> AsyncIterator[Device]:
    """The same device, through the proxy."""
    async with Device(server, user, url=proxy.url) as behind:
        yield behind


async def log_of(device: Device) -> list[Change]:
    """The whole log that a device may read."""
    changes, _ = await device.drain(history=1)
    return changes


def places(body: dict[str, Any]) -> list[tuple[str, int]]:
    """The event id and the seq of each change of an answered push."""
    return [(result["eventId"], result["seq"]) for result in body["results"]]


async def committed(device: Device, count: int) -> list[Change]:
    """The log, once it has that many changes: what a connection lost may still be on its way."""
    for _ in range(1000):
        if len(found := await log_of(device)) >= count:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"the push was never committed: {len(found)} changes of {count}")


@pytest.mark.parametrize("heard", [0, 1, 100])
async def test_when_the_reply_is_lost_after_the_commit_the_retry_gets_the_first_answer(
    device: Device, unlucky: Device, proxy: Proxy, heard: int
) -> None:
    changes = [device.change(f"c{i}", f"r{i}", i) for i in range(4)]
    proxy.faults.lose_reply_after = heard
    with pytest.raises(LOST):
        await unlucky.send(changes)
    first = await committed(device, 4)
    proxy.heal()
    again = await unlucky.push(changes)
    assert statuses(again) == ["duplicate"] * 4
    assert places(again) == [(change["eventId"], change["seq"]) for change in first]
    assert await log_of(device) == first


async def test_retries_in_any_order_and_mixed_with_new_changes_write_the_new_ones_alone(device: Device) -> None:
    old = [device.change(f"c{i}", f"r{i}", i) for i in range(6)]
    first = dict(zip((c["changeId"] for c in old), places(await device.push(old)), strict=True))
    new = [device.change(f"n{i}", f"r{i}", "new") for i in range(3)]
    mixed = [old[5], new[0], old[0], old[3], new[1], new[2], old[1]]
    body = await device.push(mixed)
    assert statuses(body) == ["duplicate", "applied", "duplicate", "duplicate", "applied", "applied", "duplicate"]
    for change, place in zip(mixed, places(body), strict=True):
        assert place == first.get(change["changeId"], place)
    assert [result["seq"] for result in body["results"] if result["status"] == "applied"] == [7, 8, 9]
    assert [change["seq"] for change in await log_of(device)] == list(range(1, 10))


@pytest.mark.parametrize("size", [1, 40, 400])
async def test_five_parallel_retries_of_one_push_have_one_effect(device: Device, size: int) -> None:
    changes = [device.change(f"c{i}", f"r{i}", i) for i in range(size)]
    bodies = await asyncio.gather(*(device.push(changes) for _ in range(5)))
    assert sorted(statuses(body)[0] for body in bodies) == ["applied"] + ["duplicate"] * 4
    assert len({tuple(places(body)) for body in bodies}) == 1
    assert [change["seq"] for change in await log_of(device)] == list(range(1, size + 1))


async def test_one_change_id_in_two_spaces_at_once_is_written_in_one_of_them(device: Device, user: str) -> None:
    one, two = [await device.create_space(f"{user}-{n}") for n in (1, 2)]
    for turn in range(10):
        clash = [device.change(f"c{turn}", f"r{turn}", turn, space=space) for space in (one, two)]
        bodies = await asyncio.gather(*(device.push([change]) for change in clash))
        assert sorted(statuses(body)[0] for body in bodies) == ["applied", "rejected"]
        assert [r["code"] for body in bodies for r in body["results"] if "code" in r] == ["change_id_reused"]
    assert len(await log_of(device)) == 10
    assert {change["id"] for change in await log_of(device)} == {f"r{turn}" for turn in range(10)}


async def test_another_devices_and_another_users_same_change_id_is_another_change(server: Server, user: str) -> None:
    async with (
        Device(server, user, "one") as one,
        Device(server, user, "two") as two,
        Device(server, f"{user}-stranger", "one") as stranger,
    ):
        bodies = await asyncio.gather(*(d.push([d.change("same", d.client, 1)]) for d in (one, two, stranger)))
        assert [statuses(body) for body in bodies] == [["applied"]] * 3
        assert len(await log_of(one)) == 2
        assert len(await log_of(stranger)) == 1


async def test_the_same_change_id_with_another_content_is_refused_and_harms_nothing(device: Device) -> None:
    change = device.change("c", "r", "first")
    await device.push([change])
    other = {**change, "fields": {"value": {"value": "second", "at": change["fields"]["value"]["at"]}}}
    body = await device.push([other, device.change("d", "s", 1)])
    assert [result.get("code", result["status"]) for result in body["results"]] == ["change_id_reused", "applied"]
    assert [c["fields"]["value"]["value"] for c in await log_of(device)] == ["first", 1]


async def test_a_connection_that_is_doubled_on_the_way_writes_once(
    device: Device, unlucky: Device, proxy: Proxy
) -> None:
    proxy.faults.duplicate = True
    changes = [device.change(f"c{i}", f"r{i}", i) for i in range(3)]
    body = await unlucky.push(changes)
    assert set(statuses(body)) <= {"applied", "duplicate"}
    await asyncio.sleep(0.1)
    assert [(c["eventId"], c["seq"]) for c in await log_of(device)] == places(body)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
async def test_a_request_that_is_cut_short_writes_nothing(
    device: Device, unlucky: Device, proxy: Proxy, part: float
) -> None:
    changes = [device.change(f"c{i}", f"r{i}", "x" * 100) for i in range(20)]
    request = unlucky.http.build_request("POST", "/sync/notes", json={"changes": changes, "pull": False})
    proxy.faults.truncate_after = int(len(request.content) * part)
    with pytest.raises(LOST):
        await unlucky.http.send(request)
    proxy.heal()
    assert statuses(await unlucky.push(changes)) == ["applied"] * 20
    assert len(await log_of(device)) == 20


async def test_a_client_that_goes_away_at_any_moment_of_a_push_has_written_all_of_it_or_nothing(
    server: Server, device: Device, proxy: Proxy, user: str
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    outcomes: set[str] = set()
    begin = time.monotonic()
    assert statuses(await device.push([device.change(f"whole-{i}", f"r{i}", 0) for i in range(30)])) == ["applied"] * 30
    usual, wanted = time.monotonic() - begin, {error.__name__ for error in LOST}
    # Forty moments, and more until it happened that the answer was lost and the push was not.
    turn = 0
    while turn < 40 or not ("duplicate" in outcomes and outcomes & wanted):
        assert turn < 1000, outcomes
        changes = [device.change(f"{turn}-{i}", f"r{i}", turn) for i in range(30)]
        async with Device(server, user, url=proxy.url) as leaving:
            pushing = asyncio.create_task(leaving.send(changes))
            await asyncio.sleep(chance.random() * 2 * usual)
            proxy.reset()
            outcomes.add(type((await asyncio.gather(pushing, return_exceptions=True))[0]).__name__)
        body = await device.push(changes)
        assert statuses(body) in (["applied"] * 30, ["duplicate"] * 30)
        outcomes.add(statuses(body)[0])
        turn += 1
    assert [change["seq"] for change in await log_of(device)] == list(range(1, (1 + turn) * 30 + 1))


async def test_a_retry_against_another_worker_gets_the_first_answer(folder: Any) -> None:
    with Server(folder / "data", workers=2) as pair:
        devices = [Device(pair, "ann", "phone") for _ in range(6)]
        changes = [devices[0].change(f"c{i}", f"r{i}", i) for i in range(3)]
        bodies = await asyncio.gather(*(device.push(changes) for device in devices))
        assert len({tuple(places(body)) for body in bodies}) == 1
        assert sorted(statuses(body)[0] for body in bodies) == ["applied"] + ["duplicate"] * 5
        assert len(await log_of(devices[0])) == 3
        for device in devices:
            await device.close()
