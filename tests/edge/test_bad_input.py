"""Whatever a client sends: 4xx with a stable code and the place, never a 5xx, and nothing is written."""

from __future__ import annotations

import gzip
import json
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from syncd.core.errors import TooLarge
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.requests import Request
from tests.support.harness import PATH
from tests.support.wire import Device, Json, edit, unique

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Make = Callable[..., Device]
Send = Callable[[bytes], httpx.Response]
MAX_BODY = 10 * 1024 * 1024
USER = unique("mallory")


@pytest.fixture(scope="module")
def mallory(device: Make) -> Device:
    """A user who has written one change."""
    made = device(USER)
    made.write(edit("r", x=1))
    return made


@pytest.fixture(autouse=True)
def _nothing_is_written(mallory: Device) -> Iterator[None]:
    before, cursor = mallory.drain(history=1)
    yield
    after, _ = mallory.drain(history=1)
    assert after == before
    assert mallory.drain(cursor)[0] == []


def problem(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> Json:
    """The problem in an answer, checked."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: Json = answer.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"{PATH}/docs/errors#{code}")
    assert body["title"]
    assert body["detail"]
    if pointer is not None:
        assert [error["pointer"] for error in body["errors"]] == [pointer]
        assert all(error["detail"] for error in body["errors"])
    return body


def raw(device: Device, body: bytes, **headers: str) -> httpx.Response:
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return device.request("POST", "/sync/app", content=body, headers=sent)


@pytest.fixture(params=["plain", "gzip"])
def sent(request: pytest.FixtureRequest, mallory: Device) -> Send:
    """Sends a body of mallory's as it is, or packed."""
    if request.param == "plain":
        return lambda body: raw(mallory, body)
    return lambda body: raw(mallory, gzip.compress(body, 1), content_encoding="gzip")


def pushed(*changes: Json) -> bytes:
    return json.dumps({"changes": changes, "pull": False}).encode()


def with_value(text: bytes) -> bytes:
    """A push of two changes, the second with this JSON text as its value."""
    good = b'{"table":"t","id":"a","op":"update","fields":{"x":{"value":1,"at":"2026-02-01T00:00:00Z"}}}'
    return b'{"changes":[%s,%s]}' % (good, good.replace(b'"value":1', b'"value":' + text))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"nul",
        b'{"changes":[}',
        b'{"changes":[]}x',
        b"{'changes':[]}",
        b'{"changes":[],}',
        b"\x00",
        b'{"changes":[]}\x00',
        b"\xef\xbb\xbf{}",
        b'{"a":"\xff"}',
        b'{"changes":[{"table":"\xc3\x28"}]}',
        b'{"a":"\xed\xa0\x80"}',
        '{"changes":[]}'.encode("utf-16"),
        with_value(b"NaN"),
        with_value(b"Infinity"),
        with_value(b"-Infinity"),
        with_value(b"01"),
        with_value(b"1."),
        with_value(b".5"),
        with_value(b"+1"),
        with_value(b"0x10"),
        with_value(b"tru"),
        with_value(b'"\x01"'),
        with_value(b'"a\nb"'),
        with_value(b'"\\x41"'),
        with_value(b'"\\u12"'),
        with_value(b"[1,]"),
        with_value(b'{"a"}'),
        with_value(b'"\xff"'),
        with_value(b'"\xf0\x9f"'),
        with_value(b""),
    ],
    ids=repr,
)
def test_what_is_not_json_is_refused(sent: Send, body: bytes) -> None:
    problem(sent(body), 400, "malformed_json")


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (b"1e999", "invalid_value"),
        (b"-1e999", "invalid_value"),
        (b"1e-999", "invalid_value"),
        (b"[[1e400]]", "invalid_value"),
        (b"0e-99999", "invalid_value"),
        (b"1." + b"0" * 20000, "invalid_value"),
        (b"1" * 400, "invalid_value"),
        (b"[" * 65 + b"]" * 65, "invalid_value"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "invalid_value"),
    ],
    ids=lambda v: repr(v)[:20],
)
def test_a_value_that_could_not_come_back_is_refused_with_its_place(sent: Send, value: bytes, code: str) -> None:
    problem(sent(with_value(value)), 400, code, "/changes/1/fields/x")


