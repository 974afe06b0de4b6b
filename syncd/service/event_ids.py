"""The ids that a push's changes have in the log."""

from __future__ import annotations

import os
from copy import copy


class EventIds:
    """Event ids of one push: UUIDv7, ascending, so that neighbours in the log are neighbours in an index."""

    def __init__(self, micros: int) -> None:
        random = int.from_bytes(os.urandom(10))
        self._first = (micros // 1000 & (1 << 48) - 1) << 80 | 7 << 76 | (random >> 68) << 64 | 2 << 62
        self._first |= random & (1 << 61) - 1  # a bit is left so that counting on never runs into the variant

    def after(self, count: int) -> EventIds:
        """The ids after the first `count`."""
        later = copy(self)
        later._first += count
        return later

    def first(self, count: int) -> list[bytes]:
        """The ids of the first `count` changes."""
        return [self(i).encode() for i in range(1, count + 1)]

    def __call__(self, i: int) -> str:
        text = f"{self._first + i:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
