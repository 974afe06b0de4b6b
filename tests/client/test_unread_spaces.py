"""A write to a space that the device has still to read, and that another device deletes before it does: it is gone.

The state of a space has no deletions. So what was acknowledged before it was read stands on the device only as far as
the reading says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncReplica,
    HttpSender,
    Replica,
    spaces,
)
from syncd_client.live.connection import Connection, ConnectionOver
from syncd_client.live.reconnect import Ending

from tests.support.agreeing import check_same
from tests.support.harness import Server
from tests.support.quick_live import QUICK, until
from tests.support.wire import unique

Open = Callable[..., AsyncReplica]
MINE = {"n": 1}


@pytest.fixture
async def device(server: Server, tmp_path: Path) -> AsyncIterator[Open]:
    """Opens a device of a user."""
    opened: dict[str, AsyncReplica] = {}

    def open_device(user: str, name: str = "one", **options: Any) -> AsyncReplica:
        path = tmp_path / f"{user}-{name}-{len(opened)}.db" if "path" not in options else options.pop("path")
        replica = AsyncReplica(
            path, app="app", url=server.url, token=server.token(user), durability="normal", **options
        )
        opened[f"{user}-{name}-{len(opened)}"] = replica
        return replica

    yield open_device
    for replica in opened.values():
        await replica.close()


async def delete(by: AsyncReplica, space: str | None = None) -> None:
    await by.sync()
    await by.delete("t", "r", space=space)
    await by.sync()


def before_reading(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any], nth: int = 1) -> list[str]:
    """What happens after a push was answered, and before the space of it is asked for."""
    subscribe, asked = Connection._subscribe, list[str]()

    async def late(connection: Connection) -> None:
        asked.append("subscribe")
        if len(asked) == nth:
            await work()
        await subscribe(connection)

    monkeypatch.setattr(Connection, "_subscribe", late)
    return asked


async def live_until_synced(replica: AsyncReplica) -> None:
    async with replica.live(policy=QUICK) as live:
        assert await live.wait_until_synced(60)


async def check_gone(replica: AsyncReplica, other: AsyncReplica, space: str | None = None) -> None:
    assert await replica.get("t", "r", space=space) is None
    assert await replica.pending() == await replica.rejected() == await replica.kept_aside() == []
    await other.sync()
    assert not other.local.query("t", space=space)


async def test_a_new_device_that_is_live_keeps_nothing_of_it(device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    user = unique("user")
    replica, other = device(user), device(user)
    await replica.put("t", "r", MINE)
    before_reading(monkeypatch, lambda: delete(other))
    await live_until_synced(replica)
    await check_gone(replica, other)


async def put_back(device: Open) -> tuple[AsyncReplica, AsyncReplica, str]:
    """A member's device that wrote while it was out of a space and is in again, and the owner's."""
    ann, bob = unique("ann"), unique("bob")
    hers, his = device(ann), device(bob)
    space = (await asyncio.to_thread(spaces.create_space, hers.local, "Garden")).id
    await asyncio.to_thread(spaces.put_member, hers.local, space, bob)
    await hers.put("t", "other", {"n": 0}, space=space)
    await hers.sync()
    await his.sync()
    assert his.local.get("t", "other", space=space) == {"n": 0}
    await asyncio.to_thread(spaces.remove_member, hers.local, space, bob)
    assert (await his.sync()).left == [space]
    await his.put("t", "r", MINE, space=space)
    await asyncio.to_thread(spaces.put_member, hers.local, space, bob)
    return his, hers, space


async def test_who_is_put_back_into_a_space_keeps_nothing_of_it(device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    his, hers, space = await put_back(device)
    before_reading(monkeypatch, lambda: delete(hers, space))
    await live_until_synced(his)
    assert await his.get("t", "r", space=space) is None
    await his.sync()
    await hers.sync()
    check_same(his.local, hers.local)
    assert [record.id for record in his.local.query("t", space=space)] == ["other"]


async def test_killed_before_it_has_read_it_keeps_nothing_of_it(
    device: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    user, path = unique("user"), tmp_path / "killed.db"
    replica, other = device(user, path=path), device(user)
    await replica.put("t", "r", MINE)

    async def end_the_line() -> None:
        raise ConnectionOver(Ending("offline", "offline", "The line broke.", opened=True))

    with monkeypatch.context() as line:
        before_reading(line, end_the_line)
        async with replica.live(policy=QUICK):
            await until(lambda: not replica.local.pending(), "acknowledged", 60)
        await replica.close()
    again = device(user, path=path)
    assert await again.get("t", "r") == MINE
    await delete(other)
    await again.sync()
    await check_gone(again, other)


async def test_what_nobody_deletes_is_seen_all_the_time(device: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    his, hers, space = await put_back(device)
    seen = list[Any]()
    asked = before_reading(monkeypatch, lambda: asyncio.sleep(0))

    def look(event: Any) -> None:
        seen.append(his.local.get("t", "r", space=space))

    async with his.live(policy=QUICK, on_event=look) as live:
        assert await live.wait_until_synced(60)
        await his.patch("t", "r", {"n": 2}, space=space)
        assert await live.wait_until_synced(60)
    assert asked == ["subscribe"], "the space is read once"
    assert seen
    assert [value for value in seen if value not in (MINE, {"n": 2})] == []
    await hers.sync()
    check_same(his.local, hers.local)
    assert [record.id for record in his.local.query("t", space=space)] == ["other", "r"]
    assert (await his.why("t", "r", space=space)).state == "synced"


async def test_a_space_that_is_made_and_used_at_once_has_all_of_it(device: Open) -> None:
    ann, bob = unique("ann"), unique("bob")
    hers, his = device(ann), device(bob)
    async with hers.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "live", 60)
        space = (await asyncio.to_thread(spaces.create_space, hers.local, "Garden")).id
        await asyncio.to_thread(spaces.put_member, hers.local, space, bob)
        await hers.put("t", "r", MINE, space=space)
        assert await live.wait_until_synced(60)
        assert await hers.get("t", "r", space=space) == MINE
        await delete(his, space)
        await until(lambda: not hers.local.get("t", "r", space=space), "deleted there", 60)
    await hers.sync()
    check_same(hers.local, his.local)


async def test_by_sync_what_is_deleted_between_two_pages_is_gone(device: Open, server: Server, tmp_path: Path) -> None:
    user = unique("user")
    other = device(user)
    for n in range(4):
        await other.put("t", f"large-{n}", {"text": "x" * 700_000})
        await other.sync()
    more = list[bool]()

    def after(response: httpx2.Response) -> None:
        response.read()
        more.append(response.json()["hasMore"])
        if len(more) == 1:
            with Replica(tmp_path / "third.db", app="app", url=server.url, token=server.token(user)) as third:
                third.delete("t", "r", upsert=True)
                third.sync()

    with (
        httpx2.Client(event_hooks={"response": [after]}) as http,
        Replica(
            tmp_path / "new.db", app="app", url=server.url, token=server.token(user), send=HttpSender(http)
        ) as replica,
    ):
        replica.put("t", "r", MINE)
        replica.sync()
        assert more == [True, False]
        assert replica.get("t", "r") is None
        assert len(replica.query("t")) == 4
