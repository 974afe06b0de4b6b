"""G5: a cursor from a future that a restored backup does not have is refused, and a crash is no restore."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.device import Device, answer, statuses
from tests.support.harness import Server
from tests.support.processes import postmaster_of
from tests.support.wire import unique


class Restored:
    """A server whose data directory is copied at one moment and put back at a later one."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self._copy = server, folder / "backup"

    def back_up(self) -> None:
        """A copy of the stopped server's data."""
        self.server.stop()
        shutil.rmtree(self._copy, ignore_errors=True)
        self._copy_tree(self.server.data_dir / "pgdata", self._copy)
        self.server.start()

    def restore(self) -> None:
        """The copy instead of what there is."""
        self.server.stop()
        shutil.rmtree(self.server.data_dir / "pgdata")
        self._copy_tree(self._copy, self.server.data_dir / "pgdata")
        self.server.start()

    def _copy_tree(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", source, target], check=True)


@pytest.fixture(scope="module")
async def backup(workspace: Path) -> AsyncIterator[Restored]:
    """A server of these tests' own: each has users of its own."""
    folder = workspace / "copied"
    folder.mkdir(mode=0o755)
    with Server(folder / "data") as server:
        yield Restored(server, folder)


@pytest.fixture
def user() -> str:
    return unique("ann")


async def write(device: Device, name: str, count: int, space: str = "") -> None:
    """Pushes new records, one push each."""
    for n in range(count):
        change = device.change(f"{name}-{n}", f"{name}-{n}", n, space=space)
        # Just after a crash a connection may still be found dead.
        while (sent := await device.send([change])).status_code == 503:
            pass
        assert statuses(answer(sent)) in (["applied"], ["duplicate"])


async def is_lost(device: Device, since: str) -> bool:
    """Whether pull and push both say that the cursor is lost."""
    asked = await device.ask(since)
    sent = await device.send([], pull=True, since=since)
    assert asked.status_code == sent.status_code
    assert asked.status_code in (200, 410), asked.text
    return asked.status_code == 410 and asked.json()["code"] == sent.json()["code"] == "cursor_lost"


async def test_a_cursor_from_before_the_backup_goes_on_and_one_from_after_it_is_lost(
    backup: Restored, user: str
) -> None:
    async with Device(backup.server, user) as ann:
        await write(ann, "before", 5)
        _, before = await ann.drain()
        backup.back_up()
        await write(ann, "after", 5)
        _, after = await ann.drain(before)
        backup.restore()
        assert await is_lost(ann, after)
        assert not await is_lost(ann, before)
        # Also when the log has grown past where the cursor stood: what is there now is something else.
        await write(ann, "again", 20)
        assert await is_lost(ann, after)
        assert len((await ann.drain(before))[0]) == 20


async def test_a_lost_cursor_stays_lost_after_further_restarts_and_a_second_restore(
    backup: Restored, user: str
) -> None:
    async with Device(backup.server, user) as ann:
        await write(ann, "before", 3)
        backup.back_up()
        await write(ann, "after", 3)
        _, first = await ann.drain()
        backup.restore()
        await write(ann, "other", 4)
        _, second = await ann.drain()
        backup.server.restart()
        await write(ann, "more", 3)
        assert await is_lost(ann, first)
        assert not await is_lost(ann, second)
        backup.restore()
        await write(ann, "third", 30)
        assert await is_lost(ann, first)
        assert await is_lost(ann, second)


async def test_a_space_that_the_backup_does_not_have_makes_the_cursor_lost(backup: Restored, user: str) -> None:
    async with Device(backup.server, user) as ann:
        await write(ann, "before", 2)
        backup.back_up()
        await write(ann, "after", 3, await ann.create_space("young"))
        _, after = await ann.drain()
        backup.restore()
        assert await is_lost(ann, after)
        # Another space now has the number that the young one had.
        await write(ann, "another", 10, await ann.create_space("another"))
        assert await is_lost(ann, after)


async def test_a_device_that_starts_again_converges_and_pushes_what_it_had_kept(backup: Restored, user: str) -> None:
    async with Device(backup.server, user, "phone") as phone, Device(backup.server, user, "laptop") as laptop:
        await write(phone, "before", 4)
        backup.back_up()
        await write(phone, "lost", 3)
        _, cursor = await phone.drain()
        backup.restore()
        kept = [phone.change("kept", "kept", "offline work")]
        refused = await phone.send(kept, pull=True, since=cursor)
        assert (refused.status_code, refused.json()["code"]) == (410, "cursor_lost")
        answered = await phone.push(kept, pull=True, since="")
        assert statuses(answered)[0] in ("applied", "duplicate")
        expected = {"kept", *(f"before-{n}" for n in range(4))}
        for device in (phone, laptop):
            state, cursor = await device.drain()
            assert {change["id"] for change in state} == expected
            assert not await is_lost(device, cursor)


async def test_a_crash_of_the_database_loses_no_cursor(backup: Restored, user: str) -> None:
    async with Device(backup.server, user) as ann:
        cursors = []
        for turn in range(3):
            await write(ann, f"turn-{turn}", 5)
            cursors.append((await ann.drain())[1])
            postmaster_of(backup.server).kill()
            while (await ann.ask()).status_code != 200:
                pass
        await write(ann, "last", 5)
        for turn, cursor in enumerate(cursors):
            assert not await is_lost(ann, cursor)
            assert len((await ann.drain(cursor))[0]) == 5 * (3 - turn)


async def test_restarts_lose_no_cursor_however_many_there_are(backup: Restored, user: str) -> None:
    async with Device(backup.server, user) as ann:
        await write(ann, "first", 2)
        _, first = await ann.drain()
        for turn in range(3):
            backup.server.restart()
            await write(ann, f"turn-{turn}", 2)
        assert not await is_lost(ann, first)
        assert [change["seq"] for change in (await ann.drain(first))[0]] == list(range(3, 9))
