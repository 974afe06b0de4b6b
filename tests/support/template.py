"""A migrated database that was made once, for the servers of a session: making one takes seconds, copying it does not.

Its copies share a system identifier, as clones do. The history that a cursor is of is told by when the database was
started and where it lies (see `schema/functions/starts.sql`), so each copy has one of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.migrate import migrate


class Template:
    """Makes the database when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def copy_to(self, data_dir: Path) -> None:
        """A data directory with a database; one that is there already is left alone."""
        if data_dir.exists():
            return
        if not self._folder.exists():
            self._make()
        subprocess.run(["cp", "-a", self._folder, data_dir], check=True)

    def _make(self) -> None:
        with EmbeddedPostgres(self._folder) as postgres, ThreadPoolExecutor(1) as thread:
            # A fixture that needs the first server may be run by an event loop.
            thread.submit(asyncio.run, migrate(postgres.owner_dsn, say=lambda text: None)).result()
        for name in ("lock", "postgres.log"):
            (self._folder / name).unlink(missing_ok=True)
