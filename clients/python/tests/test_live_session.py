"""The decisions of a live sync, without a socket, a file or a clock: tables of what comes and what follows."""

from __future__ import annotations

import json
from typing import Any

import pytest
from syncd_client import BadReply, Changes, LivePolicy, LiveState, NotAllowed, Offline, Presence, RecordKey, ServerBusy
from syncd_client.data.change import Packed
from syncd_client.errors import Refused
from syncd_client.live.hub import Hub
from syncd_client.live.reconnect import Ending, Plan, Reconnect, closed, failed, not_upgraded
from syncd_client.live.session import (
    Authenticated,
    Awaited,
    Complaint,
    Delivered,
    LiveSession,
    Meaning,
    Noise,
    PushAnswered,
    PushRefused,
    SubscribeRefused,
    Want,
    read_frame,
)
from syncd_client.sync.reply import Page, Result

from tests.support.scripted_live import changes

ONE = Packed("1", "1", '{"changeId":"1","table":"t","id":"a","op":"update","fields":{}}', "")
TWO = Packed("2", "1", '{"changeId":"2","table":"t","id":"b","op":"update","fields":{}}', "")
AWAITED = Awaited("p1", (ONE,))
RESULT = {"type": "push-result", "requestId": "p1", "results": [{"changeId": "1", "status": "applied"}]}
EMPTY = Page([], "c1", False, [], [], [], [])


def answered(status: str) -> PushAnswered:
    return PushAnswered(Page([], None, True, [], [], [Result("1", status, {}, "", "")]), (ONE,))


OPEN, LAST, MORE = Authenticated("u", None), Delivered(EMPTY), Delivered(Page([], "c0", True, [], []))
BUSY, REFUSED = PushRefused(True, "busy", ""), PushRefused(False, "invalid_value", "")
LOST, LATER = SubscribeRefused(True, False, "cursor_lost", ""), SubscribeRefused(False, True, "busy", "")
SUBSCRIBES, PUSHES = "subscribes", "pushes"
Happening = Meaning | str


@pytest.mark.parametrize(
    ("restarting", "happened", "pending", "wanted"),
    [
        (False, [], True, Want.WAIT),
        (False, [OPEN], True, Want.PUSH),
        (False, [OPEN], False, Want.SUBSCRIBE),
        (True, [OPEN], True, Want.SUBSCRIBE),
        (False, [OPEN, PUSHES], True, Want.WAIT),
        (False, [OPEN, PUSHES, answered("applied")], True, Want.PUSH),
        (False, [OPEN, PUSHES, answered("applied")], False, Want.SUBSCRIBE),
        (False, [OPEN, PUSHES, answered("duplicate")], False, Want.SUBSCRIBE),
        (False, [OPEN, PUSHES, BUSY], True, Want.SUBSCRIBE),
        (False, [OPEN, PUSHES, BUSY, "resumes"], True, Want.PUSH),
        (False, [OPEN, PUSHES, REFUSED], True, Want.FIX),
        (False, [OPEN, PUSHES, REFUSED, "fixed"], False, Want.SUBSCRIBE),
        (False, [OPEN, SUBSCRIBES], False, Want.WAIT),
        (False, [OPEN, SUBSCRIBES], True, Want.PUSH),
        (False, [OPEN, SUBSCRIBES, LAST, PUSHES, answered("applied")], False, Want.WAIT),
        (False, [OPEN, SUBSCRIBES, LAST, PUSHES, answered("duplicate")], False, Want.SUBSCRIBE),
        (False, [OPEN, SUBSCRIBES, LOST], True, Want.SUBSCRIBE),
        (False, [OPEN, SUBSCRIBES, LOST, SUBSCRIBES, MORE], True, Want.WAIT),
        (False, [OPEN, SUBSCRIBES, LOST, SUBSCRIBES, MORE, LAST], True, Want.PUSH),
        (True, [OPEN, SUBSCRIBES, LAST], True, Want.PUSH),
        (False, [OPEN, SUBSCRIBES, LATER], False, Want.WAIT),
        (False, [OPEN, SUBSCRIBES, LATER, "resumes"], False, Want.SUBSCRIBE),
        (False, [OPEN, SUBSCRIBES, LAST, OPEN], False, Want.WAIT),
    ],
)
def test_what_the_session_wants(restarting: bool, happened: list[Happening], pending: bool, wanted: Want) -> None:
    session = LiveSession("app", "me", None, restarting)
    for event in happened:
        match event:
            case "subscribes":
                session.subscribe("c")
            case "pushes":
                session.push([ONE])
            case "resumes":
                session.resume()
            case "fixed":
                session.fixed()
            case _:
                session.learn(event)  # type: ignore[arg-type]
    assert session.next(pending) is wanted


