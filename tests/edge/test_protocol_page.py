"""The examples of docs/reference/protocol.md, run in order against a server of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from tests.harness import Server
from tests.protocol_page import Bound, Exchange, Frame, Http, examples, page, parsed
from tests.wire import Device, edit, unique

WITHIN = 30.0


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
            came = json.loads(open_[frame.connection].recv(WITHIN))
            assert bound.difference(json.loads(frame.text), came) is None, (frame, came)
        for connection in open_.values():
            connection.send('{"type":"ping"}')
            assert connection.recv(WITHIN) == '{"type":"pong"}'


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
