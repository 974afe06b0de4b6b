"""G7, G8, G17 with the Python client: a replica keeps what it has not sent, and nothing of what was forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from syncd_client import Replica

from tests.support.compacting import ALL, compact_now
from tests.support.harness import Server
from tests.support.wire import unique

Open = Callable[[str], Replica]


@pytest.fixture
def user() -> str:
    return unique("ada")


@pytest.fixture
def replica(server: Server, user: str, tmp_path: Path) -> Iterator[Open]:
    opened: list[Replica] = []

    def make(name: str) -> Replica:
        opened.append(Replica(tmp_path / name, app="app", url=server.url, token=server.token(user)))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def state(replica: Replica) -> dict[str, dict[str, object]]:
    return {record.id: dict(record) for record in replica.query("t")}


@pytest.mark.parametrize("tombstones", [None, ALL], ids=["folded", "forgotten"])
def test_a_replica_that_slept_keeps_what_it_has_not_sent(
    server: Server, replica: Open, user: str, tombstones: timedelta | None
) -> None:
    awake, asleep = replica("awake"), replica("asleep")
    for record in ("kept", "changed", "gone"):
        awake.put("t", record, {"x": 1, "y": 1})
    awake.sync()
    asleep.sync()
    asleep.patch("t", "kept", {"y": "offline"})
    asleep.patch("t", "gone", {"y": "offline"})
    asleep.put("t", "made", {"x": "offline"})
    for n in range(20):
        awake.patch("t", "changed", {"x": n})
        awake.sync()
    awake.delete("t", "gone")
    awake.sync()
    report = compact_now(server.owner_dsn, f"_personal:{user}", tombstones=tombstones)
    assert report.dropped > 15
    assert report.forgotten == (0 if tombstones is None else 1)

    asleep.sync()
    if tombstones is not None:
        # What may be of a record that was deleted is not written, and not thrown away: its user decides.
        refused = {(change.id, change.code) for change in asleep.rejected()}
        assert refused == {("gone", "record_forgotten"), ("made", "record_forgotten")}
        assert state(asleep)["made"] == {"x": "offline"}
        for change in asleep.rejected():
            asleep.drop(change.change_id)
        asleep.put("t", "made", {"x": "offline"})
        asleep.sync()
    assert asleep.pending() == []
    awake.sync()
    expected = {"kept": {"x": 1, "y": "offline"}, "changed": {"x": 19, "y": 1}, "made": {"x": "offline"}}
    assert state(awake) == state(asleep) == expected
    new = replica("new")
    new.sync()
    assert state(new) == expected
    assert asleep.verify().differences == 0


class Forgotten:
    """A record with the fields x and y that `held` saw deleted, and that the server has forgotten."""

    def __init__(self, server: Server, replica: Open, user: str) -> None:
        self.held, self.other, self._open = replica("held"), replica("other"), replica
        self.held.put("t", "r", {"x": "old", "y": "old"})
        self.held.sync()
        self.held.delete("t", "r")
        self.held.sync()
        assert compact_now(server.owner_dsn, f"_personal:{user}", tombstones=ALL).forgotten == 1
        self.other.sync()
        self.space = f"_personal:{user}"

    def same(self, **fields: object) -> None:
        """Everybody has these fields, a new replica too, and the digests say so."""
        new = self._open("new")
        for one in (self.other, self.held, self.other, new):
            one.sync()
        assert state(self.held) == state(self.other) == state(new) == {"r": fields}
        assert self.held.pending() == []
        assert {one.verify().differences for one in (self.held, self.other, new)} == {0}


@pytest.fixture
def forgotten(server: Server, replica: Open, user: str) -> Forgotten:
    return Forgotten(server, replica, user)


def eventually(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not check():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def test_what_another_device_makes_anew_has_nothing_of_before(forgotten: Forgotten) -> None:
    forgotten.other.put("t", "r", {"x": "new"})
    forgotten.same(x="new")


def test_what_the_device_makes_anew_itself_has_nothing_of_before(forgotten: Forgotten) -> None:
    forgotten.held.put("t", "r", {"x": "new"})
    forgotten.same(x="new")


def test_what_it_wrote_and_another_made_anew_meanwhile_is_of_both(forgotten: Forgotten) -> None:
    forgotten.held.put("t", "r", {"z": "mine"})
    forgotten.other.put("t", "r", {"x": "new"})
    forgotten.other.sync()
    assert state(forgotten.held) == {"r": {"x": "old", "y": "old", "z": "mine"}}, "until it hears of it"
    forgotten.same(x="new", z="mine")


def test_what_it_hears_of_as_state_has_nothing_of_before(forgotten: Forgotten, server: Server) -> None:
    forgotten.other.put("t", "r", {"x": "new"})
    forgotten.other.sync()
    forgotten.other.patch("t", "r", {"x": "newer"})
    forgotten.other.put("t", "next", {"x": 1})
    forgotten.other.delete("t", "next")
    forgotten.other.sync()
    assert compact_now(server.owner_dsn, forgotten.space).dropped
    forgotten.same(x="newer")


def test_a_third_life_has_nothing_of_the_first(forgotten: Forgotten, server: Server) -> None:
    forgotten.other.put("t", "r", {"x": "new"})
    forgotten.other.delete("t", "r")
    forgotten.other.sync()
    compact_now(server.owner_dsn, forgotten.space)
    forgotten.held.sync()
    forgotten.other.put("t", "r", {"z": 3})
    forgotten.same(x=None, z=3)


def test_the_same_is_so_over_sockets(forgotten: Forgotten) -> None:
    held, other = forgotten.held, forgotten.other
    with held.live() as one, other.live() as two:
        eventually(lambda: one.state.name == two.state.name == "live")
        other.put("t", "r", {"x": "new"})
        eventually(lambda: state(held) == {"r": {"x": "new"}})
        held.put("t", "r", {"z": "mine"})
        eventually(lambda: state(held) == state(other) == {"r": {"x": "new", "z": "mine"}})
    forgotten.same(x="new", z="mine")


def test_what_it_makes_anew_over_a_socket_has_nothing_of_before(forgotten: Forgotten) -> None:
    with forgotten.held.live() as live:
        eventually(lambda: live.state.name == "live")
        forgotten.held.put("t", "r", {"x": "new"})
        eventually(lambda: state(forgotten.held) == {"r": {"x": "new"}})
    forgotten.same(x="new")
