"""What a push asks of the log, and what it is answered: decided without a database."""

from __future__ import annotations

import json
import uuid
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import InvalidId, Malformed
from syncd.core.principal import External, Principal
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullPage
from syncd.protocol.push_answer import PIECE, PushAnswer, Result, encoded
from syncd.protocol.push_decision import LARGEST_RECORD, PushDecision
from syncd.service.event_ids import EventIds
from syncd.service.pull import PullState
from syncd.store.log import Detail
from tests.support.push_decisions import NOW, SKEW, at, called, change, push, settle, settled

OWN = "_personal:alice"


def head(work: PushDecision) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(called(work).head)
    return decoded


def codes(work: PushDecision) -> list[str | None]:
    return [None if result is None else result.code for result in work.results]


def test_event_ids_are_uuids_of_version_7_that_ascend_from_the_push_s_millisecond() -> None:
    event = EventIds(NOW + 999)
    ids = [uuid.UUID(event(i)) for i in range(1, 300)]
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert {one.int >> 80 for one in ids} == {NOW // 1000}
    assert [two.int - one.int for one, two in pairwise(ids)] == [1] * 298
    assert event.first(3) == [str(one).encode() for one in ids[:3]]
    assert event.after(2).first(1) == [str(ids[2]).encode()]
    assert str(ids[0]) == event(1)  # asking for later ones moves nothing


def test_two_events_of_one_instant_are_not_the_same() -> None:
    ids = [uuid.UUID(EventIds(NOW)(1)).int for _ in range(16)]
    assert len({one >> 66 & 0xFFF for one in ids}) > 1  # each of the two random parts differs
    assert len({one & (1 << 61) - 1 for one in ids}) == 16


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1])
def test_a_list_made_in_pieces_is_the_list(count: int) -> None:
    items = [Result("applied", f"c{i}", seq=i) for i in range(count)]
    assert encoded(items) == msgspec.json.encode(items)


def test_an_answer_without_a_delta_says_that_nothing_was_missed() -> None:
    lost = [{"spaceId": "s", "field": "a"}]
    body = json.loads(PushAnswer([Result("applied", "c1")], lost, None, "there", {}).body())
    assert body == {"syncedUntil": "there", "hasMore": False, "spaces": {"joined": [], "left": []},
                    "results": [{"status": "applied", "changeId": "c1"}], "conflicts": lost,
                    "serverChanges": []}  # fmt: skip
    page = PullPage(b'{"seq":1}', "further", True, ["new"], ["old"])
    body = json.loads(PushAnswer([], [], page, "there", {}).body())
    assert (body["syncedUntil"], body["hasMore"], body["serverChanges"]) == ("further", True, [{"seq": 1}])


def test_what_became_of_each_change_is_told_in_their_order() -> None:
    names = [f"c{n}" for n in range(6)]
    work = push(*(change(name, id=name) for name in names))
    detail = Detail(events={"3": "earlier"}, moved={"s": 5})
    results = settled(work, "asdnru", detail)
    assert [result.changeId for result in results] == names
    assert [result.status for result in results] == ["applied", "superseded", "duplicate", *["rejected"] * 3]
    assert [result.code for result in results[3:]] == ["space_not_found", "not_a_writer", "change_id_reused"]
    assert [result.detail for result in results[3:]] == [ERROR_CODES[result.code or ""].text for result in results[3:]]
    assert [result.seq for result in results] == [10, 11, 12, None, None, None]
    assert [result.eventId for result in results[:2]] == [work.changes[n][0].e for n in (0, 1)]
    assert results[2].eventId == "earlier"
    assert not any(result.held for result in results)
    assert work.rejected() == [3, 4, 5]


@pytest.mark.parametrize("mark", "asd")
def test_the_same_change_again_is_a_duplicate_of_one_that_was_taken(mark: str) -> None:
    work = push(change("c"), change("d", id="q"), change("c"))
    assert (work.left, work.repeats) == ([0, 1], {2: 0})
    first, _, again = settled(work, mark + "a")
    assert (again.status, again.changeId, again.seq) == ("duplicate", "c", first.seq)


