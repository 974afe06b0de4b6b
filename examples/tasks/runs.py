"""What a run is, and what its task comes to. Nothing here knows of a database."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

Task = Callable[["Run"], Any]
Outcome = dict[str, Any]  # {"result": …} or {"error": text}


def _none(name: str) -> str:
    raise KeyError(name)


@dataclass
class Run:
    """As a worker has it. `results`: of its children, in order; `writes`: changes that are kept with its end; `ask`
    gives a secret by its name, and `secrets` are those that were asked for."""

    space: str
    id: str
    person: str
    task: str
    input: Any
    results: list[Outcome]
    parent: str | None
    attempt: int
    writes: list[dict[str, Any]] = field(default_factory=list)
    ask: Callable[[str], str] = field(default=_none, repr=False)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)

    def write(self, table: str, id: str, fields: dict[str, Any]) -> None:
        """Has a record written, in the transaction in which the run ends."""
        self.writes.append(self.record(table, id, fields))

    def secret(self, name: str) -> str:
        """A secret's value. A run that would show it fails."""
        self.secrets[name] = value = self.ask(name)
        return value

    def record(self, table: str, id: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"table": table, "id": id, "spaceId": self.space, "fields": fields}


@dataclass
class Call:
    """Another task, for whose result a run waits: `result = yield Call("price", {"item": "tea"})`."""

    task: str
    input: Any


class ChildFailed(Exception):
    """Raised in a task at its `yield`."""


class SecretShown(Exception):
    """What a run keeps has a secret in the clear: everybody in its space would have read it."""


def stack(run: Run) -> Generator[Call, Any, Any]:
    """A run whose steps are runs, one after the other: `{"steps": [{"task": "price", "input": {…}}, …], "before": …}`.
    Each gets the result of the one before it as `before` in its input; that of the last is the stack's."""
    before = run.input.get("before")
    for step in run.input["steps"]:
        before = yield Call(step["task"], {**step.get("input", {}), "before": before})
    return before


def replay(run: Run, tasks: dict[str, Task]) -> Call | Outcome:
    """Runs the task from its beginning with the results that are there, up to its next call or its end. So any worker
    can go on with a run that waits, and a task has to call the same each time."""
    try:
        task = tasks[run.task](run)
        came: Call | Outcome = _advanced(task, run.results) if inspect.isgenerator(task) else {"result": task}
        kept = json.dumps(came.input if isinstance(came, Call) else came["result"], allow_nan=False)
        kept += json.dumps(run.writes, default=str)
        for name, value in run.secrets.items():
            if json.dumps(value)[1:-1] in kept:
                raise SecretShown(name)
        return came
    except Exception as why:
        run.writes.clear()
        return {"error": _hidden(repr(why), run.secrets)}


def _hidden(text: str, secrets: dict[str, str]) -> str:
    """A text without secrets, as they are or as `repr` and JSON write them."""
    for name, value in secrets.items():
        for written in (value, repr(value)[1:-1], json.dumps(value)[1:-1]):
            text = text.replace(written, f"<{name}>")
    return text


def _advanced(task: Any, results: list[Outcome]) -> Any:
    try:
        call = next(task)
        for known in results:
            call = task.throw(ChildFailed(known["error"])) if "error" in known else task.send(known["result"])
        return call
    except StopIteration as end:
        return {"result": end.value}
