"""The frames of a WebSocket: the library's sans-I/O half, with a bound of its own before it is known who is there."""

from __future__ import annotations

import logging

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from syncd.edge.deflate import EXTENSION
from syncd.edge.tokens import MAX_TOKEN
from syncd.protocol.live_messages import is_auth

# The largest token, and the rest of its frame.
MOST_BEFORE_AUTH = MAX_TOKEN + 1024
EXTENSIONS = [EXTENSION]
# Every connection would be two lines of a log.
QUIET = logging.getLogger("syncd.websocket")
QUIET.setLevel(logging.CRITICAL)


# What is received goes through the parser in pieces: who is ended by one is not listened to any more.
PIECE = 4 * 1024
# Frames that are no whole message, control frames and parts: so many at once, one more for so many bytes, and so many a
# second. Each costs as much as a small message, and a ping has six bytes.
MOST_PARTS, MOST_PARTS_BEFORE_AUTH, BYTES_OF_A_PART, PARTS_A_SECOND = 1000.0, 512.0, 256, 200


class PartsAllowance:
    """How many frames may come that no message's allowance counts."""

    __slots__ = ("_at", "_left")

    def __init__(self, now: float) -> None:
        self._left, self._at = MOST_PARTS_BEFORE_AUTH, now

    def came(self, size: int, now: float, *, known: bool) -> None:
        """So many bytes came; `known`: it is known from whom."""
        earned = (now - self._at) * PARTS_A_SECOND + size / BYTES_OF_A_PART
        self._at = now
        self._left = max(self._left, min(self._left + earned, MOST_PARTS if known else MOST_PARTS_BEFORE_AUTH))

    def asked(self, count: int) -> None:
        """So many answers will come to what was asked: to pings."""
        self._left += count

    def take(self) -> bool:
        """Whether one more is within bounds."""
        self._left -= 1
        return self._left >= 0


class Frames(ServerProtocol):
    """The library's half. Until the frame `auth` has come none may be larger than a token needs, also unpacked."""

    def __init__(self, most: int) -> None:
        super().__init__(max_size=min(most, MOST_BEFORE_AUTH), logger=QUIET, extensions=EXTENSIONS)
        self._most = most

    def recv_frame(self, frame: Frame) -> None:
        """What follows `auth` may come at once: the library asks for the limit at each frame."""
        super().recv_frame(frame)
        if self.max_message_size != self._most and frame.opcode is Opcode.TEXT and is_auth(bytes(frame.data)):
            self.max_message_size = self._most


def text_header(size: int, packed: bool) -> bytes:
    """The head of a text frame of `size` bytes, whole, from a server (RFC 6455, section 5.2)."""
    first = b"\xc1" if packed else b"\x81"
    if size < 126:
        return first + bytes((size,))
    if size < 65536:
        return first + b"\x7e" + size.to_bytes(2)
    return first + b"\x7f" + size.to_bytes(8)
