"""When to try again. Pure: randomness and time are arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with full jitter; a Retry-After of the server is a lower bound.

    Seconds throughout. `attempts` counts the first one. A server that asks for more than `patience` is
    not waited for: the sync ends with ServerBusy, which carries the time.
    """

    attempts: int = 6
    first: float = 0.25
    longest: float = 20.0
    patience: float = 60.0

    def delay(self, attempt: int, retry_after: float | None, chance: float) -> float | None:
        """The pause after the failed attempt number `attempt` (from 1), or None to give up.

        `chance` is a uniform random number in [0, 1).
        """
        if attempt >= self.attempts:
            return None
        backoff = chance * min(self.longest, self.first * 2.0 ** (attempt - 1))
        if retry_after is None:
            return backoff
        return retry_after + min(backoff, self.first) if retry_after <= self.patience else None


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds of Retry-After, whether it gives seconds or an HTTP date; None where it is missing or wrong.

    `headers` finds names in lower case. A date counts from the answer's own Date, since the device's clock may be
    wrong; `now`, in seconds since 1970, is for an answer without one.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    until, sent = _seconds(text), _seconds(headers.get("date", ""))
    return None if until is None else max(until - (now if sent is None else sent), 0.0)


def _seconds(text: str) -> float | None:
    """An HTTP date in any of its three forms, in seconds since 1970; None where it is none."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def passes(status: int) -> bool:
    """Whether a refusal with this HTTP status passes by itself. A quota that is used up (507) does not."""
    return status in (408, 425, 429) or (status >= 500 and status != 507)


@dataclass(frozen=True, slots=True)
class LivePolicy:
    """The times of a live sync, in seconds. Each interval is varied at random, so that devices spread out.

    `first`, `longest`: backoff between connections, with full jitter. `restart_spread`: over how long
    devices come back when the server says that it restarts. `steady`: a connection that lasted so long
    ends the backoff. `ping_interval`, `ping_timeout`: a connection that is silent for both is dead.
    `push_interval`: from a push's answer to the next push, which takes all that was written meanwhile: a
    server bounds the frames a second of one user. `answer_timeout`: so long it waits for a push's answer
    while nothing else comes either. `blocked_after`: after so many sockets in a row that could not be
    opened it polls over HTTP every `poll_interval`, and tries a socket every `socket_interval`.
    `refused_interval`: between tries after a refusal. `watch_interval`: how often the file is looked at
    for writes by other processes. `renew_before`: how long before its end a token is replaced.
    `store_interval`: how often it is tried whether a file that could not be written to can be again.
    `verify_interval`: how often it is asked whether it is time to verify the replica. `patience`: a server
    that asks for more is tried again after so long, whatever it said.
    """

    first: float = 0.5
    longest: float = 30.0
    restart_spread: float = 5.0
    steady: float = 10.0
    open_timeout: float = 10.0
    ping_interval: float = 10.0
    ping_timeout: float = 8.0
    push_interval: float = 0.02
    answer_timeout: float = 30.0
    blocked_after: int = 3
    poll_interval: float = 5.0
    socket_interval: float = 60.0
    refused_interval: float = 60.0
    watch_interval: float = 0.5
    renew_before: float = 30.0
    verify_interval: float = 300.0
    store_interval: float = 2.0
    patience: float = 300.0

    def bounded(self, retry_after: float | None) -> float:
        """How long to wait at least, where the server asked for so much."""
        return min(self.patience, retry_after or 0.0)
