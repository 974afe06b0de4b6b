"""An answer around a text that was compressed before is what it would be by itself, to whoever reads it."""

from __future__ import annotations

import gzip
import json
import random
import sys
import zlib

import pytest

from syncd.core.shared_text import SharedText
from syncd.edge.answers import Answer, packed
from syncd.edge.splicing import is_made, spliced

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

AROUND = {
    "an envelope": (b'{"syncedUntil":"x","serverChanges":[', b"]}"),
    "nothing": (b"", b""),
    "more than a block": (b"h" * 300_000, b"t" * 140_000),
}
SEED = 20261129


def text_of(count: int) -> SharedText:
    """Text as pages have it, some of it the same as what stands before."""
    chance = random.Random(SEED)
    lines = ({"id": n, "v": chance.random(), "t": "abc " * chance.randrange(9), "k": "h" * 40} for n in range(count))
    return SharedText(b",".join(json.dumps(line).encode() for line in lines))


def unpacked(data: bytes, coding: bytes) -> bytes:
    """What one stream brings, which must end where the data ends."""
    reader = zstd.ZstdDecompressor() if coding == b"zstd" else zlib.decompressobj(31)
    text = reader.decompress(data)
    assert reader.eof
    assert not reader.unused_data
    return text


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
@pytest.mark.parametrize("around", AROUND.values(), ids=list(AROUND))
@pytest.mark.parametrize("count", [0, 1, 100, 20_000])
def test_what_is_read_is_what_was_said(coding: bytes, around: tuple[bytes, bytes], count: int) -> None:
    (head, tail), text = around, text_of(count)
    assert unpacked(spliced(head, text, tail, coding), coding) == head + text + tail


@pytest.mark.parametrize("coding", [b"gzip", b"zstd"])
def test_a_text_is_compressed_once_and_about_as_small_as_alone(coding: bytes) -> None:
    text = text_of(2000)
    assert not is_made(text, coding)
    first = spliced(b"[", text, b"]", coding)
    assert is_made(text, coding)
    text.__dict__[coding.decode()], kept = b"", text.__dict__[coding.decode()]
    assert len(spliced(b"[", text, b"]", coding)) < 40, "it was compressed again"
    alone = gzip.compress(text, 6) if coding == b"gzip" else zstd.compress(bytes(text), 3)
    assert len(first) < len(alone) * 1.02 + 60
    assert kept in first


@pytest.mark.parametrize("coding", [b"gzip", b"zstd", b""])
async def test_an_answer_travels_as_it_would_without(coding: bytes) -> None:
    head, text, tail = b'{"a":[', text_of(500), b"]}"
    plain = Answer(head + text + tail)
    shared = await packed(plain._replace(shared=(head, text, tail)), coding)
    alone = await packed(plain, coding)
    assert shared.headers == alone.headers
    assert shared.shared is None
    if coding:
        assert unpacked(shared.body, coding) == plain.body
    else:
        assert shared.body == plain.body
