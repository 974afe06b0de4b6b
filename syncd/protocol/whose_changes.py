"""What a revert's `actor` may be. It is compared with the actors of many changes under a lock, so it is flat. Pure."""

from __future__ import annotations

import json
import math
from decimal import Decimal, InvalidOperation
from typing import Any

# Of the object, and of the one in its `reverted`.
MOST_MEMBERS = 10
# As JSON text.
MOST_BYTES = 4096
MOST_WHOLE = 1 << 53


def whose_changes(actor: str) -> dict[str, Any]:
    """All that the actor of a change has to have, from JSON text: an object of 1 to 10 texts, numbers that a double
    keeps, booleans and nulls. `reverted` may be such an object: a revert's changes. Raises ValueError with what is
    wrong, as the end of a sentence about it."""
    if len(actor.encode()) > MOST_BYTES:
        raise ValueError(f"must have at most {MOST_BYTES:,} bytes")
    try:
        whole = json.loads(actor, parse_float=Decimal)
    except InvalidOperation:
        raise ValueError("must have no number that a double does not keep") from None
    kept = _flat(whole, {"reverted"})
    if isinstance(kept.get("reverted"), dict):
        kept["reverted"] = _flat(kept["reverted"], set())
    return kept


def _flat(whole: Any, nested: set[str]) -> dict[str, Any]:
    if not isinstance(whole, dict) or not whole:
        raise ValueError("must be an object with members: all that a change's actor has to have")
    if len(whole) > MOST_MEMBERS:
        raise ValueError(f"must have at most {MOST_MEMBERS} members: so many as name a run")
    for name, value in whole.items():
        if isinstance(value, list) or (isinstance(value, dict) and name not in nested):
            raise ValueError("must be flat: its members are texts, numbers, booleans or null")
    return {name: _number(value) if isinstance(value, (int, Decimal)) else value for name, value in whole.items()}


def _number(value: int | Decimal) -> int | float:
    """A number as it is sent on. A boolean is an int, and stays one."""
    if isinstance(value, int) and abs(value) <= MOST_WHOLE:
        return value
    near = float(value) if isinstance(value, Decimal) else math.inf
    if math.isinf(near) or Decimal(repr(near)) != value:
        raise ValueError("must have no number that a double does not keep")
    return near
