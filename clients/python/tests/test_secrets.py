"""Tokens, payloads and headers are in no error, log, status or file: each has a canary, looked for in every place."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncHttpSender,
    AsyncReplica,
    BadReply,
    HttpSender,
    LiveState,
    NotAllowed,
    Offline,
    Replica,
    RetryPolicy,
    WrongReplica,
    history,
)
from syncd_client.live.reconnect import failed

from tests.support.scripted import Script, page
from tests.support.scripted_live import QUICK, LiveScript, until

CANARY = "canary-5d1f"
ANN, BOB = "x.eyJzdWIiOiJhbm4ifQ.x", "x.eyJzdWIiOiJib2IifQ.x"
Open = Callable[..., Replica]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Everything that was logged, by whom ever, at the finest level."""
    caplog.set_level(logging.DEBUG)
    return lambda: caplog.text


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


def files(replica: Replica) -> bytes:
    """What is in the files, as they are on the disk."""
    with replica.store.read() as db:
        path = Path(db.execute("PRAGMA database_list").fetchone()[2])
    return b"".join(file.read_bytes() for file in path.parent.glob(path.name + "*"))


@pytest.mark.parametrize("around", ["\n", "\r\n", " \n", "\t"])
def test_a_line_end_around_a_token_is_no_part_of_it(open_replica: Open, script: Script, around: str) -> None:
    open_replica("a", token=f"good{around}").sync()
    open_replica("b", token=lambda: f"{around}good").sync()
    assert {request.headers["authorization"] for request in script.asked} == {"Bearer good"}


@pytest.mark.parametrize("inside", ["\n", "\r\nX-Evil: 1", " ", "\0", "é", "\u2028"])
def test_what_no_header_can_carry_is_refused_and_repeated_nowhere(
    open_replica: Open, script: Script, said: Callable[[], str], inside: str
) -> None:
    replica = open_replica(token=lambda: f"{CANARY}{inside}{CANARY}")
    replica.put("t", "r", {"n": 1})
    with pytest.raises(NotAllowed) as refused:
        replica.sync()
    with pytest.raises(NotAllowed):
        history.record_at(replica, "t", "r")
    assert (refused.value.code, script.asked) == ("bad_token", [])
    assert replica.why("t", "r").state == "no_permission"
    for place in (told(refused.value), repr(replica.why("t", "r")), said(), files(replica).decode(errors="replace")):
        assert CANARY not in place


def test_a_token_that_is_too_large_is_told_so(open_replica: Open, script: Script) -> None:
    replica = open_replica(token=CANARY + "x" * 16384)
    with pytest.raises(NotAllowed, match="16384") as refused:
        replica.sync()
    assert (refused.value.code, script.asked) == ("token_too_large", [])
    assert CANARY not in told(refused.value)


LIBRARY = [
    httpx2.ConnectError,
    httpx2.ReadTimeout,
    httpx2.ReadError,
    httpx2.RemoteProtocolError,
    httpx2.LocalProtocolError,
    httpx2.DecodingError,
    httpx2.ProxyError,
]


@pytest.mark.parametrize("kind", LIBRARY)
def test_the_text_of_the_http_library_is_passed_on_nowhere(
    open_replica: Open, script: Script, said: Callable[[], str], kind: type[httpx2.TransportError]
) -> None:
    replica = open_replica(token=CANARY)
    replica.put("t", "r", {"n": 1})
    script.answers = [kind(f"Illegal header value b'Bearer {CANARY}'") for _ in range(4)]
    with pytest.raises(Offline) as offline:
        replica.sync()
    replica.retry = RetryPolicy(attempts=1)
    with pytest.raises(Offline) as past:
        history.record_at(replica, "t", "r")
    status = repr(replica.why("t", "r"))
    for place in (told(offline.value), told(past.value), status, said(), files(replica).decode(errors="replace")):
        assert CANARY not in place


def test_a_certificate_or_a_name_that_is_wrong_is_told_in_words_of_our_own(open_replica: Open) -> None:
    with httpx2.Client() as http:
        replica = open_replica(send=HttpSender(http), url=f"https://{CANARY}.invalid", retry=RetryPolicy(attempts=1))
        with pytest.raises(Offline, match="name is not known") as offline:
            replica.sync()
    assert CANARY not in told(offline.value)


UNREADABLE = [
    {"table": "t", "id": "r", "op": "update", "fields": {"n": {"value": CANARY, "at": CANARY}}},
    {"table": "t", "id": "r", "op": "update", "fields": {"n": CANARY}},
    {"table": "t", "id": "r", "op": "delete", "deletedAt": CANARY},
]


