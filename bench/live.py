"""The live half: how soon a change is on other screens, what a delivered one costs, and what an idle socket weighs.

One space, one writer, and a hundred listeners that are each a user of their own. The floor is the `websockets`
library's own server with its `broadcast`, which stores nothing; every side is sent one change a frame of its own wire.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import httpx
import msgspec

from bench import http_load
from bench.crowd import Crowd, Heard, Speech, Tally, more_files
from bench.figures import Bar, Sample, Side, Work, against, part, side
from bench.machine import Tree, Watch
from bench.peers import tinybase, triplit
from bench.peers.cast import Cast
from bench.play import FAILURES, Player, alternate, fell_out, show, timed
from bench.stage import Stage, spread
from bench.workload import APP, Device, record

SPACE, AUDIENCE, IDLE, RATE, WINDOW, LANES, WARM = "hall", 100, 1000, 100.0, 8, 8, 8
TURNS = 200  # records that are edited in turn
AUTH_AND_PAGE = 2  # frames that a listener gets before anything new
SOON, LATE, BROADCAST_BAR = 3.0, 8.0, 0.8
EDGES = [0.5 * 1.2**n for n in range(36)]  # of the histogram, milliseconds: up to 300
TITLE = Speech(mark=b'"title"', name=rb'"title":"([^"]+)"')
TRIPLIT = TITLE._replace(greetings=1)
TINYBASE = TITLE._replace(name=rb'"title":\["([^"]+)"')


class Line(NamedTuple):
    """A socket server that repeats to everybody what one of them says: where it is, and what is said and answered."""

    label: str
    port: int
    tree: Tree
    path: str
    speak: str
    hello: list[bytes]
    expected: int


class Own:
    """syncd's hall: a space with writers who edit records of their own, and as many readers as there are sockets."""

    def __init__(self, stage: Stage, crowd: Crowd, listeners: int) -> None:
        self.stage, self.crowd, self.port = stage, crowd, stage.server.port
        names = [f"writer-{n}" for n in range(LANES)]
        self._writers = [
            Device(n, SPACE, edits=1, held=[f"{n}-record-{i}" for i in range(4)], whole=True) for n in names
        ]  # fmt: skip
        self.listeners = [f"listener-{n}" for n in range(listeners)]
        owner = stage.server.token(names[0])
        with httpx.Client(base_url=stage.server.url, headers={"Authorization": f"Bearer {owner}"}) as client:
            client.post("/spaces", json={"id": SPACE, "name": SPACE}).raise_for_status()
        members = [(name, "writer") for name in names[1:]] + [(name, "reader") for name in self.listeners]
        invited = [_invite(owner, *member) for member in members]
        load = stage.load(http_load.prebuilt, self.port, spread(invited, LANES))
        if load.failed:
            raise RuntimeError(f"{load.failed} of {load.requests} members were not taken")

    def gather(self, count: int, first: int = 0) -> None:
        """Opens the sockets of `count` listeners, from the number `first` on; each has what there is."""
        hellos = [self._hello(user) for user in self.listeners[first : first + count]]
        self.crowd.call("open", self.port, f"/ws/{APP}", hellos, AUTH_AND_PAGE)

    def heard(self, count: int) -> Heard:
        """Pushes of eight writers in turn, each at its time."""
        lanes = self._requests(count // LANES, LANES)
        requests = [request for some in zip(*lanes, strict=True) for request in some]
        found: Heard = self.crowd.call("paced", self.port, requests, RATE, LANES)
        return found

    def burst(self, count: int) -> Sample:
        """Pushes of one writer, each as soon as the one before is answered."""
        requests = self._requests(count, 1)
        tally, used = timed(self.stage.tree, lambda: self.crowd.call("burst", self.port, requests))
        return _delivered(tally, used)

    def _requests(self, each: int, lanes: int) -> list[list[bytes]]:
        return [[w.request(self.stage.token(w), w.push(1)) for _ in range(each)] for w in self._writers[:lanes]]

    def _hello(self, user: str) -> list[bytes]:
        auth = {"type": "auth", "token": self.stage.server.token(user), "clientId": f"{user}-tab", "protocol": 1}
        return [msgspec.json.encode(auth), msgspec.json.encode({"type": "subscribe", "appId": APP})]


class Other:
    """Another server's listeners and its one writer, who edits records of his own."""

    def __init__(self, line: Line, crowd: Crowd) -> None:
        self.line, self.crowd, self._made = line, crowd, 0
        self._device = Device(f"speaker-{line.label}", SPACE, edits=0)

    def gather(self, count: int) -> None:
        line = self.line
        self.crowd.call("open", line.port, line.path, [line.hello] * count, line.expected)

    def heard(self, count: int) -> Heard:
        found: Heard = self.crowd.call("spoken", self.line.port, self.line.speak, self._messages(count), RATE)
        return found

    def burst(self, count: int) -> Sample:
        line, messages = self.line, self._messages(count)
        tally, used = timed(
            line.tree, lambda: self.crowd.call("windowed", line.port, line.speak, messages, WINDOW)
        )  # fmt: skip
        return _delivered(tally, used)

    def _messages(self, count: int) -> list[bytes]:
        records = list[dict[str, Any]]()
        for change in self._device.changes(count):
            # In turn, so that nobody can leave out an edit because the next of the same record is there already.
            self._made += 1
            records.append({**record(change), "id": f"018f6d2c-7a3b-7000-9000-{self._made % TURNS:012x}"})
        if self.line.label == "TinyBase":
            return tinybase.changes(records)
        if self.line.label.startswith("Triplit"):
            return [triplit.changes([one]) for one in records]
        return [msgspec.json.encode([SHELL, one]) for one in records]


# So that a broadcast frame is as large as one of syncd's, which says of each value who wrote it when.
SHELL = "x" * 650


def live(stage: Stage) -> tuple[list[Work], dict[str, Any]]:
    """Latency and throughput of a hundred listeners, on servers of their own."""
    more_files()
    with contextlib.ExitStack() as stack:
        halls = _halls(stack, stage)
        for hall in halls.values():
            hall.gather(AUDIENCE)
            hall.burst(WARM)
        found, bars = _latency(stage, halls)
        found.append(_throughput(stage, halls))
    for one in found:
        show(one)
    return found, {"live": bars}


def _halls(stack: contextlib.ExitStack, stage: Stage) -> dict[str, Own | Other]:
    """Everybody who is there, with an audience's process each."""
    one, two = (stack.enter_context(Stage(stage.quick, workers=count)) for count in (1, 2))
    halls: dict[str, Own | Other] = {
        "syncd": Own(one, stack.enter_context(Crowd()), AUDIENCE),
        "two workers": Own(two, stack.enter_context(Crowd()), AUDIENCE),
    }
    port, pid = stack.enter_context(_broadcaster())
    floor = Line("websockets' broadcast, nothing stored", port, Tree(pid), "/listen", "/say", [], 0)
    halls["broadcast"] = Other(floor, stack.enter_context(Crowd(TITLE)))
    cast = stack.enter_context(Cast(one))
    for name, (line, speech) in _peers(cast).items():
        halls[name] = Other(line, stack.enter_context(Crowd(speech)))
    return halls


def _peers(cast: Cast) -> dict[str, tuple[Line, Speech]]:
    found = dict[str, tuple[Line, Speech]]()
    rival = cast.triplit(flushed=False)
    if rival is not None:
        hello = [triplit.query("live", [["assignee", "!=", ""]])]
        line = Line("Triplit/LMDB", rival.port, Tree(rival.pid), triplit.path(), triplit.path(), hello, 1)
        found["triplit"] = line, TRIPLIT
    other = cast.tinybase()
    if other is not None:
        line = Line("TinyBase", other.port, Tree(other.pid), tinybase.PATH, tinybase.PATH, [], 0)
        found["tinybase"] = line, TINYBASE
    return found


def _label(name: str, hall: Own | Other) -> str:
    if isinstance(hall, Other):
        return hall.line.label + (" (sends before it stores)" if name == "tinybase" else "")
    return "syncd" if name == "syncd" else "syncd, two workers"


def _latency(stage: Stage, halls: dict[str, Own | Other]) -> tuple[list[Work], dict[str, list[dict[str, float]]]]:
    """From when a push was due to be sent, which is before it is committed, to each receipt."""
    count = int(RATE * (0.5 if stage.quick else 3)) // LANES * LANES
    middle, late = ({name: list[Sample]() for name in halls} for _ in range(2))
    times = {name: list[float]() for name in halls}
    with Watch() as watch, stage.progress(f"{AUDIENCE} listeners, {RATE:.0f} changes/s", stage.rounds(5)) as step:
        for _ in range(stage.rounds(5)):
            for name, hall in list(halls.items()):
                try:
                    waits = _waits(hall.heard(count))
                except FAILURES as why:
                    fell_out(name, "live", why)
                    for some in (halls, middle, late, times):
                        del some[name]  # type: ignore[attr-defined]
                    continue
                middle[name].append(Sample(part(waits, 0.5)))
                late[name].append(Sample(part(waits, 0.99)))
                times[name] += waits
            step(", ".join(f"{name} {some[-1].value:.1f} ms" for name, some in late.items()))
    found = []
    for name, word, some, most in (("live_p50", "median", middle, SOON), ("live_p99", "99 %", late, LATE)):
        sides = {key: side(_label(key, hall), some[key]) for key, hall in halls.items()}
        bar = Bar(what="syncd", value=sides["syncd"].median, target=most, ceiling=True)
        what = f"sent to received, {word}, {AUDIENCE} listeners, {RATE:.0f} changes/s"
        found.append(Work(name=name, what=what, unit="ms", sides=sides, bars=[bar], less_is_better=True,
                          others=watch.others))  # fmt: skip
    return found, {name: histogram(some) for name, some in times.items()}


def _waits(heard: Heard) -> list[float]:
    found = sorted((at - due) / 1e6 for due, some in zip(heard.due, heard.received, strict=True) for at in some)
    if len(found) != len(heard.due) * AUDIENCE:
        raise RuntimeError(f"{len(found)} receipts of {len(heard.due)} pushes by {AUDIENCE} listeners")
    return found


def histogram(times: Sequence[float]) -> list[dict[str, float]]:
    """Shares of the times, ms, between one edge and the next; empty ones are left out."""
    bars = [
        {"from": low, "to": high, "share": sum(low <= one < high for one in times) / len(times)}
        for low, high in zip([0.0, *EDGES], [*EDGES, 1e9], strict=True)
    ]
    return [bar for bar in bars if bar["share"]]


def _throughput(stage: Stage, halls: dict[str, Own | Other]) -> Work:
    count = 40 if stage.quick else 400
    players: dict[str, tuple[str, Player]] = {
        name: (_label(name, hall), lambda hall=hall: hall.burst(count))
        for name, hall in halls.items()  # type: ignore[misc]
    }
    what = f"delivered to {AUDIENCE} listeners, one writer"
    sides, others = alternate(stage, what, stage.rounds(5), players)
    bars = [against(sides, "broadcast", BROADCAST_BAR, cpu=True)]
    return Work(name="live_rate", what=what, unit="changes/s", sides=sides, bars=bars, others=others,
                note="CPU a delivered change: worker and PostgreSQL, the push that it came by included")  # fmt: skip


def _delivered(tally: Tally, used: float) -> Sample:
    if tally.failed:
        raise RuntimeError(f"{tally.failed} pushes were not applied")
    return Sample(tally.changes / tally.seconds, used * 1000 / tally.changes)


def connection(stage: Stage) -> list[Work]:
    """What a server grows by with each idle socket that listens, when it has done all of it once with a few."""
    more_files()
    count = IDLE // 5 if stage.quick else IDLE
    sides = dict[str, Side]()
    with Stage(stage.quick) as own, Watch() as watch:
        with Crowd() as crowd:
            hall = Own(own, crowd, count + 50)
            hall.gather(50)
            hall.burst(WARM)
            kilobytes = _grown(own.tree, lambda: hall.gather(count, 50)) / count
        sides["syncd"] = Side(label="syncd (worker and PostgreSQL)", values=[kilobytes])
        with Cast(own) as cast:
            for name, (line, speech) in _peers(cast).items():
                with Crowd(speech) as crowd:
                    other = Other(line, crowd)
                    other.gather(50)
                    other.burst(WARM)
                    grown = _grown(line.tree, lambda other=other: other.gather(count)) / count  # type: ignore[misc]
                sides[name] = Side(label=line.label, values=[grown])
    work = Work(name="connection", what=f"an idle socket that listens, of {count:,}", unit="kB", sides=sides,
                less_is_better=True, others=watch.others)  # fmt: skip
    show(work)
    return [work]


def _grown(tree: Tree, work: Any) -> float:
    """Kilobytes that the processes grow by."""
    time.sleep(1)
    before = tree.memory()
    work()
    time.sleep(2)
    return (tree.memory() - before) / 1000


@contextlib.contextmanager
def _broadcaster() -> Iterator[tuple[int, int]]:
    """The library's server: its port and its process."""
    process = subprocess.Popen([sys.executable, "-m", "bench.broadcaster"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline()), process.pid
    finally:
        process.terminate()
        process.wait()


def _invite(owner: str, user: str, role: str) -> bytes:
    """A member's request."""
    body = b'{"role":"%s"}' % role.encode()
    head = (
        f"PUT /spaces/{SPACE}/members/{user} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {owner}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