@pytest.mark.parametrize(
    "value",
    [rb'"\u0000"', rb'"\ud800"', rb'"\udc00\ud800"', rb'{"\u0000":1}', rb'[{"a":"\\\u0000"}]', rb'"\ud83d\n\ude00"'],
    ids=repr,
)
def test_text_that_could_not_come_back_is_refused_with_its_change(sent: Send, value: bytes) -> None:
    problem(sent(with_value(value)), 400, "invalid_value", "/changes/1")


@pytest.mark.parametrize("member", ["id", "table", "changeId", "spaceId", "actor", "origin"])
@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800"])
def test_no_member_takes_a_nul_or_half_a_surrogate(sent: Send, member: str, escape: str) -> None:
    change = {**edit("r", x=2), member: "HERE"}
    answer = sent(json.dumps({"changes": [change]}).replace("HERE", f"a{escape}b").encode())
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("invalid_value", "malformed_json", "invalid_change")


@pytest.mark.parametrize(
    "nested", [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000]
)
def test_depth_is_no_way_to_the_stack(sent: Send, nested: bytes) -> None:
    for body in (nested, with_value(nested), b'{"unknown":%s}' % nested):
        assert sent(body).status_code == 400


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], ""),
        (None, ""),
        (1, ""),
        ("text", ""),
        ({"changes": None}, "/changes"),
        ({"changes": {}}, "/changes"),
        ({"changes": [None]}, "/changes/0"),
        ({"changes": [[]]}, "/changes/0"),
        ({"changes": ["x"]}, "/changes/0"),
        ({"changes": [], "atomic": "yes"}, "/atomic"),
        ({"changes": [], "pull": 1}, "/pull"),
        ({"changes": [], "since": 5}, "/since"),
        ({"changes": [], "clientId": 5}, "/clientId"),
        ({"changes": [], "schemaVersion": "x"}, "/schemaVersion"),
        ({"changes": [], "schemaVersion": 1.5}, "/schemaVersion"),
        ({"changes": [], "schemaVersion": 2**40}, "/schemaVersion"),
        ({"changes": [], "schemaVersion": 10**30}, "/schemaVersion"),
        ({"changes": [], "schemaVersion": True}, "/schemaVersion"),
    ],
    ids=str,
)
def test_a_wrong_type_is_refused_with_its_place(sent: Send, body: Any, pointer: str) -> None:
    code = "invalid_change" if pointer.startswith("/changes/") else "invalid_request"
    problem(sent(json.dumps(body).encode()), 400, code, pointer)


MEMBERS = ["table", "id", "op", "changeId", "fields", "data", "deletedAt", "spaceId", "schemaVersion", "origin"]


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("value", [[], {"a": 1}, 1.5, True, "x" * 256, "a\x00b", "a\nb"], ids=lambda v: repr(v)[:12])
def test_every_member_of_a_change_is_checked(sent: Send, member: str, value: Any) -> None:
    if member == "origin" and isinstance(value, str) and "\x00" not in value:
        return  # an origin is any text
    change = {
        "changeId": "k",
        "table": "t",
        "id": "r",
        "op": "delete",
        "deletedAt": "2026-01-01T00:00:00Z",
        member: value,
    }
    if member == "data" and isinstance(value, dict):
        return  # a whole record, which a delete may carry
    answer = sent(pushed(edit("good", x=1), change))
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert body["code"] in ("invalid_change", "invalid_value")
    assert all(error["pointer"].startswith("/changes/1") for error in body["errors"])


@pytest.mark.parametrize(
    "at",
    [
        "",
        "yesterday",
        "2026-01-01",
        "2026-01-01T10:00:00",
        "2026-02-30T00:00:00Z",
        "1767261600",
        "10000-01-01T00:00:00Z",
        "2026-01-01T10:00:00.Z",
        "２026-01-01T10:00:00Z",
    ],
)
def test_an_instant_that_is_none_is_refused_with_its_place(sent: Send, at: str) -> None:
    problem(sent(pushed(edit("r", at, x=1))), 400, "invalid_change", "/changes/0/fields/x/at")
    legacy = {"table": "t", "id": "r", "op": "update", "fields": {"x": {"value": 1, "updatedAt": at}}}
    problem(sent(pushed(legacy)), 400, "invalid_change", "/changes/0/fields/x/at")
    problem(
        sent(pushed({"table": "t", "id": "r", "op": "delete", "deletedAt": at})),
        400,
        "invalid_change",
        "/changes/0/deletedAt",
    )


