"""What rules look at, in one read for a whole push."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.principal import Principal
from syncd.postgres.contexts import ActingUser
from syncd.store.pool import Pool

# Bytes of JSON that the records of one push are, together, as what it may touch.
MOST_SEEN = 32 << 20


class SeenRow(NamedTuple):
    """As the database says it: `record` is JSON text."""

    writes: bool
    record: str | None
    too_large: bool


class Seen(NamedTuple):
    """What stands before a change: whether its user may write in its space, the record's fields (None: there is none,
    or it is deleted), and whether it was not read because all together are too much."""

    writes: bool
    record: dict[str, Any] | None
    too_large: bool


class RuleReads:
    """Reads as the user who pushes, so that no rule sees what its user may not."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def seen(self, caller: Principal, app: str, keys: Sequence[tuple[str, str, str]]) -> list[Seen]:
        """What stands at each (space, table, record). Raises Busy, DatabaseUnavailable."""
        spaces, tables, records = (list(column) for column in zip(*keys, strict=True))
        rows = await self._pool.fetch_as(
            caller.user, caller.adopt, "rules_see", app, spaces, tables, records, MOST_SEEN, add=True
        )
        return [Seen(row[0], None if row[1] is None else msgspec.json.decode(row[1]), row[2]) for row in rows]

    async def written_before(self, user: str, client: str, ids: Mapping[int, str]) -> list[int]:
        """Which places are of changes that are in the log already, by their change ids."""
        if not ids:
            return []
        found = set((await self._pool.fetch("pushed_before", ActingUser(user), client, list(ids.values())))[0][0] or ())
        return [place for place, id_ in ids.items() if id_ in found]
