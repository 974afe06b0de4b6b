"""An import costs what its changes as pushes would cost, and nobody reads more in one piece of it than of a push."""

from __future__ import annotations

import json
from collections.abc import Callable

import asyncpg

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.protocol.import_batch import arrange
from syncd.protocol.import_lines import LineReader
from syncd.protocol.normalize import Limits
from syncd.transfer.importer import as_arguments
from tests.store.test_append_folded import UPDATED, Space, change
from tests.store.test_merge import Sql
from tests.support.harness import Server
from tests.support.wire import Device, Json, unique
from tests.system.sync.test_touched import grow
from tests.system.transfer.test_backup import line, restore, signed

Make = Callable[..., Device]
IMPORT = "SELECT marks FROM syncd.sync_import($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
ENDS = """
SELECT array_agg(c.record_id ORDER BY c.seq) FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no)
WHERE s.space_id = $1 AND c.seq > $2 GROUP BY c.push_end ORDER BY c.push_end
"""


async def pushes(server: Server, user: str, after: int) -> list[str]:
    """The records of each push in a user's personal space, as the log has them."""
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        return ["".join(row[0]) for row in await connection.fetch(ENDS, f"_personal:{user}", after)]
    finally:
        await connection.close()


def written(user: str, records: str, *ends: int) -> list[Json]:
    """Changes of one-letter records from seq 101 on, as pushes that end at these."""
    return [
        line(user, 100 + n, id=record, pushEnd=next(end for end in ends if end >= 100 + n))
        for n, record in enumerate(records, 1)
    ]


async def test_a_push_that_touches_more_than_one_may_is_written_in_parts(server: Server, device: Make) -> None:
    writer = device(unique("u"))
    await grow(server, writer, *"abcdefgh")
    report = restore(writer, signed(written(writer.user, "abacabdefghz", 112)))
    assert (report["imported"], report["refused"]) == (12, 0)
    # Two of the records are less than 32 MiB, three are more.
    assert await pushes(server, writer.user, 8) == ["aba", "ca", "bd", "ef", "ghz"]


async def test_pushes_stay_whole_where_each_of_them_may_be_written(server: Server, device: Make) -> None:
    writer = device(unique("u"))
    await grow(server, writer, *"abcd")
    data = signed(written(writer.user, "abcdabcd", 102, 104, 105, 108))
    assert restore(writer, data)["imported"] == 8
    assert restore(writer, data)["duplicates"] == 8
    assert await pushes(server, writer.user, 4) == ["ab", "cd", "a", "bc", "d"]


def test_a_record_with_many_changes_is_written_once(database: EmbeddedPostgres) -> None:
    sql = Sql(database.owner_dsn)
    try:
        space = Space(sql)
        space.push("me", change("r", n=0), change("s", n=0))
        reader = LineReader(Limits(), None, 1 << 60)
        lines = [line(space.user, n, id="r") for n in range(101, 201)]
        lines += [line(space.user, 300, id="s"), line(space.user, 301, id="new")]
        made = arrange([reader.read(json.dumps(one).encode()) for one in lines])
        sql.fetch("BEGIN")
        [(marks,)] = sql.fetch(IMPORT, json.dumps({**made.head, "largest": 16 << 20}), *as_arguments(made))
        assert marks == "a" * len(lines)
        # A merge into a record that is there counts as an insert and an update.
        assert sql.fetch(UPDATED)[0][0] == 5
        sql.fetch("ROLLBACK")
    finally:
        sql.close()
