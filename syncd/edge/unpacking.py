"""Bodies that come packed, by gzip or zstd: unpacked within a bound, what is large beside the event loop."""

from __future__ import annotations

import sys
import zlib
from typing import Any

from syncd.core.errors import Malformed
from syncd.service.aside import aside

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

UNPACKED_AT_ONCE = 256 * 1024
# Of a body in zstd, as powers of 2: what any program may use, and what a library takes by itself.
SMALLEST_WINDOW, LARGEST_WINDOW = 23, 27


async def unpacked(raw: bytes, coding: bytes, most: int, largest: int) -> bytes:
    """A body in `coding`, "gzip" or "zstd", as far as `most` bytes, of more than a little in a thread. `largest`: bytes
    of the largest body. Raises Malformed: `bad_encoding` where it is none, or is not whole within `most`."""
    unpacker = zlib.decompressobj(wbits=31) if coding == b"gzip" else _unpacker_of_zstd(largest)
    try:
        body = unpacker.decompress(raw, min(UNPACKED_AT_ONCE, most))
        if UNPACKED_AT_ONCE <= len(body) < most and not unpacker.eof:
            # What a unpacker of zstd has not looked at it keeps itself.
            rest = getattr(unpacker, "unconsumed_tail", b"")
            body = await aside(True, _unpacked_on, unpacker, body, rest, most)
        done = unpacker.eof and not unpacker.unused_data
    except (zlib.error, zstd.ZstdError):
        raise Malformed(f"The body is not {coding.decode()}.", code="bad_encoding") from None
    if not done and len(body) < most:
        raise Malformed(f"The {coding.decode()} body is cut short or followed by more.", code="bad_encoding")
    return body


def _unpacker_of_zstd(largest: int) -> Any:
    """A body says how much memory its unpacking takes, up to 128 MiB: no more than the largest body needs."""
    window = max(SMALLEST_WINDOW, (largest - 1).bit_length())
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: min(window, LARGEST_WINDOW)})


def _unpacked_on(unpacker: Any, begun: bytes, rest: bytes, most: int) -> bytes:
    """What was unpacked with what follows, of at most so many bytes in all."""
    whole: bytes = begun + unpacker.decompress(rest, most - len(begun))
    return whole
