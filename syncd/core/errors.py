"""The one error tree. An error says what happened (`code`, `detail`), where (`faults`) and when to try again.

Which HTTP status or close code an error becomes is decided in `syncd.edge.problems`, nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple


class Fault(NamedTuple):
    """A place in a request body: an RFC 6901 JSON pointer, and what is wrong there."""

    pointer: str
    detail: str


class SyncdError(Exception):
    """Anything the server answers with a problem. `retry_after` is seconds, for what passes by itself."""

    code = "internal"
    detail = "Something went wrong on the server. It has been logged; try again, and tell the operator if it stays."
    retry_after: int | None = None

    def __init__(self, detail: str | None = None, *, code: str | None = None, faults: tuple[Fault, ...] = ()) -> None:
        self.detail = detail or type(self).detail
        self.code = code or type(self).code
        self.faults = faults
        super().__init__(self.detail)


class Malformed(SyncdError):
    """The request is at fault and would be refused again."""

    code = "invalid_request"


class InvalidId(Malformed):
    """An id in a change that cannot be one, and would not be one the next time either."""

    code = "invalid_change"


class Unauthorized(SyncdError):
    code = "unauthorized"
    detail = "The bearer token is missing, malformed, expired or not for this server."


class Forbidden(SyncdError):
    code = "forbidden"
    detail = "Your role in this space does not allow this."


class NotFound(SyncdError):
    code = "not_found"
    detail = "There is nothing at this address."


class MethodNotAllowed(SyncdError):
    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This address answers {allowed}.")
        self.allowed = allowed


class Conflict(SyncdError):
    code = "conflict"


class CursorLost(SyncdError):
    code = "cursor_lost"
    detail = (
        "The log cannot go on from this cursor: the database was restored from a backup, or the device was away for "
        'longer than deletions are remembered. Start again from "" and keep what was not pushed yet.'
    )


class Gone(SyncdError):
    """It was there once; nothing brings it back."""

    code = "history_gone"


class TooLarge(SyncdError):
    code = "body_too_large"


class TooSlow(SyncdError):
    """It would be taken if it came faster, the next time perhaps."""

    code = "too_slow"
    detail = "The request came too slowly, or stood still. Nothing was written; send it again, in smaller parts."
    retry_after = 1


class UnsupportedMedia(SyncdError):
    code = "unsupported_media_type"


class Refused(SyncdError):
    """Well-formed, and refused as a whole."""

    code = "atomic_rejected"


class Busy(SyncdError):
    code = "busy"
    detail = "The server is busy with this feed. Nothing was written; try again."
    retry_after = 1


class TooMany(SyncdError):
    """More than is allowed to one user or address, so that others notice nothing."""

    code = "too_many_requests"
    detail = "Too many requests; wait a moment."
    retry_after = 5


class UpgradeRequired(SyncdError):
    code = "upgrade_required"
    detail = "This address is a WebSocket."


class DatabaseUnavailable(SyncdError):
    code = "database_unavailable"
    detail = "The database cannot be reached. What you sent may or may not have been written; send it again."
    retry_after = 2


class MembershipsUnavailable(SyncdError):
    code = "memberships_unavailable"
    detail = "The membership service cannot be reached, so nothing can be allowed. Try again."
    retry_after = 5


class KeysUnavailable(SyncdError):
    code = "keys_unavailable"
    detail = "The identity provider's keys cannot be fetched, so no token can be checked. Try again."
    retry_after = 5
