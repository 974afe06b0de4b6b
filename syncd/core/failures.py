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
    """The kind of an error, and the place in the code where it came up: of syncd's own, where a library raised it.
    `about`: what else the log says of it."""

    kind: str
    where: str
    about: str = ""

    @classmethod
    def of(cls, why: BaseException) -> Failure:
        """What may be said of an error."""
        where, inside, place = "", False, why.__traceback__
        while place is not None:
            module = str(place.tb_frame.f_globals.get("__name__", ""))
            own = f"{module}.".startswith("syncd.")
            if own or not inside:
                where = f"{module}.{place.tb_frame.f_code.co_qualname}:{place.tb_lineno}"
            inside, place = inside or own, place.tb_next
        return cls(type(why).__name__, where)

    @property
    def id(self) -> str:
        """Eight digits by which an answer and the log name it: the same for the same fault, until the code changes."""
        return blake2b(f"{self.kind} {self.where} {self.about}".encode(), digest_size=4).hexdigest()

    @property
    def detail(self) -> str:
        """What is answered to whom it met."""
        return f"Something went wrong on the server, and was logged as failure {self.id}."


def log_failure(log: ErrorLog, what: str, why: BaseException, *, times: int = 1, **facts: object) -> Failure:
    """Logs that `what` happened because of an error, so many times. `facts`: what the server itself calls things."""
    failure = Failure.of(why)._replace(about=" ".join(f"{name}={fact}" for name, fact in facts.items()))
    often = {"times": times} if times > 1 else {}
    log.error(what, error=failure.kind, where=failure.where, failure=failure.id, **facts, **often)
    return failure


class Failures:
    """What failed at one request, told in one line however often it did: of the first, with how many there were."""

    def __init__(self, log: ErrorLog, what: str) -> None:
        self._log, self._what = log, what
        self._first: tuple[BaseException, dict[str, object]] | None = None
        self._times = 0

    def add(self, why: BaseException, **facts: object) -> None:
        """Once more. `facts`: as log_failure has them."""
        self._times += 1
        if self._first is None:
            self._first = why, facts

    def tell(self) -> None:
        """Logs the line, where there is anything to tell."""
        if self._first is not None:
            why, facts = self._first
            log_failure(self._log, self._what, why, times=self._times, **facts)
