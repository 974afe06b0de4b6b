"""What can go wrong, as one tree: every error says its code, its cause and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class SyncdError(Exception):
    """The root. `code` is stable and meant for programs; `str(error)` is meant for people."""

    code = "error"
    remedy = ""

    def __init__(self, detail: str, *, code: str | None = None, remedy: str | None = None) -> None:
        self.detail = detail
        self.code = code or self.code
        self.remedy = remedy or self.remedy
        super().__init__(f"{detail} {self.remedy}".strip())


class InvalidWrite(SyncdError, ValueError):
    """A write that the server would refuse, refused at once. `field` names the culprit, if one does."""

    code = "invalid_write"

    def __init__(self, detail: str, *, field: str | None = None) -> None:
        self.field = field
        super().__init__(detail)


class BatchTooLarge(SyncdError, ValueError):
    """A batch is pushed whole, so it must fit one push. Nothing of it was written."""

    code = "batch_too_large"
    remedy = "Split it into smaller batches, or raise max_push_changes / max_batch_bytes with the server's limits."


class InvalidQuery(SyncdError, ValueError):
    """A query that cannot be answered: an unknown operator, or an operand that has no order."""

    code = "invalid_query"


class NoSuchChange(SyncdError, LookupError):
    """No refused or set-aside change has that id (it may have been sent, fixed or dropped since)."""

    code = "no_such_change"


class WrongReplica(SyncdError):
    """The file belongs to another app, client id or user, or was written by a newer version."""

    code = "wrong_replica"
    remedy = "Open another file: one file is one device of one user in one app."


class NotConnected(SyncdError):
    """The replica was opened without `url`, so it can be used but not synced."""

    code = "not_connected"
    remedy = "Open it with url= and token=."


class SyncBusy(SyncdError):
    """Another thread or process is syncing this file."""

    code = "sync_busy"
    remedy = "It pushes everybody's writes, so there is nothing to do but to try again later."


class Offline(SyncdError):
    """The server could not be reached, or its answer did not arrive whole. Nothing is lost."""

    code = "offline"
    remedy = "The writes wait in the outbox; sync again later."


class ServerBusy(SyncdError):
    """The server answered 429, 503 or another 5xx until the retries ran out. `retry_after` is in seconds."""

    code = "busy"
    remedy = "The writes wait in the outbox; sync again later."

    def __init__(self, detail: str, *, code: str | None = None, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(detail, code=code)


class NotAllowed(SyncdError):
    """401 or 403 for the whole request, after the token was asked for again; or there is no token to ask with.

    `code`: the server's, or `no_token` (the token function gave none, or no answer in time), `bad_token` (it holds
    what no header can carry), `token_too_large`.
    """

    code = "unauthorized"
    remedy = "Sign in again, or pass token= a callable that returns a fresh token."


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
    remedy = "Check that url= is a syncd server and not a page in front of it."

    def __init__(self, detail: str, *, garbled: bool = False) -> None:
        self.garbled = garbled
        super().__init__(detail)
