"""What tests of one sync without a connection share: what a step asks, and answers to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from syncd_client import Replica
from syncd_client.store.store import get_meta
from syncd_client.sync.session import Session
from syncd_client.sync.steps import Send, Step

from tests.support.scripted import applied, page

AT = "2026-01-01T10:00:00.000000Z"
Open = Callable[..., Replica]


def body(step: Step) -> Any:
    assert isinstance(step, Send)
    return json.loads(step.body or b"null")


def ids(step: Step) -> list[str]:
    return [change["id"] for change in body(step)["changes"]]


def answer(session: Session, step: Step, status: int = 200, said: Any = None, seconds: float | None = None,
           **headers: str) -> list[Any]:  # fmt: skip
    assert isinstance(step, Send)
    if said is None:
        said = page() if step.body is None else applied(json.loads(step.body))
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return session.receive(step, status, {name.replace("_", "-"): text for name, text in headers.items()}, raw, seconds)


def problem(code: str, *pointers: str) -> dict[str, Any]:
    return {"code": code, "detail": "No.", "errors": [{"pointer": pointer, "detail": "bad"} for pointer in pointers]}


def trouble(replica: Replica) -> Any:
    with replica.store.read() as db:
        said = get_meta(db, "trouble")
    return said and json.loads(said)