@pytest.mark.parametrize(
    ("happened", "trusted"),
    [([OPEN], False), ([OPEN, SUBSCRIBES], False), ([OPEN, SUBSCRIBES, MORE], False), ([OPEN, SUBSCRIBES, LAST], True)],
)
def test_the_cursor_of_a_push_s_answer_counts_once_everything_before_it_is_here(
    happened: list[Happening], trusted: bool
) -> None:
    session = LiveSession("app", "me", None, False)
    for event in happened:
        session.subscribe("c") if isinstance(event, str) else session.learn(event)
    assert session.trust_cursor is trusted


@pytest.mark.parametrize(
    ("frame", "meaning"),
    [
        (
            {"type": "auth-ok", "userId": "u", "serverTime": "1970-01-01T00:00:01Z"},
            Authenticated("u", 1_000_000),
        ),
        ({"type": "auth-ok", "userId": "u"}, Authenticated("u", None)),
        (changes(cursor="c1"), Delivered(EMPTY)),
        (changes(cursor="c1", app="other"), Noise()),
        (RESULT | {"requestId": "p9"}, Noise()),
        ({"type": "error", "requestId": "p1", "code": "busy"}, PushRefused(True, "busy", "")),
        (
            {"type": "error", "requestId": "p1", "code": "busy", "detail": "d", "retryAfter": 3},
            PushRefused(True, "busy", "d", 3.0),
        ),
        ({"type": "error", "requestId": "p1", "code": "invalid_value"}, PushRefused(False, "invalid_value", "")),
        ({"type": "error", "requestId": "p9", "code": "busy"}, Noise()),
        ({"type": "error", "appId": "app", "code": "cursor_lost"}, SubscribeRefused(True, False, "cursor_lost", "")),
        ({"type": "error", "code": "bad_cursor"}, SubscribeRefused(True, False, "bad_cursor", "")),
        ({"type": "error", "appId": "app", "code": "busy"}, SubscribeRefused(False, True, "busy", "")),
        ({"type": "error", "appId": "app", "code": "forbidden"}, SubscribeRefused(False, False, "forbidden", "")),
        ({"type": "error", "code": "space_not_found"}, Complaint("space_not_found", "")),
        (
            {"type": "presence", "spaceId": "_personal:u", "userId": "u", "clientId": "c", "state": None},
            Presence(None, "u", "c", None),
        ),
        ({"type": "pong"}, Noise()),
        ({"type": "weather"}, Noise()),
    ],
)
def test_what_a_frame_means(frame: dict[str, Any], meaning: Meaning) -> None:
    assert read_frame(json.dumps(frame), "app", AWAITED, False) == meaning


@pytest.mark.parametrize(("trusted", "cursor"), [(True, "c7"), (False, None)])
def test_a_push_s_answer_never_ends_the_catching_up(trusted: bool, cursor: str | None) -> None:
    meaning = read_frame(json.dumps(RESULT | {"syncedUntil": "c7", "hasMore": False}), "app", AWAITED, trusted)
    assert isinstance(meaning, PushAnswered)
    assert (meaning.page.cursor, meaning.page.more) == (cursor, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"type": "changes", "appId": "app"}',
        '{"type": "changes", "appId": "app", "changes": [], "syncedUntil": 7}',
        json.dumps(RESULT | {"results": []}),
        json.dumps(RESULT | {"results": [{"changeId": "9", "status": "applied"}]}),
        json.dumps(RESULT | {"results": [{"changeId": "1", "status": "eaten"}]}),
        '{"type": "auth-ok"}',
    ],
)
def test_a_frame_that_makes_no_sense_is_refused_whole(text: str) -> None:
    with pytest.raises(BadReply):
        read_frame(text, "app", AWAITED, True)


