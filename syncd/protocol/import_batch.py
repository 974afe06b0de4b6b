"""Lines of an export as the database takes them: many at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.pieces import in_turns
from syncd.protocol.import_lines import ImportLine, ImportRow

_encode = msgspec.json.Encoder().encode


class ImportBatch(NamedTuple):
    """Changes as sync_import takes them: `head` lacks who imports; the lists have one member a change. `rows`: what the
    log keeps of them, in waves in which no record occurs twice."""

    head: dict[str, Any]
    feeds: list[int]
    seqs: list[int]
    ends: list[int]
    ats: list[str]
    events: list[str]
    ids: list[str]
    authors: list[int]
    devices: list[int]
    rows: list[list[ImportRow]]

    @property
    def waves(self) -> list[bytes]:
        """The rows as JSON text, a wave each."""
        return [_encode(wave) for wave in in_turns(self.rows)]


def arrange(changes: Sequence[ImportLine]) -> ImportBatch:
    """A batch: names and feeds by number, rows in waves in which no record occurs twice."""
    names: dict[str, int] = {}

    def number(name: str) -> int:
        return names.setdefault(name, len(names) + 1)

    after: dict[tuple[str, str], int] = {}
    for change in changes:
        after.setdefault((change.line.spaceId, change.line.appId), change.after)
    order = sorted(after, key=lambda feed: (feed[0].encode(), feed[1].encode()))
    place = {feed: n for n, feed in enumerate(order, 1)}
    met: dict[tuple[int, int, str], int] = {}
    waves: list[list[ImportRow]] = []
    for i, change in enumerate(in_turns(changes), 1):
        line, row = change.line, change.row
        row.i, row.k = i, place[line.spaceId, line.appId]
        row.w, row.u, row.t = number(line.userId), number(line.clientId), number(line.table)
        key = (row.k, row.t, row.r)
        wave = met[key] = met.get(key, -1) + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(row)
    feeds = [{"s": space, "a": number(app), "after": after[space, app]} for space, app in order]
    lines, rows = [change.line for change in changes], [change.row for change in changes]
    return ImportBatch(
        {"feeds": feeds, "names": list(names)}, [row.k for row in rows], [line.seq for line in lines],
        [line.pushEnd or line.seq for line in lines], [line.createdAt for line in lines], [row.e for row in rows],
        [row.c for row in rows], [row.w for row in rows], [row.u for row in rows], waves,
    )  # fmt: skip


def columns(batch: ImportBatch, *, known: bool) -> list[Any]:
    """A batch as the arguments of sync_import_new that follow its head. `known`: none of its change ids is in the log.

    Of records that have one change in the batch each column has a member; the changes of the others come as waves.
    """
    again = {(row.k, row.t, row.r) for wave in batch.rows[1:2] for row in wave}
    rows: list[ImportRow | None] = [None] * len(batch.seqs)
    waves: list[list[ImportRow]] = []
    for wave in batch.rows:
        alone = [row for row in wave if (row.k, row.t, row.r) not in again] if again else wave
        for row in alone:
            rows[row.i - 1] = row
        if again:
            waves.append([row for row in wave if (row.k, row.t, row.r) in again])
    times: dict[str, int] = {}
    at = [times.setdefault(text, len(times) + 1) for text in batch.ats]
    return [
        batch.feeds, batch.seqs, batch.ends, at, list(times), batch.events, batch.ids, None if known else batch.ids,
        batch.authors, batch.devices, [row and row.t for row in rows], [row and row.r for row in rows],
        [row and row.o for row in rows], [row and _encode(row.f).decode() for row in rows],
        [row and _encode(row.g).decode() for row in rows], [None if row is None else row.lo for row in rows],
        [None if row is None else row.hi for row in rows], _unless_empty([row and row.v for row in rows]),
        _unless_empty([row and row.a for row in rows]), _unless_empty([row and row.n for row in rows]),
        _unless_empty([row and (row.p or None) for row in rows]), [_encode(wave).decode() for wave in waves],
    ]  # fmt: skip


def _unless_empty(column: list[Any]) -> list[Any] | None:
    """A column, or None where nothing is in it."""
    return None if column.count(None) == len(column) else column
