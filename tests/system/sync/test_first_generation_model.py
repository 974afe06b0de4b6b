"""G7, G19: devices of the first generation of both engines beside clients of ours, two users, a space that one of them
is removed from and comes back to, spaces that nobody has heard of: in the end all hold what the server holds, and
everything that was pushed is in the log.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from syncd_client import EVERY_SPACE, Replica

from syncd.core.clock import parse_instant
from tests.support.drawn import drawn, examples, steps
from tests.support.harness import Server
from tests.support.legacy_devices import DexieEngine, LegacyDevice, LocalStore, TextEngine
from tests.support.legacy_sockets import push_over_socket
from tests.support.wire import Device, Json, unique

PATIENCE = 60.0
TABLES = ("tasks", "notes")
ENGINES: list[list[type[LegacyDevice]]] = [[DexieEngine, LocalStore], [TextEngine, LocalStore]]  # of each user
SLOW = (1, 3)  # of each user the one of the small library
LEFT_OUT = ("id", "deletedAt", "updatedAt")  # what one generation writes and the other does not
Shown = dict[tuple[str, str], Json]
Stamp = tuple[int, str]  # microseconds, and the device
pick = st.integers(0, 99)
edits = st.sampled_from(["edit"] * 4 + ["member"] * 2 + ["object", "delete"])
written = st.tuples(pick, edits, st.booleans())


class Wire(Device):
    """A legacy device's, which remembers what was taken, and looks at each result."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.taken: list[Json] = []

    def send(self, *changes: Json, **members: Any) -> httpx.Response:
        answer = super().send(*changes, **members)
        assert answer.status_code == 200, answer.text
        for change, result in zip(changes, answer.json()["results"], strict=True):
            assert (result["status"] == "rejected") == (result.get("held") is True), result
            self.taken.append(change)
        return answer

    def held(self) -> list[Json]:
        answer = self.request("GET", f"/sync/{self.app}/held", params={"limit": 1000})
        assert answer.status_code == 200, answer.text
        return list(answer.json()["held"])


def folded(registers: Iterable[tuple[Stamp, str, Any]]) -> Json:
    """A record of registers (stamp, name, value); one with a dot is a member of an object, as of its time."""
    record: Json = {}
    for _, name, value in sorted(registers, key=lambda register: register[:2]):
        *path, last = name.split(".")
        at = record
        for member in path:
            at[member] = at = dict(at[member]) if isinstance(at.get(member), dict) else {}
        at[last] = value
    return record


def living(records: dict[tuple[str, str], dict[str, tuple[Stamp, Any]]]) -> Shown:
    """What a user sees of records, each {name: (stamp, value)}."""
    made = {
        key: folded((at, name, value) for name, (at, value) in registers.items()) for key, registers in records.items()
    }
    return {key: seen(record) for key, record in made.items() if record.get("deletedAt") is None}


def seen(record: Json) -> Json:
    return {name: value for name, value in record.items() if name not in LEFT_OUT}


def shown_by_legacy(device: LegacyDevice) -> Shown:
    return {(table, id_): seen(record) for table in TABLES for id_, record in device.shown(table).items()}


def shown_by_ours(replica: Replica) -> Shown:
    """By table and id, whatever the space: no record may live in two."""
    records = {}
    for (_, table, id_), registers in replica.all_registers().items():
        if (dead := registers.get("deletedAt")) is None or dead.value is None:
            assert (table, id_) not in records, f"{id_} lives twice"
            records[table, id_] = {name: ((one.at, one.client), one.value) for name, one in registers.items()}
    return living(records)


def shown_by_log(changes: Iterable[Json]) -> Shown:
    """The latest write of each register in the log. That a record went to another space is no deletion."""
    records: dict[tuple[str, str], dict[str, tuple[Stamp, Any]]] = {}
    for change in changes:
        registers = records.setdefault((change["table"], change["id"]), {})
        for name, register in change["fields"].items():
            stamp = parse_instant(register["at"]), register.get("clientId", change["clientId"])
            if "movedTo" not in register and stamp >= registers.get(name, ((-1, ""), None))[0]:
                registers[name] = stamp, register["value"]
    return living(records)