def test_the_same_change_again_is_refused_as_the_first_was() -> None:
    first, again = settled(push(change("c"), change("c")), "n")
    assert (again.status, again.code) == (first.status, first.code) == ("rejected", "space_not_found")


@pytest.mark.parametrize("same", [{"value": {"b": [1.5], "a": 2}}, {"fields": {"a": {
    "value": {"a": 2, "b": [1.5]}, "updatedAt": "2026-01-01T12:00:00+02:00"}}}], ids=["order", "spelling"])  # fmt: skip
def test_how_a_change_is_spelled_makes_it_no_other(same: dict[str, Any]) -> None:
    assert push(change("c", {"a": 2, "b": [1.5]}), change("c", **same)).repeats == {1: 0}


@pytest.mark.parametrize("other", [
    {"value": 2}, {"value": True}, {"micros": 1}, {"id": "q"}, {"table": "u"}, {"spaceId": "s2"}, {"op": "insert"},
    {"fields": {"b": {"value": 1, "at": at()}}},
], ids=str)  # fmt: skip
def test_one_id_for_two_changes_is_refused_and_the_first_stands(other: dict[str, Any]) -> None:
    work = push(change("c"), change("c", **other), change("c"))
    assert codes(work) == [None, "change_id_reused", None]
    assert (work.left, work.repeats) == ([0], {2: 0})


def test_two_changes_without_an_id_that_are_the_same_are_one() -> None:
    work = push(change(), change(), change(value=2, micros=1))
    assert (work.left, work.repeats) == ([0, 2], {1: 0})


def test_a_value_another_one_and_the_first_again_at_one_instant_are_three_for_the_first_generation_only() -> None:
    three = [change(value=value) for value in (1, 2, 1)]
    old = push(*three, plain=True)
    assert old.left == [0, 1, 2]
    assert len({old.changes[i][0].c for i in old.left}) == 3
    again = push(*three, plain=True)
    assert [one[0].c for one in again.changes] == [one[0].c for one in old.changes]  # so a retry is known
    assert push(*three, change(value=1), plain=True).left == [0, 1, 2]  # the same once more is the third
    five = push(*(change(value=value) for value in (1, 2, 1, 2, 1)), plain=True)
    assert len({one[0].c for one in five.changes}) == 5
    assert push(*three).repeats == {2: 0}


@pytest.mark.parametrize("part", [{"id": "q"}, {"table": "u"}, {"spaceId": "s2"}, {"micros": 1}])
def test_a_value_that_stands_where_it_was_written_is_written_once(part: dict[str, Any]) -> None:
    work = push(change(value=1), change(value=2, **part), change(value=1), plain=True)
    assert work.repeats == {2: 0}


def test_a_change_that_is_numbered_by_its_device_is_never_counted() -> None:
    work = push(change("c", 1), change("d", 2), change("c", 1), plain=True)
    assert work.repeats == {2: 0}


def test_a_schema_version_may_reach_the_limit_and_not_exceed_it() -> None:
    limits = Limits(max_schema_version=7)
    work = push(*(change(f"c{v}", id=f"r{v}", schemaVersion=v) for v in (6, 7, 8)), change("none", id="n"),
                limits=limits)  # fmt: skip
    assert codes(work) == [None, None, "schema_too_new", None]
    assert work.left == [0, 1, 3]
    assert codes(push(change("c", schemaVersion=9))) == [None]


def test_a_change_without_a_schema_version_has_its_push_s() -> None:
    work = push(change("c"), change("d", id="q", schemaVersion=3), schemaVersion=8, limits=Limits(max_schema_version=7))
    assert [one[0].v for one in work.changes] == [8, 3]
    assert codes(work) == ["schema_too_new", None]


