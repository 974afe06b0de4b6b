"""Pushes: single changes and batches, against the floors, the peers and the old way, with as many clients each.

All write records of as many bytes, every second one a whole edit of a record of an earlier push.
"""

from __future__ import annotations

from bench import floors, http_load, ws_load
from bench.figures import Bar, Sample, Work, against, side
from bench.machine import Tree
from bench.peers import kinto, triplit
from bench.peers.cast import Cast
from bench.play import Player, alternate, show
from bench.stage import Stage, console, sql
from bench.workload import APP, Device, record

WARM = 2
CLIENTS, MANY, BATCH = 16, 64, 100
WAL = "SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
WAL_BAR, HOT_BAR, PAIR_BAR = 500.0, 0.9, 1.0
Players = dict[str, tuple[str, Player]]


def singles(stage: Stage) -> list[Work]:
    """One change a push, with 16 clients and with 64."""
    found = []
    for clients in (CLIENTS, MANY):
        pushes = max(8, (640 if stage.quick else 4800) // clients)
        with Cast(stage) as cast:
            rivals = Rivals(stage, cast, f"one-{clients}", clients, 1, pushes)
            own = Own(stage, f"one-{clients}", clients, 1, pushes)
            players: Players = {"syncd": ("syncd", own), **rivals.floors(), **rivals.peers()}
            what = f"single edits, {clients} clients"
            sides, others = alternate(stage, what, stage.rounds(5), players)
            own.verify()
        bars = [against(sides, "triplit", 1.0), against(sides, "pgbench", 0.5)]
        found.append(
            Work(name=f"singles_{clients}", what=what, unit="edits/s", sides=sides, bars=bars, others=others,
                 note=f"syncd {own.note()}; floors: CPU is PostgreSQL's, the client is the load"
                 + rivals.note())
        )  # fmt: skip
        show(found[-1])
    return found


def batches(stage: Stage) -> list[Work]:
    """A hundred changes a push, and what they write to the database's log."""
    pushes = 3 if stage.quick else 16
    with Cast(stage) as cast:
        rivals = Rivals(stage, cast, "batch", CLIENTS, BATCH, pushes)
        own = Own(stage, "batch", CLIENTS, BATCH, pushes)
        players: Players = {"syncd": ("syncd", own), **rivals.floors(), **rivals.peers()}
        what = f"batches of {BATCH}, {CLIENTS} clients"
        sides, others = alternate(stage, what, stage.rounds(5), players)
        own.verify()
    bars = [against(sides, "triplit", 0.6), against(sides, "floor", 0.4)]
    work = Work(name="batches", what=what, unit="changes/s", sides=sides, bars=bars, others=others,
                note=f"syncd {own.note()}" + rivals.note())  # fmt: skip
    wal = {"syncd": side("syncd", own.wal), "floor": side("asyncpg upsert", rivals.wal)}
    bar = Bar(what="syncd", value=wal["syncd"].median, target=WAL_BAR, ceiling=True)
    logged = Work(name="wal", what=f"write-ahead log, {what}", unit="bytes a change", sides=wal, bars=[bar],
                  less_is_better=True, others=others)  # fmt: skip
    for one in (work, logged):
        show(one)
    return [work, logged]


def hot(stage: Stage) -> list[Work]:
    """The same pushes into one space and into a space each, by one worker and by two."""
    found = []
    with Stage(stage.quick, workers=2) as pair:
        for size, pushes, few, word in ((1, 300, 40, "singles"), (BATCH, 12, 3, "batches")):
            players: Players = {}
            for server, workers in ((stage, "one worker"), (pair, "two workers")):
                for shared, where in ((True, "one space"), (False, "many spaces")):
                    name = f"hot-{word}-{shared}"
                    own = Own(server, name, CLIENTS, size, few if stage.quick else pushes, shared=shared)
                    key = {("one worker", True): "syncd"}.get((workers, shared), f"{where}, {workers}")
                    players[key] = (f"syncd, {where}, {workers}", own)
            what = f"one hot space, {word}, {CLIENTS} clients"
            sides, others = alternate(stage, what, stage.rounds(5), players)
            bars = [
                against(sides, "many spaces, one worker", HOT_BAR),
                against(sides, "syncd", PAIR_BAR, mine="one space, two workers"),
                against(sides, "many spaces, one worker", PAIR_BAR, mine="many spaces, two workers"),
            ]
            found.append(Work(name=f"hot_{word}", what=what, unit="changes/s", sides=sides, bars=bars, others=others))
            show(found[-1])
    return found


class Own:
    """syncd's side: each call is a round over HTTP."""

    def __init__(self, stage: Stage, name: str, clients: int, size: int, pushes: int, *, shared: bool = False) -> None:
        self._stage, self._size, self._pushes = stage, size, pushes
        self._devices = stage.devices(name, clients, shared=shared, edits=2, whole=True)
        self._loads = list[http_load.Load]()
        self.wal = list[Sample]()

    def __call__(self) -> Sample:
        stage, size, pushes = self._stage, self._size, self._pushes
        requests = [
            [d.request(stage.token(d), d.push(size)) for _ in range(pushes + WARM)] for d in self._devices
        ]  # fmt: skip
        written = stage.fetch(WAL)
        load = stage.load(http_load.prebuilt, stage.server.port, requests, WARM, stage.tree)
        if not load.applied:
            raise RuntimeError(f"all of {load.requests} pushes failed")
        self.wal.append(Sample(float(stage.fetch(WAL) - written) / load.applied))
        self._loads.append(load)
        done = load.requests - load.failed
        return Sample(done * size / load.seconds, load.cpu * 1000 / max(1, done * size))

    def note(self) -> str:
        """How long answers took, in the round in the middle; and how many were a refusal, which count for nothing."""
        middle = sorted(self._loads, key=lambda load: load.p50)[len(self._loads) // 2]
        refused = sum(load.failed for load in self._loads)
        return f"answered in {middle.p50:.1f} ms, 99 % in {middle.p99:.1f} ms" + (
            f", {refused} pushes refused" if refused else ""
        )

    def verify(self) -> None:
        """Raises when the log does not hold what was acknowledged, each once and without a gap."""
        sent = sum(load.applied for load in self._loads)
        spaces = sorted({device.space for device in self._devices})
        changes = self._stage.fetch(f"SELECT changes FROM ({sql('count')}) found", APP, spaces)
        heads = self._stage.fetch(f"SELECT heads FROM ({sql('count')}) found", APP, spaces)
        if not changes == heads == sent:
            raise RuntimeError(f"{sent} changes were acknowledged, the log has {changes} and its heads say {heads}")
        console.print(f"  [dim]verified: {changes:,} changes acknowledged, {changes:,} in the log[/]")


class Rivals:
    """The floors, the old way and the peers, with as many clients and as large pushes. Slow ones get fewer."""

    def __init__(self, stage: Stage, cast: Cast, name: str, clients: int, size: int, pushes: int) -> None:
        self._stage, self._cast, self._clients, self._size, self._pushes = stage, cast, clients, size, pushes
        self._name, self.wal, self.refused = name, list[Sample](), dict[str, int]()
        if not stage.fetch("SELECT to_regnamespace('bench') IS NOT NULL"):
            floors.make_tables(stage.server.owner_dsn)

    def _devices(self, name: str) -> list[Device]:
        users = [f"{name}-{self._name}-{n}" for n in range(self._clients)]
        return [Device(user, user, edits=2, whole=True) for user in users]

    def floors(self) -> Players:
        """PostgreSQL alone."""
        upserted, each, one = self._devices("floor"), self._devices("old"), self._devices("pgbench")[0]
        text = floors.row(*(lambda change: (change, record(change)))(one.changes(1)[0]))[2]
        found: Players = {"floor": ("asyncpg upsert", lambda: self._upserts(upserted))}
        if self._size == 1:
            found["pgbench"] = ("pgbench, prepared upsert", lambda: self._pgbench(text))
        found["old"] = ("one transaction a change (asyncpg)", lambda: self._transactions(each))
        return found

    def peers(self) -> Players:
        """Those that are there."""
        found: Players = {}
        for flushed, name in ((False, "triplit"), (True, "triplit_flushed")):
            peer = self._cast.triplit(flushed=flushed)
            if peer is not None:
                label = "Triplit/LMDB" + (", commit waits for the disk" if flushed else "")
                found[name] = (label, self._triplit(peer, self._devices(name)))
        rival = self._cast.kinto()
        if rival is not None:
            found["kinto"] = ("Kinto/PostgreSQL", self._kinto(rival, self._devices("kinto")))
        return found

    def _lanes(self, devices: list[Device], pushes: int) -> list[list[list[floors.Row]]]:
        return [
            [[floors.row(c, record(c)) for c in d.changes(self._size)] for _ in range(pushes + 1)] for d in devices
        ]  # fmt: skip

    def _upserts(self, devices: list[Device]) -> Sample:
        lanes, stage = self._lanes(devices, self._pushes), self._stage
        written = stage.fetch(WAL)
        seconds, used = stage.load(floors.upserts, stage.server.owner_dsn, lanes, stage.database)
        rows = self._clients * self._size
        self.wal.append(Sample(float(stage.fetch(WAL) - written) / rows / (self._pushes + 1)))
        return Sample(rows * self._pushes / seconds, used * 1000 / rows / self._pushes)

    def _transactions(self, devices: list[Device]) -> Sample:
        pushes = max(2, self._pushes // (2 if self._size == 1 else 8))
        lanes, stage = self._lanes(devices, pushes), self._stage
        seconds, used = stage.load(floors.transactions, stage.server.owner_dsn, lanes, stage.database)
        rows = self._clients * self._size * pushes
        return Sample(rows / seconds, used * 1000 / rows)

    def _pgbench(self, text: str) -> Sample:
        stage = self._stage
        seconds = 1.0 if stage.quick else 2.0
        rate, used = floors.pgbench(
            stage.bindir, stage.server.owner_dsn, text, self._clients, seconds, stage.database
        )  # fmt: skip
        return Sample(rate, used * 1000)

    def _triplit(self, peer: triplit.Triplit, devices: list[Device]) -> Player:
        def play() -> Sample:
            scripts = [
                triplit.pushes([triplit.changes([record(c) for c in d.changes(self._size)])
                                for _ in range(self._pushes + WARM)])
                for d in devices
            ]  # fmt: skip
            load = self._stage.load(ws_load.prebuilt, peer.port, scripts, WARM, Tree(peer.pid))
            return self._sample("Triplit", load)

        return play

    def _kinto(self, peer: kinto.Kinto, devices: list[Device]) -> Player:
        # A batch is a hundred requests to it, and takes seconds: one from each client.
        pushes, warm = (max(2, self._pushes // 20), 1) if self._size == 1 else (1, 0)

        def play() -> Sample:
            requests = [[self._request(d) for _ in range(pushes + warm)] for d in devices]
            tree = Tree(peer.pid, self._stage.postmaster.pid)
            return self._sample("Kinto", self._stage.load(http_load.prebuilt, peer.port, requests, warm, tree))

        return play

    def _request(self, device: Device) -> bytes:
        records = [record(change) for change in device.changes(self._size)]
        return kinto.put(records[0]) if self._size == 1 else kinto.batch(records)

    def _sample(self, name: str, load: http_load.Load) -> Sample:
        if load.failed > load.requests // 2:
            raise RuntimeError(f"{name} refused {load.failed} of {load.requests} pushes")
        self.refused[name] = self.refused.get(name, 0) + load.failed
        rows = self._size * (load.requests - load.failed)
        return Sample(rows / load.seconds, load.cpu * 1000 / rows)

    def note(self) -> str:
        """The refusals of each: a refused push counts for nothing."""
        return "".join(f"; {name} refused {count} pushes" for name, count in self.refused.items() if count)
