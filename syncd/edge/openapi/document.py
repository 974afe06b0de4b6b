"""The OpenAPI document: what the server accepts and answers, true enough to be tested against it."""

from __future__ import annotations

from typing import Any

from syncd.core.errors import UNBELIEVED
from syncd.edge.openapi import history, spaces, sync
from syncd.edge.openapi.base import (
    Schema,
    array_of,
    object_of,
    ref,
)


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    problem = {
        "description": "What is wrong, by a stable code.",
        "content": {"application/problem+json": {"schema": ref("Problem")}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "syncd", "version": version, "description": "Offline-first sync over PostgreSQL."},
        "paths": sync.paths() | history.paths() | spaces.paths() | _service_paths(),
        "security": [{"token": []}],
        "components": {
            "schemas": sync.schemas() | {"Problem": _problem()} | spaces.schemas() | history.schemas(),
            "responses": {"Problem": problem},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def _problem() -> Schema:
    fault = object_of(
        ["pointer", "detail"],
        pointer={"type": "string", "description": "RFC 6901, into the request."},
        detail={"type": "string"},
        code={"type": "string", "description": "Of a change that may not be written."},
    )
    return object_of(
            ["type", "title", "status", "code", "detail"],
            type={"type": "string", "format": "uri-reference", "pattern": "^(/.*)?/docs/errors#[a-z_]+$",
                  "description": "Where the code is explained, on this server."},
            title={"type": "string"}, status={"type": "integer"},
            code={"type": "string", "description": "Stable, and for programs. More may come."},
            detail={"type": "string", "description": "What is wrong this time, for people."}, errors=array_of(fault),
            reason={"enum": [*UNBELIEVED], "description": "Of `unauthorized`: why the token is not believed."},
            quota={"type": "string", "description": "Of `quota_exceeded`: which one."},
        )  # fmt: skip


def _service_paths() -> dict[str, Any]:
    status = object_of(["status"], status={"type": "string"})
    paths: dict[str, Any] = {}
    for path, summary in (("/health", "The server's word"), ("/healthz", "Alive"), ("/readyz", "Able to serve")):
        responses: dict[str, Any] = {
            str(code): {"description": summary, "content": {"application/json": {"schema": status}}}
            for code in ((200, 503) if path == "/readyz" else (200,))
        }
        paths[path] = {"get": {"operationId": path[1:], "summary": summary, "security": [], "responses": responses}}
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    metrics = {"operationId": "metrics", "summary": "Every worker's numbers", "security": []}
    paths["/metrics"] = {
        "get": {**metrics, "responses": {"200": text, "503": {"$ref": "#/components/responses/Problem"}}}
    }
    page = {"description": "A paragraph for each code.", "content": {"text/html": {"schema": {"type": "string"}}}}
    explained = {"operationId": "errors", "summary": "What each error code means", "security": []}
    paths["/docs/errors"] = {"get": {**explained, "responses": {"200": page}}}
    return paths
