"""Pulls: a fresh device's, many fresh devices' of one space, and those of users with many spaces that bring nothing.

The floor of a fresh pull is COPY of the text that it is made of. Peers are asked for everything, as their own clients
ask, by a device that has nothing. Nobody compresses.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence

import httpx
import psutil

from bench import direct_load, http_load, ws_load
from bench.figures import Bar, Sample, Work, against, part, side
from bench.http_load import Load
from bench.machine import Tree
from bench.peers import tinybase, triplit
from bench.peers.cast import Cast
from bench.play import FAILURES, Player, alternate, fell_out, show, timed
from bench.stage import Stage, spread, sql
from bench.workload import APP, Device, pull_request, record

FRESH = (20_000, 100_000)
BATCH, LANES = 1000, 16
RATE_BAR, COPY_BAR, SIZE_BAR, WORDS_BAR = 300_000.0, 0.8, 350.0, 1.0
PULLS, EACH, EACH_BAR = 1000, 1000, 1.0
IDLE_BARS = {1: 45.0, 100: 100.0, 1000: 250.0}
Players = dict[str, tuple[str, Player]]


def fresh(stage: Stage) -> list[Work]:
    """All records of a space, by a device that has none."""
    found = list[Work]()
    for records in FRESH:
        count = records // 10 if stage.quick else records
        with Cast(stage) as cast:
            pulls = Fresh(stage, cast, count)
            sides, others = alternate(stage, f"fresh device, {count:,} records", stage.rounds(5), pulls.players())
        bars = [
            Bar(what="syncd in words, records a second", value=sides["words"].median, target=RATE_BAR),
            against(sides, "copy", COPY_BAR, mine="words"), against(sides, "syncd", WORDS_BAR, mine="words"),
        ]  # fmt: skip
        found.append(Work(name=f"fresh_{records}", what=f"fresh device, {count:,} records", unit="records/s",
                          sides=sides, bars=bars, others=others))  # fmt: skip
        sent = {name: one for name, one in sides.items() if name in pulls.sizes}
        sizes = {name: side(one.label, [Sample(pulls.sizes[name] / count)]) for name, one in sent.items()}
        bar = Bar(what="syncd in words", value=sizes["words"].median, target=SIZE_BAR, ceiling=True)
        found.append(Work(name=f"bytes_{records}", what=f"what a fresh device is sent, {count:,} records",
                          unit="bytes a record", sides=sizes, bars=[bar], less_is_better=True))  # fmt: skip
    for work in found:
        show(work)
    return found


class Fresh:
    """A space of so many records here and at the peers, and a round of each side. `sizes`: bytes by side."""

    def __init__(self, stage: Stage, cast: Cast, count: int) -> None:
        self._stage, self._cast, self._count, self.sizes = stage, cast, count, dict[str, int]()
        self._device = stage.devices(f"fresh-{count}", 1, edits=0)[0]
        batches = [self._device.changes(BATCH) for _ in range(count // BATCH)]
        with stage.progress(f"loading {count:,} records", 1):
            _push(stage, [(self._device, [self._device.body(changes) for changes in batches])])
            self._records = [[record(change) for change in changes] for changes in batches]
            stage.load(direct_load.tidy, stage.server.owner_dsn)

    def players(self) -> Players:
        """Those that are there, each once asked already."""
        found: Players = {
            "syncd": ("syncd", self._first), "words": ("syncd, in words", lambda: self._first(words=True)),
            "shared": ("syncd, what two others were just sent", self._again),
            "shared_words": ("the same in words", lambda: self._again(words=True)),
            "copy": ("COPY of the stored text", self._copy),
        }  # fmt: skip
        rival = self._cast.triplit(flushed=False)
        if rival is not None:
            port = rival.port
            messages = [triplit.changes(some) for some in self._records]
            loaded = self._stage.load(ws_load.prebuilt, port, [triplit.pushes(messages)])
            if loaded.failed:
                raise RuntimeError("Triplit did not take the records")
            found["triplit"] = ("Triplit/LMDB", self._socket("triplit", rival, triplit.pull("fresh")))
        other = self._cast.tinybase([one for some in self._records for one in some])
        if other is not None:
            other.hold()
            found["tinybase"] = ("TinyBase", self._socket("tinybase", other, tinybase.pull()))
        for name, (_, play) in list(found.items()):
            try:
                play()
            except FAILURES as why:
                fell_out(name, f"fresh device, {self._count:,} records", why)
                del found[name]
        return found

    def _first(self, *, words: bool = False) -> Sample:
        self._stage.load(direct_load.unshare, self._stage.server.owner_dsn)
        return self._own(words)

    def _again(self, *, words: bool = False) -> Sample:
        for _ in range(2):
            self._own(words)
        return self._own(words)

    def _own(self, words: bool) -> Sample:
        stage, device = self._stage, self._device
        before, after = pull_request(stage.token(device), "@", words=words).split(b"@")
        load = stage.load(http_load.pages, stage.server.port, before, after, stage.tree)
        return self._sample("words" if words else "syncd", load)

    def _copy(self) -> Sample:
        stage, arguments = self._stage, [self._device.space, APP]
        copied, used = timed(
            stage.database, lambda: stage.load(direct_load.copy, stage.server.owner_dsn, sql("copy_stored"), arguments)
        )  # fmt: skip
        if copied.calls != self._count:
            raise RuntimeError(f"COPY brought {copied.calls} records of {self._count}")
        self.sizes["copy"] = copied.size
        return Sample(self._count / copied.seconds, used * 1000 / self._count)

    def _socket(self, name: str, peer: triplit.Triplit | tinybase.TinyBase, script: ws_load.Script) -> Player:
        def play() -> Sample:
            return self._sample(name, self._stage.load(ws_load.prebuilt, peer.port, [script], 0, Tree(peer.pid)))

        return play

    def _sample(self, name: str, load: Load) -> Sample:
        # A record has as many bytes as its text at the least: less than that was not all.
        if load.failed or load.size < self._count * 200:
            raise RuntimeError(f"{name} did not send everything: {load}")
        self.sizes[name] = load.size
        return Sample(self._count / load.seconds, load.cpu * 1000 / self._count)


def first_pulls(stage: Stage) -> list[Work]:
    """Many new devices of as many members pull one space: what each costs."""
    pulls = PULLS // 10 if stage.quick else PULLS
    owner, members = _shared(stage, "school", 1, pulls, EACH)
    requests = [pull_request(stage.server.token(user), "") for user in members]
    _answered(stage.load(http_load.prebuilt, stage.server.port, [requests[:1]]))

    def own() -> Sample:
        lanes = spread(requests, LANES)
        load, used = timed(stage.tree, lambda: stage.load(http_load.prebuilt, stage.server.port, lanes))
        if _answered(load).size < pulls * EACH * 200:
            raise RuntimeError(f"not all came: {load}")
        return Sample(used * 1000 / load.requests)

    with Cast(stage) as cast:
        players: Players = {"syncd": ("syncd", own)}
        rival = cast.triplit(flushed=False)
        if rival is not None:
            owned = Device(owner, "none", edits=0)
            stage.load(ws_load.prebuilt, rival.port, [triplit.pushes([triplit.changes(
                [record(change) for change in owned.changes(EACH)])])])  # fmt: skip
            few, tree, port = max(10, pulls // 10), Tree(rival.pid), rival.port

            def theirs() -> Sample:
                scripts = [triplit.pull("first")] * few
                load, used = timed(tree, lambda: stage.load(ws_load.prebuilt, port, scripts))
                return Sample(used * 1000 / _answered(load).requests)

            players["triplit"] = ("Triplit/LMDB", theirs)
        what = f"{pulls:,} first pulls of one space of {EACH:,} records"
        sides, others = alternate(stage, what, stage.rounds(5), players)
    bar = Bar(what="syncd", value=sides["syncd"].median, target=EACH_BAR, ceiling=True)
    work = Work(name="first_pulls", what=what, unit="ms of CPU each", sides=sides, bars=[bar], less_is_better=True,
                others=others)  # fmt: skip
    show(work)
    return [work]


def spaces(stage: Stage) -> list[Work]:
    """Users of one, of a hundred and of a thousand spaces: a fresh device's pull, then pulls that bring nothing."""
    found, rates = list[Work](), dict[str, tuple[str, Player]]()
    records = 2_000 if stage.quick else 20_000
    for count, most in IDLE_BARS.items():
        users = 4 if stage.quick else LANES
        owner, members = _shared(stage, f"town-{count}", count, users, records)
        found.append(_idle(stage, members, count, most))
        rates["syncd" if count == 1 else f"{count} spaces"] = (
            f"syncd, {count:,} spaces",
            _pulled(stage, owner, records),
        )
    what = f"fresh device, {records:,} records in 1, 100 and 1,000 spaces"
    sides, others = alternate(stage, what, stage.rounds(5), rates)
    found.append(Work(name="spaces", what=what, unit="records/s", sides=sides, others=others))
    for work in found:
        show(work)
    return found


