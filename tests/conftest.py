"""What all tests share: one database and one server a session, both real."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import hypothesis
import psutil
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG, create_ssl_context
from httpx._transports import default as transports

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support import processes as started
from tests.support.harness import Server
from tests.support.proxy import LINE, bad_line, beside
from tests.support.template import Template
from tests.support.wire import Device

# Httpx gives up after five seconds where a test says nothing; a machine may stand still for longer.
vars(DEFAULT_TIMEOUT_CONFIG).update(dict.fromkeys(("connect", "read", "write", "pool"), 60.0))
# The certificates of all authorities are read once, and not again for each of some thousand clients.
vars(transports)["create_ssl_context"] = functools.cache(create_ssl_context)

# The same examples every time, so that a red test stays red; a soak looks for new ones and prints how to repeat them.
SOAK = bool(os.environ.get("SYNCD_SOAK"))
# Of a planted fault (tools/mutants.py) it is enough to know that it is found.
PHASES = tuple(phase for phase in hypothesis.Phase if phase.name != "shrink" or "MUTANTS" not in os.environ)
hypothesis.settings.register_profile(
    "syncd", derandomize=not SOAK, print_blob=True, deadline=None, phases=PHASES,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is
)  # fmt: skip
hypothesis.settings.load_profile("syncd")

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
    "tests/system/operate/test_command_line", "tests/store/test_embedded", "tests/system/operate/test_workers",
    "tests/system/operate/test_database_away", "tests/system/live/test_live_revocation",
    "tests/system/operate/test_busy", "tests/system/sync/test_revocation", "tests/store/test_notify_bus",
    "tests/system/sync/test_model", "tests/system/history/test_restore", "tests/system/operate/test_examples",
    "tests/client/test_board", "tests/system/history/test_histories", "tests/system/transfer/test_folded_export",
    "tests/system/operate/test_started_by_root", "tests/edge/test_openapi", "tests/store/test_digest",
    "tests/store/test_plans",
)  # fmt: skip


def _place(item: pytest.Item) -> int:
    return next((place for place, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="only tests that start no process, so need no database")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(started.Watch())
    if config.getoption("--fast"):
        hypothesis.settings.register_profile("fast", hypothesis.settings.default, max_examples=10)
        hypothesis.settings.load_profile("fast")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--fast`, what takes seconds to import and starts processes in every test anyway."""
    slow = collection_path.name in ("browser", "test_openapi.py")
    return True if slow and config.getoption("--fast") else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_place)
    if config.getoption("--fast"):
        slow = [item for item in items if not started.is_fast(item)]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if started.is_fast(item)]


@pytest.fixture(scope="session")
def processes() -> None:
    """The test starts processes of its own. See `tests/support/processes.py`."""


@pytest.fixture(scope="session")
def workspace(processes: None) -> Iterator[Path]:
    """A folder that the database's user can enter; pytest's own is closed to it when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="syncd-test-", dir=_in_memory()))
    folder.chmod(0o755)
    Server.template, Server.discarded = Template(folder / "template"), True
    yield folder
    Server.template, Server.discarded = None, False
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


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_caller() -> None:
    """What the developer's shell has set is not what is tested."""
    for name in [name for name in os.environ if name.startswith("SYNCD_") or name in ("PGHOST", "PGPORT")]:
        del os.environ[name]
