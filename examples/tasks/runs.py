"""What a run is, and what its task comes to. Nothing here knows of a database."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

Task = Callable[["Run"], Any]
Outcome = dict[str, Any]  # {"result": …} or {"error": text}


class NoSecret(Exception):
    """There is none of this name for the run's space. It says the name alone."""


def _none(name: str) -> str:
    raise NoSecret(name)


@dataclass
class Run:
    """As a worker has it. `results`: of its children, in order; `writes`: changes that are kept with its end; `ask`
    gives a secret by its name, `secrets` are those that were asked for, and `fault` is why one could not be had now."""

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
    fault: BaseException | None = field(default=None, repr=False)

    def write(self, table: str, id: str, fields: dict[str, Any]) -> None:
        """Has a record written, in the transaction in which the run ends."""
        self.writes.append(self.record(table, id, fields))

    def secret(self, name: str) -> str:
        """A secret's value. A run that would show it fails. Raises NoSecret; what else it raises passes, and the run is
        begun again with the next lease."""
        try:
            self.secrets[name] = value = self.ask(name)
        except NoSecret:
            raise
        except BaseException as fault:
            self.fault = fault  # whatever the task makes of it
            raise
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
    can go on with a run that waits, and a task has to call the same each time. Raises what kept it from a secret."""
    try:
        task = tasks[run.task](run)
        came: Call | Outcome = _advanced(task, run.results) if inspect.isgenerator(task) else {"result": task}
        json.dumps(came.input if isinstance(came, Call) else came["result"], allow_nan=False)
        kept = [came.task, came.input] if isinstance(came, Call) else came["result"]
        for name, value in run.secrets.items():
            if _shown(value, [kept, run.writes]):
                raise SecretShown(name)
    except BaseException as why:  # also sys.exit: the run ends by it, and not its worker
        run.writes.clear()
        came = {"error": _said(why, run.secrets)}
    if run.fault is not None:
        raise run.fault from None  # what came before it may have a secret, and this is logged
    return came


def _shown(secret: str, kept: Any) -> bool:
    """Whether it is in one of the texts, or in all as JSON, as it is or as JSON or `repr` write it, also twice."""
    forms = {secret}
    for _ in range(2):
        forms |= {written for form in forms for written in _written(form)}
    texts = [*_texts(kept), json.dumps(kept, default=str)]
    return any(form in text for form in forms for text in texts)


def _written(text: str) -> Iterator[str]:
    """As it is written within quotes."""
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    data = text.encode(errors="surrogatepass")
    for quoted in (repr(text + "'\"")[1:-4], ascii(text + "'\"")[1:-4], repr(data + b"'\"")[2:-4]):
        yield quoted  # with both quotes in it the one is escaped, else none
        yield quoted.replace("\\'", "'")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set | frozenset):
        for one in value:
            yield from _texts(one)
    else:
        yield str(value)


def _said(why: BaseException, secrets: dict[str, str]) -> str:
    """An error's text, or its type alone with the names of the secrets that are in it, maybe: their letters and digits
    are there in this order, which no way to write a text takes away."""
    kind = type(why).__name__
    try:
        text = repr(why)
    except Exception:
        return kind
    names = [name for name, value in secrets.items() if not isinstance(why, SecretShown) and _maybe(value, text)]
    return f"{kind}({', '.join(f'<{name}>' for name in names)})" if names else text


def _maybe(secret: str, text: str) -> bool:
    at = 0
    for part in re.findall("[A-Za-z0-9]+", secret):
        if (found := text.find(part, at)) < 0:
            return False
        at = found + len(part)
    return True


def _advanced(task: Any, results: list[Outcome]) -> Any:
    try:
        call = next(task)
        for known in results:
            call = task.throw(ChildFailed(known["error"])) if "error" in known else task.send(known["result"])
        return call
    except StopIteration as end:
        return {"result": end.value}