def _idle(stage: Stage, members: Sequence[str], count: int, most: float) -> Work:
    """Microseconds of CPU of a pull that brings nothing, and what a bare uvicorn uses for as large an answer."""
    each = 100 if stage.quick else (400 if count < 1000 else 100)
    lanes = [[pull_request(stage.server.token(user), _cursor(stage, user), limit=1000)] * each for user in members]
    size = _answered(stage.load(http_load.prebuilt, stage.server.port, [lanes[0][:1]])).size
    waits = list[float]()
    with _bare(size) as (port, process):

        def asked(port: int, tree: Tree, mine: bool) -> Sample:
            load = _answered(stage.load(http_load.prebuilt, port, lanes, 1, tree))
            if mine:
                waits.append(load.p50)
            return Sample(load.cpu * 1e6 / load.requests)

        players: Players = {
            "syncd": ("syncd", lambda: asked(stage.server.port, stage.tree, True)),
            "bare": ("bare uvicorn, as large an answer", lambda: asked(port, Tree(process.pid), False)),
        }
        what = f"pull of nothing new, {count:,} spaces of the user"
        sides, others = alternate(stage, what, stage.rounds(5), players)
    bar = Bar(what="syncd", value=sides["syncd"].median, target=most, ceiling=True)
    return Work(name=f"idle_{count}", what=what, unit="µs of CPU", sides=sides, bars=[bar], less_is_better=True,
                others=others, note=f"{len(members)} users; answered in {part(sorted(waits), 0.5):.1f} ms")  # fmt: skip


