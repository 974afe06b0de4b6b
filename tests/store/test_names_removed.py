"""Names that nothing refers to go; one that somebody is about to write with stays, whenever that begins."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.service.compact import Compaction, CompactionReport, Policy
from syncd.service.names import Names
from syncd.store.compaction import Compactor
from tests.support.direct import pushed, run, somebody_waits

NOTHING = timedelta(days=36500)
# Numbers of other things.
OTHERS = {
    "bases", "bucket", "digest", "folded", "forgotten", "forgotten_us", "head", "horizon", "last_seq", "first_seq",
    "latest", "no", "number", "op", "ordinal", "prev_seq", "push_end", "records", "release", "roster", "schema_version",
    "searched", "seq", "server", "size", "space_no", "held_no", "event_no", "name_no",
    "line", "name", "seqs", "spaces", "bytes", "count", "counted", "most",
    "acks", "attempts", "base", "buckets", "consumer_id", "dead_id", "failed", "lease", "projection_id", "retries",
    "sent", "slot", "used", "uses", "version", "place", "boot_us",
}  # fmt: skip


class Scene:
    """A user with a space and a record, and a name that nothing refers to."""

    def __init__(self, dsn: str, conn: asyncpg.Connection) -> None:
        self.dsn, self.conn, self.who = dsn, conn, f"u{os.urandom(4).hex()}"
        self.space, self.name = f"{self.who}-space", f"{self.who}-idle"
        self.compactor = Compactor(conn)

    async def begin(self) -> None:
        # The name with the greatest number stays: that is the other one.
        await run(
            self.dsn,
            f"DO $$ BEGIN PERFORM syncd.sync_act_as('{self.who}', true), "
            f"syncd.sync_space_create('{self.space}', 'x'), syncd.sync_names_add(ARRAY['{self.name}']), "
            f"syncd.sync_names_add(ARRAY['{self.name}-later']); END $$",
            pushed(self.who, self.space, "r"),
        )
        assert await self.compactor.take()

    async def number(self) -> int | None:
        found = await run(self.dsn, f"SELECT name_no FROM syncd.sync_names WHERE name = '{self.name}'")
        return found[0][0] if found else None

    async def leaving(self) -> bool:
        found = await run(self.dsn, f"SELECT leaving FROM syncd.sync_names WHERE name = '{self.name}'")
        return bool(found and found[0][0])

    async def push(self, record: str, *, idle: bool) -> None:
        """A push, of the device whose name is idle or of another."""
        text = pushed(self.who, self.space, record)
        [(marks,)] = await run(self.dsn, text.replace('"c1"', f'"{self.name}"') if idle else text)
        assert marks == "a"

    async def read(self) -> set[tuple[str, str]]:
        """Records and devices, as whoever reads the log gets them: by the names."""
        query = f"""
            SELECT c.record_id, d.name FROM syncd.sync_changes c JOIN syncd.sync_names d ON d.name_no = c.client_no
            JOIN syncd.sync_names t ON t.name_no = c.table_no JOIN syncd.sync_names a ON a.name_no = c.app_no
            JOIN syncd.sync_names u ON u.name_no = c.user_no
            JOIN syncd.sync_spaces s ON s.space_no = c.space_no WHERE s.space_id = '{self.space}'"""
        return set(await run(self.dsn, query))

    def names(self) -> Names:
        return Names(self.compactor, 0, lambda: False)


@pytest.fixture
async def scene(database: EmbeddedPostgres) -> AsyncIterator[Scene]:
    conn = await asyncpg.connect(database.owner_dsn)
    scene = Scene(database.owner_dsn, conn)
    await scene.begin()
    yield scene
    await scene.compactor.give_back()
    await conn.close()


async def test_what_nothing_refers_to_goes_and_all_else_stays(scene: Scene) -> None:
    before = await scene.read()
    work = Compaction(scene.compactor, Policy(NOTHING), datetime.now(UTC), rest=0)
    report: CompactionReport = await work.run([])
    assert report.names >= 1
    assert await scene.number() is None
    assert await scene.read() == before == {("r", "c1")}
    await scene.push("s", idle=True)
    # The other name may go now, as the number of this one, which lay ready or did not, is the greater or not.
    await scene.names().remove()
    assert await scene.number() is not None
    assert await scene.read() == before | {("s", scene.name)}


async def test_a_name_that_was_found_before_it_was_marked_stays(scene: Scene, database: EmbeddedPostgres) -> None:
    """Somebody has its number and has written nothing with it yet, not even taken a lock of a row."""
    other = await asyncpg.connect(database.owner_dsn)
    writing = other.transaction()
    await writing.start()
    query = "SELECT name_no FROM syncd.sync_names WHERE name = ANY ($1) ORDER BY name = $2"
    user, number = [row[0] for row in await other.fetch(query, [scene.who, scene.name], scene.name)]
    waits, ask = asyncio.Event(), scene.compactor.names_readers

    async def asked(readers: list[str] | None = None) -> list[str]:
        if readers:
            waits.set()
        return await ask(readers)

    scene.compactor.names_readers = asked  # type: ignore[method-assign]
    removal = asyncio.create_task(scene.names().remove())
    waiting = asyncio.create_task(waits.wait())
    await asyncio.wait({removal, waiting}, return_when=asyncio.FIRST_COMPLETED)
    assert waits.is_set()
    assert await scene.leaving()
    await other.execute("INSERT INTO syncd.sync_devices VALUES ($1, $2, '1.firstfirst')", user, number)
    await writing.commit()
    await removal
    assert (await scene.number(), await scene.leaving()) == (number, False)
    await other.close()


async def test_a_push_that_begins_when_it_is_marked_takes_it_back(scene: Scene) -> None:
    number = await scene.number()
    assert number is not None
    await scene.compactor.names_leave([number], True)
    await scene.push("s", idle=True)
    assert await scene.compactor.names_remove([number]) == 0
    assert await scene.read() == {("r", "c1"), ("s", scene.name)}


async def test_a_push_that_waits_for_the_removal_makes_it_anew(scene: Scene, database: EmbeddedPostgres) -> None:
    number = await scene.number()
    await scene.compactor.names_leave([number], True)  # type: ignore[list-item]
    removing = await asyncpg.connect(database.owner_dsn)
    transaction = removing.transaction()
    await transaction.start()
    assert await removing.fetchval("SELECT syncd.sync_names_remove(ARRAY[$1::integer])", number) == 1
    push = asyncio.create_task(scene.push("s", idle=True))
    await somebody_waits(removing)
    await transaction.commit()
    await push
    assert await scene.number() not in (None, number)
    assert await scene.read() == {("r", "c1"), ("s", scene.name)}
    await removing.close()


async def test_each_column_with_numbers_is_one_of_names_or_known_not_to_be(database: EmbeddedPostgres) -> None:
    """A new one of names has to end in _no or _by, or nothing keeps them; else it belongs in the list above."""
    query = """
        SELECT DISTINCT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'syncd'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
          AND format_type(a.atttypid, NULL) ~ '^(smallint|integer|bigint)(\\[\\])?$'"""
    found = {name for (name,) in await run(database.owner_dsn, query)}
    assert {name for name in found - OTHERS if not name.endswith(("_no", "_by", "owners"))} == set()
    assert {"user_no", "client_no", "app_no", "table_no", "added_by", "invited_by", "owners"} <= found