def test_the_frames_it_sends() -> None:
    session = LiveSession("app", "me", 3, False)
    session.learn(OPEN)
    assert json.loads(session.auth("t")) == {"type": "auth", "token": "t", "clientId": "me", "protocol": 1}
    assert json.loads(session.subscribe("c")) == {"type": "subscribe", "appId": "app", "since": "c", "roles": ""}
    assert json.loads(session.presence(None, 1)) == {"type": "presence", "spaceId": "_personal:u", "state": 1}
    push = json.loads(session.push([ONE, TWO]))
    assert [change["changeId"] for change in push.pop("changes")] == ["1", "2"]
    head = {"type": "push", "requestId": "p1", "appId": "app", "bases": True, "schemaVersion": 3}
    assert push == {**head, "atomic": True}
    session.learn(answered("applied"))
    assert json.loads(session.push([ONE])).keys() == {*head, "changes"}


@pytest.mark.parametrize(
    ("code", "state", "renew", "restarting", "suspect"),
    [
        (None, "offline", False, False, False),
        (1000, "offline", False, True, False),
        (1001, "offline", False, True, False),
        (1006, "offline", False, False, False),
        (1009, "refused", False, False, True),
        (1011, "busy", False, False, False),
        (1012, "offline", False, True, False),
        (1013, "busy", False, False, False),
        (4400, "refused", False, False, True),
        (4401, "refused", True, False, False),
        (4403, "refused", True, False, False),
        (4408, "offline", False, False, False),
        (4429, "busy", False, False, False),
        (4999, "offline", False, False, False),
    ],
)
def test_what_a_close_code_means(code: int | None, state: str, renew: bool, restarting: bool, suspect: bool) -> None:
    ending = closed(code, "because", True)
    assert (ending.state, ending.renew, ending.restarting, ending.suspect) == (state, renew, restarting, suspect)
    assert (ending.detail, ending.opened) == ("because", True)


@pytest.mark.parametrize(("status", "state"), [(403, "offline"), (404, "offline"), (429, "busy"), (503, "busy")])
def test_a_handshake_that_is_answered_otherwise(status: int, state: str) -> None:
    assert not_upgraded(status, 3.0).state == state


@pytest.mark.parametrize(
    ("error", "state", "trouble"),
    [
        (Offline("x"), "offline", "offline"),
        (ServerBusy("x"), "busy", "busy"),
        (NotAllowed("x"), "refused", "forbidden"),
        (Refused("x", code="invalid_request", status=400), "refused", "refused"),
        (BadReply("x"), "refused", "refused"),
    ],
)
def test_what_an_error_means(error: Any, state: str, trouble: str) -> None:
    assert (failed(error).state, failed(error).trouble) == (state, trouble)


@pytest.mark.parametrize(
    ("ending", "login"),
    [
        (failed(NotAllowed("no token.", code="no_token")), "signed_out"),
        (failed(NotAllowed("The token has expired.")), "signed_out"),
        (closed(4401, "the token has expired", True), "signed_out"),
        (closed(4401, "The token's signature is not by the key that it names.", False), "refused"),
        (failed(NotAllowed("longer than 16384.", code="token_too_large")), "refused"),
        (closed(4403, "", False), "refused"),
        (failed(Refused("x", code="invalid_request", status=400)), None),
        (failed(Offline("the token function failed", code="no_token")), None),
        (closed(1006, "", True), None),
    ],
)
def test_a_login_that_is_at_fault_is_told_from_a_line(ending: Ending, login: str | None) -> None:
    assert ending.login == login


POLICY = LivePolicy(first=1.0, longest=8.0, restart_spread=5.0, steady=10.0, refused_interval=60.0, blocked_after=3)
LOST_LINE = Ending("offline", "connection_lost", "", opened=True)
NO_LINE = Ending("offline", "offline", "")
RESTART = Ending("offline", "restarting", "", opened=True, restarting=True)
TOKEN = Ending("refused", "unauthorized", "", renew=True)
TOKEN_ENDED = Ending("refused", "unauthorized", "", opened=True, renew=True)
SUSPECT = Ending("refused", "malformed", "", opened=True, suspect=True)
UNANSWERED = Ending("offline", "silent", "", opened=True, unanswered=True)
OVERLOADED = Ending("busy", "http_503", "", retry_after=30.0)
FOR_YEARS = Ending("busy", "http_503", "", retry_after=1e9)


