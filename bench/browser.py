"""The first sync of many records in a real Chromium, IndexedDB included, beside PouchDB and RxDB.

Each is served by its own server on this machine with the same records, and syncs into a new browser profile, in turn.
Seconds are from opening the database to the end of the sync, measured in the page; afterwards all is read back.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from playwright.sync_api import Browser, sync_playwright

from bench.figures import Work, measure
from bench.play import show
from bench.stage import Stage
from bench.workload import WORDS
from tests.browser import chromium
from tests.browser.site import Site
from tests.support import node
from tests.support.harness import Server

HERE = Path(__file__).parent / "browser"
RECORDS, QUICK_RECORDS = 20_000, 5_000
BATCH = 1000
PATIENCE = 600.0
Record = dict[str, Any]

RUN = """async (options) => {
  const started = performance.now();
  const database = await firstSync(options);
  const seconds = (performance.now() - started) / 1000;
  return [seconds, await readBack(database)];
}"""


class Peer(NamedTuple):
    """One of those that are measured: its bundle's name, what it is called, and what its page is told."""

    name: str
    called: str
    options: dict[str, Any]


def run(stage: Stage) -> list[Work]:
    """All three, in turn, round by round."""
    records = make_records(QUICK_RECORDS if stage.quick else RECORDS)
    modules = node.packages(HERE)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="syncd-bench-")))
        folder.chmod(0o755)
        peers = [
            stack.enter_context(syncd(folder, records)),
            stack.enter_context(pouchdb(folder, modules, records)),
            stack.enter_context(rxdb(records)),
        ]
        site = stack.enter_context(Site(bundle(folder, modules)))
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(**chromium.options(playwright))
        stack.callback(browser.close)
        seconds = rounds(stage, browser, site, peers, records)
    return report(peers, seconds, len(records))


def make_records(count: int) -> list[Record]:
    """Tasks as an application has them, some 150 bytes each as JSON."""
    chance = random.Random(20)
    return [
        {
            "id": f"task-{number:06}",
            "title": " ".join(chance.choices(WORDS, k=5)),
            "note": " ".join(chance.choices(WORDS, k=10)),
            "list": f"list-{number % 40}",
            "priority": chance.randrange(10),
            "done": chance.random() < 0.5,
        }
        for number in range(count)
    ]


def pages(records: Sequence[Record]) -> Iterator[list[Record]]:
    for start in range(0, len(records), BATCH):
        yield list(records[start : start + BATCH])


# -- the servers ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def syncd(folder: Path, records: Sequence[Record]) -> Iterator[Peer]:
    """`syncd serve` with one worker, which pages of another origin may call."""
    with Server(folder / "server", settings={"allowed_origins": "*"}) as server:
        token = server.token("ada")
        headers = {"authorization": f"Bearer {token}", "x-client-id": "filler"}
        with httpx.Client(base_url=server.url, headers=headers, timeout=60) as http:
            for page in pages(records):
                http.post("/sync/bench", json={"changes": [insert(one) for one in page]}).raise_for_status()
        yield Peer("syncd", "@syncd/client", {"url": server.url, "token": token})


def insert(record: Record) -> Record:
    at = "2026-01-01T00:00:00.000000Z"
    fields = {name: {"value": value, "at": at} for name, value in record.items() if name != "id"}
    return {"changeId": record["id"], "table": "tasks", "id": record["id"], "op": "insert", "fields": fields}


