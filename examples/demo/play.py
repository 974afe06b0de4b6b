"""The play: waves in which every device writes offline and some of them come online, in no order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import httpx2

from examples.demo.devices import SPACE, Device
from examples.demo.history import Commit

WAVES = 8
AT_ONCE = 4  # devices that are online at the same moment
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Wave:
    """The devices that are online after which commits: for each device what it writes and whether it syncs then."""

    number: int
    writes: tuple[tuple[Commit, ...], ...]
    online: tuple[bool, ...]

    @property
    def commits(self) -> int:
        return sum(map(len, self.writes))


def open_space(url: str, owner: str, users: Sequence[str], token: Callable[[str], str], http: httpx2.Client) -> None:
    """The shared space, made by one user with everybody as a member."""
    headers = {"Authorization": f"Bearer {token(owner)}"}
    body = {"id": SPACE, "name": "The repository"}
    http.post(f"{url}/spaces", json=body, headers=headers).raise_for_status()
    for user in users:
        if user != owner:
            member = f"{url}/spaces/{SPACE}/members/{quote(user, safe='')}"
            http.put(member, json={"role": "writer"}, headers=headers).raise_for_status()


def plan(devices: Sequence[Device], number: int = WAVES, seed: int = 1) -> list[Wave]:
    """Cuts the history into waves. Each device sleeps through some: its edits come after newer ones.

    A device is online every wave, every second or every third, by its own rhythm; in the last one nobody is,
    so that everybody has something left to say when all come home.
    """
    chance = random.Random(seed)
    stamps = sorted(commit.at for device in devices for commit in device.part.commits)
    number = max(1, min(number, len(stamps)))
    borders = [stamps[len(stamps) * turn // number] for turn in range(1, number)] + [stamps[-1] + 1]
    rhythms = [(chance.choice((1, 2, 2, 3, 3)), chance.randrange(3)) for _ in devices]
    waves, before = [], -1
    for turn, border in enumerate(borders):
        writes = tuple(
            tuple(commit for commit in device.part.commits if before <= commit.at < border) for device in devices
        )
        online = tuple(turn < number - 1 and (turn + shift) % rhythm == 0 for rhythm, shift in rhythms)
        waves.append(Wave(turn + 1, writes, online))
        before = border
    return waves


class Play:
    """Performs waves with a few threads, so that devices meet at the server. `stop` ends it early."""

    def __init__(self, devices: Sequence[Device], advance: Advance, seed: int = 1) -> None:
        self._devices, self._advance = devices, advance
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="device")

    def wave(self, wave: Wave) -> None:
        """Everybody writes; then those who are online sync."""
        self._each(
            [partial(self._write, device, own) for device, own in zip(self._devices, wave.writes, strict=True) if own]
        )
        self._each([partial(self._sync, device) for device, on in zip(self._devices, wave.online, strict=True) if on])

    def come_home(self) -> None:
        """All push what they have left, then all fetch what the others pushed."""
        for _ in range(2):
            self._each([partial(self._sync, device) for device in self._devices])

    def _write(self, device: Device, commits: Sequence[Commit]) -> None:
        for commit in commits:
            if self._stopping.is_set():
                return
            device.write(commit)
            self._advance(1)

    def _sync(self, device: Device) -> None:
        if not self._stopping.is_set():
            device.sync()
            self._advance(1)

    def _each(self, jobs: list[partial[None]]) -> None:
        self._chance.shuffle(jobs)
        running: list[Future[None]] = [self._pool.submit(job) for job in jobs]
        for future in running:
            # In short waits, so that Ctrl-C is heard at once.
            while not future.done():
                time.sleep(0.01)
            future.result()

    def close(self) -> None:
        """Let what is under way end, and drop the rest."""
        self._stopping.set()
        self._pool.shutdown(wait=True, cancel_futures=True)