def _pulled(stage: Stage, user: str, records: int) -> Player:
    def play() -> Sample:
        stage.load(direct_load.unshare, stage.server.owner_dsn)
        before, after = pull_request(stage.server.token(user), "@").split(b"@")
        load = stage.load(http_load.pages, stage.server.port, before, after, stage.tree)
        if load.size < records * 200:
            raise RuntimeError(f"not all came: {load}")
        return Sample(records / load.seconds, load.cpu * 1000 / records)

    return play


def _shared(stage: Stage, name: str, count: int, users: int, records: int) -> tuple[str, list[str]]:
    """An owner of `count` spaces with `records` records in all, and users who are members of every one."""
    owner, members = f"{name}-owner", [f"{name}-{n}" for n in range(users)]
    places = [f"{name}-space-{n}" for n in range(count)]
    token = stage.server.token(owner)
    made = [_request("POST", "/spaces", {"id": place, "name": place}, token) for place in places]
    joined = [
        _request("PUT", f"/spaces/{place}/members/{user}", {"role": "reader"}, token)
        for place in places for user in members
    ]  # fmt: skip
    with stage.progress(f"{count:,} spaces with {users:,} members", 1):
        for requests in (made, joined):
            _answered(stage.load(http_load.prebuilt, stage.server.port, spread(requests, 8)))
        devices = [Device(owner, place, edits=0) for place in places]
        share = max(1, records // count)
        _push(stage, [(device, [device.push(min(share, BATCH)) for _ in range(max(1, share // BATCH))])
                      for device in devices])  # fmt: skip
        stage.load(direct_load.tidy, stage.server.owner_dsn)
    return owner, members


def _push(stage: Stage, work: Sequence[tuple[Device, list[bytes]]]) -> None:
    """Pushes bodies, four at a time. Raises RuntimeError when not all of their changes were applied."""
    requests = [device.request(stage.token(device), body) for device, bodies in work for body in bodies]
    sent = sum(body.count(b'"changeId":') for _, bodies in work for body in bodies)
    load = stage.load(http_load.prebuilt, stage.server.port, spread(requests, min(4, len(requests))))
    if _answered(load).applied != sent:
        raise RuntimeError(f"{load.applied} of {sent} changes were applied")


def _request(method: str, path: str, body: dict[str, str], token: str) -> bytes:
    text = json.dumps(body).encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    ).encode() + text


def _answered(load: Load) -> Load:
    if load.failed:
        raise RuntimeError(f"{load.failed} of {load.requests} requests were refused")
    return load


def _cursor(stage: Stage, user: str) -> str:
    """The cursor of a device that has seen everything."""
    headers, since = {"Authorization": f"Bearer {stage.server.token(user)}"}, ""
    with httpx.Client(base_url=stage.server.url, headers=headers, timeout=60) as client:
        while True:
            params = {"limit": "10000", "since": since}
            answer = client.get(f"/sync/{APP}/pull", params=params).raise_for_status().json()
            since = str(answer["syncedUntil"])
            if not answer["hasMore"]:
                return since


@contextlib.contextmanager
def _bare(size: int) -> Iterator[tuple[int, psutil.Process]]:
    """A bare uvicorn: its port and its process."""
    process = subprocess.Popen([sys.executable, "-m", "bench.bare", str(size)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
