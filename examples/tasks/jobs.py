"""The tasks of the example. A task is a function, or a generator that waits for other tasks."""

from __future__ import annotations

import hmac
import time
from collections.abc import Generator
from typing import Any
from uuid import uuid4

from examples.tasks.runs import Call, Run, Task, stack


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


def append(run: Run) -> list[str]:
    """For a stack: what was before, and an item more. It takes its time."""
    time.sleep(run.input.get("seconds", 0))
    run.write("entries", str(uuid4()), {"run": run.id})
    return [*(run.input.get("before") or []), run.input["item"]]


def sign(run: Run) -> str:
    """What only the owner of the key `signing` can say of a text. The key itself goes nowhere."""
    time.sleep(run.input.get("seconds", 0))
    run.write("entries", str(uuid4()), {"run": run.id})
    return hmac.digest(run.secret("signing").encode(), run.input["text"].encode(), "sha256").hex()


TASKS: dict[str, Task] = {"price": price, "order": order, "append": append, "sign": sign, "stack": stack}
