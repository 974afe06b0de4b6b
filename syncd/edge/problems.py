"""Errors to HTTP, once: status, `application/problem+json`, and when to try again."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from syncd.core.errors import (
    Busy,
    Conflict,
    CursorLost,
    DatabaseUnavailable,
    Forbidden,
    Gone,
    KeysUnavailable,
    Malformed,
    MembershipsUnavailable,
    MethodNotAllowed,
    NotFound,
    Refused,
    SyncdError,
    TooLarge,
    TooMany,
    TooSlow,
    Unauthorized,
    UnsupportedMedia,
    UpgradeRequired,
)
from syncd.edge.answers import Answer

STATUS: dict[type[SyncdError], int] = {
    Malformed: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NotFound: 404,
    MethodNotAllowed: 405,
    TooSlow: 408,
    Conflict: 409,
    CursorLost: 410,
    Gone: 410,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Refused: 422,
    UpgradeRequired: 426,
    TooMany: 429,
    Busy: 503,
    DatabaseUnavailable: 503,
    MembershipsUnavailable: 503,
    KeysUnavailable: 503,
    SyncdError: 500,
}


# Close codes of a WebSocket; what is not here passes by itself: try again later.
CLOSE: dict[type[SyncdError], int] = {
    Malformed: 4400,
    Unauthorized: 4401,
    Forbidden: 4403,
    TooLarge: 1009,
    TooMany: 4429,
    SyncdError: 1013,
}


def close_code(error: SyncdError) -> tuple[int, str]:
    """The close code and reason of an error that ends a connection."""
    return next(CLOSE[kind] for kind in type(error).__mro__ if kind in CLOSE), error.detail


def status_of(error: SyncdError) -> int:
    """The HTTP status of an error, by the nearest of its kinds."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(error: SyncdError) -> Answer:
    """The answer that tells a client what is wrong and, where it passes by itself, when to try again."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.faults:
        body["errors"] = [fault._asdict() for fault in error.faults]
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if isinstance(error, UpgradeRequired):
        headers.append((b"upgrade", b"websocket"))
    if isinstance(error, Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    return Answer(msgspec.json.encode(body), status, b"application/problem+json", headers)
