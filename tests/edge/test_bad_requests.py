"""Addresses, methods, queries, cursors and raw bytes: all that is not the body."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest

from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


@pytest.fixture(scope="module")
def mallory(device: Make) -> Device:
    made = device(unique("mallory"))
    made.write(edit("r", x=1))
    return made


def problem(answer: httpx.Response, status: int, code: str) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    return answer.json()


@pytest.mark.parametrize("limit", ["0", "-1", "10001", "abc", "1.5", "", "1e3", "٣", "9" * 5000, " 1", "+1", "0x10"])
def test_a_limit_out_of_range_is_refused(mallory: Device, limit: str) -> None:
    assert problem(mallory.ask(limit=limit), 400, "invalid_request")["errors"][0]["pointer"] == "/limit"


@pytest.mark.parametrize("limit", [1, 10_000])
def test_a_limit_in_range_is_taken(mallory: Device, limit: int) -> None:
    assert len(mallory.pull(limit=limit)["serverChanges"]) == 1


def test_a_cursor_that_is_not_one_is_refused_in_pull_and_push(mallory: Device) -> None:
    mine = mallory.pull()["syncedUntil"]
    for bad in (
        "x",
        "0",
        mine[:-1],
        mine + "A",
        mine[:-1] + "~",
        mine.upper(),
        f"9{mine[1:]}",
        mine[:28],
        "2026-13-01T00:00:00Z",
        "\u0000",
        "é" * 40,
        "A" * 70_000,
    ):
        if len(bad) < 60_000:
            problem(mallory.ask(bad), 400, "bad_cursor")
        if bad != "\u0000":  # which no body may hold
            problem(mallory.send(edit("r", x=2), since=bad, pull=True), 400, "bad_cursor")
    assert [c["fields"]["x"]["value"] for c in mallory.drain(history=1)[0]] == [1]


def test_a_cursor_of_another_user_or_app_is_refused_in_pull_and_push(device: Make) -> None:
    ann, bob = device(unique("ann")), device(unique("bob"))
    for asker, theirs in (
        (ann, bob.pull()["syncedUntil"]),
        (bob, ann.pull()["syncedUntil"]),
        (ann, device(ann.user, app="other").pull()["syncedUntil"]),
    ):
        problem(asker.ask(theirs), 400, "bad_cursor")
        problem(asker.send(edit("r", x=2), since=theirs, pull=True), 400, "bad_cursor")
        assert asker.pull()["serverChanges"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/sync",
        "/sync/app/nothing",
        "/sync/app/pull/more",
        "/spaces/x/nothing",
        "/spaces/x/members/y/z",
        "/sync/app/%70ull/x",
        "//",
        "/health/x",
        "/favicon.ico",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_an_address_that_is_not_there_is_404(mallory: Device, path: str, method: str) -> None:
    problem(mallory.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/sync/app", "POST"),
        ("PUT", "/sync/app", "POST"),
        ("DELETE", "/sync/app", "POST"),
        ("POST", "/sync/app/pull", "GET"),
        ("DELETE", "/sync/app/pull", "GET"),
        ("PUT", "/spaces", "GET, POST"),
        ("DELETE", "/spaces", "GET, POST"),
        ("POST", "/spaces/x", "GET, PATCH, DELETE"),
        ("POST", "/spaces/x/members", "GET"),
        ("GET", "/spaces/x/members/y", "PUT, DELETE"),
        ("POST", "/health", "GET"),
        ("POST", "/openapi.json", "GET"),
        ("PATCH", "/sync/app", "POST"),
        ("OPTIONS", "/spaces/x", "GET, PATCH, DELETE"),
    ],
)
def test_a_method_that_is_not_there_is_405_and_says_which_is(
    mallory: Device, method: str, path: str, allowed: str
) -> None:
    answer = mallory.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readyz", "/openapi.json", "/spaces", "/sync/app/pull"])
def test_head_is_get_without_its_body(mallory: Device, path: str) -> None:
    head, get = mallory.request("HEAD", path), mallory.request("GET", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]


@pytest.mark.parametrize(
    "id_",
    [
        "a/b",
        "a%2Fb",
        "a,b",
        "a b",
        "é\u3000x",
        "\U0001f600",
        "..x",
        "a?b#c",
        "'; DROP TABLE x; --",
        "_x:y",
        "%00x",
        "x" * 255,
    ],
)
def test_an_id_in_an_address_is_that_id(device: Make, id_: str) -> None:
    owner, space = device(unique("owner"), app=quote(id_, safe="")), unique("")[1:] + id_[:240]
    owner.create(space)
    address = f"/spaces/{quote(space, safe='')}"
    assert owner.request("GET", address).json()["id"] == space
    assert (
        owner.request("PUT", f"{address}/members/{quote(id_, safe='')}", json={"role": "reader"}).json()["userId"]
        == id_
    )
    assert [m["userId"] for m in owner.request("GET", f"{address}/members").json()["members"]] == sorted(
        [owner.user, id_], key=str.encode
    )
    owner.write({**edit(id_, x=1), "spaceId": space, "table": id_})
    found = owner.pull(collection=id_ if "," not in id_ else "")["serverChanges"][0]
    assert (found["id"], found["table"], found["spaceId"]) == (id_, id_, space)


@pytest.mark.parametrize("part", ["", "%00", "%0A", "%7F", "x" * 256, "%FF", "%C3%28", "%ED%A0%80"])
def test_an_id_in_an_address_that_is_none_is_refused(mallory: Device, part: str) -> None:
    for method, path in (
        ("POST", f"/sync/{part}"),
        ("GET", f"/sync/{part}/pull"),
        ("GET", f"/spaces/{part}/members"),
        ("PUT", f"/spaces/s/members/{part}"),
    ):
        problem(
            mallory.request(method, path, json={}) if method != "GET" else mallory.request(method, path),
            400,
            "invalid_request",
        )


@pytest.mark.parametrize(
    "query",
    [
        "since=%FF",
        "collection=%C3%28",
        "collection=%00",
        f"collection={'x' * 256}",
        "collection=" + ",".join(f"t{i}" for i in range(101)),
    ],
)
def test_a_query_that_is_none_is_refused(mallory: Device, query: str) -> None:
    answer = mallory.request("GET", f"/sync/app/pull?{query}")
    assert answer.status_code == 400
    assert answer.json()["code"] in ("invalid_request", "bad_cursor")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, ""),
        ({"name": 1}, "/name"),
        ({"name": ""}, "/name"),
        ({"name": "x", "id": ""}, "/id"),
        ({"name": "x", "id": 5}, "/id"),
        ({"name": "x", "id": "a\nb"}, "/id"),
        ({"name": "x", "id": "x" * 256}, "/id"),
        ({"name": "x", "id": "_personal:bob"}, "/id"),
        ({"name": "a\x00b"}, "/name"),
        ([], ""),
    ],
    ids=str,
)
def test_a_space_that_cannot_be_is_refused_with_its_place(mallory: Device, body: Any, pointer: str) -> None:
    found = problem(mallory.request("POST", "/spaces", json=body), 400, "invalid_request")
    assert [error["pointer"] for error in found["errors"]] == [pointer]


@pytest.mark.parametrize("body", [{}, {"role": "king"}, {"role": None}, {"role": 1}, []], ids=str)
def test_a_role_that_is_none_is_refused(mallory: Device, body: Any) -> None:
    space = mallory.create(unique("s"))
    problem(mallory.request("PUT", f"/spaces/{space}/members/bob", json=body), 400, "invalid_request")
    assert len(mallory.request("GET", f"/spaces/{space}/members").json()["members"]) == 1


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 100,
        b"GARBAGE\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
        b"POST /sync/app HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /sync/app HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"POST /sync/app HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /sync/app HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET health HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET ?x HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
    ids=lambda b: repr(b)[:40],
)
def test_garbage_on_the_socket_harms_nobody(server: Server, mallory: Device, sent: bytes) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.settimeout(1)
        answer = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except OSError:
            pass
    assert not answer.startswith(b"HTTP/1.1 5")
    assert mallory.request("GET", "/health").status_code == 200


def test_a_second_host_is_refused(server: Server) -> None:
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"The header host is there twice." in answer


@pytest.mark.parametrize("name", ["Authorization", "X-Client-Id", "X-Sync-Protocol", "Content-Encoding"])
def test_a_header_that_is_there_twice_is_refused(mallory: Device, server: Server, name: str) -> None:
    """A proxy may go by the one and syncd by the other."""
    given = {"Authorization": f"Bearer {server.token(mallory.user)}", "X-Client-Id": "c1"}
    headers = [*given.items(), (name, given.get(name, "1"))] + ([] if name in given else [(name, "1")])
    refused = problem(httpx.get(f"{server.url}/sync/app/pull", headers=headers), 400, "invalid_request")
    assert name.lower() in refused["detail"]
