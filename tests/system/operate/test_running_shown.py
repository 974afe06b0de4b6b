"""What docs/operate/running.md shows of the commands' output is what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.programs import REPOSITORY
from tests.support.tour import BLOCK

SHOWN = [body for _, body in BLOCK.findall((REPOSITORY / "docs/operate/running.md").read_text(encoding="utf-8"))]
VARIES = re.compile(r"/tmp/tour/syncd-data|\d+\.\d+ \(Debian.*\)|PostgreSQL \d+.*|within [\d.]+ s|up to \d+ of \d+")


def shown(beginning: str) -> str:
    """The block that begins so."""
    (found,) = (body for body in SHOWN if body.startswith(beginning))
    return found


def syncd(command: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "syncd", *command.split()],
        capture_output=True, text=True, env={**os.environ, **env}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.fixture
async def empty(database: EmbeddedPostgres) -> str:
    """A database of nothing."""
    connection = await asyncpg.connect(database.owner_dsn)
    await connection.execute("DROP DATABASE IF EXISTS shown")
    await connection.execute("CREATE DATABASE shown")
    await connection.close()
    return "shown"


def test_migrating_and_looking_print_what_is_shown(database: EmbeddedPostgres, empty: str) -> None:
    assert syncd(f"migrate --database-url {database.dsn('postgres', empty)}") == shown("applied ")
    said = syncd("doctor", SYNCD_DATABASE_URL=database.dsn("syncd_runtime", empty), SYNCD_JWT_SECRET="x" * 64)
    mine = VARIES.sub("…", said).replace("syncd_runtime owns", "syncd_app owns").splitlines()
    assert [line for line in mine if "data directory" not in line] == [
        line for line in VARIES.sub("…", shown("ok    environment")).splitlines() if "data directory" not in line
    ]
