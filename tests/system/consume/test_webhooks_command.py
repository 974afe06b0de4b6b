"""`syncd webhooks`: kept and run from the shell; what is killed while it sends sends again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.command_line import syncd
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.receiver import Receiver, receiving
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
FAILED = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


def command(server: Server, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "syncd", "webhooks", *arguments, "--database-url", server.owner_dsn]


async def webhooks(server: Server, *arguments: str, ok: bool = True) -> str:
    """What the command says on its standard output; on its error where it fails."""
    made = await asyncio.to_thread(syncd, "webhooks", *arguments, "--database-url", server.owner_dsn)
    assert (made.returncode == 0) == ok, made.stderr
    assert "Traceback" not in made.stderr
    return made.stdout if ok else made.stderr


def sending(server: Server) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(server, "run", "--pauses", "0.1"))


async def line_of(server: Server, name: str, what: str) -> list[str]:
    found = await webhooks(server, what)
    return next(line.split() for line in found.split("\n") if name in line)


async def test_one_is_kept_run_killed_and_run_again(server: Server, device: Make, receiver: Receiver) -> None:
    ada, name = device(unique("ada"), app=unique("app")), unique("hook")
    ada.write(edit("r", 1, x=1))
    added = await webhooks(server, "add", name, receiver.url, "--app", ada.app, "--start", "beginning", "--private")
    secret = added.strip()
    assert "there is a consumer" in await webhooks(server, "add", name, receiver.url, "--private", ok=False)
    assert (await line_of(server, name, "list"))[:2] == [name, receiver.url]
    receiver.answers = [b""]
    process = sending(server)
    try:
        await receiver.until(1)
        process.kill()
        process.wait()
        receiver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
        process = sending(server)
        first, second = await receiver.until(2, 90)
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert second.is_signed_with(secret)
        receiver.answers = [FAILED]
        await asyncio.to_thread(ada.write, edit("r", 2, x=2))
        await receiver.until(4)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
    status = await line_of(server, name, "status")
    assert status[:2] == [name, "active"]
    await webhooks(server, "pause", name)
    assert "by an operator" in " ".join(await line_of(server, name, "list"))
    await webhooks(server, "resume", name)
    await webhooks(server, "drain", name)
    await webhooks(server, "replay", name, "--since", "2026-01-01")
    await webhooks(server, "retry", name)
    await webhooks(server, "remove", name)
    assert "there is no webhook" in await webhooks(server, "pause", name, ok=False)
    assert await run(server.owner_dsn, f"SELECT count(*) FROM syncd.sync_consumers WHERE name = '{name}'") == [(0,)]


async def test_a_key_may_come_from_a_file_and_no_line_of_a_command_has_it(server: Server, folder: Path) -> None:
    key = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    (folder / "key").write_text(f"{key}\n")
    name, there = unique("hook"), ("http://127.0.0.1:1/", "--private", "--secret-file", str(folder / "key"))
    assert (await webhooks(server, "add", name, *there)).strip() == key
    assert "one of them" in await webhooks(server, "add", name, *there, "--secret", key, ok=False)
    await webhooks(server, "remove", name)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("http://example.com/",), "use https://"),
        (("https://user:password@example.com/",), "user or password"),
        (("https://example.com/", "--secret", "whsec_x"), "whsec_"),
    ],
)
async def test_what_is_wrong_is_said(server: Server, arguments: tuple[str, ...], said: str) -> None:
    assert said in await webhooks(server, "add", unique("hook"), *arguments, ok=False)