SECRET = "eyJhbGciOi'- at `$.x`"


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/sync/app", {"changes": [{"table": "t", "id": "r", "op": SECRET}]}),
        ("POST", "/sync/app", {"changes": [{"table": "t", "id": "r", "op": "update", "fields": {SECRET: 1}}]}),
        ("POST", "/sync/app", {"changes": [{"table": "t", "id": "r", "op": "update", "fields": {SECRET: {}}}]}),
        ("POST", "/sync/app", {"changes": [], "since": SECRET}),
        ("PUT", "/spaces/s/members/m", {"role": SECRET}),
    ],
    ids=str,
)
def test_what_a_value_is_refused_for_is_said_without_the_value(
    mallory: Device, method: str, path: str, body: Json
) -> None:
    answer = mallory.request(method, path, json=body)
    assert answer.status_code == 400
    said = answer.json()
    assert "eyJ" not in said["detail"]
    assert "eyJ" not in "".join(error["detail"] for error in said.get("errors", []))


def test_a_problem_leads_to_its_paragraph(mallory: Device, http: httpx.Client) -> None:
    body = problem(mallory.request("GET", "/spaces/nobodys"), 404, "space_not_found")
    path, _, anchor = str(body["type"]).partition("#")
    page = http.get(path)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.text.count(f'id="{anchor}"') == 1
    problem(http.post(path), 405, "method_not_allowed")


def test_a_body_beyond_the_limit_is_refused_plain_or_packed(mallory: Device) -> None:
    filler = b'{"changes":[],"filler":"%s"}' % (b"a" * MAX_BODY)
    problem(raw(mallory, filler), 413, "body_too_large")
    problem(raw(mallory, gzip.compress(filler, 1), content_encoding="gzip"), 413, "body_too_large")
    problem(raw(mallory, zstd.compress(filler), content_encoding="zstd"), 413, "body_too_large")


def test_a_bomb_is_not_unpacked(mallory: Device) -> None:
    problem(raw(mallory, gzip.compress(b" " * (300 << 20), 9), content_encoding="gzip"), 413, "body_too_large")
    problem(raw(mallory, zstd.compress(b" " * (300 << 20)), content_encoding="zstd"), 413, "body_too_large")


@pytest.mark.parametrize(("method", "path"), [("POST", "/spaces"), ("PUT", "/spaces/there/members/ada")])
def test_a_body_that_names_one_thing_is_small(method: str, path: str, mallory: Device) -> None:
    long = b'{"name":"n","role":"reader","filler":"%s"}' % (b"\\ud800" * 11_000)
    headers = {"content-type": "application/json"}
    problem(mallory.request(method, path, content=long, headers=headers), 413, "body_too_large")


