"""What all tests of a server share: one database and one server a session, both real."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.prefork import Prefork
from tests.support.proxy import LINE, bad_line, beside
from tests.support.template import Template
from tests.support.wire import Device

# Its tests are about starts and processes, but for those of these files.
EXECUTED = "tests/system/operate/"
FORKED = tuple(
    f"{EXECUTED}test_{name}.py"
    for name in ("clinic", "keys", "running_shown", "service_tokens", "signed_server", "tour")
)
MEMORY, ROOM = "/dev/shm", 8 * 1024**3

# The files that take longest, in this order and first: several processes share the files, and none should end with a
# long one alone.
LONGEST = (
    "tests/system/sync/test_bad_line_clients", "tests/edge/test_live_lines", "tests/system/sync/test_bad_line",
    "tests/client/test_bad_line", "tests/edge/test_slow_bodies", "tests/client/test_typescript",
    "tests/system/operate/test_soak", "tests/system/history/test_compaction", "tests/browser/",
    "tests/system/transfer/test_elsewhere", "tests/system/transfer/test_backup_under_way",
    "tests/system/live/test_live_no_gap", "tests/system/transfer/test_operator_backup",
    "tests/system/live/test_live_faults", "tests/store/test_nats_bus", "tests/system/operate/test_keys",
    "tests/system/operate/test_command_line", "tests/system/operate/test_doctor", "tests/store/test_embedded",
    "tests/system/operate/test_workers",
    "tests/system/operate/test_database_away", "tests/system/live/test_live_revocation",
    "tests/system/operate/test_busy", "tests/system/sync/test_revocation", "tests/store/test_notify_bus",
    "tests/system/sync/test_model", "tests/system/history/test_restore", "tests/system/operate/test_examples",
    "tests/client/test_board", "tests/system/history/test_histories", "tests/system/transfer/test_folded_export",
    "tests/system/operate/test_started_by_root", "tests/edge/test_openapi", "tests/store/test_digest",
    "tests/store/test_plans",
)  # fmt: skip


def _place(item: pytest.Item) -> int:
    return next((place for place, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is about starts, processes, their time or their memory has servers that are executed."""
    started = item.nodeid.startswith(EXECUTED) and not item.nodeid.startswith(FORKED)
    Server.executed = started or item.get_closest_marker("alone") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """A folder that the database's user can enter; pytest's own is closed to it when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-test-", dir=_in_memory()))
    folder.chmod(0o755)
    Server.template, Server.discarded, Server.prefork = Template(folder / "template"), True, Prefork()
    yield folder
    Server.prefork.close()
    Server.template, Server.discarded, Server.prefork = None, False, None
    shutil.rmtree(folder, ignore_errors=True)


def _in_memory() -> str | None:
    """A file system in memory where there is plenty of it: some hundred databases are made, and a disk takes longer.

    Processes are killed here, never machines, so nothing that is tested depends on what a disk does with fsync.
    """
    if os.environ.get("TMPDIR") or not os.access(MEMORY, os.W_OK):
        return None
    plenty = min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) >= ROOM
    return MEMORY if plenty else None


@pytest.fixture
def folder(workspace: Path) -> Iterator[Path]:
    """A folder like `workspace` for one test."""
    path = Path(tempfile.mkdtemp(dir=workspace))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def database(workspace: Path) -> Iterator[EmbeddedPostgres]:
    """A migrated database of the session's own."""
    Template(workspace / "template").copy_to(workspace / "database")
    with EmbeddedPostgres(workspace / "database") as postgres:
        yield postgres


@pytest.fixture(scope="session")
def server(workspace: Path) -> Iterator[Server]:
    """A running `syncd serve` with one worker and a database of its own; behind a bad line, when LINE says so."""
    with Server(workspace / "server") as running:
        if LINE != "bad":
            yield running
            return
        with beside(running.port, bad_line()) as line:
            running.url = line.url
            yield running


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx.Client]:
    """Connections to `server`."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def device(server: Server, http: httpx.Client) -> Callable[..., Device]:
    """Makes devices of `server`: `device(user, client="c1", app="app", legacy=False)`."""

    def make(user: str, client: str = "c1", **more: object) -> Device:
        return Device(http, server, user, client, **more)  # type: ignore[arg-type]

    return make
