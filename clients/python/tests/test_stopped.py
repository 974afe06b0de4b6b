"""Changes that were refused or set aside: what of them is sent again, where, with which stamps, and what goes along."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import BatchTooLarge, InvalidWrite, Limits, Replica
from syncd_client.data.clock import format_instant
from syncd_client.data.values import dump
from syncd_client.store.outbox import Queued, pack
from syncd_client.store.requeue import requeue_stopped

from tests.support.replicas import Wall
from tests.support.scripted import Script, applied, page, wire

YEARS = 3 * 365 * 86_400_000_000
NOW = 1_790_000_000_000_000
MINUTE = 60_000_000
EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]


def answer(*results: dict[str, Any], **other: Any) -> Callable[[Any], Any]:
    """An answer to a push, whose changes have these results in their order."""

    def build(body: Any) -> Any:
        reply = applied(body, **other)
        for told, result in zip(reply["results"], results, strict=True):
            told.update(result)
        return reply

    return build


REFUSED = {"status": "rejected", "code": "rule_refused", "detail": "No."}


def refuse(replica: Replica, script: Script) -> list[str]:
    """Pushes what is queued, all of which is refused. Returns the changeIds."""
    ids = [change.change_id for change in replica.pending()]
    script.answers = [answer(*[REFUSED] * len(ids))]
    replica.push()
    assert [change.change_id for change in replica.rejected()] == ids
    return ids


def two_refused(replica: Replica, script: Script) -> list[str]:
    """A batch of a record each in two spaces, refused."""
    with replica.batch() as batch:
        batch.put("t", "a", {"n": 1}, space="s")
        batch.put("t", "b", {"n": 1}, space="u")
    return refuse(replica, script)


def test_one_alone_of_a_batch_is_dropped(replica: Replica, script: Script) -> None:
    first, second = two_refused(replica, script)
    replica.drop(first, alone=True)
    assert [change.change_id for change in replica.rejected()] == [second]
    assert (replica.get("t", "a", space="s"), replica.get("t", "b", space="u")) == (None, {"n": 1})
    replica.drop(second)
    assert (replica.rejected(), replica.get("t", "b", space="u")) == ([], None)


def test_one_alone_of_a_batch_is_moved_and_it_is_the_one_that_is_named(replica: Replica, script: Script) -> None:
    first, second = two_refused(replica, script)
    moved = replica.move(second, "z")
    assert [change.change_id for change in replica.rejected()] == [first]
    assert [(change.change_id, change.space, change.id) for change in replica.pending()] == [(moved, "z", "b")]
    assert (replica.get("t", "b", space="u"), replica.get("t", "b", space="z")) == (None, {"n": 1})
    assert (replica.get("t", "b"), replica.get("t", "a", space="s")) == (None, {"n": 1})


def test_the_records_that_read_differently_are_those_of_both_spaces_where_it_moves(
    replica: Replica, script: Script
) -> None:
    first, second = two_refused(replica, script)
    with replica.store.write() as db:
        _, keys = requeue_stopped(db, second, NOW, {}, "z", True)
    assert keys == [("t", "u", "b"), ("t", "z", "b")]
    with replica.store.write() as db:
        _, keys = requeue_stopped(db, first, NOW, {"n": 2}, None, False)
    assert keys == [("t", "s", "a")]


def test_a_field_that_would_name_the_space_is_written_into_a_refused_change_of_a_shared_space_alone(
    replica: Replica, script: Script
) -> None:
    replica.put("t", "own", {"n": 1})
    replica.put("t", "shared", {"n": 1}, space="s")
    own, shared = refuse(replica, script)
    with pytest.raises(InvalidWrite) as refused:
        replica.fix(own, {"spaceId": "x"})
    assert refused.value.field == "spaceId"
    assert [change.change_id for change in replica.rejected()] == [own, shared]
    replica.fix(shared, {"spaceId": "x"})
    assert replica.get("t", "shared", space="s") == {"n": 1, "spaceId": "x"}


def test_what_is_edited_is_stamped_later_than_all_that_this_device_wrote(open_replica: Open, script: Script) -> None:
    replica = open_replica(wall=Wall(NOW))
    replica.put("t", "a", {"n": 1, "m": 1})
    (bad,) = refuse(replica, script)
    replica.put("t", "b", {"n": 1})
    replica.fix(bad, {"n": 2})
    replica.put("t", "c", {"n": 1})
    stamps = [replica.registers("t", record)[name].at for record, name in ("am", "bn", "an", "cn")]
    assert stamps == [NOW, NOW + 1, NOW + 2, NOW + 3]


def test_who_wrote_it_with_what_and_by_which_schema_goes_along(open_replica: Open, script: Script) -> None:
    replica = open_replica(schema_version=3, actor={"model": "m"}, origin="agent", wall=(wall := Wall(NOW + YEARS)))
    replica.put("t", "a", {"n": 1}, space="s")
    (bad,) = refuse(replica, script)

    def said(queued: Queued) -> Any:
        return {name: queued.change.get(name) for name in ("schemaVersion", "actor", "origin", "spaceId")}

    everything = {"schemaVersion": 3, "actor": {"model": "m"}, "origin": "agent", "spaceId": "s"}
    assert said(replica.rejected()[0]) == everything
    wall.now = NOW
    replica.patch("t", "a", {"m": 1}, space="s")
    (restamped,) = replica.rejected()
    assert restamped.change["fields"]["n"]["at"] == format_instant(NOW)
    assert said(restamped) == everything
    replica.requeue(bad)
    assert said(replica.pending()[-1]) == everything


def test_what_is_sent_again_is_written_over_others_registers_and_not_over_one_s_own(
    replica: Replica, script: Script
) -> None:
    replica.patch("t", "a", {"own": 1}, upsert=True)
    script.answers = [lambda body: applied(body, wire("a", theirs=(1, EARLY)))]
    replica.sync()
    replica.patch("t", "a", {"own": 2, "theirs": 2})
    (bad,) = refuse(replica, script)
    replica.requeue(bad)
    (change,) = replica.pending()
    assert {name: register.get("base") for name, register in change.change["fields"].items()} == {
        "own": None, "theirs": EARLY,
    }  # fmt: skip


def test_only_what_a_clock_that_was_ahead_has_stamped_is_stamped_anew(open_replica: Open, script: Script) -> None:
    wall = Wall(NOW - MINUTE // 2)
    replica = open_replica(wall=wall)
    replica.put("t", "before", {"n": 1})
    for record, at in (("within", NOW + MINUTE), ("beyond", NOW + MINUTE + 1000), ("a", NOW + YEARS)):
        wall.now = at
        replica.put("t", record, {"n": 1})
    refuse(replica, script)
    wall.now = NOW
    replica.patch("t", "a", {"n": 2})
    stamps = {change.id: change.change["fields"]["n"]["at"] for change in replica.rejected()}
    assert stamps == {
        "before": format_instant(NOW - MINUTE // 2), "within": format_instant(NOW + MINUTE),
        "beyond": format_instant(NOW), "a": format_instant(NOW),
    }  # fmt: skip


@pytest.mark.parametrize(("order", "at"), [
    (("refused", "taken"), NOW + 9), (("taken", "refused"), NOW), (("taken", "taken", "refused"), NOW + 10),
])  # fmt: skip
def test_of_one_push_what_was_refused_stays_in_its_place_among_what_was_lowered(
    open_replica: Open, script: Script, order: tuple[str, ...], at: int
) -> None:
    replica = open_replica(wall=Wall(NOW + YEARS))
    for n, _ in enumerate(order):
        replica.patch("t", f"r{n}", {"n": 1}, space="s", upsert=True)
    lowered = [{"status": "applied", "at": {"n": format_instant(NOW + 10 * n)}} for n in range(len(order))]
    script.answers = [
        answer(*[REFUSED if word == "refused" else lowered[n] for n, word in enumerate(order)])
    ]  # fmt: skip
    replica.push()
    (stays,) = replica.rejected()
    assert (stays.change["fields"]["n"]["at"], stays.change["spaceId"]) == (format_instant(at), "s")
    assert replica.registers("t", stays.id, space="s")["n"].at == at


@pytest.mark.parametrize("more", [False, True])
def test_a_write_that_lost_to_what_is_gone_is_not_shown(replica: Replica, script: Script, more: bool) -> None:
    """It lost to a deletion that the server has forgotten since, so nothing comes that it lost to."""
    script.answers = [page(spaces={"joined": ["_personal:u"]})]
    replica.pull()
    replica.patch("t", "gone", {"n": 1}, upsert=True)
    replica.patch("t", "here", {"n": 1}, upsert=True)
    script.answers = [answer({"status": "superseded"}, {"status": "applied"}, more=more)]
    report = replica.sync()
    assert (report.pushed, report.superseded, report.duplicates) == (2, 1, 0)
    assert (replica.get("t", "gone"), replica.get("t", "here")) == (None, {"n": 1})
    assert replica.pending() == []


def test_a_write_to_a_space_that_the_server_has_not_named_is_confirmed(replica: Replica, script: Script) -> None:
    replica.patch("t", "a", {"n": 1}, space="new", upsert=True)
    replica.sync()
    script.answers = [page(wire("a", space="new", m=(1, EARLY)), spaces={"joined": ["new"]}, cursor="c2")]
    replica.sync()
    assert replica.get("t", "a", space="new") == {"n": 1, "m": 1}


def test_a_change_of_another_device_is_no_word_on_one_s_own_of_that_id(replica: Replica, script: Script) -> None:
    own = replica.patch("t", "a", {"n": 1}, upsert=True)
    script.answers = [page(wire("a", m=(1, EARLY)) | {"changeId": own})]
    replica.pull()
    assert [change.change_id for change in replica.pending()] == [own]
    script.answers = [page(wire("a", client=replica.client_id, m=(1, EARLY)) | {"changeId": own})]
    replica.pull()
    assert replica.pending() == []


def test_an_answer_s_stamps_are_taken_where_they_are_other_ones_of_fields_that_were_sent(
    open_replica: Open, script: Script
) -> None:
    replica = open_replica(wall=Wall(NOW))
    replica.patch("t", "a", {"n": 1, "m": 1}, upsert=True)
    stamps = {"n": NOW, "m": NOW - 1, "never": NOW - 1}
    script.answers = [answer({"at": {name: format_instant(at) for name, at in stamps.items()}})]
    replica.sync()
    found = replica.registers("t", "a")
    assert {name: (register.at, register.sent) for name, register in found.items()} == {
        "n": (NOW, None), "m": (NOW - 1, NOW),
    }  # fmt: skip


def test_a_deletion_is_later_than_the_word_that_the_record_is_there(open_replica: Open, script: Script) -> None:
    replica = open_replica(wall=Wall(NOW))
    script.answers = [page(wire("a", n=(1, EARLY), deletedAt=(None, LATE)))]
    replica.pull()
    replica.delete("t", "a")
    assert replica.get("t", "a") is None
    (deletion,) = replica.pending()
    assert deletion.change["deletedAt"] == LATE[:-2] + "1Z"
    replica.undelete("t", "a")
    assert replica.get("t", "a") == {"n": 1}


def test_a_batch_may_have_exactly_the_bytes_and_the_changes_of_a_push(open_replica: Open) -> None:
    def write(name: str, count: int = 3, **limits: Any) -> Replica:
        replica = open_replica(name, limits=Limits(**limits), wall=Wall(NOW))
        with replica.batch() as batch:
            for n in range(count):
                batch.put("t", f"é{n}", {"n": n})
        return replica

    size = sum(len(dump(change.change).encode()) for change in write("measured").pending())
    assert len(write("exact", batch_bytes=size).pending()) == 3
    with pytest.raises(BatchTooLarge, match=f"has {size} bytes; one push takes {size - 1}"):
        write("beyond", batch_bytes=size - 1)
    assert len(write("changes", push_changes=3).pending()) == 3
    with pytest.raises(BatchTooLarge, match="has 3 changes; one push takes 2"):
        write("too many", push_changes=2)
    assert len(write("alone", count=1, batch_bytes=1).pending()) == 1, "one alone is the server's to refuse"


def test_a_push_has_exactly_the_bytes_and_the_changes_that_it_may(replica: Replica) -> None:
    for n in range(3):
        replica.put("t", f"é{n}", {"n": n})
    with replica.store.read() as db:
        size = sum(len(change.body.encode()) + 1 for change in pack(db, 9, 9, 10**6))
        sizes = [len(pack(db, 9, 9, most)) for most in (size, size - 1, size // 3 * 2, size // 3 * 2 - 1, 1)]
        assert sizes == [3, 2, 2, 1, 1]
        assert [len(pack(db, last, most, 10**6)) for last, most in ((9, 3), (9, 2), (2, 9), (0, 9))] == [3, 2, 2, 0]
