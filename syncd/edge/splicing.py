"""A compressed answer of which the middle was compressed before, for others: what stands around it is put in as it is.

Both codings let a stream go on with blocks that refer to nothing before them: deflate's blocks (RFC 1951) after a
flush, and zstd's (RFC 8878) where only raw blocks came first, which leave its tables and its repeated offsets as they
begin.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator

from syncd.core.shared_text import SharedText
from syncd.edge.deflate import stored

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# No name, no time, any system.
GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
GZIP_LEVEL, GZIP_WINDOW = 6, 15
STORED_LAST = b"\x01\x00\x00\xff\xff"  # an empty block that ends the stream
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_LEVEL, ZSTD_WINDOW = 3, 21
# No length, no checksum, no dictionary, and a window of 2 MiB, of which a browser takes four.
ZSTD_HEAD = ZSTD_MAGIC + bytes((0, (ZSTD_WINDOW - 10) << 3))
LONGEST_RAW = 128 * 1024
ZSTD_OPTIONS: dict[int, int] = {
    zstd.CompressionParameter.compression_level: ZSTD_LEVEL, zstd.CompressionParameter.window_log: ZSTD_WINDOW,
    zstd.CompressionParameter.content_size_flag: 0, zstd.CompressionParameter.checksum_flag: 0,
}  # fmt: skip


def spliced(head: bytes, text: SharedText, tail: bytes, coding: bytes) -> bytes:
    """The three together, compressed as `coding` says, zstd or gzip. `text` is compressed once."""
    return _zstd(head, text, tail) if coding == b"zstd" else _gzip(head, text, tail)


def is_made(text: SharedText, coding: bytes) -> bool:
    """Whether that takes no more than copying."""
    return text.has(coding.decode())


def _gzip(head: bytes, text: SharedText, tail: bytes) -> bytes:
    middle = text.form("gzip", _deflated)
    check = zlib.crc32(tail, zlib.crc32(text, zlib.crc32(head)))
    size = (len(head) + len(text) + len(tail)) & 0xFFFFFFFF
    end = check.to_bytes(4, "little") + size.to_bytes(4, "little")
    return b"".join((GZIP_HEAD, *stored(head), middle, *stored(tail), STORED_LAST, end))


def _deflated(text: bytes) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, -GZIP_WINDOW)
    return packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)


def _zstd(head: bytes, text: SharedText, tail: bytes) -> bytes:
    return b"".join((ZSTD_HEAD, *_raw(head), text.form("zstd", _blocks), *_raw(tail), _block_head(0, True)))


def _raw(text: bytes) -> Iterator[bytes]:
    """A text as blocks that are not compressed."""
    for at in range(0, len(text), LONGEST_RAW):
        part = text[at : at + LONGEST_RAW]
        yield _block_head(len(part), False) + part


def _block_head(size: int, last: bool, kind: int = 0) -> bytes:
    return (size << 3 | kind << 1 | last).to_bytes(3, "little")


def _blocks(text: bytes) -> bytes:
    """A text's zstd blocks, of which none is the last."""
    packer = zstd.ZstdCompressor(options=ZSTD_OPTIONS)
    # flushed first: what is compressed at once would say how long it is
    frame = packer.compress(text) + packer.flush()
    if not frame.startswith(ZSTD_HEAD):
        raise RuntimeError(f"a zstd frame begins with {frame[: len(ZSTD_HEAD)].hex()}")
    parts, at, last = list[bytes](), len(ZSTD_HEAD), False
    while not last:
        said = int.from_bytes(frame[at : at + 3], "little")
        last, kind, size = bool(said & 1), said >> 1 & 3, said >> 3
        held = 1 if kind == 1 else size  # a block of one byte, repeated, holds that byte
        parts.append(_block_head(size, False, kind) + frame[at + 3 : at + 3 + held])
        at += 3 + held
    return b"".join(parts)
