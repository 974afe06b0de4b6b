"""What a phone may write."""

from __future__ import annotations

from syncd import ProposedChange, RuleRefused, rule
from syncd.asgi import Principal

DONE = "done"


@rule("clinic/visits")
def visits(change: ProposedChange, record: dict[str, object] | None, principal: Principal) -> dict[str, object] | None:
    if change.op == "delete":
        raise RuleRefused(None, "A visit is kept. Set its state to cancelled.")
    if record is not None and record.get("state") == DONE:
        raise RuleRefused("state", "This visit is done, and its invoice is written.")
    if change.fields.get("state") == DONE and not (change.fields | (record or {})).get("reason"):
        raise RuleRefused("reason", "Say the reason for the visit first.")
    return {"seen_by": principal.user} if change.fields.get("state") == DONE else None


@rule("clinic/patients", "clinic/invoices")
def only_the_office(change: ProposedChange, record: object, principal: Principal) -> None:
    raise RuleRefused(None, "The office writes this.")
