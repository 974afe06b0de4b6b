"""A user in many spaces, put there by SQL: one by one they would take minutes."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import unique

NAMED = """
INSERT INTO syncd.sync_names (name, quoted) SELECT n, to_json(n)::text FROM unnest(ARRAY['{user}', '{writer}']) n
ON CONFLICT (name) DO NOTHING
"""
SPACES = """
INSERT INTO syncd.sync_spaces (space_id, quoted, name, created_at) SELECT s, to_json(s)::text, s, '2000-01-01'
FROM (SELECT '{name}-' || g AS s FROM generate_series(1, {count}) g) x
"""
MEMBERS = """
INSERT INTO syncd.sync_memberships (user_no, space_no, role) SELECT n.name_no, s.space_no, 'writer'
FROM syncd.sync_names n, syncd.sync_spaces s
WHERE n.name IN ('{user}', '{writer}') AND starts_with(s.space_id, '{name}-') ORDER BY s.space_no
"""


class Crowd(NamedTuple):
    """`user` is in all of the spaces, and so is `writer`, who writes there."""

    user: str
    writer: str
    spaces: list[str]


def many_spaces(server: Server, count: int) -> Crowd:
    """New spaces with both in them, as if they had been there before the database was started."""
    crowd = Crowd(unique("many"), unique("writer"), [])
    names = {"user": crowd.user, "writer": crowd.writer, "name": unique("space"), "count": count}
    asyncio.run(run(server.owner_dsn, *(sql.format(**names) for sql in (NAMED, SPACES, MEMBERS))))
    crowd.spaces.extend(f"{names['name']}-{number}" for number in range(1, count + 1))
    return crowd