@pytest.mark.parametrize("version", [-(1 << 31) - 1, 1 << 31])
def test_a_push_s_schema_version_has_32_bits(version: int) -> None:
    with pytest.raises(Malformed) as wrong:
        push(schemaVersion=version)
    assert (wrong.value.code, wrong.value.faults[0].pointer) == ("invalid_request", "/schemaVersion")
    for least in (-(1 << 31), (1 << 31) - 1):
        assert push(change(), schemaVersion=least).changes[0][0].v == least
    old = push(change(), plain=True, schemaVersion=version)
    assert codes(old) == ["invalid_request"]


def test_a_space_that_is_none_is_named_by_its_place_in_the_whole_push() -> None:
    assert push(change(spaceId=OWN)).changes[0][1] == OWN
    with pytest.raises(InvalidId) as wrong:
        push(change("c"), change("d", spaceId="bad\nid"), first=5)
    assert wrong.value.faults[0].pointer == "/changes/6/spaceId"
    assert str(wrong.value).startswith("spaceId ")
    with pytest.raises(Malformed) as malformed:
        push(change("c"), change("d", fields={}), first=5)
    assert malformed.value.faults[0].pointer == "/changes/6"


def test_no_space_at_all_is_the_personal_one_and_an_empty_name_is_for_the_first_generation_only() -> None:
    assert push(change(spaceId=None)).changes[0][1] == OWN
    assert push(change(data={"spaceId": ""}, op="insert", spaceId=None), plain=True).changes[0][1] == OWN
    with pytest.raises(InvalidId):
        push(change(spaceId=""))


def test_a_change_that_is_too_large_is_not_looked_at() -> None:
    work = push(
        change("c", spaceId="bad\nid"), change("d"), change("e", spaceId=None), first=3, passed_over=frozenset({3, 5})
    )
    assert codes(work) == ["change_too_large", None, "change_too_large"]
    assert work.left == [1]
    assert [space for _, space, _ in work.changes] == ["bad\nid", "s", OWN]
    assert [table for _, _, table in work.changes] == ["t", "t", "t"]
    assert work.rejected() == [0, 2]


def test_what_the_first_generation_may_not_write_is_held_with_its_reason() -> None:
    work = push(change("c"), change("d", id="bad\nid"), change("e", id="q"), plain=True, passed_over=frozenset({2}))
    assert codes(work) == [None, "invalid_change", "change_too_large"]
    refused = work.results[1]
    assert refused is not None
    assert (refused.held, refused.status, refused.changeId) == (True, "rejected", "d")
    assert refused.detail == ERROR_CODES["invalid_change"].text
    work.refuse({0: "not_a_writer"})
    held = head(work)["held"]["put"]
    assert [(row["w"], row["r"]) for row in held] == [
        ("invalid_change", None), ("change_too_large", "q"), ("not_a_writer", "r")]  # fmt: skip
    assert [json.loads(row["d"])["changeId"] for row in held] == ["d", "e", "c"]
    assert [row["s"] for row in held] == [None, "s", "s"]


def test_what_is_held_without_an_id_is_known_by_its_content_or_by_its_text() -> None:
    work = push(change(), change(id="q", fields={"a": {"value": 1}}), plain=True)
    contents = [one[0].c for one in work.changes]
    work.refuse({0: "not_a_writer", 1: "not_a_writer"})
    kept = [row["k"] for row in head(work)["held"]["put"]]
    assert kept[0] == contents[0]
    assert contents[1] is None
    assert kept[1].startswith("\x02")


def test_an_update_without_a_field_is_applied_and_not_written() -> None:
    work = push(change("c", fields={}), change("d"), plain=True)
    assert work.left == [1]
    assert work.results[0] == Result("applied", "c")
    assert settled(work, "a")[0].seq is None


def test_places_that_are_left_out_are_those_of_the_whole_push() -> None:
    work = push(*(change(f"c{n}", id=f"r{n}") for n in range(3)), first=10)
    work.leave_out({1, 11, 13}, "record_too_large")
    assert codes(work) == [None, "record_too_large", None]
    assert work.left == [0, 2]
    work.leave_out({11}, "not_a_writer")
    assert codes(work)[1] == "record_too_large"  # what is refused already keeps its reason
    assert [json.loads(wave)[0]["r"] for wave in called(work).waves] == ["r0"]
    assert head(work)["n"] == 2


