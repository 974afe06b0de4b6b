"""Errors to HTTP and to close codes: `application/problem+json`, and when to try again."""

from __future__ import annotations

from typing import Any

import msgspec

from syncd.core.error_codes import ERROR_CODES, close_code_of, problem_type
from syncd.core.errors import MethodNotAllowed, QuotaExceeded, SyncdError, Unauthorized, UpgradeRequired
from syncd.edge.answers import Answer

# A close frame has room for 123 bytes of reason.
LONGEST_REASON = 120


def close_code(error: SyncdError) -> tuple[int, str]:
    """The close code and reason of an error that ends a connection."""
    row = ERROR_CODES[error.code]
    return close_code_of(row), error.detail if len(error.detail.encode()) <= LONGEST_REASON else row.cause


def status_of(error: SyncdError) -> int:
    """The HTTP status of an error."""
    return ERROR_CODES[error.code].status or 400


def problem(error: SyncdError, root: str = "") -> Answer:
    """The answer that tells a client what is wrong and, where it passes by itself, when to try again. `root`: what
    stands before syncd's addresses on this server."""
    status = status_of(error)
    body: dict[str, Any] = {
        "type": root + problem_type(error.code),
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "code": error.code,
        "detail": error.detail,
    }
    if error.faults:
        body["errors"] = [fault.wire() for fault in error.faults]
    if isinstance(error, QuotaExceeded):
        body["quota"] = error.quota
    headers: list[tuple[bytes, bytes]] = []
    if error.retry_after is not None:
        headers.append((b"retry-after", str(error.retry_after).encode()))
    if isinstance(error, UpgradeRequired):
        headers.append((b"upgrade", b"websocket"))
    if isinstance(error, Unauthorized):
        if error.reason is not None:
            body["reason"] = error.reason
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allowed.encode()))
    return Answer(msgspec.json.encode(body), status, b"application/problem+json", headers)
