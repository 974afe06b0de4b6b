"""The one error tree. An error has a code; what that means is in `syncd.core.error_codes`, and nowhere else."""

from __future__ import annotations

from typing import NamedTuple

from syncd.core.error_codes import ERROR_CODES


class Fault(NamedTuple):
    """A place in a request body: an RFC 6901 JSON pointer, and what is wrong there. `code`: of a change that may not be
    written."""

    pointer: str
    detail: str
    code: str | None = None

    def wire(self) -> dict[str, str]:
        """As a member of a problem's `errors`."""
        return {name: text for name, text in self._asdict().items() if text is not None}


# Why a token is not believed.
UNBELIEVED = {
    "expired": "The token has expired.",
    "not_yet": "The token is not valid yet, by this server's clock.",
    "wrong_audience": "The token's `aud` is not this server's audience.",
    "wrong_issuer": "The token's `iss` is not the issuer that this server trusts.",
    "bad_signature": "The token's signature is not by the key that it names.",
    "unknown_key": "This server has no key for the token's algorithm and key id.",
}


class SyncdError(Exception):
    """Anything the server answers with a problem. `retry_after`: seconds, for what passes by itself. `detail`: what is
    wrong this time, else what the table says; never the database's text, a token or what a client sent."""

    code = "internal"

    def __init__(
        self, detail: str | None = None, *, code: str | None = None, faults: tuple[Fault, ...] = (),
        retry_after: int | None = None,
    ) -> None:  # fmt: skip
        self.code = code or type(self).code
        row = ERROR_CODES[self.code]
        self.detail = detail or row.text
        self.retry_after = row.retry_after if retry_after is None else retry_after
        self.faults = faults
        super().__init__(self.detail)


class Malformed(SyncdError):
    """The request is at fault and would be refused again."""

    code = "invalid_request"


class InvalidId(Malformed):
    """An id in a change that cannot be one, and would not be one the next time either."""

    code = "invalid_change"


class Unauthorized(SyncdError):
    """`reason`: a word that says why, where that helps the one who sends it and nobody else."""

    code = "unauthorized"
    reason: str | None = None

    @classmethod
    def because(cls, reason: str) -> Unauthorized:
        """For a token that is one, with a reason out of UNBELIEVED."""
        refused = cls(UNBELIEVED[reason])
        refused.reason = reason
        return refused


class Forbidden(SyncdError):
    """The caller may not do that (403)."""

    code = "forbidden"


class NotFound(SyncdError):
    """There is nothing at that address, or nothing that the caller may see (404)."""

    code = "not_found"


class MethodNotAllowed(SyncdError):
    """The address answers other methods (405)."""

    code = "method_not_allowed"

    def __init__(self, allowed: str) -> None:
        super().__init__(f"This address answers {allowed}.")
        self.allowed = allowed


class Conflict(SyncdError):
    """What is there does not allow it (409)."""

    code = "conflict"


class DeviceCopied(SyncdError):
    """Another copy of the device's store has pushed under its client id."""

    code = "device_copied"


class CursorLost(SyncdError):
    """The cursor is of another history, or of a log that is not there any more (410)."""

    code = "cursor_lost"


class TooLarge(SyncdError):
    """The body, or a part of it, is beyond its bound (413)."""

    code = "body_too_large"


class TooSlow(SyncdError):
    """It would be taken if it came faster, the next time perhaps."""

    code = "too_slow"


class HeadersTooLarge(SyncdError):
    """The headers are beyond their bound (431)."""

    code = "headers_too_large"


class UrlTooLong(SyncdError):
    """The address is beyond its bound (414)."""

    code = "url_too_long"


class UnsupportedMedia(SyncdError):
    """The body is of a type, or a packing, that is not read (415)."""

    code = "unsupported_media_type"


class Refused(SyncdError):
    """Well-formed, and refused as a whole."""

    code = "atomic_rejected"


class Busy(SyncdError):
    """The server has too much to do just now (503)."""

    code = "busy"


class Overloaded(Busy):
    """More comes than can be answered in time; nothing was begun."""


class TooMany(SyncdError):
    """More than is allowed to one user or address, so that others notice nothing."""

    code = "too_many_requests"


class HeldFull(SyncdError):
    """More of a user's changes would be held than may be."""

    code = "held_full"


class QuotaExceeded(SyncdError):
    """A total is beyond its quota, which `quota` names. Deletions are still taken."""

    code = "quota_exceeded"

    def __init__(self, quota: str = "", detail: str | None = None) -> None:
        super().__init__(detail)
        self.quota = quota


class UpgradeRequired(SyncdError):
    """The client speaks a protocol that is not served any more (426)."""

    code = "upgrade_required"


class DatabaseUnavailable(SyncdError):
    """The database does not answer (503)."""

    code = "database_unavailable"


class MembershipsUnavailable(SyncdError):
    """The membership service does not answer, or not usably (503)."""

    code = "memberships_unavailable"


class KeysUnavailable(SyncdError):
    """The token provider's keys cannot be had (503)."""

    code = "keys_unavailable"
