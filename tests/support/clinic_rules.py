"""The rules of a clinic, for tests: what `SYNCD_RULES` names."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime
from typing import Any

from syncd import ProposedChange, RuleRefused, rule
from syncd.core.principal import Principal

STUCK = threading.Event()


@rule("clinic/visits")
def needs_a_reason(
    change: ProposedChange, record: dict[str, Any] | None, principal: Principal
) -> dict[str, Any] | None:
    if change.fields.get("reason") == "":
        raise RuleRefused("reason", "A visit needs a reason.")
    if record is not None and record.get("closed") and change.op == "update":
        raise RuleRefused(None, f"{principal.user}, this visit is closed.")
    if change.brings_back is not None:
        raise RuleRefused(None, f"What was deleted stays so: {sorted(change.brings_back)}.")
    if record is None and change.op == "insert" and change.fields.get("reason") == "first":
        return {"summary": "the first time"}
    if "reason" in change.fields:
        return {"summary": str(change.fields["reason"]).strip().lower(), "by": principal.user}
    return None


@rule("clinic/beds")
async def counts_up(change: ProposedChange, record: dict[str, Any] | None, principal: Principal) -> None:
    await asyncio.sleep(0)
    if change.op == "delete":
        raise RuleRefused(None, "Beds stay.")
    if change.fields.get("number", 0) < (record or {}).get("number", 0):
        raise RuleRefused("number", "A number only grows.")


@rule("clinic/plans")
def an_owner_approves(
    change: ProposedChange, record: dict[str, Any] | None, principal: Principal
) -> dict[str, Any] | None:
    if change.fields.get("state") == "approved" and principal.role != "owner":
        raise RuleRefused("state", f"An owner approves a plan, not a {principal.role}.")
    closed = (record or {}).get("closed_at")
    if closed is not None and change.written_at >= datetime.fromisoformat(closed):
        raise RuleRefused(None, "This plan is closed.")
    return {"role": principal.role, "written": change.written_at.isoformat()} if "note" in change.fields else None


@rule("clinic/broken")
def fails(change: ProposedChange, record: dict[str, Any] | None, principal: Principal) -> object:
    match change.fields.get("how"):
        case "raises":
            raise KeyError("secret-in-an-error")
        case "loops":
            STUCK.wait(20)
        case "takes a second":
            STUCK.wait(0.9)
        case "lies":
            return "a text"
        case "invents":
            return {"deletedAt": "2026-01-01T00:00:00Z"}
    return None


@rule("ward/*")
def only_owners_write(change: ProposedChange, record: dict[str, Any] | None, principal: Principal) -> None:
    if change.space[:1] != "_" and "secret" in change.fields:
        raise RuleRefused("secret", "This stays where it is.")
    if change.origin == "import":
        raise RuleRefused("origin", "Imports come another way.")
