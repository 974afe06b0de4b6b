"""G8, G17 with the Python client: a replica that slept through compactions keeps what it has not sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from syncd_client import Replica

from tests.compacting import ALL, compact_now
from tests.harness import Server
from tests.wire import unique

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
