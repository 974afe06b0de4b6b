"""`syncd consume` and `syncd consumers`: from the shell."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from syncd.consumers.batch import ConsumerBatch
from syncd.consumers.command import command as exec_command
from syncd.store.consumers import ReadPart, WaitingFeed
from tests.support import command_line
from tests.support.consuming import eventually
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


def command(server: Server, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncd", *arguments, "--database-url", server.owner_dsn]


def syncd(server: Server, *arguments: str, ok: bool = True) -> str:
    """What the command says on its standard output; on its error where it fails."""
    done = command_line.syncd(*arguments, "--database-url", server.owner_dsn)
    assert (done.returncode == 0) == ok, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout if ok else done.stderr


@pytest.fixture
def ada(device: Make) -> Device:
    ada = device(unique("ada"), app=unique("app"))
    for n in range(5):
        ada.write(edit(f"r{n}", n + 1, title=f"a \u2028 line\n{n}"))
    return ada


def test_changes_are_lines_of_json(server: Server, ada: Device) -> None:
    name = unique("c")
    lines = syncd(server, "consume", name, "--app", ada.app, "--start", "beginning", "--once").split("\n")[:-1]
    found = [json.loads(line) for line in lines]
    assert [(one["id"], one["seq"], one["userId"], one["op"]) for one in found] == [
        (f"r{n}", n + 1, ada.user, "update") for n in range(5)
    ]
    assert found[3]["fields"]["title"]["value"] == "a \u2028 line\n3"
    assert syncd(server, "consume", name, "--once") == ""


def test_a_command_that_fails_is_given_the_batch_again(server: Server, ada: Device, folder: Path) -> None:
    name, script = (
        unique("c"),
        "cat >> lines; echo $CONSUMER_NAME $CONSUMER_ATTEMPT $SYNCD_JWT_SECRET >> tries; [ $CONSUMER_ATTEMPT -ge 3 ]",
    )
    told = subprocess.run(
        command(server, "consume", name, "--app", ada.app, "--start", "beginning", "--once", "--exec", script),
        capture_output=True, text=True, timeout=100, check=False, cwd=folder,
        env={**os.environ, "SYNCD_JWT_SECRET": "a key of 32 bytes that no command is to see"},
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert (folder / "tries").read_text().split() == [name, "1", name, "2", name, "3"]
    assert (folder / "lines").read_text().count("\n") == 15
    assert "comes again" in told.stderr + told.stdout
    assert syncd(server, "consume", name, "--once") == ""


def test_a_stopped_process_finishes_the_command(server: Server, ada: Device, folder: Path) -> None:
    name = unique("c")
    script = "cat > batch; while [ ! -e go ]; do sleep 0.05; done; echo done > done"
    process = subprocess.Popen(
        command(server, "consume", name, "--app", ada.app, "--start", "beginning", "--exec", script), cwd=folder
    )
    deadline = time.monotonic() + 60
    while not (folder / "batch").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    (folder / "go").touch()
    assert process.wait(60) == 0
    assert (folder / "done").exists()
    assert syncd(server, "consume", name, "--once") == ""
    # One that waits ends at once.
    process = subprocess.Popen(command(server, "consume", name))
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


async def test_a_command_that_is_given_up_is_ended_with_its_children(folder: Path) -> None:
    """The shell's own end would leave what it has begun at work."""
    feed = WaitingFeed(1, 1, 0, 1, 4, -1, 0, 9, "garden", "notes")
    batch = ConsumerBatch(None, [feed], [ReadPart(1, 9, -1, None, b"{}", UUID(int=1))])  # type: ignore[arg-type]
    perform = exec_command(f"sh -c 'echo $$ > {folder}/child; sleep 600; true'; true", "c")
    task = asyncio.ensure_future(perform(batch))
    child = await eventually(lambda: asyncio.to_thread(read, folder / "child"), bool)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await eventually(lambda: asyncio.to_thread(at_work, int(child)), lambda alive: not alive)


def read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def at_work(number: int) -> bool:
    """Whether a process is there, and no zombie that nobody has asked for."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_consumers_are_kept(server: Server, ada: Device) -> None:
    name = unique("c")
    syncd(
        server, "consumers", "add", name, "--app", ada.app, "--table", "t", "--start", "beginning", "--role", "someone"
    )
    assert "there is a consumer" in syncd(server, "consumers", "add", name, ok=False)
    assert "small letters" in syncd(server, "consumers", "add", "No Name", ok=False)
    listed = next(line for line in syncd(server, "consumers", "list").split("\n") if name in line)
    assert listed.split()[:4] == [name, ada.app, "t", "someone"]
    status = next(line for line in syncd(server, "consumers", "status").split("\n") if name in line)
    assert status.split()[:4] == [name, "0", "1", "5"]
    assert syncd(server, "consume", name, "--once").count("\n") == 5
    assert "registered for other apps" in syncd(server, "consume", name, "--app", "another", "--once", ok=False)
    syncd(server, "consumers", "reset", name, "--start", "state")
    assert syncd(server, "consume", name, "--once").count('"state":true') == 5
    syncd(server, "consumers", "remove", name)
    assert "there is no consumer" in syncd(server, "consumers", "remove", name, ok=False)
    assert "there is no consumer" in syncd(server, "consumers", "reset", name, "--start", "now", ok=False)


def test_only_an_owner_keeps_them(server: Server) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "syncd", "consumers", "add", unique("c"), "--database-url", server.runtime_dsn],
        capture_output=True, text=True, timeout=100, check=False, env={**os.environ},
    )  # fmt: skip
    assert told.returncode == 1
    assert "owner" in told.stderr


def test_metrics_say_how_far_a_consumer_is_behind(server: Server, ada: Device) -> None:
    name = unique("c")
    syncd(server, "consumers", "add", name, "--app", ada.app, "--start", "beginning")
    deadline = time.monotonic() + 60
    wanted = f'syncd_consumer_lag_changes{{consumer="{name}"}} 5.0'
    while wanted not in (text := httpx.get(f"{server.url}/metrics").text):
        assert time.monotonic() < deadline, text
        time.sleep(0.2)
    assert f'syncd_consumer_lag_feeds{{consumer="{name}"}} 1.0' in text
    assert f'syncd_consumer_processes{{consumer="{name}"}} 0.0' in text
