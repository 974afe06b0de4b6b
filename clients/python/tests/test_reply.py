"""What the server answered, read whole: every member, what may be missing, and what makes it no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from syncd_client import BadReply
from syncd_client.data.change import Packed, Refusal
from syncd_client.data.clock import parse_instant
from syncd_client.data.conflict import Conflict
from syncd_client.error_codes import TEXTS
from syncd_client.sync.reply import Page, Problem, Result, build_page, read_page, read_problem

from tests.support.scripted import page, wire

AT, LATER = "2026-01-01T10:00:00.000000Z", "2026-01-01T10:00:05.000000Z"
UNSAID = TEXTS["rejected"][0]


def sent(change: str, record: str = "r", **members: Any) -> Packed:
    body = {"changeId": change, "table": "t", "id": record, "op": "update", **members}
    return Packed(change, "batch", json.dumps(body), members.get("spaceId", ""))


def read(answer: Any, *pushed: Packed) -> Page:
    return read_page(json.dumps(answer).encode(), pushed)


def no(answer: Any, *pushed: Packed) -> BadReply:
    with pytest.raises(BadReply) as why:
        read_page(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), pushed)
    return why.value


def test_of_a_page_every_member_is_read() -> None:
    spaces = {"joined": ["a", "b"], "left": ["c"], "unreadable": ["d"]}
    found = read(page(wire("x", n=(1, AT)), wire("y"), cursor="c7", more=True, spaces=spaces))
    assert [change.record for change in found.changes] == ["x", "y"]
    assert (found.cursor, found.more) == ("c7", True)
    assert (found.joined, found.left, found.unreadable) == (["a", "b"], ["c"], ("d",))
    assert (found.results, found.conflicts) == ([], [])


def test_a_page_may_say_as_little_as_its_cursor() -> None:
    found = read({"syncedUntil": "c"})
    assert (found.changes, found.cursor, found.more, found.joined, found.left) == ([], "c", False, [], [])
    assert (found.results, found.conflicts, found.unreadable) == ([], [], ())
    nothing = {"serverChanges": None, "spaces": None, "results": None, "conflicts": None, "hasMore": None}
    assert read({"syncedUntil": "c", **nothing}) == found
    assert read({"syncedUntil": "c", "spaces": {"joined": None, "left": None, "unreadable": None}}) == found


@pytest.mark.parametrize("answer", [
    {}, {"syncedUntil": None}, {"syncedUntil": 7}, [], "x", 5, None, {"syncedUntil": "c", "serverChanges": [{}]},
    {"syncedUntil": "c", "serverChanges": 5}, {"syncedUntil": "c", "spaces": [1]},
    {"syncedUntil": "c", "spaces": {"left": [7]}},
    {"syncedUntil": "c", "spaces": {"joined": [None]}}, {"syncedUntil": "c", "spaces": {"unreadable": [7]}},
    {"syncedUntil": "c", "conflicts": [{}]}, {"syncedUntil": "c", "results": [{}]},
], ids=str)  # fmt: skip
def test_an_answer_of_another_form_is_none_and_is_not_asked_for_again(answer: Any) -> None:
    assert no(answer).garbled is False


@pytest.mark.parametrize("body", [b"", b'{"syncedUntil":"c"', b"<html>", b'{"syncedUntil":"\xff"}'])
def test_an_answer_that_is_cut_or_garbled_may_come_whole_the_next_time(body: bytes) -> None:
    assert no(body).garbled is True


def test_what_is_missing_is_named_and_values_are_not_repeated() -> None:
    assert no({}).detail == "the answer cannot be read: 'syncedUntil' is missing."
    assert no({"syncedUntil": 7}).detail == "the answer cannot be read: TypeError."
    assert no({"syncedUntil": "c", "conflicts": [{}]}).detail == "the answer cannot be read: 'table' is missing."


STATUSES = ["applied", "superseded", "duplicate", "rejected"]


@pytest.mark.parametrize("status", STATUSES)
def test_the_word_on_each_change(status: str) -> None:
    answer = page(results=[{"changeId": "a", "status": status}, {"status": "applied", "at": {"x": AT, "y": LATER}}])
    first, second = read(answer, sent("a"), sent("b")).results
    assert first == Result("a", status, {}, "rejected", UNSAID)
    assert second == Result("b", "applied", {"x": parse_instant(AT), "y": parse_instant(LATER)}, "rejected", UNSAID)


@pytest.mark.parametrize(("members", "code", "detail"), [
    ({"code": "not_a_writer", "detail": "You read."}, "not_a_writer", "You read."),
    ({"code": "not_a_writer"}, "not_a_writer", TEXTS["not_a_writer"][0]),
    ({"code": "of_a_later_server"}, "of_a_later_server", ""), ({"code": None, "at": None}, "rejected", UNSAID),
    ({"detail": "No."}, "rejected", "No."),
])  # fmt: skip
def test_why_a_change_was_refused(members: Any, code: str, detail: str) -> None:
    (result,) = read(page(results=[{"status": "rejected", **members}]), sent("a")).results
    assert result == Result("a", "rejected", {}, code, detail)


def test_there_is_one_word_for_each_change_and_in_their_order() -> None:
    one = {"changeId": "a", "status": "applied"}
    assert no(page(results=[one]), sent("a"), sent("b")).detail == "2 changes were pushed, 1 answered."
    assert no(page(results=[one, one]), sent("a")).detail == "1 changes were pushed, 2 answered."
    assert no(page(results=[one])).detail == "0 changes were pushed, 1 answered."
    assert no(page(results=[one]), sent("b")).detail == "the answer to b names a."
    assert no(page(results=[{"status": "lost"}]), sent("a")).detail == "a change has a status that is none."
    assert no(page(results=[{"status": "applied", "at": {"x": "soon"}}]), sent("a")).garbled is False


LOST = {"table": "t", "id": "r", "field": "x"}


def test_of_a_conflict_every_member_is_read() -> None:
    told = {
        **LOST,
        "spaceId": "s",
        "clientValue": [1],
        "clientTimestamp": AT,
        "serverValue": {"y": 2},
        "serverTimestamp": LATER,
    }
    assert read(page(conflicts=[told])).conflicts == [Conflict("t", "s", "r", "x", [1], AT, {"y": 2}, LATER)]
    assert read(page(conflicts=[{**LOST, "spaceId": "s"}])).conflicts == [
        Conflict("t", "s", "r", "x", None, "", None, "")
    ]


@pytest.mark.parametrize(("members", "space"), [
    ({"spaceId": "s"}, "s"), ({"spaceId": "_personal:ann"}, None), ({"spaceId": None}, None), ({}, "u"),
])  # fmt: skip
def test_the_space_of_a_conflict_is_the_one_it_names_else_that_of_the_change(members: Any, space: str | None) -> None:
    pushed = [sent("a", "q", spaceId="no"), sent("b", spaceId="u"), sent("c", spaceId="later")]
    results = [{"status": "applied"}] * 3
    (found,) = read(page(conflicts=[{**LOST, **members}], results=results), *pushed).conflicts
    assert found.space == space


def test_a_conflict_of_a_record_that_was_not_pushed_or_is_one_s_own_is_of_the_personal_space() -> None:
    (other, own) = read(
        page(conflicts=[{**LOST, "table": "u"}, LOST], results=[{"status": "applied"}]), sent("a")
    ).conflicts  # fmt: skip
    assert (other.space, own.space) == (None, None)


def test_a_frame_is_read_as_an_answer_is_with_the_cursor_it_came_with() -> None:
    found = build_page({"spaces": {"left": ["s"]}}, [wire("x")], None, True, ())
    assert ([change.record for change in found.changes], found.cursor, found.more, found.left) == (
        ["x"],
        None,
        True,
        ["s"],
    )
    with pytest.raises(BadReply, match="'op' is missing"):
        build_page({}, [{}], "c", False, ())


def problem(**members: Any) -> bytes:
    return json.dumps({"code": "busy", "detail": "Wait.", **members}).encode()


def test_of_a_refusal_every_member_is_read() -> None:
    errors = [{"pointer": "/clientId", "detail": "No."}]
    assert read_problem(400, problem(errors=errors)) == Problem(400, "busy", "Wait.", errors, {})


@pytest.mark.parametrize(("members", "detail"), [
    ({"title": "T"}, "Wait."), ({"detail": None, "title": "T"}, TEXTS["busy"][0]),
    ({"detail": "", "code": "later", "title": "T"}, "T"), ({"detail": None, "code": "later"}, ""),
])  # fmt: skip
def test_what_a_refusal_says_is_its_detail_else_what_its_code_means_else_its_title(members: Any, detail: str) -> None:
    assert read_problem(503, problem(**members)).detail == detail


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"5", b"{}", b'{"code":"busy","errors":5}', b'{"code":"\xff"}']
)
def test_a_refusal_that_is_not_the_server_s_has_its_status_alone(body: bytes) -> None:
    assert read_problem(502, body) == Problem(502, "http_502", "The answer is not syncd's.")


def test_the_changes_at_fault_are_named_with_what_is_wrong_with_each() -> None:
    errors = [
        {"pointer": "/changes/3/fields/x", "detail": "Too deep.", "code": "invalid_value"},
        {"pointer": "/changes/3", "detail": "Again."}, {"pointer": "/changes/12"}, "no object",
        {"pointer": "/changes/5x"}, {"pointer": "/x/changes/6"}, {"pointer": 7}, {"detail": "nowhere"},
        {"pointer": "/changes/0/", "detail": "No.", "code": None},
    ]  # fmt: skip
    found = read_problem(422, problem(errors=errors))
    assert found.blamed == {
        3: Refusal("invalid_value", "Too deep. (/changes/3/fields/x)"), 12: Refusal("busy", "Wait. (/changes/12)"),
        0: Refusal("busy", "No. (/changes/0/)"),
    }  # fmt: skip
    assert len(found.errors) == 8
