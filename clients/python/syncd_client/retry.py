"""When to try again. Pure: randomness and time are arguments."""

from __future__ import annotations

from dataclasses import dataclass
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


def parse_retry_after(text: str | None, now: float) -> float | None:
    """The header's seconds, whether it gives seconds or an HTTP date; None where it is missing or wrong.

    `now` is in seconds since 1970.
    """
    if text is None:
        return None
    try:
        seconds = float(text) if text.strip().isdigit() else parsedate_to_datetime(text).timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return max(seconds, 0.0)
