"""What a worker of the release before runs, word for word, where the database is the new one's already."""

from __future__ import annotations

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.direct import run
from tests.support.wire import unique

# Of before a held change had a service.
HELD = "SELECT held_no, content, received_us, change FROM syncd.sync_held_take($1, $2, $3, $4::bigint[], $5)"
MADE = """\
CREATE FUNCTION syncd.sync_held_take(p_user text, p_client text, p_app text, p_nos bigint[], p_most integer)
RETURNS TABLE (held_no bigint, content text, received_us bigint, change text) LANGUAGE sql VOLATILE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT h.held_no, h.content, h.received_us, h.change FROM syncd.sync_held_of_device(p_user, p_client, p_app, p_nos, p_most) h
$$;
ALTER FUNCTION syncd.sync_held_take(text, text, text, bigint[], integer) OWNER TO syncd_owner;
REVOKE ALL ON FUNCTION syncd.sync_held_take(text, text, text, bigint[], integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION syncd.sync_held_take(text, text, text, bigint[], integer) TO syncd_runtime"""  # noqa: E501
GONE = "DROP FUNCTION IF EXISTS syncd.sync_held_take(text, text, text, bigint[], integer)"
PUT = """
INSERT INTO syncd.sync_held (user_no, client_id, app, space_id, table_name, record_id, reason, received_at, size,
                             change, service)
SELECT n.name_no, 'phone', 'app', 's', 't', 'r', 'space_not_found', now(), 2, '{{}}', {service}
FROM syncd.sync_names n WHERE n.name = '{user}' RETURNING held_no"""


async def held_of(database: EmbeddedPostgres, user: str, *services: str | None) -> list[int]:
    """Changes that are held of a user's device, each of a service or of none: their numbers."""
    await run(database.owner_dsn, f"DO $$ BEGIN PERFORM syncd.sync_act_as('{user}', true); END $$")
    said = ["NULL" if service is None else f"'{service}'" for service in services]
    return [(await run(database.owner_dsn, PUT.format(user=user, service=one)))[0][0] for one in said]


@pytest.mark.parametrize(("most", "size"), [(2, 2), (10, 4_000_000)], ids=["many", "large"])
async def test_what_services_pushed_hides_none_of_the_others(database: EmbeddedPostgres, most: int, size: int) -> None:
    user = unique("ann")
    *_, own = nos = await held_of(database, user, "invoices", "invoices", None)
    listed = ", ".join(map(str, nos))
    worker = await asyncpg.connect(database.runtime_dsn)
    try:
        await run(database.owner_dsn, f"UPDATE syncd.sync_held SET size = {size} WHERE held_no IN ({listed})")
        taken = await worker.fetch(HELD, user, "phone", "app", nos, most)
        assert [row["held_no"] for row in taken] == [own]
    finally:
        await run(database.owner_dsn, f"DELETE FROM syncd.sync_held WHERE held_no IN ({listed})")
        await worker.close()


async def test_held_changes_of_no_service_are_released_and_others_wait(database: EmbeddedPostgres) -> None:
    user = unique("ann")
    own, of_a_service = await held_of(database, user, None, "invoices")
    worker = await asyncpg.connect(database.runtime_dsn)
    arguments = (user, "phone", "app", [own, of_a_service], 10)
    try:
        # Before the last migrations there are both.
        await run(database.owner_dsn, *MADE.split(";\n"))
        known = await worker.prepare(HELD)
        assert [row["held_no"] for row in await known.fetch(*arguments)] == [own, of_a_service]
        await run(database.owner_dsn, GONE)
        assert [row["held_no"] for row in await known.fetch(*arguments)] == [own]
        assert [row["held_no"] for row in await worker.fetch(HELD, *arguments)] == [own]
    finally:
        await run(database.owner_dsn, GONE)
        await run(database.owner_dsn, f"DELETE FROM syncd.sync_held WHERE held_no IN ({own}, {of_a_service})")
        await worker.close()
