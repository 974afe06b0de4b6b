"""`.` and `..` are no ids, and no address that holds one becomes another."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Server
from tests.support.socket_device import Socket, opened, refusal, socket_of
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
STEPS = [".", ".."]
WRITTEN = [".", "..", "%2e", "%2E", "%2e%2e", "%2E%2E", ".%2e", "%2e."]


@pytest.fixture
def ann(device: Make) -> Device:
    return device(unique("ann"))


def as_written(server: Server, ann: Device, method: str, path: str) -> tuple[int, str]:
    """Status and code of a request whose address no client has tidied up."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    body = b'{"role":"writer"}' if method == "PUT" else None
    connection.request(method, path, body, {**ann.headers, "content-type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)["code"] if answer.status >= 400 else ""


@pytest.mark.parametrize("step", WRITTEN)
def test_an_address_with_a_step_is_refused_as_it_was_written(server: Server, ann: Device, step: str) -> None:
    space = ann.create(unique("s"))
    ann.write(edit("r", x=1))
    for method, path in (
        ("DELETE", f"/spaces/{space}/members/{step}"),
        ("PUT", f"/spaces/{space}/members/{step}"),
        ("DELETE", f"/spaces/{space}/members/x/{step}"),
        ("DELETE", f"/spaces/{space}/members/x/{step}/{step}/"),
        ("DELETE", f"/spaces/{step}/members/{space}"),
        ("DELETE", f"/spaces/{step}/{space}"),
        ("DELETE", f"/x/{step}/spaces/{space}"),
        ("GET", f"/sync/{step}/pull"),
        ("POST", f"/sync/{step}"),
        ("GET", f"/sync/app/pull/{step}/pull"),
        ("GET", f"/sync/{step}/stream"),
        ("GET", f"/sync/app/records/t/{step}"),
        ("GET", f"/sync/app/records/{step}/r/history"),
        ("GET", f"/sync/app/spaces/{step}/at"),
        ("GET", f"/backup/{step}/health"),
    ):
        assert as_written(server, ann, method, path) == (400, "invalid_request"), path
    assert ann.request("GET", f"/spaces/{space}").status_code == 200


@pytest.mark.parametrize("step", STEPS)
def test_what_a_client_makes_of_a_member_that_is_a_step_is_no_member_of_the_space(ann: Device, step: str) -> None:
    """A client that takes steps out leaves the end of the segment before: an empty one, which is no id."""
    space = ann.create(unique("s"))
    answer = ann.request("DELETE", f"/spaces/{space}/")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    answer = ann.request("PUT", f"/spaces/{space}/members/%252e%252e", json={"role": "reader"})
    assert answer.json()["userId"] == "%2e%2e", "an address is decoded once"


@pytest.mark.parametrize("word", ["/%6detrics", "/%73paces", "/s%79nc/app/pull", "/healt%68", "/%62ackup/export"])
def test_what_is_asked_for_is_compared_as_it_was_sent(server: Server, ann: Device, word: str) -> None:
    assert as_written(server, ann, "GET", word) == (404, "not_found")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("member", ["id", "table", "spaceId", "changeId"])
def test_a_change_with_such_an_id_is_refused_with_its_place(ann: Device, member: str, step: str) -> None:
    answer = ann.send(edit("good", x=1), {**edit("r", x=1), member: step})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_change")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == [f"/changes/1/{member}"]
    assert step in answer.json()["detail"]
    assert ann.drain(history=1)[0] == []


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "ask",
    [
        lambda ann, step: ann.request("POST", "/spaces", json={"id": step, "name": "x"}),
        lambda ann, step: ann.http.post(
            "/sync/app",
            json={"changes": [], "clientId": step},
            headers={"authorization": ann.headers["authorization"], "x-sync-protocol": "1"},
        ),
        lambda ann, step: ann.request("POST", "/sync/app", json={"changes": []}, headers={"x-client-id": step}),
        lambda ann, step: ann.ask(collection=step),
        lambda ann, step: ann.ask(first=step),
        lambda ann, step: ann.request("GET", "/sync/app/digest", params={"spaceId": step}),
        lambda ann, step: ann.request("GET", "/sync/app/records/t/r", params={"spaceId": step}),
    ],
    ids=["space", "client", "client header", "collection", "first", "digest", "record"],
)
def test_every_other_id_is_refused_too(ann: Device, ask: Callable[[Device, str], Any], step: str) -> None:
    answer = ask(ann, step)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), answer.text


@pytest.mark.parametrize("step", STEPS)
def test_a_user_with_such_a_name_is_nobody(device: Make, step: str) -> None:
    answer = device(step).ask()
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_space_may_be_called_so(ann: Device) -> None:
    assert ann.request("POST", "/spaces", json={"id": unique("s"), "name": ".."}).status_code == 201


@pytest.mark.parametrize("step", WRITTEN)
async def test_a_socket_for_such_an_app_is_refused(server: Server, step: str) -> None:
    for path in (f"/ws/{step}", f"/ws/app/{step}"):
        answer = await refusal(server, path=path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request"), path


@pytest.mark.parametrize("step", STEPS)
async def test_a_socket_takes_no_such_ids(server: Server, step: str) -> None:
    async with await opened(server) as nameless:
        await nameless.send({"type": "auth", "token": server.token("ann"), "clientId": step, "protocol": 1})
        assert await nameless.ends() == 4400
    async with socket_of(server, unique("ann"), protocol=1) as socket:
        for frame in (
            {"type": "subscribe", "appId": step, "since": ""},
            {"type": "subscribe", "appId": "app", "since": "", "collections": [step]},
            {"type": "push", "appId": "app", "requestId": 1, "changes": [{**edit("r", x=1), "id": step}]},
        ):
            assert await code_of(socket, frame) in ("invalid_request", "invalid_change"), frame


async def code_of(socket: Socket, frame: dict[str, Any]) -> str:
    """The code of the error that answers a frame."""
    return str((await socket.ask(frame, "error"))["code"])
