"""G24, for root: nothing that root opens lies where another may link, and who serves is no longer root."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import EmbeddedError, account_for
from tests.support.harness import Server
from tests.support.wire import Device, edit

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")
ROOT = Path(__file__).resolve().parents[3]
KEPT = "what root keeps\n"


def as_postgres(*command: str | Path) -> None:
    subprocess.run(command, user="postgres", group="postgres", extra_groups=[], check=True)


@pytest.fixture(scope="module")
def made(workspace: Path) -> Path:
    """A data directory whose database was made and stopped."""
    with EmbeddedPostgres(workspace / "by-root"):
        pass
    return workspace / "by-root"


@pytest.fixture
def data(made: Path, folder: Path) -> Path:
    """A copy of it."""
    subprocess.run(["cp", "-a", made, folder / "data"], check=True)
    return folder / "data"


@pytest.fixture
def victim(folder: Path) -> Iterator[Path]:
    """A file of root's, which stays as it is."""
    path = folder / "of root" / "file"
    path.parent.mkdir()
    path.write_text(KEPT)
    path.chmod(0o600)
    yield path
    found = path.stat()
    assert (path.read_text(), found.st_uid, found.st_mode & 0o777) == (KEPT, 0, 0o600)
    assert os.listdir(path.parent) == ["file"]


PLACES = [
    "lock",
    "postgres.log",
    "postgres.log.1",
    "run",
    "pgdata/syncd.conf.new",
    "pgdata/syncd.conf",
    "pgdata/postmaster.pid",
]
MAY_START = {"postgres.log", "postgres.log.1", "pgdata/syncd.conf", "pgdata/postmaster.pid"}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("leads_to", ["file", "not there"])
def test_a_link_in_the_data_directory_leads_root_nowhere(data: Path, victim: Path, place: str, leads_to: str) -> None:
    as_postgres("rm", "-rf", data / place)
    as_postgres("ln", "-s", victim.with_name(leads_to), data / place)
    if place in MAY_START:
        with EmbeddedPostgres(data):
            pass
    else:
        with pytest.raises((EmbeddedError, OSError)):
            EmbeddedPostgres(data).start()


START = """
import sys
from pathlib import Path
from syncd.postgres.embedded import EmbeddedPostgres
with EmbeddedPostgres(Path(sys.argv[1])):
    pass
"""


@pytest.mark.parametrize("place", [*PLACES, "pgdata/PG_VERSION"])
def test_a_pipe_in_the_data_directory_keeps_root_waiting_for_nothing(data: Path, place: str) -> None:
    as_postgres("rm", "-rf", data / place)
    as_postgres("mkfifo", data / place)
    done = subprocess.run(
        [sys.executable, "-c", START, data], cwd=ROOT, capture_output=True, text=True, timeout=90, check=False
    )
    assert done.returncode == 0 or "EmbeddedError" in done.stderr or "Error: " in done.stderr


@pytest.mark.parametrize("place", ["pgdata.new/pg_hba.conf", "pgdata.new/postgresql.conf"])
def test_a_link_where_the_database_is_made_leads_root_nowhere(folder: Path, victim: Path, place: str) -> None:
    (folder / "data").mkdir()
    shutil.chown(folder / "data", "postgres", "postgres")
    as_postgres("mkdir", folder / "data" / "pgdata.new")
    as_postgres("ln", "-s", victim, folder / "data" / place)
    with EmbeddedPostgres(folder / "data"):
        pass


