"""Pages made smaller on their way, by the WebSocket extension permessage-deflate, which clients have without knowing.

Only what a device catches up with is: it is text of one kind, a seventh of its size afterwards, and waited for. What
everyone gets at once is framed once for all, and stays as it is: the extension leaves that to the sender of each frame.
No context is kept between frames, so that a connection costs what it did. See docs/internals/adr.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Sequence

from websockets.extensions.base import Extension
from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory

from syncd.core.shared_text import SharedText

# Smaller frames gain little; larger ones would hold up others for longer than 10 ms.
DEFLATE_FROM, IN_A_THREAD_FROM = 4 * 1024, 1024 * 1024
# At 6 it takes thrice as long, and is a seventh smaller.
LEVEL, WINDOW = 1, 15
LONGEST_STORED = 65_535
FORM = "frames"  # of a shared text, as `packed` makes it

# What is offered to every connection that asks.
EXTENSION = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)


def takes_packed(extensions: Sequence[Extension]) -> bool:
    """Whether a connection with these extensions takes what `packed` makes: one with a smaller window does not."""
    return any(isinstance(one, PerMessageDeflate) and one.local_max_window_bits == WINDOW for one in extensions)


def packed(text: bytes | bytearray) -> bytes:
    """A text as whole blocks, after which others may follow: it depends on nothing before it."""
    packer = zlib.compressobj(LEVEL, zlib.DEFLATED, -WINDOW)
    return packer.compress(text) + packer.flush(zlib.Z_SYNC_FLUSH)


async def packed_page(changes: bytes | bytearray) -> bytes:
    """`packed`, beside the loop where it takes long; what others are sent too is packed once."""
    shared = changes if isinstance(changes, SharedText) else None
    if shared is not None and shared.has(FORM):
        return shared.form(FORM, packed)
    if len(changes) < IN_A_THREAD_FROM:
        return shared.form(FORM, packed) if shared is not None else packed(changes)
    if shared is not None:
        return await asyncio.to_thread(shared.form, FORM, packed)
    return await asyncio.to_thread(packed, changes)


def stored(text: bytes) -> Iterator[bytes]:
    """A short text as blocks that are not packed."""
    for at in range(0, len(text), LONGEST_STORED):
        part = text[at : at + LONGEST_STORED]
        yield b"\x00" + len(part).to_bytes(2, "little") + (len(part) ^ 0xFFFF).to_bytes(2, "little") + part


def payload(head: bytes, middle: bytes, tail: bytes) -> list[bytes]:
    """The payload of one message: a head and a tail as they are, around what `packed` made. It ends in the middle of an
    empty block, of which the extension leaves the rest out."""
    return [*stored(head), middle, *stored(tail), b"\x00"]
