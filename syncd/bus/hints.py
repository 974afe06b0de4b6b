"""The bus: how worker processes tell each other that a feed has grown. Hints only: losing any costs delay, never data.

What travels is text. A payload is hints separated by spaces, `f<space><app><seq>`, `p<space>` or `m`, where a name
is its key of 11 characters; what is not understood is skipped, so that versions and strangers can share a channel.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from functools import lru_cache
from hashlib import sha256
from typing import Literal, NamedTuple, Protocol

State = Literal["up", "down", "unavailable"]

# A payload of NOTIFY has to be shorter than 8,000 bytes.
LONGEST = 7900
# Hints that wait: a few megabytes at most. The slow poll finds what is dropped.
MOST_WAITING = 16384

_HINT = re.compile(r"(f)([\w-]{11})([\w-]{11})(0|[1-9]\d{0,18})|(p)([\w-]{11})|(m)", re.ASCII)


class BusError(Exception):
    """The bus cannot be used as it is configured; the text says what to do."""


class Hint(NamedTuple):
    """Something that may be new: `f` a feed has reached `seq`, `m` memberships changed, `p` presence in a space."""

    kind: str
    space: str = ""
    app: str = ""
    seq: int = 0


@lru_cache(maxsize=16384)
def key(name: str) -> str:
    """11 characters that stand for a name: the bus carries no names. Two names share a key once in 2^64 pairs.

    The database makes the same (sync_hint_key), for what an application's backend wrote.
    """
    digest = sha256(name.encode("utf-8", "surrogatepass")).digest()
    return urlsafe_b64encode(digest[:8])[:11].decode()


class Bus(Protocol):
    """What carries hints between processes. Counters only grow; every process hears its own hints too."""

    @property
    def told(self) -> int:
        """Hints given to `tell`."""
        ...

    @property
    def heard(self) -> int:
        """Hints that arrived."""
        ...

    @property
    def sent(self) -> int:
        """Payloads that carried hints, after coalescing."""
        ...

    @property
    def ignored(self) -> int:
        """What arrived and was no hint."""
        ...

    @property
    def reconnects(self) -> int:
        """Times that a lost connection was made again."""
        ...

    @property
    def dropped(self) -> int:
        """Hints for which there was no room."""
        ...

    @property
    def state(self) -> State:
        """`unavailable`: it cannot work as configured, and the log says what to do. Hints may be lost in any state."""
        ...

    async def open(self, receive: Callable[[Hint], None]) -> None:
        """Connect, in the background if it takes longer than a second. `receive` is called from the event loop."""
        ...

    def publish(self, hint: Hint) -> None:
        """Tells everybody, some milliseconds later. From the event loop; never blocks or raises."""
        ...

    async def close(self) -> None:
        """Send what waits, if that takes no time, and end the connection."""
        ...


class Outbox:
    """Hints that wait to be sent: of each thing only the newest, and MOST_WAITING things at most."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str, str], int] = {}
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, hint: Hint) -> None:
        """Keep it, unless a newer one of the same thing is there already, or there is no room."""
        thing = (hint.kind, hint.space, hint.app)
        known = self._waiting.get(thing)
        if known is None and len(self._waiting) >= MOST_WAITING:
            self.dropped += 1
        elif known is None or hint.seq > known:
            self._waiting[thing] = hint.seq

    def take(self) -> list[Hint]:
        """All that wait; none wait afterwards."""
        waiting, self._waiting = self._waiting, {}
        return [Hint(*thing, seq) for thing, seq in waiting.items()]


def encode(hints: Iterable[Hint]) -> list[str]:
    """As few payloads of at most LONGEST bytes as the hints need. What is no hint by the rules above is left out."""
    payloads: list[list[str]] = []
    room = 0
    for hint in hints:
        word = f"{hint.kind}{hint.space}{hint.app}{hint.seq if hint.kind == 'f' else ''}"
        if not _HINT.fullmatch(word):
            continue
        if room < len(word) + 1:
            payloads.append([])
            room = LONGEST + 1
        payloads[-1].append(word)
        room -= len(word) + 1
    return [" ".join(words) for words in payloads]


def decode(payload: str) -> tuple[list[Hint], int]:
    """The hints in a payload, and the number of words that are none. An overlong payload is one such word."""
    if len(payload) > LONGEST:
        return [], 1
    words = payload.split(" ")
    hints = [_hint(match) for word in words if (match := _HINT.fullmatch(word))]
    return hints, len(words) - len(hints)


def _hint(match: re.Match[str]) -> Hint:
    if match[1]:
        return Hint("f", match[2], match[3], int(match[4]))
    return Hint("p", match[6]) if match[5] else Hint("m")