def test_what_the_log_did_not_take_is_refused_by_its_mark() -> None:
    work = push(*(change(f"c{n}", id=f"r{n}") for n in range(5)))
    work.leave_out({0}, "record_too_large")
    work.refused("nrua")
    assert codes(work) == ["record_too_large", "space_not_found", "not_a_writer", "change_id_reused", None]
    assert work.left == [4]


def test_an_unknown_space_is_made_once_for_the_first_generation_where_that_is_wanted() -> None:
    made, named = [change("c", spaceId="new"), change("d", id="q", spaceId="new")], change("e", spaceId="other")
    work = push(*made, named, plain=True, limits=Limits(make_spaces=True, space_bounds={"owned": 3}))
    work.refused("nnr")
    assert codes(work) == [None, None, "not_a_writer"]
    assert work.left == [0, 1]
    assert head(work)["held"]["own"] == ["new"]
    assert head(work)["held"]["bounds"] == {"owned": 3}
    work.refused("nn")
    assert codes(work)[:2] == ["space_not_found", "space_not_found"]
    never = push(*made, plain=True)
    never.refused("na")
    assert codes(never) == ["space_not_found", None]


def test_a_full_space_takes_nothing_but_deletions() -> None:
    deleted = {"table": "t", "id": "r", "op": "delete", "spaceId": "s", "changeId": "gone"}
    work = push(change("c"), deleted, change("d", spaceId="s2"), change("e", op="insert", id="q"))
    assert work.into({"s"}) == [0, 3]
    work.refuse_full({0: "bytes", 3: "bytes"})
    assert codes(work) == ["quota_exceeded", None, None, "quota_exceeded"]
    assert [result.quota if result else None for result in work.results] == ["bytes", None, None, "bytes"]
    assert work.left == [1, 2]
    assert work.into({"s"}) == []


def untold() -> dict[str, Any]:
    """What is called a deletion, and says that the record is there."""
    fields = {"deletedAt": {"value": None, "at": at(1)}, "amount": {"value": 5, "at": at(1)}}
    return {"table": "t", "id": "r", "op": "delete", "spaceId": "s", "changeId": "c", "fields": fields}


def test_what_is_called_a_deletion_and_is_none_is_written_as_an_edit_is() -> None:
    work = push(untold())
    assert work.into({"s"}) == [0]
    work.derive(0, {"approved": False})
    assert bytes(work.changes[0][0].f["approved"].value) == b"false"


def test_and_stays_one_where_its_stamps_are_given_anew() -> None:
    work = push(untold())
    work.lower_stamps({"now": NOW - 2 * SKEW, "own": 0}, SKEW)
    register = work.changes[0][0].f["deletedAt"]
    assert register.sent == at(1)
    assert bytes(register.value) == b"null"


def test_what_the_log_is_told_of_a_plain_push() -> None:
    work = push(change("c", micros=3), change("d", id="q", table="u", micros=9))
    call = called(work)
    told = json.loads(call.head)
    state = PullState(work.pull, "alice", b"key")
    assert told == {
        "user": "alice", "client": "phone", "app": "app", "n": 2, "spaces": ["s"], "tables": ["t", "u"],
        "ids": ["c", "d"], "hi": NOW + 9, "skew": SKEW, "largest": LARGEST_RECORD, "touched": Limits().max_touched,
        "since": state.since(), "how": state.how(), "apart": True,
    }  # fmt: skip
    assert LARGEST_RECORD == 16 * 1024 * 1024
    assert (call.feed, call.moves, call.follows) == (("s", "app"), False, False)
    assert [[row["r"] for row in json.loads(wave)] for wave in call.waves] == [["r", "q"]]


