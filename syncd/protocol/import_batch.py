"""Lines of an export as the database takes them: many at once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.pieces import in_turns
from syncd.protocol.import_lines import ImportLine, ImportRow


class ImportBatch(NamedTuple):
    """Changes as sync_import takes them: `head` lacks who imports; the lists have one member a change."""

    head: dict[str, Any]
    feeds: list[int]
    seqs: list[int]
    ends: list[int]
    ats: list[str]
    events: list[str]
    ids: list[str]
    authors: list[int]
    devices: list[int]
    waves: list[bytes]


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
    met: dict[tuple[int, str, str], int] = {}
    waves: list[list[ImportRow]] = []
    for i, change in enumerate(in_turns(changes), 1):
        line, row = change.line, change.row
        row.i, row.k = i, place[line.spaceId, line.appId]
        row.w, row.u, row.t = number(line.userId), number(line.clientId), number(line.table)
        key = (row.k, line.table, row.r)
        wave = met[key] = met.get(key, -1) + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(row)
    feeds = [{"s": space, "a": number(app), "after": after[space, app]} for space, app in order]
    lines, rows = [change.line for change in changes], [change.row for change in changes]
    return ImportBatch(
        {"feeds": feeds, "names": list(names)}, [row.k for row in rows], [line.seq for line in lines],
        [line.pushEnd or line.seq for line in lines], [line.createdAt for line in lines], [row.e for row in rows],
        [row.c for row in rows], [row.w for row in rows], [row.u for row in rows],
        [msgspec.json.encode(wave) for wave in in_turns(waves)],
    )  # fmt: skip
