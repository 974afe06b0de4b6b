"""What a worker of the release before runs, word for word, where the database is the new one's already."""

from __future__ import annotations

import asyncpg

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


async def test_held_changes_of_no_service_are_released_and_others_wait(database: EmbeddedPostgres) -> None:
    user = unique("ann")
    await run(database.owner_dsn, f"DO $$ BEGIN PERFORM syncd.sync_act_as('{user}', true); END $$")
    [(own,)] = await run(database.owner_dsn, PUT.format(user=user, service="NULL"))
    [(of_a_service,)] = await run(database.owner_dsn, PUT.format(user=user, service="'invoices'"))
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
