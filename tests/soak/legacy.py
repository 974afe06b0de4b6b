"""Devices of the first generation in a round: engines of tests/support/legacy_devices.py, each in its own thread."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

import httpx

from tests.soak.history import History
from tests.support.harness import Server
from tests.support.legacy_devices import LegacyDevice
from tests.support.wire import Device

TABLE = "tasks"


class LegacyActor(threading.Thread):
    """One that edits a record of its own and a shared one. `wrote`: the last of its own; `acked`: what was taken."""

    def __init__(
        self, server: Server, engine: type[LegacyDevice], name: str, url: str, space: str, told: History
    ) -> None:
        super().__init__(daemon=True)
        self.device_name, self.history, self.engine, self.space = name, told, engine, space
        self.server, self.user = server, "lena"
        self.http = httpx.Client(base_url=url, timeout=20)
        self.device = self.made(self.http, name)
        self.wrote = self.acked = 0
        self.resting = threading.Event()
        self.why: BaseException | None = None

    def made(self, http: httpx.Client, client: str) -> LegacyDevice:
        device = self.engine(Device(http, self.server, self.user, client, app="notes", legacy=True))
        device.space = self.space
        return device

    def run(self) -> None:
        """Until it is told to rest; then until nothing is left to be sent."""
        chance = random.Random()
        try:
            self.device.insert(TABLE, self.device_name, n=0)
            while not self.resting.is_set() or self.device.pending:
                if not self.resting.is_set():
                    self.wrote += 1
                    self.history.note(self.device_name, "wrote", space=TABLE, n=self.wrote, saw={}, ids=[])
                    self.device.edit(TABLE, self.device_name, n=self.wrote)
                    if chance.random() < 0.3:
                        self.device.edit(
                            TABLE, "shared-task", **{chance.choice("xy"): f"{self.device_name}:{self.wrote}"}
                        )
                self.sync(self.wrote)
                time.sleep(chance.uniform(0.1, 0.4))
            self.history.note(self.device_name, "idle")
        except BaseException as why:
            self.why = why
            raise

    def sync(self, n: int) -> None:
        """One exchange; what was pending and is no more was taken."""
        try:
            self.device.sync(TABLE)
        except httpx.HTTPError as why:
            self.history.note(self.device_name, "failed", code="offline", detail=type(why).__name__)
        if not self.device.pending and n > self.acked:
            self.acked = n
            self.history.note(self.device_name, "acked", ids=[], n=n)

    def shown(self) -> dict[str, Any]:
        """What its user sees after it has asked again."""
        self.device.pull(TABLE)
        return self.device.shown(TABLE)

    def fresh(self) -> dict[str, Any]:
        """What a new device of this user and engine sees."""
        with httpx.Client(base_url=self.server.url, timeout=60) as http:
            device = self.made(http, f"{self.device_name}-new")
            device.pull(TABLE)
            return device.shown(TABLE)
