"""What a user and a space may have: the list of all quotas, and what `GET /quota` answers.

A new quota is a field of `Quotas`, with a setting of its name. What is counted for it, and compared, is in `usage.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from syncd.core.errors import NotFound
from syncd.store.usage import Totals, Use

RATES = ("requests", "bytes_in", "bytes_out")


class Quotas(NamedTuple):
    """What a user and a space may have; 0: no bound. Rates are a second and a worker's, bytes those of the log."""

    requests: float = 0
    bytes_in: int = 0
    bytes_out: int = 0
    space_records: int = 0
    space_bytes: int = 0
    user_records: int = 0
    user_bytes: int = 0
    devices: int = 0
    # Bounds that are kept elsewhere, and told with the others.
    spaces: int = 0
    sockets: int = 0
    held: int = 0
    held_bytes: int = 0

    def totals(self) -> dict[str, int]:
        """Those that the look compares with."""
        return {name: getattr(self, name) for name in ("space_records", "space_bytes", "user_records", "user_bytes")}


async def use(totals: Totals, quotas: Quotas, user: str, space: str | None, sockets: int) -> bytes:
    """What a user has and may have, and a space that the user is in, as JSON text. Raises NotFound."""
    found = await totals.use(user, space)
    if space is not None and found.space_used is None:
        raise NotFound(code="space_not_found")
    used = {**msgspec.json.decode(found.used), "sockets": sockets}
    own = msgspec.json.decode(found.own)
    names = [name for name in Quotas._fields if not name.startswith("space_")]
    answer = {"user": {name: _entry(name, quotas, used, own) for name in names}}
    if space is not None:
        answer["space"] = _space(found, quotas)
    return msgspec.json.encode(answer)


def _space(found: Use, quotas: Quotas) -> dict[str, Any]:
    used, own = msgspec.json.decode(found.space_used or "{}"), msgspec.json.decode(found.space_own or "{}")
    return {name: _entry(name, quotas, used, own) for name in ("space_records", "space_bytes")}


def _entry(name: str, quotas: Quotas, used: Mapping[str, int], own: Mapping[str, int]) -> dict[str, Any]:
    """`limit` is null where there is none; a rate has no `used`."""
    limit = own.get(name, getattr(quotas, name)) or None
    return {"limit": limit} if name in RATES else {"used": used[name], "limit": limit}