@pytest.mark.parametrize(
    ("renewable", "endings", "plan"),
    [
        (True, [(LOST_LINE, 0)], Plan(1.0)),
        (True, [(LOST_LINE, 0)] * 3, Plan(4.0)),
        (True, [(LOST_LINE, 0)] * 99, Plan(8.0)),
        (True, [(LOST_LINE, 0)] * 5 + [(LOST_LINE, 11)], Plan(1.0)),
        (True, [(RESTART, 11)], Plan(5.0)),
        (True, [(NO_LINE, 0)] * 2, Plan(2.0)),
        (True, [(NO_LINE, 0)] * 3, Plan(4.0, poll=True)),
        (True, [(NO_LINE, 0)] * 3 + [(LOST_LINE, 0)], Plan(8.0)),
        (True, [(OVERLOADED, 0)], Plan(31.0)),
        (True, [(FOR_YEARS, 0)], Plan(301.0)),
        (True, [(TOKEN, 0)], Plan(0.0, silent=True)),
        (True, [(TOKEN, 0)] * 2, Plan(60.0)),
        (True, [(TOKEN, 0)] * 9, Plan(60.0)),
        (False, [(TOKEN, 0)], Plan(60.0)),
        (True, [(TOKEN, 0), (TOKEN_ENDED, 11)], Plan(0.0, silent=True)),
        (True, [(TOKEN_ENDED, 1)] * 2, Plan(60.0)),
        (True, [(SUSPECT, 0)], Plan(1.0, fix=True)),
        (True, [(UNANSWERED, 0)] * 2, Plan(2.0)),
        (True, [(UNANSWERED, 0)] * 3, Plan(4.0, fix=True)),
        (True, [(UNANSWERED, 0)] * 2 + [(LOST_LINE, 0), (UNANSWERED, 0)], Plan(8.0)),
        (True, [(UNANSWERED, 0)] * 2 + [(NO_LINE, 0), (UNANSWERED, 0)], Plan(8.0, fix=True)),
        (True, [(UNANSWERED, 0)] * 4, Plan(8.0)),
        (True, [(Ending("refused", "bad_reply", "", opened=True), 0)], Plan(60.0)),
    ],
)
def test_when_it_connects_again(renewable: bool, endings: list[tuple[Ending, float]], plan: Plan) -> None:
    reconnect = Reconnect(POLICY, renewable)
    plans = [reconnect.after(ending, lasted, chance=1.0) for ending, lasted in endings]
    assert plans[-1] == plan


def test_pauses_are_spread_over_all_of_the_interval() -> None:
    assert Reconnect(POLICY, True).after(LOST_LINE, 0, chance=0.0).pause == 0.0
    assert Reconnect(POLICY, True).after(RESTART, 0, chance=0.5).pause == 2.5


def test_a_mailbox_that_is_not_read_keeps_the_fact_and_drops_the_details() -> None:
    hub = Hub()
    rung: list[int] = []
    box = hub.open(lambda: rung.append(1), (Changes, LiveState))
    hub.publish(Presence(None, "u", "c", 1))
    assert box.take() == []
    for n in range(1000):
        hub.publish(Changes((RecordKey(None, "t", f"{n}"),), "server"))
    hub.publish(LiveState("offline"))
    hub.publish(LiveState("live"))
    assert box.take() == [Changes((), "server", everything=True), LiveState("offline"), LiveState("live")]
    hub.publish(LiveState("busy"))
    hub.close()
    assert (box.take(), box.closed, len(rung)) == ([LiveState("busy")], True, 1004)


def test_one_large_change_is_not_dropped_for_its_size_alone() -> None:
    hub = Hub()
    box = hub.open(lambda: None, (Changes,))
    many = Changes(tuple(RecordKey(None, "t", f"{n}") for n in range(5000)), "server")
    hub.publish(many)
    assert box.take() == [many]
