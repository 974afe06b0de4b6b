"""While a group of pushes is written its policies ask of each row for the row's own author: the user of its device, who
has to be a writer in its space. Direct SQL as the owner, in whose name a group is written, under a group's context."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import pushed, run
from tests.support.wire import unique

# ann owns `hers`, in which eve reads; bob owns `his`; tom has no space. Each space has one record.
GROUP = ["ann", "bob", "eve"]
CHANGE = """
    INSERT INTO syncd.sync_changes (seq, push_end, created_at, event_id, space_no, app_no, table_no, user_no, client_no,
                                    op, record_id, change_id)
    VALUES (99, 99, now(), gen_random_uuid(), {space}, {app}, {t}, {user}, {device}, 1, 'new', 'new')"""
RECORD = """
    INSERT INTO syncd.sync_records (seq, latest, event_id, space_no, app_no, table_no, client_no, deleted, record_id,
                                    registers)
    VALUES (99, 1, gen_random_uuid(), {space}, {app}, {t}, {device}, false, '{record}', '{{}}')"""
OVER = """
    ON CONFLICT (space_no, app_no, table_no, record_id)
    DO UPDATE SET seq = EXCLUDED.seq, client_no = EXCLUDED.client_no"""

ACT = "SELECT set_config(syncd.sync_acting_in(), concat_ws(',', '0', '', '', '', $1::text, $2::text, $3::text), true)"


class People(NamedTuple):
    """A connection as the owner in a transaction, and the numbers of what it may name."""

    sql: asyncpg.Connection
    number: dict[str, int]

    async def acts(self, *who: tuple[str, str, str]) -> None:
        """A group of (user, device, space)."""
        lists = ["_".join(str(self.number[names[k]]) for names in who) for k in range(3)]
        await self.sql.execute(
            ACT,
            *lists,
        )

    def filled(self, statement: str, **names: str) -> str:
        numbers = {key: self.number[name] for key, name in names.items() if key != "record"}
        return statement.format(
            **numbers, record=names.get("record", "new"), app=self.number["app"], t=self.number["t"]
        )

    async def written(self, statement: str) -> int:
        """How many rows; none where a policy says no."""
        savepoint = self.sql.transaction()
        await savepoint.start()
        try:
            rows = int((await self.sql.execute(statement)).split()[-1])
        except asyncpg.InsufficientPrivilegeError:
            await savepoint.rollback()
            return 0
        await savepoint.commit()
        return rows


@pytest.fixture
async def people(database: EmbeddedPostgres) -> AsyncIterator[People]:
    world = unique("g")
    made = "".join(
        f"PERFORM syncd.sync_act_as('{world}{user}', true), syncd.sync_space_create('{world}{space}', 'Space');"
        for user, space in (("ann", "hers"), ("bob", "his"))
    )
    added = f"PERFORM syncd.sync_act_as('{world}ann'), syncd.sync_member_put('{world}hers', '{world}eve', 'reader');"
    named = "".join(
        f"PERFORM syncd.sync_act_as('{world}{user}', true), syncd.sync_name('{world}{user}-device');"
        for user in (*GROUP, "tom")
    )
    await run(database.owner_dsn, f"DO $$ BEGIN {made} {added} {named} END $$", *(
        pushed(f"{world}{user}", f"{world}{space}", "r") for user, space in (("ann", "hers"), ("bob", "his"))
    ))  # fmt: skip
    rows = await run(
        database.owner_dsn,
        f"""
        SELECT replace(n.name, '{world}', ''), n.name_no FROM syncd.sync_names n
        WHERE starts_with(n.name, '{world}') OR n.name IN ('app', 't')
        UNION ALL SELECT replace(s.space_id, '{world}', ''), s.space_no FROM syncd.sync_spaces s
        WHERE starts_with(s.space_id, '{world}')""",
    )
    conn = await asyncpg.connect(database.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("SET LOCAL ROLE syncd_owner")
    yield People(conn, dict(rows))
    await transaction.rollback()
    await conn.close()


EACH = (("ann", "ann-device", "hers"), ("bob", "bob-device", "his"), ("eve", "eve-device", "hers"))
ROWS = [
    ("its author's", "hers", "ann", "ann-device", 1),
    ("in another's name, from one's own device", "hers", "ann", "bob-device", 0),
    ("in one's own name, from another's device", "hers", "bob", "ann-device", 0),
    ("where only another of the group writes", "hers", "bob", "bob-device", 0),
    ("where only another of the group writes, in that one's name", "his", "ann", "bob-device", 0),
    ("where its author reads", "hers", "eve", "eve-device", 0),
    ("of one who is not of the group", "hers", "tom", "tom-device", 0),
    ("of a writer, from a device that is not of the group", "hers", "ann", "tom-device", 0),
]


@pytest.mark.parametrize(("what", "space", "user", "device", "allowed"), ROWS, ids=[row[0] for row in ROWS])
async def test_a_change_is_its_own_author_s(
    people: People, what: str, space: str, user: str, device: str, allowed: int
) -> None:
    await people.acts(*EACH)
    assert await people.written(people.filled(CHANGE, space=space, user=user, device=device)) == allowed


BY_DEVICE = [
    ("hers", "ann-device", 1), ("his", "bob-device", 1), ("hers", "bob-device", 0), ("his", "ann-device", 0),
    ("hers", "eve-device", 0), ("hers", "tom-device", 0), ("his", "eve-device", 0),
]  # fmt: skip


@pytest.mark.parametrize(("space", "device", "allowed"), BY_DEVICE)
@pytest.mark.parametrize(("statement", "record"), [(RECORD, "new"), (RECORD + OVER, "r")], ids=["new", "merged"])
async def test_a_record_is_its_device_s_user_s(
    people: People, statement: str, record: str, space: str, device: str, allowed: int
) -> None:
    await people.acts(*EACH)
    assert await people.written(people.filled(statement, space=space, device=device, record=record)) == allowed


async def test_a_record_of_a_space_that_none_of_the_group_writes_to_is_not_changed(people: People) -> None:
    await people.acts(("ann", "ann-device", "hers"), ("eve", "eve-device", "hers"))
    change = "UPDATE syncd.sync_records SET client_no = {device} WHERE space_no = {space}"
    assert await people.written(people.filled(change, space="hers", device="ann-device")) == 1
    assert await people.written(people.filled(change, space="his", device="ann-device")) == 0
    # One who says that the space of another is what they write to is still no member of it.
    await people.acts(("ann", "ann-device", "his"), ("eve", "eve-device", "hers"))
    for space in ("his", "hers"):
        assert await people.written(people.filled(change, space=space, device="ann-device")) == 0


async def test_a_group_sees_the_records_of_its_spaces_and_the_changes_of_its_devices(people: People) -> None:
    async def seen(table: str, column: str) -> set[int]:
        return {row[0] for row in await people.sql.fetch(f"SELECT {column} FROM syncd.{table}")}

    assert await seen("sync_records", "space_no") == await seen("sync_changes", "space_no") == set()
    await people.acts(*EACH)
    assert await seen("sync_records", "space_no") == {people.number["hers"], people.number["his"]}
    assert await seen("sync_changes", "user_no") == set()  # what they have written was not from these devices
    await people.written(people.filled(CHANGE, space="hers", user="ann", device="ann-device"))
    assert await seen("sync_changes", "user_no") == {people.number["ann"]}
    await people.acts(("bob", "ann-device", "his"), ("ann", "bob-device", "his"), ("tom", "tom-device", "hers"))
    assert await seen("sync_records", "space_no") == {people.number["his"]}
    assert await seen("sync_changes", "user_no") == set()
    await people.acts(("eve", "eve-device", "hers"))
    assert await seen("sync_records", "space_no") == set()
