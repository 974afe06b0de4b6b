"""Requests go by a function: the application's own, or one over httpx2."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from syncd_client import (
    AsyncHttpSender,
    AsyncReplica,
    BadReply,
    HttpRequest,
    HttpResponse,
    HttpSender,
    Offline,
    Replica,
    RetryPolicy,
    SendFailed,
    history,
)
from syncd_client.sync.pace import SLOWEST

from tests.support.scripted import applied, page

Open = Callable[..., Replica]
PAGE = json.dumps(page()).encode()


class Sent:
    """A function that sends: it answers with an empty page, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.requests: list[HttpRequest] = []
        self.failure = failure

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if self.failure is not None:
            raise self.failure
        body = None if request.body is None else json.loads(request.body)
        return HttpResponse(
            200, {"content-type": "application/json"}, json.dumps(applied(body) if body else page()).encode()
        )


def test_a_function_of_the_applications_own_sends(open_replica: Open) -> None:
    sent = Sent()
    replica = open_replica(send=sent)
    replica.put("t", "a", {"n": 1})
    assert replica.sync().pushed == 1
    pushed = next(request for request in sent.requests if request.body)
    assert (pushed.method, pushed.url) == ("POST", "http://server/sync/app")
    assert pushed.headers["Authorization"] == "Bearer t"


def test_a_query_is_a_part_of_the_address_and_arrives_as_it_is(open_replica: Open) -> None:
    sent = Sent()
    with pytest.raises(BadReply):  # a page is no record of the past
        history.record_at(open_replica(send=sent), "t", "a b&c/é", at="2026-01-01T00:00:00+00:00", space="s & t")
    (request,) = sent.requests
    assert " " not in request.url
    asked = parse_qs(urlsplit(request.url).query)
    assert (asked["spaceId"], asked["at"]) == (["s & t"], ["2026-01-01T00:00:00+00:00"])


def test_no_request_may_stand_still_for_ever_and_a_large_one_may_for_longer(open_replica: Open) -> None:
    sent = Sent()
    replica = open_replica(send=sent)
    replica.put("t", "r", {"text": "x" * 50_000})
    replica.sync()
    push = next(request for request in sent.requests if request.body)
    assert push.idle > 50_000 / SLOWEST
    assert all(0 < request.connect_within <= 10 for request in sent.requests)
    replica.sync(timeout=5)
    assert sent.requests[-1].idle <= 5


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (SendFailed("the server cannot be reached"), "the server cannot be reached"),
        (TimeoutError(), "nothing came for too long"),
        (ConnectionResetError(), "the connection was cut"),
        (ConnectionRefusedError(), "nothing listens at the server's address"),
        (ssl.SSLError("bad"), "the server does not speak TLS as it should"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_where_nothing_answers_it_is_offline_and_says_why(open_replica: Open, failure: Exception, said: str) -> None:
    replica = open_replica(send=Sent(failure), retry=RetryPolicy(attempts=1))
    with pytest.raises(Offline, match=said) as offline:
        replica.sync()
    assert offline.value.__cause__ is None
    with pytest.raises(Offline, match=said):
        history.record_at(replica, "t", "a", seq=1)


def test_a_mistake_of_the_function_is_no_line_that_is_down(open_replica: Open) -> None:
    with pytest.raises(KeyError, match="mistake"):
        open_replica(send=Sent(KeyError("mistake"))).sync()


@pytest.fixture
def address() -> object:
    """A server that answers each request with an empty page."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(PAGE)))
            self.end_headers()
            self.wfile.write(PAGE)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


async def test_what_a_replica_asks_for_is_in_no_log_and_what_others_ask_for_is(
    open_replica: Open, address: str, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with httpx2.Client() as http:
        open_replica(url=address, send=HttpSender(http)).sync()
        http.get(f"{address}/of-the-application")
    options = {"app": "app", "url": address, "token": "t"}
    async with (
        httpx2.AsyncClient() as http,
        AsyncReplica(
            f"{tmp_path}/a.db",
            send=AsyncHttpSender(http),
            **options,  # type: ignore[arg-type]
        ) as replica,
    ):
        await replica.sync()
        await http.get(f"{address}/of-the-application")
    assert "/sync/" not in caplog.text
    assert caplog.text.count("of-the-application") == 2
