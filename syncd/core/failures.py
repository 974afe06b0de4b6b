"""Errors that nobody foresaw: the one way in which they are logged, and told to whom they met.

An error's text may hold what was sent, a token, or what the database said, so that it is never used.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple, Protocol


class ErrorLog(Protocol):
    """The part of a structlog logger that is needed."""

    def error(self, event: str, **facts: object) -> object: ...


class Failure(NamedTuple):
    """The kind of an error, and the place in the code that raised it."""

    kind: str
    where: str

    @classmethod
    def of(cls, why: BaseException) -> Failure:
        """What may be said of an error."""
        place = why.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f"{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}" if place else ""
        return cls(type(why).__name__, where)

    @property
    def id(self) -> str:
        """Eight digits by which an answer and the log name it: the same for the same fault, until the code changes."""
        return blake2b(f"{self.kind} {self.where}".encode(), digest_size=4).hexdigest()

    @property
    def detail(self) -> str:
        """What is answered to whom it met."""
        return f"Something went wrong on the server, and was logged as failure {self.id}."


def log_failure(log: ErrorLog, what: str, why: BaseException, **facts: object) -> Failure:
    """Logs that `what` happened because of an error. `facts`: what the server itself calls things."""
    failure = Failure.of(why)
    log.error(what, error=failure.kind, where=failure.where, failure=failure.id, **facts)
    return failure
