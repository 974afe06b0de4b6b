"""G5, G19: the same devices where a copy of the database is put back: what they pushed meanwhile is lost with it, and
nothing else is, and what is written from then on is the same everywhere."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.support.drawn import drawn, examples, steps
from tests.support.harness import Server
from tests.system.sync.test_first_generation_model import PATIENCE, TABLES, World


class Databases:
    """A running server's database: a copy of it, and the copy in its place, as `syncd restore` puts one there."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def copy(self) -> None:
        self._run("DROP DATABASE IF EXISTS copied", "CREATE DATABASE copied TEMPLATE syncd")

    def put_back(self) -> None:
        self._run("ALTER DATABASE syncd RENAME TO gone", "ALTER DATABASE copied RENAME TO syncd")
        self._run("DROP DATABASE gone")

    def _run(self, *statements: str) -> None:
        """While nobody is connected."""
        asyncio.run(self._alone(statements))

    async def _alone(self, statements: Iterable[str]) -> None:
        connection = await asyncpg.connect(self._server.dsn("postgres", "postgres"))
        try:
            await connection.execute("ALTER DATABASE syncd ALLOW_CONNECTIONS false")
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = 'syncd'"
            )
            for statement in statements:
                await connection.execute(statement)
            await connection.execute("ALTER DATABASE syncd ALLOW_CONNECTIONS true")
        finally:
            await connection.close()


class RestoredWorld(World):
    """A copy is made once, and put back once; at the end at the latest.

    No record moves: what moved after the copy was made would live twice, where one device has heard of it and another
    has not.
    """

    databases: Databases

    def __init__(self) -> None:
        super().__init__()
        self.before: tuple[bool, set[str]] | None = None
        self.restored = False

    def write(self, number: int, record: int, what: str, elsewhere: bool) -> None:
        super().write(number, record, what, False)

    @rule()
    @precondition(lambda self: self.before is None)
    def the_database_is_copied(self) -> None:
        self.databases.copy()
        self.wait_for_the_server()
        self.before = self.inside, set(self.made)

    @rule()
    @precondition(lambda self: self.before is not None and not self.restored)
    def the_copy_is_put_back(self) -> None:
        assert self.before is not None
        self.databases.put_back()
        self.wait_for_the_server()
        self.restored, (self.inside, self.made) = True, self.before
        there = self.kept() | {value for text in self.unsent() for value in re.findall(r"\bv\d+\b", text)}
        self.wrote = [value for value in self.wrote if value in there]

    def wait_for_the_server(self) -> None:
        """Its connections were ended."""
        deadline = time.monotonic() + PATIENCE
        while any(manager.ask().status_code == 503 for manager in [*self.managers] * 4):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def unsent(self) -> Iterator[str]:
        """What devices have still to push, and what is held."""
        for device in self.legacy:
            yield repr((device.pending, device.wire.held()))  # type: ignore[attr-defined]
        for replica in self.ours:
            yield repr([*replica.pending(), *replica.rejected(), *replica.kept_aside()])

    def heal(self) -> None:
        if self.before is not None and not self.restored:
            self.the_copy_is_put_back()
        super().heal()
        if self.restored:
            self.write_all_again()
            self.bring_in_touch()

    def write_all_again(self) -> None:
        """What was lost stays on the screens of those that had it until somebody writes there again: here a device of
        each user with the right time, everything."""
        self.at_once = False
        for number, device in enumerate(self.legacy[::2]):
            own = self.legacy[2 * number : 2 * number + 2]
            known = {(table, id_) for each in own for table in TABLES for id_ in each.records.get(table, {})}
            for table, id_ in sorted(known):
                device.space = self.space_of(id_)
                whole = {"title": self.value(), "cfg": {"theme": self.value()}, "createdAt": device.now()}
                device.edit(table, id_, deletedAt=None, **whole)
            device.push(TABLES[0])


@drawn
@pytest.mark.timeout(900)
def test_what_a_copy_brings_back_is_the_same_everywhere_once_it_is_written_again(
    workspace: Path, tmp_path: Path
) -> None:
    folder = workspace / "restored"
    folder.mkdir(mode=0o755)
    with Server(folder / "data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        RestoredWorld.server, RestoredWorld.http, RestoredWorld.folder = server, http, tmp_path
        RestoredWorld.databases = Databases(server)
        run_state_machine_as_test(
            RestoredWorld,
            settings=settings(
                max_examples=examples(2),
                stateful_step_count=steps(20),
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
            ),
        )