def test_what_the_log_is_told_where_there_is_more_to_say() -> None:
    caller = Principal("alice", External([{"id": "s", "role": "writer"}], 7))
    work = push(change("c", spaceId="z"), change("d"), change("e", id="q", spaceId=OWN), caller=caller, atomic=True,
                pull=False, incarnations=["i1", "i2"], limits=Limits(max_touched=5))  # fmt: skip
    told = head(work)
    assert told["spaces"] == sorted([OWN, "s", "z"])
    assert told["sp"] == [told["spaces"].index(space) + 1 for space in ("z", "s", OWN)]
    assert (told["personal"], told["atomic"], told["incarnations"]) == (True, True, ["i1", "i2"])
    assert (told["list"], told["asOf"], told["touched"]) == ([{"id": "s", "role": "writer"}], 7, 5)
    assert told.keys().isdisjoint({"since", "how", "held", "tells", "moves", "follows"})
    assert called(work).feed is None
    assert not head(push(change("c"))).keys() & {"personal", "atomic", "incarnations", "sp"}


def test_an_empty_push_asks_for_the_page_alone() -> None:
    call = called(push())
    told = json.loads(call.head)
    assert (told["n"], told["hi"], told["spaces"], call.waves, call.feed) == (0, 0, [], [], None)


def test_a_device_of_the_first_generation_may_have_records_move() -> None:
    work = push(change("c"), change("d", id="q"), change("e", id="p"), plain=True)
    work.leave_out({0}, "not_a_writer")
    call = called(work)
    told = json.loads(call.head)
    assert (told["moves"], call.moves, "apart" in told) == (False, True, False)
    work.move({"away": {"2": "there"}, "here": []})
    assert [space for _, space, _ in work.changes] == ["s", "s", "there"]
    assert head(work)["moves"] is False
    work.move({"away": {}, "here": [1]})
    assert head(work)["moves"] is True
    work.move({"away": {}, "here": []})
    assert head(work)["moves"] is True
    assert "follows" not in head(work)


def test_a_device_of_ours_writes_to_where_a_record_has_moved() -> None:
    work = push(change("c"))
    work.move({"follow": True})
    call = called(work)
    told = json.loads(call.head)
    assert (told["follows"], told["apart"], call.follows, call.moves) == (True, True, True, False)


def test_forgotten_records_are_named_by_their_place_among_what_was_tried() -> None:
    work = push(*(change(f"c{n}", id=f"r{n}") for n in range(4)))
    work.leave_out({0}, "not_a_writer")
    work.forgotten([1, 3])
    assert codes(work) == ["not_a_writer", "record_forgotten", None, "record_forgotten"]
    assert work.left == [2]


def test_registers_that_lost_are_told_with_their_record() -> None:
    work = push(change("c"), change("d", id="q", table="u", spaceId="s2"), change("e", id="p"))
    work.leave_out({0}, "not_a_writer")
    one = msgspec.Raw(b"1")
    lost = [{"field": msgspec.Raw(b'"%b"' % name), "clientValue": one, "by": one} for name in (b"a", b"b")]
    over = {"field": msgspec.Raw(b'"c"'), "value": one}
    settled(work, "sa", Detail(conflicts=[(1, [*lost, over]), (2, None)]))
    told = json.loads(encoded(work.conflicts))
    record = {"spaceId": "s2", "table": "u", "id": "q"}
    assert told == [{**record, "field": name, "clientValue": 1, "by": 1} for name in "ab"]
    assert [result and result.overwrote for result in work.results] == [None, [over], None]


def test_how_far_each_feed_was_brought() -> None:
    changes = [change(f"c{n}", id=f"r{n}", spaceId=space) for n, space in enumerate(["s", "s2", "s", "s3", "s4"])]
    work = push(*changes)
    called(work)
    settle(work, [9, 4, 8, 7, 6], "aasdn", Detail(moved={"s2": 5, "s5": 3}))
    delta = PullPage(b"", "x", False, [], [])
    answer = work.answer(delta)
    assert answer.written == {"s": 9, "s2": 5, "s5": 3}
    assert (answer.delta, answer.since) == (delta, "")


def test_a_repeat_is_not_counted_for_another_space_and_nothing_without_a_seq() -> None:
    work = push(change("c", fields={}), change("d", spaceId="s2"), plain=True)
    called(work)
    settle(work, [3], "a", Detail())
    assert work.answer(None).written == {"s2": 3}
