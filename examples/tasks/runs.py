"""What a run is, and what its task comes to. Nothing here knows of a database."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Task = Callable[["Run"], Any]
Outcome = dict[str, Any]  # {"result": …} or {"error": text}


@dataclass
class Run:
    """As a worker has it. `results`: of its children, in order; `writes`: changes that are kept with its end."""

    space: str
    id: str
    person: str
    task: str
    input: Any
    results: list[Outcome]
    parent: str | None
    attempt: int
    writes: list[dict[str, Any]] = field(default_factory=list)

    def write(self, table: str, id: str, fields: dict[str, Any]) -> None:
        """Has a record written, in the transaction in which the run ends."""
        self.writes.append(self.record(table, id, fields))

    def record(self, table: str, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"table": table, "id": id, "spaceId": self.space, "fields": fields}


@dataclass
class Call:
    """Another task, for whose result a run waits: `result = yield Call("price", {"item": "tea"})`."""

    task: str
    input: Any


class ChildFailed(Exception):
    """Raised in a task at its `yield`."""


def replay(run: Run, tasks: dict[str, Task]) -> Call | Outcome:
    """Runs the task from its beginning with the results that are there, up to its next call or its end. So any worker
    can go on with a run that waits, and a task has to call the same each time."""
    try:
        task = tasks[run.task](run)
        came: Call | Outcome = _advanced(task, run.results) if inspect.isgenerator(task) else {"result": task}
        json.dumps(came.input if isinstance(came, Call) else came["result"], allow_nan=False)
        return came
    except Exception as why:
        run.writes.clear()
        return {"error": repr(why)}


def _advanced(task: Any, results: list[Outcome]) -> Any:
    try:
        call = next(task)
        for known in results:
            call = task.throw(ChildFailed(known["error"])) if "error" in known else task.send(known["result"])
        return call
    except StopIteration as end:
        return {"result": end.value}