@pytest.mark.parametrize("size", [64 * 1024 + 1, 256 * 1024, 256 * 1024 + 1, 8 << 20])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_nor_may_it_be_larger_unpacked(coding: str, size: int, mallory: Device) -> None:
    packed = (gzip if coding == "gzip" else zstd).compress(b'{"name":"n"}' + b" " * (size - 12))
    headers = {"content-type": "application/json", "content-encoding": coding}
    problem(mallory.request("POST", "/spaces", content=packed, headers=headers), 413, "body_too_large")
    assert mallory.request("GET", "/health").status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_of_a_bomb_little_more_is_unpacked_than_would_be_taken(coding: str) -> None:
    bomb = (gzip if coding == "gzip" else zstd).compress(b" " * (32 << 20))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": bomb, "more_body": False}

    headers = [(b"content-encoding", coding.encode())]
    request = Request({"method": "POST", "headers": headers, "query_string": b""}, receive, BytesHeld(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            await request.body()
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_body_without_a_length_is_counted_as_it_comes(mallory: Device) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"changes":[],"filler":"'
        for _ in range(11):
            yield b"a" * (1 << 20)
        yield b'"}'

    answer = mallory.request("POST", "/sync/app", content=parts(), headers={"content-type": "application/json"})
    problem(answer, 413, "body_too_large")


def test_a_large_body_of_something_else_is_no_error_of_ours(mallory: Device) -> None:
    assert raw(mallory, b'{"filler":"%s"}' % (b"a" * (2 << 20))).status_code == 200
    problem(raw(mallory, rb'{"filler":"\u0000"}'), 400, "invalid_value")


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_packed_body_of_any_size_is_unpacked(mallory: Device, coding: str, more: int) -> None:
    pack = gzip.compress if coding == "gzip" else zstd.compress
    body = b'{"changes":[]}' + b" " * (256 * 1024 + more - 14)
    assert raw(mallory, pack(body), content_encoding=coding).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_packed_body_that_is_broken_is_refused(mallory: Device, coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else zstd.compress
    whole = pack(json.dumps({"changes": [edit("r", x=1)]}).encode())
    for broken in (
        b"",
        b"garbage",
        whole[:-1],
        whole[:-6],
        whole[: len(whole) // 2],
        whole[:10],
        whole + b"more",
        whole + whole,
        b'{"changes":[]}',
        whole[:12] + b"\xff\xff" + whole[14:],
    ):
        problem(raw(mallory, broken, content_encoding=coding), 400, "bad_encoding")


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"},
        {"content_type": "multipart/form-data; boundary=x"},
        {"content_type": ""},
        {"content_encoding": "br"},
        {"content_encoding": "gzip, gzip"},
        {"content_encoding": "deflate"},
    ],
    ids=str,
)
def test_what_is_not_json_by_its_headers_is_refused(mallory: Device, headers: dict[str, str]) -> None:
    problem(raw(mallory, b'{"changes":[]}', **headers), 415, "unsupported_media_type")


def test_too_many_changes_are_refused(mallory: Device) -> None:
    problem(mallory.send(*(edit(f"r{i}", x=1) for i in range(1001))), 413, "too_many_changes")


def test_a_change_that_is_too_large_is_rejected_alone(device: Make) -> None:
    writer = device(unique("large"))
    results = writer.push(edit("a", x=1), edit("b", x="x" * (1 << 20)), edit("c", x=3))["results"]
    assert [r["status"] for r in results] == ["applied", "rejected", "applied"]
    assert (results[1]["code"], [r.get("seq") for r in results]) == ("change_too_large", [1, None, 2])


def test_what_is_too_large_is_not_looked_at(device: Make) -> None:
    """Whatever its values are: looking at them would cost what the bound is there to save."""
    writer = device(unique("large"))
    change = b'{"table":"t","id":"b","op":"update","fields":{"x":{"value":[%b1e999],"at":"2026-02-01T00:00:00Z"}}}'
    answer = raw(writer, b'{"changes":[%b]}' % (change % (b"1," * (1 << 19))))
    assert answer.status_code == 200, answer.text
    assert [r["code"] for r in answer.json()["results"]] == ["change_too_large"]


def test_a_push_that_names_no_device_is_refused(mallory: Device) -> None:
    for client in ("", None):
        body = {"changes": [edit("r", x=1)], **({} if client is None else {"clientId": client})}
        answer = mallory.request("POST", "/sync/app", json=body, headers={"x-client-id": ""})
        problem(answer, 400, "invalid_request", "/clientId")
    for client in ("x" * 256, "a\u0001b"):
        answer = mallory.request(
            "POST", "/sync/app", json={"changes": [], "clientId": client}, headers={"x-client-id": ""}
        )
        problem(answer, 400, "invalid_request", "/clientId")
    for header in (b"\xff\xfe", b"x" * 256, b"a\tb"):
        problem(mallory.request("POST", "/sync/app", json={}, headers={b"x-client-id": header}), 400, "invalid_request")


def test_the_header_names_the_device_where_header_and_body_differ(device: Make) -> None:
    writer = device(unique("two-names"), "header")
    writer.push(edit("r", x=1), clientId="body")
    assert writer.pull()["serverChanges"][0]["clientId"] == "header"
    writer.request(
        "POST", "/sync/app", json={"changes": [edit("q", x=1)], "clientId": "body"}, headers={"x-client-id": ""}
    )
    assert writer.pull(history=1)["serverChanges"][1]["clientId"] == "body"
