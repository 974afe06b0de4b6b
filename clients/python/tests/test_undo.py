"""What undo writes: back to what was there, where nobody else has written since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.data.change import Key, Write
from syncd_client.data.merge import TOMBSTONE, Register
from syncd_client.data.undo import Image

from tests.support.scripted import Script, applied, page, wire

KEY, OTHER = ("t", "", "r"), ("t", "s", "q")
EXTRA = {"origin": "o"}
Registers = dict[str, Register]


def mine(value: Any, at: int = 10, sent: int | None = None) -> Register:
    return Register(value, at, "me", sent)


def theirs(value: Any, at: int = 5) -> Register:
    return Register(value, at, "other")


def undone(before: Registers, names: list[str], now: Registers, at: int = 10) -> Write | None:
    image = Image()
    image.note(KEY, before, dict.fromkeys(names), at)
    return next(iter(image.way_back({KEY: now}, "me", EXTRA)), None)


def update(**values: Any) -> Write:
    return Write("update", *KEY, values, EXTRA)


def delete(**values: Any) -> Write:
    return Write("delete", *KEY, values, EXTRA)


@pytest.mark.parametrize(("before", "names", "now", "back"), [
    # What was there comes back, what was not becomes null, and what was not written stays as it is.
    ({"x": theirs(1), "z": theirs(9)}, ["x", "y"], {"x": mine(2), "y": mine(3), "z": theirs(9)}, update(x=1, y=None)),
    # Of another device, at the same stamp or a later one: it stays.
    ({"x": theirs(1)}, ["x"], {"x": theirs(2, 10)}, None),
    ({"x": theirs(1)}, ["x"], {"x": theirs(2, 11)}, None),
    ({"x": theirs(1), "y": theirs(1)}, ["x", "y"], {"x": mine(2), "y": theirs(2, 11)}, update(x=1)),
    # A later write of this device is another one.
    ({"x": theirs(1)}, ["x"], {"x": mine(2, 11)}, None),
    ({"x": theirs(1)}, ["x"], {"x": mine(2, 9)}, None),
    # The server lowered its stamp: it is the same write.
    ({"x": theirs(1)}, ["x"], {"x": mine(2, 7, sent=10)}, update(x=1)),
    ({"x": theirs(1)}, ["x"], {"x": mine(2, 7, sent=9)}, None),
    # The field or the record is gone.
    ({"x": theirs(1)}, ["x"], {"y": theirs(1)}, None),
    ({"x": theirs(1)}, ["x"], {}, None),
    # A record that was not there is deleted, unless others have a part in it.
    ({}, ["x", TOMBSTONE], {"x": mine(1), TOMBSTONE: mine(None)}, delete()),
    ({}, ["x"], {"x": mine(1)}, delete()),
    ({}, ["x", TOMBSTONE], {"x": mine(1), TOMBSTONE: mine(None), "y": theirs(1)}, update(x=None)),
    ({}, ["x", TOMBSTONE], {"x": theirs(2, 11), TOMBSTONE: mine(None)}, None),
    ({}, ["x", "y"], {"x": mine(1), "y": theirs(2, 11)}, update(x=None)),
    ({}, ["x"], {}, None),
    # A record that was deleted is deleted again, one that was alive lives.
    ({"x": theirs(1), TOMBSTONE: theirs("gone")}, ["x", TOMBSTONE], {"x": mine(2), TOMBSTONE: mine(None)}, delete(x=1)),
    ({"x": theirs(1), TOMBSTONE: theirs("gone")}, [TOMBSTONE], {"x": theirs(1), TOMBSTONE: mine(None)}, delete()),
    ({"x": theirs(1)}, [TOMBSTONE], {"x": theirs(1), TOMBSTONE: mine("gone")}, update(deletedAt=None)),
    ({"x": theirs(1), TOMBSTONE: theirs(None)}, [TOMBSTONE], {"x": theirs(1), TOMBSTONE: mine("gone")},
    update(deletedAt=None)),
    # It lives, as it did: there is no need to say so.
    ({"x": theirs(1), TOMBSTONE: theirs(None)}, ["x", TOMBSTONE], {"x": mine(2), TOMBSTONE: mine(None)}, update(x=1)),
    ({"x": theirs(1)}, [TOMBSTONE], {"x": theirs(1), TOMBSTONE: mine(None)}, None),
    # Another device has deleted it, or brought it back, since.
    ({"x": theirs(1)}, ["x"], {"x": mine(2), TOMBSTONE: theirs("gone", 11)}, update(x=1)),
    ({"x": theirs(1)}, [TOMBSTONE], {"x": theirs(1), TOMBSTONE: theirs(None, 11)}, None),
    ({"x": theirs(1)}, [TOMBSTONE], {"x": theirs(1), TOMBSTONE: theirs("gone", 11)}, None),
    ({"x": theirs(1), TOMBSTONE: theirs("gone")}, ["x", TOMBSTONE], {"x": mine(2), TOMBSTONE: theirs(None, 11)},
    update(x=1)),
])  # fmt: skip
def test_what_is_written_back(before: Registers, names: list[str], now: Registers, back: Write | None) -> None:
    assert undone(before, names, now) == back


def test_of_several_writes_of_a_batch_the_first_tells_what_was_there_and_the_last_what_is() -> None:
    image = Image()
    image.note(KEY, {"x": theirs(1)}, {"x": 2}, 10)
    image.note(KEY, {"x": mine(2)}, {"x": 3, "y": 3}, 11)
    now = {"x": mine(3, 11), "y": mine(3, 11)}
    assert image.way_back({KEY: now}, "me", EXTRA) == [update(x=1, y=None)]
    assert image.way_back({KEY: {"x": mine(2, 10)}}, "me", EXTRA) == []


def test_a_record_that_a_batch_made_and_changed_was_not_there() -> None:
    image = Image()
    image.note(KEY, {}, {"x": 1}, 10)
    image.note(KEY, {"x": mine(1)}, {"y": 2}, 11)
    assert image.way_back({KEY: {"x": mine(1), "y": mine(2, 11)}}, "me", EXTRA) == [delete()]


def test_records_are_written_back_in_the_order_in_which_they_were_written() -> None:
    image = Image()
    image.note(OTHER, {"x": theirs(1)}, {"x": 2}, 10)
    image.note(KEY, {"x": theirs(3)}, {"x": 4}, 11)
    now: dict[Key, Registers] = {KEY: {"x": mine(4, 11)}, OTHER: {"x": mine(2)}}
    assert image.way_back(now, "me", EXTRA) == [Write("update", *OTHER, {"x": 1}, EXTRA), update(x=3)]
    del now[KEY]
    assert image.way_back(now, "me", EXTRA) == [Write("update", *OTHER, {"x": 1}, EXTRA)]


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
