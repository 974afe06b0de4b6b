"""A data directory that cannot be used is named in one sentence, with what to do, to root and to anybody."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
# The interpreter may be in root's closed home, so all that it needs is imported before it becomes somebody else.
AS_ANYBODY = """
import asyncio, encodings.idna, os, sys
import jwt, syncd.cli.token, syncd.cli.checks
import syncd.cli.doctor, syncd.cli.serve, syncd.cli.supervisor, syncd.postgres.embedded
import syncd.cli.migrate, syncd.postgres.database_checks, syncd.postgres.migrate
from syncd.cli import main
if os.geteuid() == 0 and sys.argv[1] == "anybody":
    os.setgroups([]); os.setgid({id}); os.setuid({id})
main(sys.argv[2:])
""".replace("{id}", str(NOBODY))


@pytest.fixture
def places(folder: Path) -> dict[str, Path]:
    (folder / "a file").write_text("")
    (folder / "of root").mkdir(mode=0o755)
    (folder / "closed").mkdir(mode=0o700)
    return {
        "a file": folder / "a file",
        "below a file": folder / "a file" / "data",
        "not writable": folder / "of root",
        "below it": folder / "of root" / "data",
        "closed": folder / "closed",
        "below closed": folder / "closed" / "data",
    }


def said(who: str, command: str, data_dir: Path, **env: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY, who, *command.split(), "--data-dir", data_dir],
        capture_output=True, text=True, env={**os.environ, "SYNCD_PORT": "0", **env}, timeout=500, check=False,
    )  # fmt: skip
    return done.returncode, done.stderr + done.stdout


@pytest.mark.parametrize("place", ["a file", "below a file", "not writable", "below it", "closed", "below closed"])
@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_anybody_is_told_what_is_wrong_with_it(places: dict[str, Path], command: str, place: str) -> None:
    code, text = said("anybody", command, places[place])
    assert code == 1
    assert "Traceback" not in text
    assert str(places[place]) in text
    assert "as root" not in text
    assert "--data-dir" in text or "fix it" in text


@pytest.mark.parametrize("place", ["a file", "below a file"])
@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_root_is_told_too(places: dict[str, Path], command: str, place: str) -> None:
    code, text = said("root", command, places[place])
    assert code == 1
    assert "Traceback" not in text
    assert str(places[place]) in text


@pytest.mark.parametrize("place", ["a file", "closed"])
def test_a_token_needs_a_secret_that_can_be_read(places: dict[str, Path], place: str) -> None:
    code, text = said("anybody", "token ada", places[place])
    assert (code, "Traceback" in text) == (1, False), text
    assert str(places[place] / "jwt_secret") in text


def test_a_secret_that_cannot_be_kept_is_named(database: object, places: dict[str, Path]) -> None:
    url = database.dsn("syncd_runtime")  # type: ignore[attr-defined]
    for place in ("a file", "below a file"):
        code, text = said("root", "serve", places[place], SYNCD_DATABASE_URL=url)
        assert (code, "Traceback" in text) == (1, False), text
        assert "set SYNCD_JWT_SECRET" in text
