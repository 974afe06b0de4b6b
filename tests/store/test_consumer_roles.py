"""G10, G24: a member of syncd_consumer reads what its consumer was registered for, and nothing else."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from syncd.cli.doctor import examine
from syncd.consumers import UnknownConsumer
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.settings import Settings
from syncd.store.consumers import ConsumerOperator, ConsumerSession
from tests.support.consuming import all_of
from tests.support.direct import pushed, run


class Login:
    """A login that is a member of a role, with a consumer of that role."""

    def __init__(self, database: EmbeddedPostgres, name: str, spaces: list[str]) -> None:
        self.database, self.name, self.spaces = database, name, spaces
        self.dsn = database.dsn(name)


async def registered(database: EmbeddedPostgres, name: str, role: str, **how: Any) -> None:
    connection = await asyncpg.connect(database.owner_dsn)
    assert await ConsumerOperator(connection).add(
        name, role, how.get("apps"), how.get("tables"), how.get("begins", "beginning")
    )
    await connection.close()


@pytest.fixture
async def login(database: EmbeddedPostgres) -> AsyncIterator[Login]:
    name = f"login_{os.urandom(4).hex()}"
    user = f"user-{name}"
    spaces = [f"{user}-{n}" for n in range(2)]
    await run(database.owner_dsn, f"CREATE ROLE {name} LOGIN IN ROLE syncd_consumer")
    for space in spaces:
        made = f"SELECT syncd.sync_space_create('{space}', 's') FROM syncd.sync_act_as('{user}', true)"
        await run(database.runtime_dsn, made)
        await run(database.runtime_dsn, pushed(user, space, "r1"), pushed(user, space, "r2"))
    yield Login(database, name, spaces)
    await run(database.owner_dsn, f"DROP ROLE {name}")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM syncd.sync_changes",
        "SELECT * FROM syncd.sync_records",
        "SELECT * FROM syncd.sync_feeds",
        "SELECT * FROM syncd.sync_names",
        "SELECT * FROM syncd.sync_consumers",
        "SELECT * FROM syncd.sync_consumer_feeds",
        "UPDATE syncd.sync_consumer_feeds SET seq = 0",
        "SELECT * FROM syncd.sync_consume_parts('{1}', '{1}', '{0}', '{-1}', 1, 1)",
        "SELECT * FROM syncd.sync_consume_pieces('{1}', '{1}', '{0}', '{-1}', 1, 1)",
        "SELECT syncd.sync_consume_act('{0}', '{0}')",
        "SELECT syncd.sync_consumer_add('mine', 'syncd_consumer', NULL, NULL, 'beginning')",
        "SELECT syncd.sync_consumer_remove('mine')",
        "SELECT syncd.sync_consumer_reset('mine', 'now')",
        "SELECT * FROM syncd.sync_consumer_lags()",
        "SELECT syncd.sync_act_as('ann', true)",
        "SET backtrace_functions = ',,,,,,,0,0'",
        "SET ROLE syncd_owner",
        "CREATE TEMPORARY TABLE t (x integer)",
    ],
)
async def test_a_consumers_login_has_its_calls_and_nothing_else(login: Login, statement: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(login.dsn, statement)


async def test_what_it_asks_for_by_number_is_what_it_is_registered_for(login: Login) -> None:
    """The numbers of feeds come from the caller: the policy decides, by the consumer that was registered."""
    name = f"c-{login.name}"
    await registered(login.database, name, login.name, apps=["another"])
    feeds = await run(
        login.database.owner_dsn,
        "SELECT h.space_no, h.app_no FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no)"
        f" WHERE s.space_id = '{login.spaces[0]}'",
    )
    read = "SELECT body FROM syncd.sync_consume_read('{}', ARRAY[{}], ARRAY[{}], '{{0}}', '{{-1}}', 100, 100000)"
    assert await run(login.dsn, read.format(name, *feeds[0])) == []
    await registered(login.database, f"{name}-2", login.name, apps=["app"], tables=["another"])
    assert await run(login.dsn, read.format(f"{name}-2", *feeds[0])) == [(None,)]
    await registered(login.database, f"{name}-3", login.name, apps=["app"], tables=["t"])
    (found,) = await run(login.dsn, read.format(f"{name}-3", *feeds[0]))
    assert found[0].count(b'"eventId"') == 2
    # State and log alike.
    state = read.replace("'{{-1}}'", "'{{2}}'")
    assert await run(login.dsn, state.format(name, *feeds[0])) == []
    (found,) = await run(login.dsn, state.format(f"{name}-3", *feeds[0]))
    assert found[0].count(b'"state":true') == 2


async def test_it_consumes_what_it_is_registered_for(login: Login) -> None:
    name = f"c-{login.name}"
    await registered(login.database, name, "syncd_consumer", apps=["app"])
    found = await all_of(name, login.dsn)
    assert [c.seq for c in found if c.space_id == login.spaces[0]] == [1, 2]
    assert await all_of(name, login.dsn) == []


async def test_a_consumer_of_another_role_is_not_there(login: Login) -> None:
    name, other = f"c-{login.name}", f"other_{login.name}"
    await run(login.database.owner_dsn, f"CREATE ROLE {other} NOLOGIN")
    try:
        await registered(login.database, name, other)
        with pytest.raises(UnknownConsumer):
            await all_of(name, login.dsn)
        connection = await asyncpg.connect(login.dsn)
        with pytest.raises(UnknownConsumer):
            await ConsumerSession(connection, name, uuid4()).look(10)
        await connection.close()
    finally:
        await run(login.database.owner_dsn, f"DROP ROLE {other}")


async def test_what_is_open_while_a_consumer_reads_is_closed_after(login: Login) -> None:
    """In the same transaction, of somebody who is both: the policy shows nothing when the reading has ended."""
    name = f"c-{login.name}"
    await registered(login.database, name, "syncd_consumer")
    connection = await asyncpg.connect(login.dsn)
    async with connection.transaction():
        await connection.fetch(
            f"SELECT * FROM syncd.sync_consume_read('{name}', '{{1}}', '{{1}}', '{{0}}', '{{-1}}', 9, 999)"
        )
        said = await connection.fetchval("SELECT current_setting('backtrace_functions', true)")
        assert said.strip(",") == ""
    await connection.close()


async def test_the_role_that_serves_is_no_consumer(login: Login) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(login.database.runtime_dsn, "SELECT * FROM syncd.sync_consume_look('x', gen_random_uuid(), 10)")
    await run(login.database.owner_dsn, f"GRANT syncd_runtime TO {login.name}")
    findings = await examine(Settings(database_url=login.dsn))
    said = [finding.detail for finding in findings if finding.check == "runtime role" and finding.status == "FAIL"]
    assert any("can become syncd_consumer" in detail for detail in said), said
