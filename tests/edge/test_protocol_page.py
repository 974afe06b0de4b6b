"""The examples of docs/reference/protocol.md, run in order against a server of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.harness import Server
from tests.support.protocol_page import Bound, Exchange, Frame, Http, examples, page, parsed
from tests.support.wire import Device, edit, unique

WITHIN, HINT = 60.0, "sync-available"


@pytest.fixture
def fresh(folder: Path) -> Iterator[Server]:
    """A server that nobody has used."""
    with Server(folder / "page") as server:
        yield server


def test_the_examples_are_what_a_server_answers(fresh: Server) -> None:
    bound = Bound(alice=fresh.token("alice"), bob=fresh.token("bob"))
    shown = examples(page())
    assert len(shown) > 20
    with httpx.Client(base_url=fresh.url, timeout=WITHIN) as http:
        for example in shown:
            if isinstance(example, Exchange):
                run_exchange(http, bound, example)
            else:
                run_frames(fresh, bound, example)


def run_exchange(http: httpx.Client, bound: Bound, example: Exchange) -> None:
    """Sends a request of the page, and compares the answer with the one that is shown."""
    request, shown = example
    method, _, address = request.first.partition(" ")
    headers = {name: bound.fill(value) for name, value in request.headers.items()}
    media = shown.headers.get("content-type", "")
    with http.stream(
        method,
        bound.fill(address, in_address=True),
        content=bound.fill(request.body).encode() or None,
        headers=headers,
    ) as answer:
        body = read(answer, shown) if media == "text/event-stream" else answer.read().decode()
        assert f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}" == shown.first, (request.first, body)
        for name, value in shown.headers.items():
            assert answer.headers[name] == value, (request.first, name)
    assert bound.difference(parsed(media, shown.body), parsed(media, body)) is None, (request.first, body)


def read(stream: httpx.Response, shown: Http) -> str:
    """As many events of a stream that does not end as are shown."""
    wanted, text = shown.body.strip().count("\n\n") + 1, ""
    for part in stream.iter_text():
        text += part
        if text.count("\n\n") >= wanted:
            break
    return text


def run_frames(server: Server, bound: Bound, frames: list[Frame]) -> None:
    """Sends the frames of a block, and compares those that come; at its end nothing else may have come."""
    open_: dict[str, ClientConnection] = {}
    with ExitStack() as stack:
        for frame in frames:
            if frame.connection not in open_:
                connection = connect(f"ws{server.url.removeprefix('http')}/ws")
                open_[frame.connection] = stack.enter_context(connection)
            if frame.sent:
                open_[frame.connection].send(bound.fill(frame.text))
                continue
            shown = json.loads(frame.text)
            came = next_frame(open_[frame.connection], hints=shown["type"] == HINT)
            assert bound.difference(shown, came) is None, (frame, came)
        for connection in open_.values():
            connection.send('{"type":"ping"}')
            assert next_frame(connection) == {"type": "pong"}


def next_frame(connection: ClientConnection, *, hints: bool = False) -> dict[str, Any]:
    """The next frame; where no hint is shown, the next that is none: a worker that is busy may tell a socket that has
    subscribed to nothing of what was pushed right before it came, as the examples are one after the other."""
    for _ in range(20):
        came: dict[str, Any] = json.loads(connection.recv(WITHIN))
        if hints or came["type"] != HINT:
            return came
    raise AssertionError("nothing but hints came")


def test_an_answer_is_compressed_as_the_client_accepts(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=WITHIN) as http:
        device = Device(http, server, unique("alice"))
        device.write(edit("r", text="x" * 5000))
        for accepted, coding in (("gzip", "gzip"), ("zstd, gzip", "zstd"), ("identity", None)):
            headers = {**device.headers, "accept-encoding": accepted}
            with http.stream("GET", "/sync/app/pull", headers=headers) as answer:
                assert answer.headers.get("content-encoding") == coding
                size = sum(map(len, answer.iter_raw()))
            assert (size < 1000) == (coding is not None)


def test_the_value_of_a_delete_goes_with_its_stamp(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=WITHIN) as http:
        device, far = Device(http, server, unique("alice")), "2099-01-01T00:00:00.000000Z"
        plain = {**edit("plain"), "op": "delete", "deletedAt": far}
        other = {**edit("other", far, deletedAt="long ago"), "op": "delete", "deletedAt": far}
        del plain["fields"]
        given = [result["at"]["deletedAt"] for result in device.push(plain, other)["results"]]
        log = device.ask(history=1).json()["serverChanges"]
        assert [change["fields"]["deletedAt"] for change in log] == [
            {"value": given[0], "at": given[0], "sent": far},
            {"value": given[1], "at": given[1], "sent": far},
        ]


def test_a_field_called_space_id_names_a_space_unless_the_personal_one_is_named(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=WITHIN) as http:
        device = Device(http, server, unique("alice"))
        unnamed, named = edit("a", spaceId="elsewhere"), edit("b", spaceId="elsewhere")
        results = device.push(unnamed, {**named, "spaceId": f"_personal:{device.user}"})["results"]
        assert [result.get("code") for result in results] == ["space_not_found", None]
        assert [change["id"] for change in device.ask().json()["serverChanges"]] == ["b"]


def test_the_id_of_a_deleted_space_stays_taken_to_others(server: Server) -> None:
    with httpx.Client(base_url=server.url, timeout=WITHIN) as http:
        owner, other, space = Device(http, server, unique("alice")), Device(http, server, unique("bob")), unique("team")
        owner.create(space)
        assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
        again = other.request("POST", "/spaces", json={"id": space, "name": space})
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
