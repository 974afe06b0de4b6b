"""What is held of a device of the first generation, as its user sees it."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from tests.support.harness import Server
from tests.support.wire import Device, Json, edit

PATIENCE = 60.0


def change(record: str, space: str | None = None, when: int = 1, **values: Any) -> Json:
    """An update of the first generation: without a change id."""
    named = {} if space is None else {"spaceId": space}
    return {**edit(record, when, change_id=None, **values), **named}


def held(old: Device, **query: Any) -> list[Json]:
    """What is held of the device's user."""
    answer = old.request("GET", f"/sync/{old.app}/held", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["held"])


def reasons(old: Device) -> list[str]:
    return [row["reason"] for row in held(old)]


def outcomes(answer: Any) -> list[str]:
    """Of each change its status, or the code of what was refused and is held."""
    for result in answer["results"]:
        assert result.get("held", False) == (result["status"] == "rejected"), result
    return [result.get("code", result["status"]) for result in answer["results"]]


def until_written(old: Device, left: int = 0) -> None:
    """Waits until so many are held."""
    deadline = time.monotonic() + PATIENCE
    while len(held(old)) > left:
        assert time.monotonic() < deadline, held(old)
        time.sleep(0.05)


def run(server: Server, *arguments: str) -> str:
    """What a command says, to either side."""
    done = subprocess.run(
        [*server.command(), *arguments], env=server.environment(), capture_output=True, text=True, check=True
    )
    return done.stdout + ("" if "export" in arguments else done.stderr)
