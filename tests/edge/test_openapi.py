"""/openapi.json tells the truth: requests are made from it, and every answer is held against it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from syncd.edge.openapi import document
from tests.support.drawn import drawn, examples
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
USER = unique("reader")
PATHS = {
    "/sync/{app}",
    "/sync/{app}/pull",
    "/sync/{app}/stream",
    "/sync/{app}/digest",
    "/sync/{app}/held",
    "/sync/{app}/held/{heldId}",
    "/sync/{app}/records/{table}/{id}",
    "/sync/{app}/records/{table}/{id}/history",
    "/sync/{app}/records/{table}/{id}/restore",
    "/sync/{app}/spaces/{space}/at",
    "/sync/{app}/spaces/{space}/restore",
    "/sync/{app}/spaces/{space}/revert",
    "/backup/export",
    "/backup/import",
    "/spaces",
    "/spaces/{space}",
    "/spaces/{space}/members",
    "/spaces/{space}/members/{user}",
    "/quota",
    "/spaces/{space}/audit",
    "/health",
    "/healthz",
    "/readyz",
    "/metrics",
    "/docs/errors",
}


SCHEMA = schemathesis.openapi.from_dict(document("test"))
# A stream does not end: test_live_stream.py reads those. What a backup streams is read in test_backup.py.
STREAMED = ("/stream", "/backup/export", "/backup/import")
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations() if not found.ok().path.endswith(STREAMED)]
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
every_mode = pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])


def hold(operation: Any, mode: GenerationMode, url: str, token: str, number: int) -> None:
    """Makes requests for an operation, valid or not, and holds every answer against the document."""
    if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
        return  # nothing about it can be wrong

    @settings(max_examples=examples(number), suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        case.call_and_validate(base_url=url, headers={"authorization": f"Bearer {token}"}, checks=CHECKS)

    holds()


@drawn
@every_mode
@every_operation
def test_every_answer_is_as_the_document_says(operation: Any, mode: GenerationMode, server: Server) -> None:
    hold(operation, mode, server.url, server.token(USER), 8)


@every_operation
def test_every_refusal_of_a_caller_without_a_token_is_as_the_document_says(operation: Any, server: Server) -> None:
    hold(operation, GenerationMode.POSITIVE, server.url, "x", 3)


def test_the_document_names_every_address(http: httpx.Client) -> None:
    served = http.get("/openapi.json").json()
    assert served["openapi"].startswith("3.1")
    assert {name: served[name] for name in served if name != "info"} == json.loads(
        json.dumps({name: part for name, part in document("").items() if name != "info"})
    )
    shapes = {tuple("{}" if part.startswith("{") else part for part in path.split("/")) for path in served["paths"]}
    assert shapes >= {tuple("{}" if part.startswith("{") else part for part in path.split("/")) for path in PATHS}


def test_a_real_exchange_is_as_the_document_says(device: Callable[..., Device]) -> None:
    """What a generator seldom meets: a lowered stamp, a conflict, a duplicate, a rejection, a deletion."""
    user = unique("real")
    writer, legacy = device(user, "c1"), device(user, "c2", legacy=True)
    writer.write(edit("r", 9, x=1), edit("gone", 9, x=1))
    used = edit("r", "9999-01-01T00:00:00Z", y=2)
    _, cursor = writer.drain()
    changes = [
        used,
        edit("r", 1, x=0, z=1),
        {**edit("r", x=1), "spaceId": "nobody-s"},
        used,
        {
            "table": "t",
            "id": "gone",
            "op": "delete",
            "changeId": "d",
            "deletedAt": "2026-02-01T00:00:00Z",
            "actor": {"a": 1},
            "origin": "agent",
            "schemaVersion": 2,
        },
    ]
    answers = [
        ("/sync/{app}", "POST", writer.send(*changes, since="", pull=True)),
        ("/sync/{app}", "POST", writer.send(changes[2], atomic=True)),
        ("/sync/{app}", "POST", writer.send({"table": 1})),
        ("/sync/{app}/pull", "GET", legacy.ask()),
        ("/sync/{app}/pull", "GET", legacy.ask(history=1)),
        ("/sync/{app}/pull", "GET", writer.ask(cursor)),
        ("/sync/{app}/pull", "GET", writer.ask("x")),
        ("/spaces", "GET", writer.request("GET", "/spaces")),
        *past(writer),
    ]
    assert [answer.status_code for _, _, answer in answers] == [
        200,
        422,
        400,
        200,
        200,
        200,
        400,
        200,
        *[200] * 8,
        404,
        422,
    ]
    for path, method, answer in answers:
        SCHEMA[path][method].validate_response(answer)


def past(writer: Device) -> list[tuple[str, str, httpx.Response]]:
    """Looks into the past, and back."""
    record, space = "/sync/{app}/records/{table}/{id}", "/sync/{app}/spaces/{space}"
    mine = f"/sync/app/spaces/_personal:{writer.user}"
    back = {"seq": 2, "changeId": "back", "actor": [1], "origin": None}
    return [
        (record, "GET", writer.request("GET", "/sync/app/records/t/gone")),
        (f"{record}/history", "GET", writer.request("GET", "/sync/app/records/t/r/history")),
        (f"{record}/history", "GET", writer.request("GET", "/sync/app/records/t/gone/history")),
        (f"{space}/at", "GET", writer.request("GET", f"{mine}/at", params={"limit": 1})),
        (f"{record}/restore", "POST", writer.request("POST", "/sync/app/records/t/gone/restore", json=back)),
        (f"{record}/restore", "POST", writer.request("POST", "/sync/app/records/t/gone/restore", json=back)),
        (
            f"{space}/restore",
            "POST",
            writer.request("POST", f"{mine}/restore", json={"instant": "2026-01-01T00:00:00Z"}),
        ),
        (f"{space}/revert", "POST", writer.request("POST", f"{mine}/revert", json={"actor": {"agent": "tidy"}})),
        (record, "GET", writer.request("GET", "/sync/app/records/t/nothing")),
        (f"{space}/restore", "POST", writer.request("POST", f"{mine}/restore", json=back)),
    ]
