"""G16 while things happen: pushes during an export, processes killed in the middle, clients that read slowly or not."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import re
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from syncd.transfer.export import ZipArchive
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.programs import need, psql
from tests.support.wire import Device, Json, edit, unique
from tests.system.transfer.test_backup import NDJSON, export, parts, restore, signed, undated

CHANGES = 40_000
# What a page takes on its way, a few times: 40,000 changes are some 64 MB.
FLAT = 24 << 20


class Large:
    """A server with a user who has written much."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        self.server, self.http = server, http
        self.ada = Device(http, server, "ada")
        self.ada.create("both")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._push, range(CHANGES // 1000)))

    def _push(self, turn: int) -> None:
        space = {"spaceId": "both"} if turn % 2 else {}
        fields = {"title": f"a title of some words, number {turn}", "done": False, "position": turn / 7}
        fields["text"] = f"what is written here is {turn}. " * 45
        self.ada.push(*({**edit(f"r{turn}-{n}", turn, **fields), **space} for n in range(1000)))

    def worker(self) -> psutil.Process:
        """The process that serves."""
        return workers_of(self.server)[0]

    def connect(self, accept: str = NDJSON, user: str = "ada") -> socket.socket:
        """A connection that has asked for an export and read nothing yet."""
        line = socket.create_connection(("127.0.0.1", self.server.port))
        line.sendall(
            f"GET /backup/export HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
            f"Authorization: Bearer {self.server.token(user)}\r\n\r\n".encode()
        )
        return line


@pytest.fixture(autouse=True)
def _dropped_connections() -> Iterator[None]:
    """The client library forgets the socket of a server that was killed under an upload; it is not ours to close."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def large(workspace: Path) -> Iterator[Large]:
    with Server(workspace / "large") as server:
        made = Large(server, httpx.Client(base_url=server.url, timeout=60))
        yield made
        made.http.close()  # the one that it has then: a test whose server was killed takes a new one


@contextlib.contextmanager
def watched(process: psutil.Process) -> Iterator[list[int]]:
    """The resident memory of a process, some hundred times a second."""
    sizes, over = [process.memory_info().rss], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            sizes.append(process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    yield sizes
    over.set()
    thread.join()


def sleepers(server: Server) -> int:
    """Transactions that are open and wait for their client."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    return int(psql("-tA", "-c", asked, server.owner_dsn))


@pytest.mark.parametrize("media", [NDJSON, "application/zip"])
def test_memory_stays_flat_however_much_is_exported(large: Large, media: str, tmp_path: Path) -> None:
    headers = {**large.ada.headers, "accept": media}
    size = 0
    with (
        watched(large.worker()) as sizes,
        large.http.stream("GET", "/backup/export", headers=headers) as answer,
        (tmp_path / "export").open("wb") as file,
    ):
        for data in answer.iter_raw():
            file.write(data)
            size += len(data)
    assert max(sizes) - sizes[0] < FLAT, f"{(max(sizes) - sizes[0]) >> 20} MiB for {size >> 20} MiB"
    if media == NDJSON:
        assert size > 2 * FLAT
        assert len((tmp_path / "export").read_bytes().splitlines()) == CHANGES + 1
    else:
        need("unzip")
        subprocess.run(["unzip", "-tq", tmp_path / "export"], check=True, capture_output=True)


def test_a_client_that_does_not_read_costs_little_and_one_that_goes_costs_nothing(large: Large) -> None:
    with watched(large.worker()) as sizes:
        line = large.connect()
        deadline = time.monotonic() + 60
        while sleepers(large.server) != 1:
            assert time.monotonic() < deadline, "it never waits for its reader"
            time.sleep(0.1)
        busy = large.ada.request("GET", "/backup/export")
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")
        large.ada.push(edit("meanwhile", 1, x=1))
    assert max(sizes) - sizes[0] < FLAT
    line.close()
    deadline = time.monotonic() + 60
    while sleepers(large.server) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sleepers(large.server) == 0
    with large.http.stream("GET", "/backup/export", headers=large.ada.headers) as answer:
        assert answer.status_code == 200


def test_an_export_is_one_moment_whatever_is_written_meanwhile(large: Large) -> None:
    """Pairs of changes, one in each of two feeds, are pushed together: an export has both of a pair or neither."""
    over, turns = threading.Event(), 0

    def write() -> int:
        nonlocal turns
        turn = 0
        with httpx.Client(base_url=large.server.url, timeout=60) as http:
            writer = Device(http, large.server, "ada", "writer")
            while not over.is_set():
                turn += 1
                writer.write(edit(f"pair{turn}", 1, x=turn), {**edit(f"pair{turn}", 1, x=turn), "spaceId": "both"})
                turns = turn
        return turn

    def wait_for_more() -> None:
        before, deadline = turns, time.monotonic() + 60
        while turns == before:
            assert time.monotonic() < deadline, "nothing is written"
            time.sleep(0.01)

    with ThreadPoolExecutor(2) as pool:
        writer = pool.submit(write)
        try:
            wait_for_more()
            data = export(large.ada)
            wait_for_more()
        finally:
            over.set()
        written = writer.result()
    changes, manifest = parts(data)
    pairs: dict[str, set[str]] = {"both": set(), "_personal:ada": set()}
    for change in changes:
        if change["id"].startswith("pair"):
            pairs[change["spaceId"]].add(change["id"])
    assert 0 < len(pairs["both"]) < written
    assert pairs["both"] == pairs["_personal:ada"]
    assert manifest["eventsSha256"] == hashlib.sha256(data[: data.rindex(b'{"manifest":')]).hexdigest()


@pytest.mark.parametrize("victim", ["worker", "backend", "server"])
def test_an_export_that_is_killed_is_seen_to_be_cut_short(large: Large, victim: str) -> None:
    line = large.connect()
    got = line.recv(1 << 16)
    assert got.startswith(b"HTTP/1.1 200")
    if victim == "worker":
        large.worker().kill()
    elif victim == "backend":
        # In a transaction, whether it waits for its reader or makes the next page.
        open_ = "usename = 'syncd_runtime' AND xact_start IS NOT NULL"
        stop = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {open_}"
        psql("-t", "-c", stop, large.server.owner_dsn)
    else:
        large.server.kill()
    with contextlib.suppress(ConnectionResetError):
        while data := line.recv(1 << 20):
            got += data
    line.close()
    body = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", got.partition(b"\r\n\r\n")[2])
    assert not got.endswith(b"0\r\n\r\n")
    assert b'{"manifest":' not in body
    if victim == "server":
        large.server.start()
    large.http.close()
    large.http = httpx.Client(base_url=large.server.url, timeout=60)
    large.ada.http = large.http
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            refused = large.ada.request("POST", "/backup/import", content=body, headers={"content-type": NDJSON})
            if refused.status_code < 500:
                break
        time.sleep(0.1)
    assert (refused.status_code, refused.json()["code"]) == (400, "export_cut_short")


@pytest.fixture(scope="module")
def some(large: Large) -> tuple[list[Json], bytes]:
    """Changes of both feeds, and the export that has only them."""
    lines = export(large.ada).splitlines(keepends=True)
    kept = [json.loads(text) for text in lines[:4_000]] + [json.loads(text) for text in lines[-4_000:-1]]
    return kept, signed(kept, userId="ada", spaces=json.loads(lines[-1])["manifest"]["spaces"])


@pytest.mark.parametrize("victim", ["worker", "server", "client"])
def test_an_import_that_is_killed_is_finished_by_the_next(
    some: tuple[list[Json], bytes], folder: Path, victim: str
) -> None:
    kept, data = some
    with Server(folder / "data") as server, httpx.Client(base_url=server.url, timeout=120) as http:
        ada = Device(http, server, "ada")
        line = socket.create_connection(("127.0.0.1", server.port))
        head = f"POST /backup/import HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        line.sendall(f"{head}Authorization: Bearer {server.token('ada')}\r\n\r\n".encode() + data)
        deadline = time.monotonic() + 60
        while not ada.pull(limit=1)["serverChanges"] and time.monotonic() < deadline:
            time.sleep(0.02)
        if victim == "client":
            line.close()
        elif victim == "worker":
            workers_of(server)[0].kill()
        else:
            server.kill()
            server.start()
        line.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                answer = ada.request("POST", "/backup/import", content=data, headers={"content-type": NDJSON})
                if answer.status_code == 200:
                    break
            time.sleep(0.2)
        report = answer.json()
        assert (report["refused"], report["imported"] + report["duplicates"]) == (0, len(kept))
        assert report["duplicates"] > 0
        if victim != "client":
            assert report["imported"] > 0
        again = parts(export(ada))[0]
        assert again == kept
        assert restore(ada, data)["duplicates"] == len(kept)


def test_a_connection_of_every_fourth_is_for_backups(large: Large) -> None:
    lines = [large.connect(user=unique("user")) for _ in range(3)]
    lines += [large.connect(), large.connect(user=unique("user"))]
    try:
        answers = [line.recv(12) for line in lines[:3]]
        assert answers == [b"HTTP/1.1 200"] * 3
        assert large.ada.pull(limit=1)["serverChanges"]
    finally:
        for line in lines:
            line.close()


@pytest.mark.soak
def test_an_archive_of_more_than_four_gigabytes_is_read_by_unzip(tmp_path: Path) -> None:
    """Both more than 4 GB of changes and more than 4 GB of archive."""
    archive, noise = ZipArchive(), os.urandom(32 << 20)
    with (tmp_path / "large.zip").open("wb") as file:
        file.write(archive.begin("events.jsonl"))
        for _ in range(135):
            file.write(archive.write(noise))
        file.write(archive.begin("manifest.json") + archive.write(b"{}\n") + archive.end())
    assert (tmp_path / "large.zip").stat().st_size > 1 << 32
    need("unzip")
    done = subprocess.run(["unzip", "-t", tmp_path / "large.zip"], capture_output=True, text=True, check=False)
    assert "No errors detected" in done.stdout, done.stdout + done.stderr


def test_the_same_changes_make_the_same_archive(large: Large) -> None:
    first, second = (export(large.ada, "application/zip") for _ in range(2))
    at = first.rindex(b"manifest.json", 0, len(first) - 200)
    assert first[: at - 30] == second[: at - 30]
    assert undated(export(large.ada)) == undated(export(large.ada))
