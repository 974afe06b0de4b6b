"""The errors, as one tree: each says its code, its cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .error_codes import TEXTS


def shape(error: Exception) -> str:
    """Describes the fault in an answer's form. A missing name is one of the protocol; values are not repeated."""
    if isinstance(error, KeyError) and error.args:
        return f"{error.args[0]!r} is missing"
    return type(error).__name__


class SyncdError(Exception):
    """The root. `code` is stable and meant for programs; `str(error)` is meant for people."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None, remedy: str | None = None) -> None:
        self.detail = detail
        self.code = code or self.code
        self.remedy = remedy or TEXTS.get(self.code, ("", ""))[1]
        # What the server says may end with the remedy already.
        super().__init__(detail if self.remedy in detail else f"{detail} {self.remedy}")


class InvalidWrite(SyncdError, ValueError):
    """A write that the server would refuse, refused at once. `field` names the culprit, if one does."""

    code = "invalid_write"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(detail)


class BatchTooLarge(SyncdError, ValueError):
    """A batch is pushed whole, so it must fit one push. Nothing of it was written."""

    code = "batch_too_large"


class InvalidQuery(SyncdError, ValueError):
    """A query that cannot be answered: an unknown operator, or an operand that has no order."""

    code = "invalid_query"


class NoSuchChange(SyncdError, LookupError):
    """No refused or set-aside change has that id (it may have been sent, fixed or dropped since)."""

    code = "no_such_change"


class NoSuchRecord(SyncdError, LookupError):
    """There is no such record on this device."""

    code = "no_such_record"


class NotReplicated(SyncdError, LookupError):
    """A write of a record of a space or table that this replica does not keep, refused at once."""

    code = "not_replicated"


class WrongReplica(SyncdError):
    """The file belongs to another app, client id or user, or was written by a newer version."""

    code = "wrong_replica"


class StoreFailed(SyncdError):
    """The file could not be read or written. Nothing of what was to be written is in it.

    `code`: `storage_full` where there is no room, `store_failed` else.
    """

    code = "store_failed"
    remedy = "A live sync goes on within seconds of there being room; what failed otherwise may be tried again."


class NotConnected(SyncdError):
    """The replica was opened without `url`, so it can be used but not synced."""

    code = "not_connected"


class SyncBusy(SyncdError):
    """Another thread or process is syncing this file."""

    code = "sync_busy"


class Offline(SyncdError):
    """The server could not be reached, or its answer did not arrive whole. Nothing is lost."""

    code = "offline"


class ServerBusy(SyncdError):
    """The server answered 429, 503 or another 5xx until the retries ran out. `retry_after` is in seconds."""

    code = "busy"

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(detail, code=code)


class NotAllowed(SyncdError):
    """401 or 403 for the whole request, after the token was asked for again; or there is no token to ask with; or a
    write in a space of which the user is a reader (`not_a_writer`), refused at once.

    `code`: the server's, or `no_token` (the token function gave none, or no answer in time), `bad_token` (it holds
    what no header can carry), `token_too_large`.
    """

    code = "unauthorized"


class Refused(SyncdError):
    """The server refused a request as a whole and named no change that is at fault.

    `errors` is the problem's list of `{"pointer", "detail"}`.
    """

    code = "refused"

    def __init__(self, detail: str, *, code: str, status: int, errors: Sequence[Any] = ()) -> None:
        self.status = status
        self.errors = list(errors)
        super().__init__(f"{detail} ({status} {code})", code=code)


class BadReply(SyncdError):
    """The answer is not of the protocol. Nothing of it was applied. `garbled`: it is no whole JSON text at all."""

    code = "bad_reply"

    def __init__(self, detail: str, *, garbled: bool = False) -> None:
        self.garbled = garbled
        super().__init__(detail)
