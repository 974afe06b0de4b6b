"""Tests that are there anyway pass where syncd is mounted in an application, below a path, by that one's server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import node
from tests.support.harness import Server
from tests.support.programs import REPOSITORY
from tests.support.socket_device import socket_of
from tests.support.stream_device import stream_of
from tests.support.template import Template

pytestmark = [pytest.mark.waits, pytest.mark.timeout(600)]

DEVICES = [
    "tests/client/test_against_server.py::test_two_devices_that_were_offline_agree_afterwards",
    "tests/client/test_against_server.py::test_a_shared_space_is_joined_read_written_and_left",
    "tests/client/test_live_against_server.py::test_two_devices_see_each_other_s_writes_at_once",
]
# With two processes and more, each of which has syncd mounted.
WORKERS = [
    "tests/system/sync/test_read_your_writes.py",
    "tests/system/live/test_live_revocation.py::TestTheTable::test_it_stops_at_once_and_both_are_told_within_a_second",
]
# By Uvicorn, of each part of the system what its promises stand on; by Hypercorn, that another server does as well.
TESTS = {
    "uvicorn": [
        *DEVICES,
        "tests/edge/test_live_limits.py::test_pages_of_other_origins_may_not",
        "tests/edge/test_live_stream.py::test_the_same_changes_come_as_on_a_socket",
        "tests/edge/test_slow_bodies.py::test_a_body_over_the_limit_is_answered_while_it_is_still_being_sent",
        "tests/system/live/test_live_no_gap.py",
        "tests/system/sync/test_idempotency.py",
        "tests/system/sync/test_revocation.py",
        *WORKERS,
    ],
    "hypercorn": [*DEVICES, "tests/edge/test_live_push.py", *WORKERS],
}


@pytest.mark.parametrize("server", TESTS)
def test_tests_of_the_system_pass_mounted(server: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout", "300", *TESTS[server]],
        cwd=REPOSITORY, env={**os.environ, "TEST_SERVER": server}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]


@pytest.mark.parametrize("form", TESTS)
async def test_live_connections_are_told_before_the_server_stops(folder: Path, form: str) -> None:
    """Uvicorn closes all sockets at once, and waits for streams without an end."""
    with Server(folder / "data", form=form, settings={"shutdown_timeout": 60}) as server:
        async with socket_of(server, "ann", protocol=1) as socket, stream_of(server, "ann") as stream:
            await socket.subscribe("notes")
            await stream.next("heartbeat")
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            assert await socket.ends() == 1012
            await stream.ends()
            async with asyncio.timeout(30):
                assert await stopping == 0


@pytest.mark.timeout(300)
def test_the_typescript_client_syncs_and_is_live_below_a_path(
    folder: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.packages(node.CLIENT)
    Template(workspace / "template").copy_to(folder / "data")
    for name, value in {"TEST_DATA": folder / "data", "TMPDIR": folder, "TEST_SERVER": "uvicorn"}.items():
        monkeypatch.setenv(name, str(value))
    node.run(node.CLIENT, "npx", "vitest", "run", "test/against-server.test.ts", "-t", "sync|live|spaces")