@contextlib.contextmanager
def pouchdb(folder: Path, modules: Path, records: Sequence[Record]) -> Iterator[Peer]:
    """pouchdb-server, with its own store on the disk (LevelDB)."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        modules / ".bin" / "pouchdb-server",
        "--port",
        str(port),
        "--dir",
        folder / "pouchdb",
        "--no-stdout-logs",
    ]
    with process(command, cwd=folder), httpx.Client(base_url=url, timeout=60) as http:
        wait_for(http)
        http.put("/tasks").raise_for_status()
        for page in pages(records):
            documents = [{"_id": one["id"], **{name: one[name] for name in one if name != "id"}} for one in page]
            http.post("/tasks/_bulk_docs", json={"docs": documents}).raise_for_status()
        yield Peer("pouchdb", "PouchDB", {"url": f"{url}/tasks", "batch": BATCH})


@contextlib.contextmanager
def rxdb(records: Sequence[Record]) -> Iterator[Peer]:
    """The backend of RxDB's guide, in Node, with its store in memory."""
    with process([shutil.which("node") or "node", HERE / "rxdb_backend.js"], cwd=HERE) as running:
        assert running.stdout is not None
        url = f"http://127.0.0.1:{int(running.stdout.readline())}"
        with httpx.Client(base_url=url, timeout=60) as http:
            for page in pages(records):
                http.post("/fill", json=page).raise_for_status()
        yield Peer("rxdb", "RxDB", {"url": url, "batch": BATCH})


def free_port() -> int:
    """One that nobody listens on now: this server cannot be asked to choose."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: Sequence[str | Path], *, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended in the end."""
    running = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with running:
        try:
            yield running
        finally:
            running.terminate()


def wait_for(http: httpx.Client, patience: float = 30.0) -> None:
    """Waits until a server answers."""
    deadline = time.monotonic() + patience
    while True:
        try:
            http.get("/").raise_for_status()
            return
        except httpx.HTTPError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


# -- the pages -----------------------------------------------------------------------------------------


def bundle(folder: Path, modules: Path) -> Path:
    """A page for each, with everything in one minified file, as an application would be shipped."""
    site = folder / "site"
    for name in ("syncd", "pouchdb", "rxdb"):
        node.run(
            HERE, modules / ".bin" / "esbuild", f"{name}.js", "--bundle", "--minify", "--format=iife",
            "--target=es2022", "--define:global=globalThis", f"--outfile={site / name}.js",
            f"--alias:@syncd/client={node.CLIENT / 'src' / 'index.ts'}",
        )  # fmt: skip
    shutil.copy(HERE / "page.html", site / "page.html")
    return site


def rounds(
    stage: Stage, browser: Browser, site: Site, peers: Sequence[Peer], records: Sequence[Record]
) -> dict[str, list[float]]:
    """Seconds by peer. The first round of each is for warming up its server."""
    count = stage.rounds(7)
    seconds: dict[str, list[float]] = {peer.name: [] for peer in peers}
    with stage.progress("first syncs in Chromium", (count + 1) * len(peers)) as step:
        for number in range(count + 1):
            for peer in peers:
                took = first_sync(browser, site, peer, records)
                step(f"{peer.called} {took:.2f} s")
                if number > 0:
                    seconds[peer.name].append(took)
    return seconds


def first_sync(browser: Browser, site: Site, peer: Peer, records: Sequence[Record]) -> float:
    """Seconds of one first sync into a new profile. Raises AssertionError when not every record is there as it was."""
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        page.goto(f"{site.url}/page.html")
        page.add_script_tag(url=f"{site.url}/{peer.name}.js")
        seconds, found = page.evaluate(RUN, peer.options)
    assert sorted(found, key=lambda one: one["id"]) == records, f"{peer.called} has {len(found)} records"
    return float(seconds)


def report(peers: Sequence[Peer], seconds: dict[str, list[float]], count: int) -> list[Work]:
    """Our rate beside that of each of the others."""
    found = []
    rates = {name: [count / one for one in took] for name, took in seconds.items()}
    for peer in peers[1:]:
        what = f"first sync of {count:,} records in Chromium"
        one = measure(f"browser_{peer.name}", what, rates["syncd"], rates[peer.name],
                      unit="records/s", against=peer.called, target=1.0,
                      note=", ".join(f"{each.called} {sorted(seconds[each.name])[len(seconds[each.name]) // 2]:.2f} s"
                                     for each in (peers[0], peer)))  # fmt: skip
        show(one)
        found.append(one)
    return found