def test_a_secret_is_not_read_through_a_link(data: Path, victim: Path) -> None:
    as_postgres("ln", "-s", victim, data / "jwt_secret")
    done = subprocess.run(
        [sys.executable, "-m", "syncd", "token", "ada", "--data-dir", data], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "it is a link, which is not followed" in done.stderr


@pytest.mark.parametrize("kind", ["with words", "with another name", "fifo"])
def test_a_lock_that_syncd_did_not_make_is_not_handed_over(data: Path, victim: Path, kind: str) -> None:
    lock = data / "lock"
    lock.unlink()
    if kind == "fifo":
        os.mkfifo(lock)
    elif kind == "with words":
        lock.write_text("secret\n")
    else:
        lock.write_text("1")
        os.link(lock, data.parent / "other name")
    with pytest.raises(EmbeddedError, match="remove it"):
        EmbeddedPostgres(data).start()
    assert lock.stat().st_uid == 0


def test_a_data_directory_of_before_goes_on(data: Path) -> None:
    """Root kept its files in the directory that it had handed over."""
    (data / "jwt_secret").write_text("s" * 64)
    for name in ("lock", "postgres.log", "jwt_secret"):
        os.chown(data / name, 0, 0)
        (data / name).chmod(0o600)
    for _ in range(2):
        with EmbeddedPostgres(data) as database:
            owners = {path.name: path.owner() for path in data.iterdir()}
            assert owners["lock"] == owners["postgres.log"] == "postgres"
            assert psutil.Process(database.pid).username() == "postgres"
    with Server(data) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        Device(http, server, "ada").write(edit("r", 1, x=1))


def test_a_folder_behind_a_link_of_somebody_else_is_not_handed_over(folder: Path) -> None:
    (folder / "of root").mkdir()
    home = folder / "home"
    home.mkdir()
    shutil.chown(home, "postgres", "postgres")
    as_postgres("ln", "-s", folder / "of root", home / "data")
    with pytest.raises(EmbeddedError, match="cannot enter"):
        EmbeddedPostgres(home / "data").start()
    assert (folder / "of root").stat().st_uid == 0


class ServerForAll(Server):
    """One that every user of the system can run, wherever the tests' own interpreter is."""

    @property
    def interpreter(self) -> str:
        shared = f"/usr/bin/python3.{sys.version_info.minor}"
        return sys.executable if account_for(Path("/root")).can_run(Path(sys.executable)) else shared

    def command(self) -> list[str]:
        return [self.interpreter, "-m", "syncd"]

    def environment(self) -> dict[str, str]:
        paths = [sysconfig.get_path("purelib"), str(ROOT), str(ROOT / "clients" / "python")]
        return {**super().environment(), "PYTHONPATH": os.pathsep.join(paths)}


def family(server: Server) -> tuple[str, set[str]]:
    """As whom the supervisor runs, and as whom all that it started."""
    assert server.process is not None
    supervisor = psutil.Process(server.process.pid)
    return supervisor.username(), {child.username() for child in supervisor.children(recursive=True)}


def test_who_serves_is_the_user_of_the_data_directory(folder: Path) -> None:
    settings = {"compact_every": 0.5, "compact_history": 0}
    with (
        ServerForAll(folder / "data", workers=2, settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        Device(http, server, "ada").write(edit("r", 1, x=1), edit("r", 2, x=2))
        assert family(server) == ("root", {"postgres"})
        assert (folder / "data" / "jwt_secret").owner() == "postgres"
        assert "as root" not in server.output()


def test_with_a_database_of_yours_it_is_whom_you_name(data: Path, folder: Path) -> None:
    name = pwd.getpwuid(account_for(data).uid).pw_name
    with ServerForAll(data) as own:
        for user, users, said in (
            (name, {name}, ""),
            (None, {"root"}, "set SYNCD_USER"),
        ):
            settings = {"database_url": own.runtime_dsn, **({"user": user} if user else {})}
            with ServerForAll(folder / f"with-{user}", settings=settings) as server:
                assert family(server) == ("root", users)
                assert said in server.output()


def test_a_user_that_is_not_there_is_named(data: Path, folder: Path) -> None:
    with ServerForAll(data) as own:
        settings = {"database_url": own.runtime_dsn, "user": "nobody-of-that-name"}
        with pytest.raises(RuntimeError, match="there is no user nobody-of-that-name on this system"):
            ServerForAll(folder / "with", settings=settings)
