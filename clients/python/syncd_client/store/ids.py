"""Fresh ids of records, changes and devices, and the wall clock that they are made from."""

from __future__ import annotations

import os
import time


def new_id(wall: int) -> str:
    """A UUIDv7 of the wall clock in microseconds: ids that are made later sort later."""
    number = (wall // 1000 & 0xFFFF_FFFF_FFFF) << 80 | 7 << 76 | 2 << 62
    noise = int.from_bytes(os.urandom(10), "big")
    number |= (noise >> 62 & 0xFFF) << 64 | noise & 0x3FFF_FFFF_FFFF_FFFF
    text = f"{number:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def read_wall_clock() -> int:
    """Microseconds since 1970 by the wall clock."""
    return time.time_ns() // 1000