@pytest.mark.parametrize("change", UNREADABLE)
def test_an_answer_that_cannot_be_read_is_not_quoted(
    open_replica: Open, script: Script, said: Callable[[], str], change: Any
) -> None:
    replica = open_replica()
    script.answers = [
        page(change),
        page(spaces={"joined": [{CANARY: 1}]}),
        httpx2.Response(200, text=f'{{"{CANARY}'),
    ] * 3
    for _ in range(3):
        with pytest.raises(BadReply) as bad:
            replica.sync()
        assert CANARY not in told(bad.value)
    assert CANARY not in said() + files(replica).decode(errors="replace")


def test_a_token_function_that_fails_is_quoted_nowhere_of_ours(open_replica: Open, said: Callable[[], str]) -> None:
    def fail() -> str:
        raise RuntimeError(CANARY)

    replica = open_replica(token=fail)
    replica.put("t", "r", {"n": 1})
    with pytest.raises(Offline) as offline:
        replica.sync()
    assert (offline.value.code, replica.why("t", "r").code) == ("no_token", "no_token")
    assert isinstance(offline.value.__cause__, RuntimeError), "the application's own error is there for it"
    for place in (str(offline.value), repr(replica.why("t", "r")), said(), files(replica).decode(errors="replace")):
        assert CANARY not in place


@pytest.mark.parametrize("given", [None, "", "  \n"])
def test_a_function_that_gives_no_token_asks_for_sign_in(open_replica: Open, given: str | None) -> None:
    replica = open_replica(token=lambda: given)
    replica.put("t", "r", {"n": 1})
    with pytest.raises(NotAllowed) as refused:
        replica.sync()
    assert (refused.value.code, replica.why("t", "r").state) == ("no_token", "no_permission")


def test_a_function_that_says_who_has_to_sign_in_is_believed(open_replica: Open) -> None:
    def refuse() -> str:
        raise NotAllowed("The session is over.")

    replica = open_replica(token=refuse)
    with pytest.raises(NotAllowed, match=r"The session is over\.") as refused:
        replica.sync()
    assert (refused.value.code, failed(refused.value).login) == ("no_token", "signed_out")


@pytest.mark.waits
def test_a_token_function_that_never_answers_has_a_deadline(open_replica: Open, script: Script) -> None:
    calls: list[float] = []

    def hang() -> str:
        calls.append(time.monotonic())
        time.sleep(60)
        return "late"

    replica = open_replica(token=hang, callback_timeout=0.1)
    for _ in range(3):
        with pytest.raises(NotAllowed) as refused:
            replica.sync()
        assert refused.value.code == "no_token"
    assert (len(calls), script.asked) == (1, []), "it is not called again while it has not answered"
    with pytest.raises(NotAllowed):
        history.record_at(replica, "t", "r")


def test_a_callback_that_never_returns_keeps_neither_the_sync_nor_the_file(
    open_replica: Open, script: Script, said: Callable[[], str]
) -> None:
    conflict = {"table": "t", "id": "r", "field": "n", "clientValue": CANARY, "serverValue": CANARY}
    replica = open_replica(on_conflict=lambda conflict: time.sleep(60), callback_timeout=0.1)
    script.answers = [page(conflicts=[conflict, conflict])]
    assert len(replica.pull().conflicts) == 2
    replica.pull()
    assert CANARY not in said()


def test_a_callback_that_fails_does_not_fail_the_sync(open_replica: Open, script: Script) -> None:
    told_of: list[Any] = []

    def fail(conflict: Any) -> None:
        told_of.append(conflict.id)
        raise RuntimeError("the application's own")

    conflict = {"table": "t", "id": "r", "field": "n"}
    replica = open_replica(on_conflict=fail)
    script.answers = [page(conflicts=[conflict, conflict | {"id": "s"}])]
    replica.pull()
    assert told_of == ["r", "s"]


