"""Making a cluster and writing its configuration: what happens to `pgdata` while nothing runs in it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from syncd.postgres.binaries import Binaries
from syncd.postgres.launch import ALLOCATION, Account, EmbeddedError, die_with_parent

DATABASE = "syncd"
OWNER = "postgres"
RUNTIME = "syncd_runtime"
COMPACTOR = "syncd_compactor"
PORT = 5432

# What makes a small server quick and keeps it durable. Written at each start, read before the cluster's own
# postgresql.conf, so what an operator writes there or with ALTER SYSTEM wins.
TUNED = {
    "max_connections": "120",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "wal_buffers": "16MB",
    "min_wal_size": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "default_toast_compression": "lz4",
    "wal_compression": "lz4",
    "autovacuum_vacuum_insert_scale_factor": "0.05",
    "idle_in_transaction_session_timeout": "60s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
}

# Not for an operator to change: the promises rest on them.
FIXED = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": "",
    "port": str(PORT),
}

# In place of some of them, where nothing rests on a promise: see EmbeddedPostgres.
THROWN_AWAY = {"fsync": "off", "full_page_writes": "off"}

# One statement a line, as single-user mode reads them. In the cluster before it gets its name, so that
# there is no such thing as a cluster without them.
BOOTSTRAP = f"""\
CREATE ROLE syncd_owner NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE
CREATE ROLE {RUNTIME} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION
CREATE DATABASE {DATABASE} OWNER syncd_owner
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC
"""

TRUST = "# The socket's folder is 0700: who can open it is trusted.\nlocal all all trust\n"
INCLUDE = "include_if_exists 'syncd.conf'\n# Your own settings below; they win.\n"


def create_cluster(pgdata: Path, binaries: Binaries, account: Account, *, lock: int) -> None:
    """Make a cluster with roles and database, under another name until it is whole.

    `lock` is the descriptor of the data directory's lock. Each process that is started here holds it, so that the next
    supervisor waits for what a killed one has left running.

    Raises:
        EmbeddedError: with what the program said.
    """
    fresh = pgdata.with_name(f"{pgdata.name}.new")
    with account.acting():
        shutil.rmtree(fresh, ignore_errors=True)
    account.own_folder(fresh)
    common = ["--username", OWNER, "--auth", "trust", "--encoding=UTF8", "--data-checksums"]
    builtin = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    locale = builtin if binaries.major >= 17 else ["--locale=C.UTF-8"]
    _run([str(binaries.bindir / "initdb"), "--pgdata", str(fresh), *common, *locale], account, lock)
    account.write(fresh / "pg_hba.conf", TRUST)
    account.write(fresh / "postgresql.conf", INCLUDE)
    _run([str(binaries.bindir / "postgres"), "--single", "-D", str(fresh), "postgres"], account, lock, BOOTSTRAP)
    with account.acting():
        fresh.rename(pgdata)
        _sync(pgdata.parent)


def write_configuration(pgdata: Path, binaries: Binaries, account: Account, settings: Mapping[str, str]) -> None:
    """Write what is tuned, and `settings` over it, to the file that postgresql.conf includes first."""
    values = {**TUNED, **settings}
    if not _has_lz4(pgdata, binaries, account):
        values = {name: value for name, value in values.items() if value != "lz4"}
    lines = "".join(f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in values.items())
    new = pgdata / "syncd.conf.new"
    account.write(new, f"# Written by syncd at each start; your own settings belong in postgresql.conf.\n{lines}")
    with account.acting():
        new.rename(pgdata / "syncd.conf")


def environment() -> dict[str, str]:
    """For PostgreSQL's programs: nothing of the caller's PG… variables and locale gets in."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", **ALLOCATION}


def _run(command: list[str], account: Account, lock: int, script: str = "") -> None:
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment(),
        pass_fds=(lock,),
        start_new_session=True,
        preexec_fn=die_with_parent(signal.SIGKILL),
        **account.popen(),
    )
    try:
        output = process.communicate(script.encode())[0].decode(errors="replace")
    except BaseException:
        # Interrupted: initdb's own children are in its session and go with it.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    # Single-user mode goes on after an error and exits with 0.
    if process.returncode or "ERROR:" in output or "FATAL:" in output:
        raise EmbeddedError(f"{Path(command[0]).name} failed:\n{output.strip()}")


def _has_lz4(pgdata: Path, binaries: Binaries, account: Account) -> bool:
    """Whether this build knows it: the server itself says, without starting."""
    asked = [str(binaries.bindir / "postgres"), "-D", str(pgdata), "-C", "wal_compression", "-c", "wal_compression=lz4"]
    done = subprocess.run(asked, capture_output=True, cwd="/", env=environment(), check=False, **account.popen())
    return done.returncode == 0


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
