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
