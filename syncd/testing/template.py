"""A migrated database that was made once, to be copied: making one takes seconds, copying it does not.

Its copies share a system identifier, as clones do. The history that a cursor is of is told by when the database was
started and where it lies (see `schema/functions/starts.sql`), so each copy has one of its own.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

MEMORY, ROOM = "/dev/shm", 2 * 1024**3
# A developer's settings and database are none of a test's; a warning that is an error here would end a server.
NOT_INHERITED = ("SYNCD_", "PG", "PYTHONWARNINGS")


class ServeError(RuntimeError):
    """A server, or what it needs, did not start. The text says why."""


class DatabaseTemplate:
    """Makes the database when it is first asked for, once for all processes that ask.

    `statements`: SQL that its superuser executes after the migration.
    """

    def __init__(self, folder: Path, statements: Sequence[str] = ()) -> None:
        self._folder, self._statements = folder, list(statements)

    def copy_to(self, data_dir: Path) -> None:
        """A data directory with a database; one that is there already is left alone."""
        if data_dir.exists():
            return
        if not self._folder.exists():
            self._make()
        subprocess.run(["cp", "-a", self._folder, data_dir], check=True)

    def _make(self) -> None:
        """In a process of its own: the database dies with the thread that started it, and here that may be any."""
        with self._folder.with_name(f"{self._folder.name}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self._folder.exists():
                return
            command = [*python("syncd.testing.template"), str(self._folder)]
            asked = json.dumps(self._statements)
            done = subprocess.run(command, input=asked, env=environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServeError(f"no database could be made:\n{done.stdout}{done.stderr}")


def make(folder: Path, statements: Sequence[str]) -> None:
    """Makes the database. `folder` is there when it is whole."""
    from syncd.postgres.embedded import EmbeddedPostgres

    # Where the database's user gets: `folder` may be in a home that is closed to it.
    with tempfile.TemporaryDirectory(prefix="syncd-template-", dir=in_memory()) as place:
        Path(place).chmod(0o755)
        making, whole = Path(place) / "data", folder.with_name(f"{folder.name}.new")
        with EmbeddedPostgres(making, thrown_away=True) as postgres:
            asyncio.run(_prepare(postgres.owner_dsn, statements))
        for name in ("lock", "postgres.log"):
            (making / name).unlink(missing_ok=True)
        shutil.rmtree(whole, ignore_errors=True)
        subprocess.run(["cp", "-a", making, whole], check=True)
    whole.rename(folder)


def python(module: str) -> list[str]:
    """How a module is run. Without the working directory, whose files may be called like modules of Python's."""
    return [sys.executable, "-P", "-m", module]


def environment() -> dict[str, str]:
    """What programs of the tests inherit."""
    return {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}


def in_memory() -> str | None:
    """A file system in memory where there is one with room, None for the usual temporary folder: no test of an
    application depends on a disk."""
    if os.environ.get("TMPDIR") or not os.access(MEMORY, os.W_OK):
        return None
    return MEMORY if shutil.disk_usage(MEMORY).free >= ROOM else None


async def _prepare(url: str, statements: Sequence[str]) -> None:
    from syncd.postgres.migrate import migrate
    from syncd.postgres.sessions import connect

    await migrate(url, say=lambda text: None)
    if statements:
        connection = await connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()


def main(folder: str) -> str | int:
    """What the program ends with: the reason, where no database can be started here."""
    from syncd.postgres.launch import EmbeddedError

    try:
        make(Path(folder), json.load(sys.stdin))
    except EmbeddedError as why:
        return str(why)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
