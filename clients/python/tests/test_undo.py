"""What undo writes: back to what was there, where nobody else has written since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.data.change import Key, Write, read_change
from syncd_client.data.clock import parse_instant
from syncd_client.data.merge import Registers
from syncd_client.data.undo import Image

from tests.support.scripted import Script, applied, page, wire
from tests.support.vectors import vectors

VECTORS = vectors("replica")["undo"]
EXTRA = {"origin": "o"}


def registers(fields: Any) -> Registers:
    return read_change({"table": "t", "id": "r", "op": "update", "fields": fields}).registers


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_what_is_written_back(vector: Any) -> None:
    image = Image()
    for write in vector["writes"]:
        key = ("t", "s", write["id"])
        image.note(key, registers(write["before"]), dict.fromkeys(write["fields"]), parse_instant(write["at"]))
    now: dict[Key, Registers] = {("t", "s", name): registers(fields) for name, fields in vector["now"].items()}
    wanted = [Write(back["op"], "t", "s", back["id"], back["fields"], EXTRA) for back in vector["expect"]]
    assert image.way_back(now, "me", EXTRA) == wanted


def test_of_a_record_that_was_refused_and_dropped_nothing_is_left_to_undo(replica: Replica, script: Script) -> None:
    change = replica.put("t", "r", {"x": 1})

    def refuse(body: Any) -> Any:
        reply = applied(body)
        reply["results"][0] |= {"status": "rejected", "code": "not_a_writer"}
        return reply

    script.answers = [refuse]
    replica.push()
    replica.drop(change)
    assert replica.undo() == []
    assert replica.pending() == []


def test_what_arrives_just_before_undo_has_the_file_to_itself_stays(
    open_replica: Callable[..., Replica], script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = open_replica(wall=lambda: 1_800_000_000_000_000)  # 2027-01-15T08:00:00Z
    replica.put("t", "r", {"x": 1, "y": 1})
    replica.patch("t", "r", {"x": 2, "y": 2})
    replica.push()
    begin = replica.store.write

    def begin_late() -> Any:
        monkeypatch.setattr(replica.store, "write", begin)
        replica.pull()
        return begin()

    monkeypatch.setattr(replica.store, "write", begin_late)
    script.answers = [page(wire("r", x=(3, "2027-01-15T08:00:01Z")))]
    changes = replica.undo()
    assert replica.get("t", "r") == {"x": 3, "y": 1}
    assert [list(change.change["fields"]) for change in replica.pending() if change.change_id in changes] == [["y"]]


def test_undo_says_who_wrote_it_and_is_one_batch(open_replica: Callable[..., Replica]) -> None:
    replica = open_replica(origin="agent", schema_version=2)
    with replica.batch() as batch:
        batch.put("t", "a", {"x": 1})
        batch.put("t", "b", {"x": 1})
    changes = replica.undo()
    queued = [one for one in replica.pending() if one.change_id in changes]
    assert [one.change["op"] for one in queued] == ["delete", "delete"]
    assert {(one.change["origin"], one.change["schemaVersion"], one.batch) for one in queued} == {
        ("agent", 2, queued[0].batch)
    }
