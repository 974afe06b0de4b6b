"""A real PgBouncer in transaction mode in front of an embedded database."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from syncd.postgres.embedded import PORT, EmbeddedPostgres
from syncd.postgres.launch import account_for
from tests.support.programs import need

CONFIGURATION = """\
[databases]
* = host='{host}' port={port}

[pgbouncer]
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
listen_addr =
unix_socket_dir = {folder}
listen_port = {port}
auth_type = trust
auth_file = {folder}/users
logfile = {folder}/log
pidfile =
ignore_startup_parameters = extra_float_digits
server_reset_query =
"""


class Pooler:
    """PgBouncer on a socket in `folder`. With `size` server connections the next transaction may be on any of them."""

    def __init__(self, database: EmbeddedPostgres, folder: Path, *, size: int = 4) -> None:
        self.folder = folder
        self._account = account_for(database.data_dir)
        self._account.own_folder(folder)
        values = {"host": database.socket_dir, "port": PORT, "folder": folder, "size": size}
        (folder / "pgbouncer.ini").write_text(CONFIGURATION.format(**values))
        (folder / "users").write_text('"postgres" ""\n"syncd_runtime" ""\n"syncd_owner" ""\n')
        need("pgbouncer")
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self._process = subprocess.Popen([program, "-q", folder / "pgbouncer.ini"], **self._account.popen())
        deadline = time.monotonic() + 60
        while not (folder / f".s.PGSQL.{PORT}").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PgBouncer did not start: {(folder / 'log').read_text()}")
            time.sleep(0.01)

    def dsn(self, role: str, database: str = "syncd") -> str:
        """A connection string through it."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.folder))}&port={PORT}"

    def stop(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