class World(RuleBasedStateMachine):
    """One example: two users, each with a device of two engines and one of ours. Where all write at once, writes of
    different devices have one millisecond; those of ours are some microseconds later in it."""

    server: Server
    http: httpx.Client
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.tail, self.numbers, self.ticks, self.at_once = unique(""), itertools.count(), 0, False
        self.start = time.time_ns() // 1_000_000_000 * 1_000_000 - 7200 * 1_000_000
        self.users = [f"u{n}{self.tail}" for n in range(2)]
        self.garden, self.inside = f"garden{self.tail}", True
        self.managers = [Device(self.http, self.server, user, "manager", app=self.tail) for user in self.users]
        self.managers[0].create(self.garden)
        self.managers[0].member(self.garden, self.users[1])
        self.legacy = [self.new_legacy(user, engine) for user in range(2) for engine in ENGINES[user]]
        self.ours = [self.new_ours(user) for user in range(2)]
        self.wrote: list[str] = []
        self.made: set[str] = set()

    def clock(self, number: int) -> Callable[[], int]:
        """Two hours ago, later at each look, unless all write at once; of one device of each user another hour ago."""
        behind = 3600 * 1_000_000 if number in SLOW else 0

        def now() -> int:
            self.ticks += not self.at_once
            return self.start - behind + self.ticks * 100_000 + number * (1 if self.at_once else 1000)

        return now

    def new_legacy(self, user: int, engine: type[LegacyDevice]) -> LegacyDevice:
        number = next(self.numbers)
        device = engine(
            Wire(self.http, self.server, self.users[user], f"d{number}", app=self.tail, legacy=True),
            self.clock(number),
        )
        device.dates_edits, device.tables = number % 4 != 3, TABLES
        return device

    def new_ours(self, user: int) -> Replica:
        number, name = next(self.numbers), self.users[user]
        return Replica(
            self.folder / f"{self.tail}-{number}.db", app=self.tail, url=self.server.url,
            token=self.server.token(name), client_id=f"d{number}", durability="normal", wall=self.clock(number),
            verify_every=None,
        )  # fmt: skip

    def value(self) -> str:
        self.wrote.append(f"v{next(self.numbers)}")
        return self.wrote[-1]

    # -- what users do -----------------------------------------------------------------------------------

    @rule(who=pick, drawn=st.lists(written, min_size=1, max_size=5), then=st.sampled_from(["sync", "sync", "lost", ""]))
    def work(self, who: int, drawn: list[tuple[int, str, bool]], then: str) -> None:
        """Some writes, and mostly an exchange; "lost": its answer does not arrive, so all of it is pushed again."""
        number = who % len(self.legacy)
        for one in drawn:
            self.write(number, *one)
        device, table = self.legacy[number], TABLES[drawn[0][0] // 6 % 2]
        if then == "lost":
            device.wire.send(*device.pending, since=device.cursors.get(table, ""), pull=True)
        elif then == "sync":
            device.sync(table)

    def space_of(self, record: str) -> str | None:
        """The space that a device writes a record under."""
        return {"s": self.garden, "n": f"new{record[1:2]}{self.tail}"}.get(record[0])

    def write(self, number: int, record: int, what: str, elsewhere: bool) -> None:
        """A record of one's own, of the shared space, or of a space that there is not yet; one's own may move.

        What was made in a space is never written in the personal one: nobody knows whether it is the same record, so
        that makes two (docs/internals/adr/0031-a-record-moves-with-its-writer.md).
        """
        device, user = self.legacy[number], number // 2
        id_ = (f"p{user}a", f"p{user}b", f"r{user}a", "sa", "sb", f"n{user}a")[record % 6]
        table = TABLES[id_.endswith("b")]
        known = id_ in device.records.get(table, {})
        device.space = self.garden if id_[0] == "p" and elsewhere and known else self.space_of(id_)
        if not known and what in ("edit", "delete", "object"):
            device.insert(table, id_, title=self.value(), cfg={"theme": self.value(), "size": 1})
        elif what == "edit":
            device.edit(table, id_, title=self.value())
        elif what == "member":
            device.edit(table, id_, **{"cfg.theme": self.value()})
        elif what == "object":
            device.edit(table, id_, cfg={"theme": self.value()})
        else:
            device.delete(table, id_)

    @rule(user=st.integers(0, 1), record=pick, what=edits)
    def write_with_ours(self, user: int, record: int, what: str) -> None:
        """A record where this device sees it, or a new one; it may not have heard that the record moved.

        The second user makes none that may move: where one that moved went to a space that its user was removed from,
        an insert makes another in the personal space, and both live when the user is back.
        """
        replica, table = self.ours[user], TABLES[record % 2]
        found = replica.query(table, space=EVERY_SPACE)
        new = ("tasks", f"r{user}a") if record % 3 or user else (table, f"p{user}{'ab'[record % 2]}")
        if what == "delete" and found:
            one = found[record % len(found)]
            replica.delete(table, one.id, space=one.space)
        elif what in ("edit", "member") and found:
            one = found[record % len(found)]
            replica.patch(table, one.id, {"title": self.value()}, space=one.space)
        elif what in ("edit", "object") and replica.get(*new) is None:
            replica.put(*new, {"title": self.value()})
        elif self.garden in [one.id for one in replica.spaces()]:
            replica.put(table, ("sa", "sb")[record % 2], {"title": self.value()}, space=self.garden)

    # -- when devices are in touch -----------------------------------------------------------------------

    @rule(who=pick, table=st.sampled_from(TABLES), steps=st.sampled_from(["sync", "sync", "push", "pull"]))
    def exchange(self, who: int, table: str, steps: str) -> None:
        getattr(self.legacy[who % len(self.legacy)], steps)(table)

    @rule(who=pick, table=st.sampled_from(TABLES), subscribes=st.booleans())
    def push_over_a_socket(self, who: int, table: str, subscribes: bool) -> None:
        push_over_socket(self.legacy[who % len(self.legacy)], self.server, table, subscribes=subscribes)

    @rule(who=pick, limit=st.sampled_from([1, 1000]))
    def pages_are(self, who: int, limit: int) -> None:
        """Small or large: what is pushed then comes between two of them."""
        self.legacy[who % len(self.legacy)].page = {"limit": limit}

    @rule(who=pick)
    def lose_the_cursors(self, who: int) -> None:
        self.legacy[who % len(self.legacy)].cursors.clear()

    @rule(at_once=st.booleans())
    def all_write(self, at_once: bool) -> None:
        """Within a few milliseconds from now on, or one after the other."""
        self.at_once = at_once

    @rule(user=st.integers(0, 1))
    def sync_ours(self, user: int) -> None:
        self.ours[user].sync()

    # -- who may write -----------------------------------------------------------------------------------

    @rule(role=st.sampled_from([None, "reader", "writer", "writer"]))
    def the_second_user_has_a_role(self, role: str | None) -> None:
        if role is not None:
            self.managers[0].member(self.garden, self.users[1], role)
        elif self.inside:
            self.managers[0].remove(self.garden, self.users[1])
        self.inside = role is not None

    @rule(who=pick, drawn=st.lists(written, min_size=1, max_size=3), after=st.sampled_from(["reader", "writer"]))
    def a_reader_writes_and_may_again(self, who: int, drawn: list[tuple[int, str, bool]], after: str) -> None:
        """The second user stays in the space; what was held is written meanwhile."""
        number = 2 + who % 2
        self.the_second_user_has_a_role("reader")
        for one in drawn:
            self.write(number, *one)
        self.legacy[number].push(TABLES[drawn[0][0] % 6 in (1, 4)])
        self.the_second_user_has_a_role("writer")
        self.until_nothing_is_held(self.garden)
        self.the_second_user_has_a_role(after)

    @rule(user=st.integers(0, 1))
    @precondition(lambda self: len(self.made) < 2)
    def a_space_comes_to_be(self, user: int) -> None:
        self.make_space(user)

    def make_space(self, user: int) -> None:
        space = f"new{user}{self.tail}"
        self.made.add(space)
        answer = self.managers[user].request("POST", "/spaces", json={"id": space, "name": space})
        assert answer.status_code in (201, 409), answer.text

    # -- the end -----------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """All may write what they wrote; all are in touch; all hold the same, and so does a new device of each kind."""
        try:
            self.heal()
            for user in range(2):
                self.compare(user)
            self.look_for_what_was_written()
        finally:
            for replica in self.ours:
                replica.close()

    def heal(self) -> None:
        self.managers[0].member(self.garden, self.users[1])
        for user in range(2):
            self.make_space(user)
        for device in self.legacy:
            device.page = {}
            device.push(TABLES[0])
        self.until_nothing_is_held()
        self.bring_in_touch()

    def bring_in_touch(self) -> None:
        for _ in range(3):
            for device, table in itertools.product(self.legacy, TABLES):
                device.sync(table)
            for replica in self.ours:
                replica.sync()
                for queued in (*replica.rejected(), *replica.kept_aside()):
                    replica.requeue(queued.change_id)
                replica.sync()
        assert not any(device.pending for device in self.legacy)
        assert not any(replica.pending() for replica in self.ours)
        self.until_nothing_is_held()

    def until_nothing_is_held(self, space: str | None = None) -> None:
        """Of all spaces, or of one."""
        deadline = time.monotonic() + PATIENCE
        while held := [
            row
            for device in self.legacy[::2]
            for row in device.wire.held()  # type: ignore[attr-defined]
            if space is None or row.get("spaceId") == space
        ]:
            assert time.monotonic() < deadline, held
            time.sleep(0.02)

    def compare(self, user: int) -> None:
        wanted = shown_by_log(self.managers[user].drain(history=1)[0])
        new = [self.new_legacy(user, engine) for engine in (DexieEngine, LocalStore, TextEngine)]
        for device, table in itertools.product(new, TABLES):
            device.pull(table)
        for device in (*self.legacy[user * 2 : user * 2 + 2], *new):
            assert shown_by_legacy(device) == wanted, f"{type(device).__name__} {device.wire.client}"
        with self.new_ours(user) as replica:
            replica.sync()
            for one in (self.ours[user], replica):
                assert shown_by_ours(one) == wanted, f"ours, {one.client_id}"

    def look_for_what_was_written(self) -> None:
        """Each value, also those that lost: they are in the history of their record."""
        assert set(self.wrote) <= self.kept()

    def kept(self) -> set[str]:
        """The values that the server has, whether they won or lost."""
        found = set[str]()
        for manager in self.managers:
            for space, table, id_ in {(c["spaceId"], c["table"], c["id"]) for c in manager.drain(history=1)[0]}:
                path = f"/sync/{manager.app}/records/{table}/{id_}/history"
                answer = manager.request("GET", path, params={"spaceId": space, "limit": 1000})
                assert answer.status_code == 200, answer.text
                found |= {value for change in answer.json()["changes"] for value in values_in(change)}
        return found


def values_in(change: Json) -> Iterator[str]:
    """The texts in a change's registers, whether they won or lost."""
    for register in (*change["fields"].values(), *change["superseded"].values()):
        value = register["value"]
        yield from (str(inner) for inner in (value.values() if isinstance(value, dict) else [value]))


@drawn
@pytest.mark.timeout(900)  # a red run takes minutes to find the shortest way to its fault
def test_nothing_is_lost_and_all_agree_whatever_happens(server: Server, http: httpx.Client, tmp_path: Path) -> None:
    World.server, World.http, World.folder = server, http, tmp_path
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        World,
        settings=settings(
            max_examples=examples(6),
            stateful_step_count=steps(25),
            suppress_health_check=checks,
        ),
    )
