"""Processes of devices: they tell what they do, a JSON object a line, and take orders."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.soak.history import Event, History
from tests.support.node import CLIENT, packages, run
from tests.support.programs import REPOSITORY

LONGEST_LINE = 16 * 1024 * 1024


def python(job: Mapping[str, Any]) -> list[str]:
    """What runs devices of the Python client."""
    return [sys.executable, "-m", "tests.soak.device_process", json.dumps(job)]


def node(job: Mapping[str, Any], bundle: Path) -> list[str]:
    """What runs devices of the TypeScript client."""
    return ["node", str(bundle), json.dumps(job)]


def bundled(folder: Path) -> Path:
    """clients/typescript/test/soak/device.ts with all that it needs, as one file for Node."""
    out = folder / "device.cjs"
    source = "test/soak/device.ts"
    run(CLIENT, packages(CLIENT) / ".bin" / "esbuild", source, "--bundle", "--platform=node", "--format=cjs",
        "--log-level=error", f"--outfile={out}")  # fmt: skip
    return out


class Program:
    """One process. `shown`: what each of its devices held when it was last asked; `idle`: those that are at rest."""

    def __init__(self, command: Sequence[str], history: History, *, keeps: bool) -> None:
        self.command, self.history, self.keeps = command, history, keeps
        self.devices: list[str] = [given["name"] for given in json.loads(command[-1])["devices"]]
        self.shown: dict[str, Event] = {}
        self.idle: set[str] = set()
        self.said = ""
        self._process: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins, or comes back with what it kept."""
        self._process = await asyncio.create_subprocess_exec(
            *self.command, cwd=REPOSITORY, limit=LONGEST_LINE,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._tasks = [
            asyncio.create_task(self._listen(self._process.stdout)),
            asyncio.create_task(self._complaints(self._process.stderr)),
        ]

    async def _listen(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            if not line.endswith(b"\n"):
                return  # it was killed in the middle
            event = json.loads(line)
            if event["ev"] == "shown":
                self.shown[event["who"]] = event
            else:
                self.history.events.append(event)
                if event["ev"] == "idle":
                    self.idle.add(event["who"])

    async def _complaints(self, lines: asyncio.StreamReader) -> None:
        async for line in lines:
            self.said = (self.said + line.decode())[-4000:]

    async def order(self, **order: Any) -> None:
        """Tells it to do something."""
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()

    @property
    def over(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.returncode is not None

    async def kill(self) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._ended()

    async def stop(self) -> None:
        """Lets it end; it is killed where it does not."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 20)
        except TimeoutError:
            self._process.kill()
        await self._ended()

    async def _ended(self) -> None:
        assert self._process is not None
        await self._process.wait()
        await asyncio.gather(*self._tasks)