@pytest.mark.waits
def test_an_async_token_function_and_callback_have_deadlines_too(tmp_path: Path, script: Script) -> None:
    async def hang(*args: Any) -> Any:
        await asyncio.sleep(60)

    async def main() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(script)) as http:
            options: dict[str, Any] = {
                "app": "app",
                "url": "http://server",
                "send": AsyncHttpSender(http),
                "callback_timeout": 0.1,
            }
            for token in (hang, lambda: hang(), lambda: time.sleep(5)):
                async with AsyncReplica(tmp_path / "a.db", token=token, **options) as replica:
                    with pytest.raises(NotAllowed) as refused:
                        await replica.sync()
                    assert refused.value.code == "no_token"
            async with AsyncReplica(tmp_path / "a.db", token="t", on_conflict=hang, **options) as replica:
                script.answers = [page(conflicts=[{"table": "t", "id": "r", "field": "n"}])]
                await replica.pull()

    asyncio.run(main())


@pytest.fixture
async def live_script() -> AsyncIterator[LiveScript]:
    async with LiveScript().running() as script:
        yield script


async def hang_for_ever() -> str:
    await asyncio.sleep(3600)
    return ""


REFUSED: list[tuple[Any, str, str]] = [
    (hang_for_ever, "refused", "no_token"),
    (lambda: time.sleep(5), "refused", "no_token"),
    (lambda: None, "refused", "no_token"),
    (f"{CANARY}\n{CANARY}", "refused", "bad_token"),
    (CANARY * 2000, "refused", "token_too_large"),
]


@pytest.mark.parametrize(("token", "state", "code"), REFUSED)
@pytest.mark.parametrize("threads", [False, True])
async def test_a_live_sync_says_why_it_has_no_token(
    tmp_path: Path,
    live_script: LiveScript,
    said: Callable[[], str],
    token: Any,
    state: str,
    code: str,
    threads: bool,
) -> None:
    if threads and token is hang_for_ever:
        token = lambda: time.sleep(5)  # noqa: E731
    states: list[LiveState] = []
    replica = AsyncReplica(tmp_path / "a.db", app="app", url=live_script.url, token=token, callback_timeout=0.1)
    await replica.put("t", "r", {"n": 1})
    shown = lambda: any((s.name, s.code) == (state, code) for s in states)  # noqa: E731
    if threads:
        live = await asyncio.to_thread(replica.local.live, policy=QUICK, on_state=states.append)
        await until(shown, f"{state} {code}")
        await asyncio.to_thread(live.close)
    else:
        async with replica.live(policy=QUICK, on_state=states.append):
            await until(shown, f"{state} {code}")
    status = await replica.why("t", "r")
    assert (status.state, status.code) == ("no_permission", code)
    assert CANARY not in repr(states) + repr(status) + said() + files(replica.local).decode(errors="replace")
    assert live_script.heard == []
    await replica.close()


async def test_a_live_sync_logs_neither_its_token_nor_what_it_sends(
    tmp_path: Path, live_script: LiveScript, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("websockets.server").setLevel(logging.INFO)  # the script's own
    caplog.set_level(logging.DEBUG)
    replica = AsyncReplica(tmp_path / "a.db", app="app", url=live_script.url, token=CANARY)
    async with replica, replica.live(policy=QUICK) as live:
        await replica.put("t", "r", {"n": CANARY})
        assert await live.wait_until_synced(60)
        live_script.on["push"] = lambda frame, socket: {"type": "changes", "changes": [{"id": CANARY}]}
        await replica.put("t", "r", {"n": CANARY})
        await until(lambda: live.state.code == "bad_reply", "a frame that cannot be read")
        assert CANARY not in repr(live.state)
    assert live_script.frames("auth")[0]["token"] == CANARY
    assert CANARY not in caplog.text


def test_a_file_of_another_user_is_refused_at_opening(open_replica: Open, script: Script) -> None:
    open_replica("file", token=ANN).close()
    with pytest.raises(WrongReplica, match="ann"):
        open_replica("file", token=BOB)
    with pytest.raises(WrongReplica, match="ann"):
        open_replica("file", token=f"{BOB}\n")
    with pytest.raises(WrongReplica, match="ann"):
        open_replica("file", token=lambda: BOB, user="bob")
    with pytest.raises(WrongReplica, match="ann"):
        open_replica("file", url=None, token=None, user="bob")
    with pytest.raises(WrongReplica):
        open_replica("other", token=ANN, user="bob")
    assert open_replica("file", token=lambda: ANN, user="ann").sync().requests == 1
    assert open_replica("file", token=None).query("t") == []


def test_a_function_that_gives_another_users_token_is_refused_before_it_is_used(
    open_replica: Open, script: Script
) -> None:
    replica = open_replica(token=lambda: BOB, user="ann")
    replica.put("t", "r", {"n": 1})
    with pytest.raises(WrongReplica, match="ann"):
        replica.sync()
    assert script.asked == []
