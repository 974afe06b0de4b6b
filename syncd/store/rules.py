"""What rules look at, in one read for a whole push."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.pieces import in_turns
from syncd.core.principal import Principal
from syncd.store.pool import Pool

# Bytes of JSON that the records of one push are, together; of the first one, whatever it is.
MOST_SEEN = 8 << 20
# Bytes of what was written under ids that come again, together, beside as many as are sent under them.
MOST_COMPARED = 1 << 20


class SeenRow(NamedTuple):
    """As the database says it: `record` is JSON text."""

    role: str | None
    space: str
    record: str | None
    deleted: bool
    too_large: bool


class WrittenRow(NamedTuple):
    """A change that was written before under the same id: whether it is `same`, None where it was `too_large` to be
    compared."""

    change_id: str
    event_id: str
    seq: int
    same: bool | None
    too_large: bool


class Seen(NamedTuple):
    """What stands before a change: the role of its user where the record is, None where it has none; the space that is
    in; the record's fields, None where there is none; those of a deleted one, which an insert brings back; and whether
    it was not read because all together are too much; `size`: bytes of what was read."""

    role: str | None
    space: str
    record: dict[str, Any] | None
    deleted: dict[str, Any] | None
    too_large: bool
    size: int = 0


class RuleReads:
    """Reads as the user who pushes, so that no rule sees what its user may not."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def seen(self, caller: Principal, app: str, keys: Sequence[tuple[str, str, str]]) -> list[SeenRow]:
        """What stands at each (space, table, record). Raises Busy, DatabaseUnavailable."""
        columns = (list(column) for column in zip(*keys, strict=True))
        rows = await self._pool.fetch_as(caller.user, caller.adopt, "rules_see", app, *columns, MOST_SEEN)
        return [SeenRow(*row) for row in rows]

    async def written(self, caller: Principal, client: str, app: str, asked: bytes) -> dict[str, WrittenRow]:
        """Which of these changes of a device are in the log already, by their change ids. `asked`: as
        sync_rules_repeats takes them."""
        most = MOST_COMPARED + 2 * len(asked)
        rows = await self._pool.fetch_as(caller.user, None, "rules_repeats", client, app, asked.decode(), most)
        return {row[0]: WrittenRow(*row) for row in rows}


def decoded(rows: Sequence[SeenRow]) -> list[Seen]:
    """What rows say, read: beside the loop, where it is much."""
    return [_seen(row) for row in in_turns(rows, 1)]


def _seen(row: SeenRow) -> Seen:
    fields = None if row.record is None else msgspec.json.decode(row.record)
    standing, deleted = (None, fields) if row.deleted else (fields, None)
    return Seen(row.role, row.space, standing, deleted, row.too_large, len(row.record or ""))
