"""Pushes that are decided without a database, and what the log is made to answer."""

from __future__ import annotations

import json
from typing import Any

from syncd.core.clock import format_instant, parse_instant
from syncd.core.principal import Principal
from syncd.protocol.first_generation import LegacyStamps, push_body
from syncd.protocol.holding import Holding, Sent
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_answer import Result
from syncd.protocol.push_decision import PushDecision
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState
from syncd.service.push import push_call
from syncd.store.log import Detail, PushCall

NOW = parse_instant("2026-01-01T10:00:00Z")
SKEW = 60_000_000


def at(micros: int = 0) -> str:
    return format_instant(NOW + micros)


def change(name: str | None = None, value: Any = 1, micros: int = 0, **members: Any) -> dict[str, Any]:
    fields = {"a": {"value": value, "at": at(micros)}}
    named = {} if name is None else {"changeId": name}
    return {"table": "t", "id": "r", "op": "update", "spaceId": "s", "fields": fields, **named, **members}


def push(*changes: dict[str, Any], plain: bool = False, caller: Principal | None = None, limits: Limits | None = None,
         first: int = 0, passed_over: frozenset[int] = frozenset(), **message: Any) -> PushDecision:  # fmt: skip
    """Of a device of ours, or with `plain` of one of the first generation, whose refused changes are held."""
    body = json.dumps({"changes": changes, **message}).encode()
    limits, wanted = limits or Limits(), PullRequest("app", plain=plain)
    if not plain:
        return PushDecision(caller or Principal("alice"), "phone", wanted, decode(body, PushBody), limits, first=first,
                    passed_over=passed_over)  # fmt: skip
    held = Holding(Sent(body, message.get("schemaVersion"), limits), "alice")
    return PushDecision(caller or Principal("alice"), "phone", wanted, push_body(body), limits, LegacyStamps(), first,
                        held, passed_over)  # fmt: skip


def called(work: PushDecision) -> PushCall:
    return push_call(work, PullState(work.pull, "alice", b"key"), EventIds(NOW), SKEW)


def settled(work: PushDecision, marks: str, detail: Detail | None = None) -> list[Result]:
    called(work)
    seqs = [0 if mark in "nru" else 10 + n for n, mark in enumerate(marks)]
    settle(work, seqs, marks, detail or Detail())
    return work.answer(None).results


def settle(work: PushDecision, seqs: list[int], marks: str, detail: Detail) -> None:
    work.settle(marks, seqs, detail.events, detail.moved, detail.conflicts)
