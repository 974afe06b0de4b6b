"""Kinto over the same PostgreSQL: one process of its own server with eight threads, and its requests."""

from __future__ import annotations

import asyncio
import base64
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec

from bench.peers.process import FOLDER, Absent, Process

PYTHON = FOLDER / ".venv" / "bin" / "python"
AUTHORITY = base64.b64encode(b"bench:secret").decode()
HOME = "/v1/buckets/bench/collections/tasks/records"
THREADS = 8  # more gain nothing in one process, and each has two connections
SETTINGS = """[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}
threads = {threads}
[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.postgresql
kinto.storage_url = {url}
kinto.permission_backend = kinto.core.permission.postgresql
kinto.permission_url = {url}
kinto.cache_backend = kinto.core.cache.memory
kinto.storage_max_fetch_size = 1000000
kinto.storage_pool_size = {threads}
kinto.permission_pool_size = {threads}
kinto.batch_max_requests = 100
kinto.userid_hmac_secret = bench
kinto.bucket_create_principals = system.Authenticated
multiauth.policies = basicauth
[loggers]
keys = root
[handlers]
keys = console
[formatters]
keys = plain
[logger_root]
level = ERROR
handlers = console
[handler_console]
class = StreamHandler
args = (sys.stderr,)
formatter = plain
[formatter_plain]
format = %(message)s
"""
RUN = (
    "import sys; from kinto.__main__ import main; ini = sys.argv[2]; main(['migrate', '--ini', ini]);"
    " print(sys.argv[1], flush=True); main(['start', '--ini', ini, '--port', sys.argv[1]])"
)


class Kinto:
    """A server whose tables are in a database `kinto` beside syncd's."""

    def __init__(self, folder: Path, owner_dsn: str) -> None:
        if not PYTHON.exists():
            raise Absent(f"{PYTHON} is not there: `make bench-peers` installs it")
        folder.mkdir(parents=True, exist_ok=True)
        found = list((FOLDER / ".venv" / "lib").glob("python*/site-packages/kinto-*.dist-info"))
        self.version = found[0].name.removeprefix("kinto-").removesuffix(".dist-info") if found else "?"
        asyncio.run(_database(owner_dsn))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        at = urlsplit(owner_dsn)
        url = at._replace(path="/kinto").geturl().replace("%", "%%")
        self._folder, self._settings = folder, folder / "kinto.ini"
        self._settings.write_text(SETTINGS.format(port=self.port, threads=THREADS, url=url))
        self.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=_headers()) as client:
            for place in HOME.removesuffix("/records").replace("/collections/", "\n/collections/").split("\n"):
                at_place = place if place.startswith("/v1") else f"/v1/buckets/bench{place}"
                client.put(at_place).raise_for_status()

    def start(self) -> None:
        command = [str(PYTHON), "-P", "-W", "ignore", "-c", RUN, str(self.port), str(self._settings)]
        self._process = Process(command, self._folder / "log")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/v1/", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise Absent(f"Kinto did not start:\n{(self._folder / 'log').read_text()[-500:]}")

    def kill(self) -> None:
        self._process.kill()

    @property
    def pid(self) -> int:
        return self._process.pid

    def prove(self, records: Sequence[dict[str, Any]]) -> None:
        """Raises RuntimeError when what it has acknowledged is not there after a kill."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", headers=_headers(), timeout=30) as client:
            for one in records:
                client.put(f"{HOME}/{one['id']}", json={"data": one}).raise_for_status()
            self.kill()
            self.start()
            found = client.get(f"{HOME}/{records[-1]['id']}").raise_for_status().json()["data"]
        if found["title"] != records[-1]["title"]:
            raise RuntimeError("Kinto lost what it had acknowledged")


def put(record: dict[str, Any]) -> bytes:
    """A request that writes one record."""
    return _request("PUT", f"{HOME}/{record['id']}", msgspec.json.encode({"data": record}))


def batch(records: Sequence[dict[str, Any]]) -> bytes:
    """A request that writes these records."""
    asked = [{"method": "PUT", "path": f"{HOME}/{one['id']}", "body": {"data": one}} for one in records]
    return _request("POST", "/v1/batch", msgspec.json.encode({"requests": asked}))


def pull() -> bytes:
    """A request for all records."""
    return _request("GET", HOME, b"")


def _request(method: str, path: str, body: bytes) -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Basic {AUTHORITY}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _headers() -> dict[str, str]:
    return {"Authorization": f"Basic {AUTHORITY}"}


async def _database(owner_dsn: str) -> None:
    connection = await asyncpg.connect(owner_dsn)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'kinto'"):
            await connection.execute("CREATE DATABASE kinto")
    finally:
        await connection.close()
