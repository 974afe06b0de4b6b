"""The tasks of the example. A task is a function, or a generator that waits for other tasks."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any
from uuid import uuid4

from examples.tasks.runs import Call, Run, Task


def price(run: Run) -> int:
    """What an item costs. It takes its time."""
    time.sleep(run.input.get("seconds", 0))
    run.write("entries", str(uuid4()), {"run": run.id})
    return len(run.input["item"])


def order(run: Run) -> Generator[Call, Any, dict[str, int]]:
    """A price after the other. At each `yield` the run is put away, and no worker has it until the price is there."""
    total = 0
    for item in run.input["items"]:
        total += yield Call("price", {**run.input, "item": item})
    run.write("entries", str(uuid4()), {"run": run.id})
    return {"total": total}


TASKS: dict[str, Task] = {"price": price, "order": order}
