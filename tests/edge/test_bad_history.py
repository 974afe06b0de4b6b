"""History's addresses, queries and bodies: what is malformed is refused with its place, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from syncd.protocol.page_token import PageToken, read_bookmark
from tests.support.wire import Device, edit, unique

RECORD = "/sync/app/records/t/r"


@pytest.fixture(scope="module")
def mallory(device: Callable[..., Device]) -> Device:
    made = device(unique("mallory"))
    made.write(edit("r", 1, x=1))
    return made


def at(mallory: Device) -> str:
    return f"/sync/app/spaces/_personal:{mallory.user}/at"


def refused(answer: httpx.Response, status: int, code: str, pointer: str | None) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert [fault["pointer"] for fault in answer.json().get("errors", [])] == ([] if pointer is None else [pointer])


NUMBERS = ["", "-1", "1.5", "abc", "1e3", "٣", " 1", "+1", "0x10", "9" * 19, "9" * 5000, str(1 << 63)]
INSTANTS = [
    "",
    "0",
    "yesterday",
    "2026-01-01",
    "2026-01-01T00:00:00",
    "2026-13-01T00:00:00Z",
    "2026-01-01T00:00:00+01:00",
]


@pytest.mark.parametrize("value", NUMBERS)
@pytest.mark.parametrize("name", ["seq", "limit", "before"])
def test_a_number_that_is_none_is_refused(mallory: Device, name: str, value: str) -> None:
    paths = {"seq": [RECORD, at(mallory)], "limit": [f"{RECORD}/history", at(mallory)], "before": [f"{RECORD}/history"]}
    for path in paths[name]:
        refused(mallory.request("GET", path, params={name: value}), 400, "invalid_request", f"/{name}")


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (f"{RECORD}/history", "limit", "0"),
        (f"{RECORD}/history", "limit", "1001"),
        (f"{RECORD}/history", "before", "0"),
        (RECORD, "seq", "2"),
        (RECORD, "seq", str((1 << 63) - 1)),
        (RECORD, "spaceId", ""),
        (RECORD, "spaceId", "a\nb"),
        (RECORD, "spaceId", "x" * 256),
        ("/sync/app/records/a%00/r", "table", None),
        ("/sync/app/records/t/", "id", None),
        (f"/sync/app/records/t/{'x' * 256}/history", "id", None),
        ("/sync//records/t/r", "app", None),
        ("/sync/app/spaces/%0A/at", "spaceId", None),
        ("/sync/app/spaces//at", "spaceId", None),
    ],
)
def test_what_is_out_of_range_is_refused(mallory: Device, path: str, name: str, value: str | None) -> None:
    answer = mallory.request("GET", path, params={} if value is None else {name: value})
    refused(answer, 400, "invalid_request", f"/{name}")


@pytest.mark.parametrize("value", INSTANTS)
def test_an_instant_that_is_none_is_refused(mallory: Device, value: str) -> None:
    unescaped = value.replace("+", " ")
    refused(mallory.request("GET", RECORD, params={"at": unescaped}), 400, "invalid_request", "/at")
    refused(mallory.request("GET", at(mallory), params={"instant": unescaped}), 400, "invalid_request", "/instant")
    if "+" not in value:
        answer = mallory.request("POST", at(mallory)[:-2] + "restore", json={"instant": value})
        refused(answer, 400, "invalid_request", "/instant")


def test_two_moments_are_refused(mallory: Device) -> None:
    instant = "2026-01-01T00:00:00Z"
    refused(mallory.request("GET", RECORD, params={"seq": "1", "at": instant}), 400, "invalid_request", "/seq")
    answer = mallory.request("GET", at(mallory), params={"seq": "1", "instant": instant})
    refused(answer, 400, "invalid_request", "/seq")


@pytest.mark.parametrize(
    "after",
    [
        "",
        "x",
        "[1]",
        "é",
        "A" * 6000,
        "WzFd",
        "W10",
        "bnVsbA",
        "WzEsInQiLDFd",
        "Wy0xLCJ0IiwiciJd",
        PageToken(1, "", "r").text(),
    ],
)
def test_a_place_to_go_on_from_that_is_none_is_refused(mallory: Device, after: str) -> None:
    refused(mallory.request("GET", at(mallory), params={"after": after}), 400, "invalid_request", "/after")


def test_a_place_of_one_s_own_making_shows_nothing_else(mallory: Device) -> None:
    for table, id_, shown in (("nothing", "", 1), ("t", "q", 1), ("t", "r", 0), ("t", "\U0001f600", 0)):
        mark = PageToken(1, table, id_ or "a")
        assert read_bookmark(mark.text()) == mark
        answer = mallory.request("GET", at(mallory), params={"after": mark.text()})
        assert len(answer.json()["records"]) == shown
    refused(
        mallory.request("GET", at(mallory), params={"after": PageToken(2, "t", "r").text()}),
        400,
        "invalid_request",
        "/seq",
    )


BODIES: list[tuple[Any, str, str]] = [
    ({"seq": -1}, "invalid_request", "/seq"),
    ({"seq": 1.5}, "invalid_request", "/seq"),
    ({"seq": "1"}, "invalid_request", "/seq"),
    ({"seq": 1 << 63}, "invalid_request", "/seq"),
    ({"seq": 10**30}, "invalid_request", "/seq"),
    ({"seq": 2}, "invalid_request", "/seq"),
    ({"seq": 1, "changeId": ""}, "invalid_request", "/changeId"),
    ({"seq": 1, "changeId": "a\nb"}, "invalid_request", "/changeId"),
    ({"seq": 1, "changeId": "x" * 256}, "invalid_request", "/changeId"),
    ({"seq": 1, "changeId": 1}, "invalid_request", "/changeId"),
    ({"seq": 1, "origin": 1}, "invalid_request", "/origin"),
    ({"seq": 1, "origin": "\x00"}, "invalid_value", ""),
    ({"seq": 1, "actor": ["\x00"]}, "invalid_value", ""),
    ([], "invalid_request", ""),
]


@pytest.mark.parametrize("of", ["record", "space"])
@pytest.mark.parametrize(("body", "code", "pointer"), BODIES, ids=lambda value: str(value)[:40])
def test_a_restore_that_cannot_be_is_refused(mallory: Device, of: str, body: Any, code: str, pointer: str) -> None:
    path = f"{RECORD}/restore" if of == "record" else at(mallory)[:-2] + "restore"
    refused(mallory.request("POST", path, json=body), 400, code, pointer)
    assert len(mallory.drain(history=1)[0]) == 1


@pytest.mark.parametrize(
    ("raw", "status", "code", "pointer"),
    [
        (b"", 400, "malformed_json", None),
        (b"{", 400, "malformed_json", None),
        (b"\xff", 400, "malformed_json", None),
        (b'{"seq":1,"actor":"\\ud800"}', 400, "invalid_value", ""),
        (b'{"seq":1,"actor":1e999}', 400, "invalid_value", "/actor"),
        (b'{"seq":1,"actor":' + b"[" * 70 + b"]" * 70 + b"}", 400, "invalid_value", "/actor"),
        (b'{"seq":1,"actor":"' + b"x" * 16_384 + b'"}', 413, "body_too_large", None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_that_is_none_is_refused(
    mallory: Device, raw: bytes, status: int, code: str, pointer: str | None
) -> None:
    refused(mallory.request("POST", f"{RECORD}/restore", content=raw), status, code, pointer)


def test_a_restore_says_when_to_and_by_which_device(mallory: Device) -> None:
    space = at(mallory)[:-2] + "restore"
    refused(mallory.request("POST", f"{RECORD}/restore", json={}), 400, "invalid_request", "/seq")
    refused(mallory.request("POST", space, json={}), 400, "invalid_request", "/instant")
    instant = {"instant": "2026-01-01T00:00:00Z"}
    refused(mallory.request("POST", f"{RECORD}/restore", json=instant), 400, "invalid_request", "/instant")
    refused(mallory.request("POST", space, json={**instant, "seq": 1}), 400, "invalid_request", "/seq")
    nameless = {"authorization": mallory.headers["authorization"]}
    answer = mallory.http.post(f"{RECORD}/restore", headers=nameless, json={"seq": 1})
    refused(answer, 400, "invalid_request", "/clientId")
    refused(mallory.request("POST", f"{RECORD}/restore", content=b"seq=1", headers={"content-type": "text/plain"}), 415,
            "unsupported_media_type", None)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "", "GET"),
        ("DELETE", "", "GET"),
        ("PUT", "/history", "GET"),
        ("GET", "/restore", "POST"),
        ("DELETE", "/restore", "POST"),
    ],
)
def test_a_method_that_is_not_there_is_405(mallory: Device, method: str, path: str, allowed: str) -> None:
    answer = mallory.request(method, RECORD + path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/sync/app/records",
        "/sync/app/records/t",
        "/sync/app/records/t/r/nothing",
        "/sync/app/records/t/r/history/x",
        "/sync/app/spaces",
        "/sync/app/spaces/s",
        "/sync/app/spaces/s/nothing",
        "/sync/app/spaces/s/at/x",
    ],
)
def test_an_address_that_is_not_there_is_404(mallory: Device, path: str) -> None:
    for method in ("GET", "POST"):
        refused(mallory.request(method, path), 404, "not_found", None)


def test_head_is_get_without_its_body(mallory: Device) -> None:
    for path in (RECORD, f"{RECORD}/history", at(mallory)):
        head = mallory.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
