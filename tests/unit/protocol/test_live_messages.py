"""Live messages: every member of each, the place that is at fault in one, and what is answered."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from syncd.core.errors import Malformed
from syncd.protocol import live_messages as live
from syncd.protocol.first_generation import UNREADABLE
from syncd.protocol.live_messages import (
    MAX_NAMES,
    MAX_PUSHED,
    MAX_TABLES,
    SMALLEST_PAGE,
    Auth,
    Ping,
    PresenceFrame,
    PushFrame,
    Subscribe,
    Unsubscribe,
    incoming,
    is_auth,
    names,
    page_bytes,
    pushed_in,
    tables_in,
    tables_in_texts,
)

AT = "2026-01-01T10:00:00Z"
CHANGE = {"table": "t", "id": "r", "op": "update", "fields": {"x": {"value": 1, "at": AT}}}
HALF = r"\ud800"
DEEP = b"[" * 5000 + b"]" * 5000
both = pytest.mark.parametrize("legacy", [False, True], ids=["ours", "first generation"])


def frame(kind: str, **members: Any) -> bytes:
    return json.dumps({"type": kind, **members}).encode()


def refused(text: bytes, legacy: bool = False) -> Malformed:
    with pytest.raises(Malformed) as why:
        incoming(text, legacy=legacy)
    return why.value


def pointers(why: Malformed) -> list[str]:
    return [fault.pointer for fault in why.faults]


@both
def test_a_device_says_who_it_is(legacy: bool) -> None:
    assert incoming(frame("auth", token="x"), legacy=legacy) == Auth("x", None, 0)
    assert incoming(frame("auth", token="x", clientId="c", protocol=1), legacy=legacy) == Auth("x", "c", 1)


def test_a_subscription_says_from_where_and_what() -> None:
    said = {"appId": "a", "since": "s", "collections": ["t"], "first": "u", "limit": 5, "bytes": 2000, "pushed": ["p"]}
    assert incoming(frame("subscribe", **said)) == Subscribe("a", "s", ["t"], "u", 5, 2000, ["p"])
    assert incoming(frame("subscribe")) == Subscribe(None, None, None, None, None, None, None)


def test_a_subscription_of_the_first_generation_has_any_cursor() -> None:
    said = {"appId": "a", "collections": "t", "first": ["u"], "limit": 5}
    assert incoming(frame("subscribe", since="s", **said), legacy=True) == Subscribe("a", "s", "t", ["u"], 5)
    for since in (7, None, {"x": 1}, False):
        assert incoming(frame("subscribe", since=since, **said), legacy=True) == Subscribe("a", None, "t", ["u"], 5)
    assert pointers(refused(frame("subscribe", since=7))) == ["/since"]


@both
def test_the_other_messages(legacy: bool) -> None:
    assert incoming(frame("unsubscribe", appId="a"), legacy=legacy) == Unsubscribe("a")
    assert incoming(frame("unsubscribe"), legacy=legacy) == Unsubscribe(None)
    assert incoming(frame("ping"), legacy=legacy) == Ping()
    here = incoming(frame("presence", spaceId="s", state={"x": [1]}), legacy=legacy)
    assert isinstance(here, PresenceFrame)
    assert (here.spaceId, json.loads(bytes(here.state))) == ("s", {"x": [1]})
    gone = incoming(frame("presence", spaceId="s"), legacy=legacy)
    assert isinstance(gone, PresenceFrame)
    assert bytes(gone.state) == b"null"


@both
def test_a_push_over_a_socket(legacy: bool) -> None:
    said = {"requestId": "q", "appId": "a", "schemaVersion": 4, "atomic": True}
    read = incoming(frame("push", changes=[CHANGE], **said), legacy=legacy)
    assert isinstance(read, PushFrame)
    assert [(one.table, one.id, one.op) for one in read.changes] == [("t", "r", "update")]
    assert (read.requestId, read.appId, read.schemaVersion, read.atomic) == ("q", "a", 4, True)
    least = incoming(frame("push", changes=[]), legacy=legacy)
    assert isinstance(least, PushFrame)
    assert (least.changes, least.requestId, least.appId, least.schemaVersion, least.atomic) == (
        [],
        None,
        None,
        None,
        False,
    )
    assert least.incarnations is None


def test_a_push_of_ours_has_to_hold_changes_and_may_name_its_store() -> None:
    assert pointers(refused(frame("push"))) == [""]
    read = incoming(frame("push", changes=[], incarnations=["1.a"], requestId=7))
    assert isinstance(read, PushFrame)
    assert (read.incarnations, read.requestId) == (["1.a"], 7)


@both
@pytest.mark.parametrize(("text", "code", "detail"), [
    (b'{"type":"ping\xff"}', "malformed_json", "The frame is not UTF-8: byte 13."),
    (b'{"type":"ping"', "malformed_json", "The frame is not JSON: "),
    (b"", "malformed_json", "The frame is not JSON: "),
    (b'{"type":"subscribe","appId":"' + HALF.encode() + b'"}', "malformed_json", "The frame is not JSON: "),
    (b'{"type":"ping","more":' + DEEP + b"}", "invalid_value", "The frame is nested too deeply."),
    (b'{"type":"subscribe","appId":7}', "invalid_message", "Expected `str | null`, got `int`."),
    (b'{"type":"unknown"}', "invalid_message", "Invalid value"),
    (b"[]", "invalid_message", "Expected `object`, got `array`."),
])  # fmt: skip
def test_what_is_no_message_is_said_to_be_none(text: bytes, code: str, detail: str, legacy: bool) -> None:
    why = refused(text, legacy)
    assert (why.code, why.detail[: len(detail)]) == (code, detail)


def test_the_place_that_is_at_fault_is_named() -> None:
    assert pointers(refused(b'{"type":"subscribe","appId":7}')) == ["/appId"]
    assert pointers(refused(b'{"type":"auth"}')) == [""]
    why = refused(frame("push", changes=[CHANGE, {**CHANGE, "id": 7}]))
    assert (why.code, pointers(why)) == ("invalid_change", ["/changes/1/id"])
    why = refused(frame("push", changes=[CHANGE], requestId=[1]))
    assert (why.code, pointers(why)) == ("invalid_message", ["/requestId"])


def test_half_a_surrogate_pair_is_said_to_be_no_text_where_users_write() -> None:
    half = json.dumps(CHANGE | {"id": "@"}).replace("@", HALF)
    why = refused(b'{"type":"push","changes":[%s,%s]}' % (json.dumps(CHANGE).encode(), half.encode()))
    assert (why.code, pointers(why)) == ("invalid_value", ["/changes/1"])
    for text in (
        b'{"type":"push","requestId":"%s","changes":[]}' % HALF.encode(),
        b'{"type":"presence","spaceId":"s","state":"%s"}' % HALF.encode(),
        b'{"type":"presence","spaceId":"s","state":"%s"}' % HALF.encode(),
    ):
        why = refused(text)
        assert (why.code, why.detail, why.faults) == ("invalid_value", "A lone surrogate is not text.", ())


def test_of_the_first_generation_a_change_that_cannot_be_read_keeps_no_other() -> None:
    text = frame(
        "push", changes=[CHANGE, {**CHANGE, "id": 7}, {**CHANGE, "id": "q"}], requestId=5, appId="a", atomic=True
    )
    read = incoming(text, legacy=True)
    assert isinstance(read, PushFrame)
    assert [one is UNREADABLE for one in read.changes] == [False, True, False]
    assert [one.id for one in read.changes] == ["r", "", "q"]
    assert (read.requestId, read.appId, read.atomic) == (5, "a", True)


def test_of_the_first_generation_too_what_is_no_push_is_refused() -> None:
    why = refused(b'{"type":"presence","spaceId":"s","changes":["%s"]}' % HALF.encode(), legacy=True)
    assert (why.code, pointers(why)) == ("invalid_value", ["/changes/0"])
    assert refused(frame("push", changes=[{**CHANGE, "id": 7}], atomic="yes"), legacy=True).code == "invalid_message"


@pytest.mark.parametrize(("text", "found"), [
    (b'{"type":"auth","token":5}', True), (b'{"type":"auth","token":"%s"}' % HALF.encode(), True),
    (b'{"more":1,"type":"auth"}', True), (b'{"type":"ping"}', False), (b'{"token":"auth"}', False), (b"auth", False),
    (b'{"type":5}', False), (b'{"type":"auth","x":' + DEEP + b"}", False), (b"[]", False),
    (b'{"type":"auth\xff"}', False),
])  # fmt: skip
def test_a_frame_that_cannot_be_read_may_have_been_to_say_who_its_sender_is(text: bytes, found: bool) -> None:
    assert is_auth(text) is found


@pytest.mark.parametrize(("text", "named"), [
    (b'{"type":"push","requestId":"q","appId":"a","spaceId":"s"}', {"requestId": "q"}),
    (b'{"type":"push","requestId":7}', {"requestId": 7}),
    (b'{"type":"push","requestId":0,"changes":5}', {"requestId": 0}),
    (b'{"type":"push","requestId":null}', {}), (b'{"type":"push"}', {}), (b'{"type":"push","requestId":[1]}', {}),
    (b'{"type":"push","requestId":true}', {}), (b'{"type":"push","requestId":1.5}', {}),
    (b'{"type":"push","requestId":"%s"}' % HALF.encode(), {}),
    (b'{"type":"push","requestId":"q","changes":["%s"]}' % HALF.encode(), {"requestId": "q"}),
    (b'{"type":"subscribe","requestId":"q","appId":"a","spaceId":"s"}', {"appId": "a"}),
    (b'{"type":"presence","requestId":"q","appId":"a","spaceId":"s"}', {"spaceId": "s"}),
    (b'{"type":"auth","requestId":"q","appId":"a","spaceId":"s"}', {}), (b'{"requestId":"q"}', {}), (b"push", {}),
])  # fmt: skip
def test_a_message_at_fault_is_named_by_what_its_sender_called_it(text: bytes, named: Any) -> None:
    assert names(text) == named


def test_tables_are_a_list_or_a_text_with_commas() -> None:
    assert tables_in(None) == tables_in([]) == tables_in("") == tables_in(["", ""]) == ()
    assert tables_in(["", "b", "b", "a"]) == ("a", "b"), "what is nothing, or said twice, ends it not"
    assert tables_in("b,a,b") == tables_in(["b", "a", "b", ""]) == ("a", "b")
    assert tables_in(["a,b"]) == ("a,b",), "in a list a comma is part of a name"
    assert tables_in_texts(["b,a", "c"], "first", 3) == ("a", "b", "c")


def no(*given: Any) -> tuple[str, str, str]:
    with pytest.raises(Malformed) as why:
        tables_in(*given)
    (fault,) = why.value.faults
    return why.value.detail, fault.pointer, fault.detail


def test_so_many_tables_and_no_more() -> None:
    tables = [f"t{n:03}" for n in range(MAX_TABLES)]
    assert tables_in(tables) == tables_in(",".join(tables)) == tuple(tables)
    assert (
        no([*tables, "u"])
        == no(",".join([*tables, "u"]))
        == ("At most 100 tables in collections.", "/collections", "too many")
    )
    assert tables_in(["a", "b"], "first", 2) == ("a", "b")
    assert no("a,b,c", "first", 2) == ("At most 2 tables in first.", "/first", "too many")
    assert no("a\nb,c", "first", 2) == (
        "first must not contain control characters.", "/first", "must not contain control characters"
    )  # fmt: skip


def test_so_many_names_whatever_they_are_and_no_more() -> None:
    often = ["t"] * MAX_NAMES
    assert tables_in(often) == tables_in(",".join(often)) == tables_in_texts(often, "first", 1) == ("t",)
    assert tables_in_texts([",".join(often[:10]), *often[10:]], "first", 1) == ("t",)
    for given in ([*often, "t"], ",".join([*often, "t"])):
        assert no(given, "first", 1) == ("At most 1 tables in first.", "/first", "too many")
    with pytest.raises(Malformed):
        tables_in_texts([",".join(often[:11]), *often[10:]], "first", 1)


def test_what_a_device_says_was_acknowledged() -> None:
    most = [f"c{n}" for n in range(MAX_PUSHED)]
    assert pushed_in(most) == tuple(most)
    assert pushed_in(["b", "a", "b"]) == ("b", "a", "b")
    with pytest.raises(Malformed) as many:
        pushed_in([*most, "c"])
    assert (many.value.detail, many.value.faults) == ("At most 64 ids in pushed.", (("/pushed", "too many", None),))
    with pytest.raises(Malformed) as wrong:
        pushed_in(["a", ""])
    assert (wrong.value.detail, pointers(wrong.value)) == ("pushed must not be empty.", ["/pushed"])


def test_how_large_a_page_may_be() -> None:
    assert [page_bytes(given, 5000) for given in (None, SMALLEST_PAGE, 4999, 5000, 5001)] == [
        5000,
        1024,
        4999,
        5000,
        5000,
    ]
    with pytest.raises(Malformed) as why:
        page_bytes(SMALLEST_PAGE - 1, 5000)
    assert (why.value.detail, why.value.faults) == (
        "bytes must be at least 1,024.", (("/bytes", "must be at least 1,024", None),)
    )  # fmt: skip


@pytest.mark.parametrize(("say", "said"), [
    (lambda: live.auth_ok("ann", AT), {"type": "auth-ok", "userId": "ann", "serverTime": AT}),
    (lambda: live.error("busy", "Wait."), {"type": "error", "code": "busy", "detail": "Wait."}),
    (lambda: live.error("busy", "Wait.", requestId=0, appId=None),
     {"type": "error", "code": "busy", "detail": "Wait.", "requestId": 0}),
    (lambda: live.sync_available("a", ["u", "t", "u"]), {"type": "sync-available", "appId": "a", "tables": ["t", "u"]}),
    (lambda: live.presence("s", "ann", "c", b'{"x":1}'),
     {"type": "presence", "spaceId": "s", "userId": "ann", "clientId": "c", "state": {"x": 1}}),
    (lambda: live.spaces_said(["a"], ["b"]), {"joined": ["a"], "left": ["b"]}),
    (lambda: live.spaces_said([], [], ["c"]), {"joined": [], "left": [], "unreadable": ["c"]}),
    (lambda: live.STAYED, {"joined": [], "left": []}),
    (lambda: live.PONG, {"type": "pong"}), (lambda: live.INVITATIONS, {"type": "invitations"}),
])  # fmt: skip
def test_what_is_answered(say: Callable[[], bytes], said: Any) -> None:
    assert json.loads(say()) == said


def test_a_frame_of_changes_is_a_head_the_changes_and_a_tail() -> None:
    head, spaces = live.changes_head('a"b'), {"joined": ["s"], "left": []}
    one = json.loads(head + b'{"seq":1},{"seq":2}' + live.changes_tail(b"c.1", True, live.spaces_said(["s"], [])))
    assert one == {"type": "changes", "appId": 'a"b', "changes": [{"seq": 1}, {"seq": 2}], "hasMore": True,
                   "spaces": spaces, "syncedUntil": "c.1"}  # fmt: skip
    none = {"joined": [], "left": []}
    for tail in (live.changes_tail(b"c.1", False), live.TAIL + b"c.1" + live.END):
        assert json.loads(live.changes_head("a") + tail) == {
            "type": "changes", "appId": "a", "changes": [], "hasMore": False, "spaces": none, "syncedUntil": "c.1"
        }  # fmt: skip
