"""A WebSocket that reads only when it is asked to: no library reads ahead for it."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, Self

from tests.support.harness import PATH, Server

HANDSHAKE = (
    b"GET /ws/notes HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
CLOSE, PING = 8, 9


class RawSocket:
    """What it was sent stays in the kernel and the server until `hear`, `frame` or `sip` take it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.code = 0
        # Whether pings are answered, when what they are in has been taken.
        self.answers = False
        self._ahead = bytearray()
        # Where the first frame begins whose pings are still to be answered.
        self._next = 0

    @classmethod
    async def stream(cls, server: Server, user: str, *, receive: int = 65536) -> Self:
        """A user's server-sent events, of which the head was read; then it is `sip` and `text`."""
        lines = ["GET /sync/notes/stream HTTP/1.1", "Host: localhost", f"Authorization: Bearer {server.token(user)}"]
        return await cls.opened(server.port, receive=receive, head="\r\n".join([*lines, "", ""]).encode())

    @classmethod
    async def opened(cls, port: int, *, receive: int = 0, head: bytes = HANDSHAKE) -> Self:
        """A connection that was accepted; `receive`: what the kernel keeps for it."""
        connection = socket.socket()
        connection.setblocking(False)
        if receive:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", port))
        await loop.sock_sendall(connection, head.replace(b" /", f" {PATH}/".encode(), 1))
        self = cls(connection)
        while b"\r\n\r\n" not in self._ahead:
            self._ahead += await self._some(1024)
        said, _, rest = bytes(self._ahead).partition(b"\r\n\r\n")
        assert b" 101 " in said or b" 200 " in said, said
        self._ahead = bytearray(rest)
        return self

    async def auth(self, server: Server, user: str, since: str | None = "") -> None:
        """Says who it is, and begins to listen, where it is to; what is answered is not read."""
        token = server.token(user)
        await self.say({"type": "auth", "token": token, "clientId": "raw", "protocol": 1})
        assert (await self.hear())["type"] == "auth-ok"
        if since is not None:
            await self.say({"type": "subscribe", "appId": "notes", "since": since})

    async def say(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        length = bytes((0x80 | len(text),)) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2)
        await asyncio.get_running_loop().sock_sendall(self.connection, b"\x81" + length + bytes(4) + text)

    async def hear(self) -> dict[str, Any]:
        """The next text frame. Raises EOFError after the last one; `code` is then that of the close frame."""
        while True:
            opcode, text = await self.frame()
            if opcode == CLOSE:
                self.code = int.from_bytes(text[:2])
                raise EOFError
            if opcode != PING:
                found: dict[str, Any] = json.loads(text)
                return found

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload. Raises EOFError."""
        await self._answer_pings()
        while (whole := self._frame_at(0)) is None:
            self._ahead += await self._some(1 << 20)
            await self._answer_pings()
        opcode, start, end = whole
        text = bytes(self._ahead[start:end])
        del self._ahead[:end]
        self._next = max(self._next - end, 0)
        return opcode, text

    @property
    def text(self) -> bytes:
        """What was taken and not looked at."""
        return bytes(self._ahead)

    async def sip(self, size: int) -> int:
        """Takes at most that many bytes from the kernel; how many there were. Raises EOFError."""
        data = await self._some(size)
        self._ahead += data
        await self._answer_pings()
        return len(data)

    async def _answer_pings(self) -> None:
        """Those among the frames that are whole, once each."""
        while self.answers and (frame := self._frame_at(self._next)) is not None:
            opcode, start, self._next = frame
            if opcode == PING:
                text = bytes(self._ahead[start : self._next])
                pong = bytes((0x8A, 0x80 | len(text))) + bytes(4) + text
                await asyncio.get_running_loop().sock_sendall(self.connection, pong)

    def _frame_at(self, at: int) -> tuple[int, int, int] | None:
        """Opcode, and where the payload begins and ends, of the frame there; None where it is not whole."""
        if len(self._ahead) < at + 2:
            return None
        size, start = self._ahead[at + 1] & 127, at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(self._ahead[at + 2 : start])
        return (self._ahead[at] & 15, start, start + size) if len(self._ahead) >= start + size else None

    async def _some(self, size: int) -> bytes:
        data = await asyncio.get_running_loop().sock_recv(self.connection, size)
        if not data:
            raise EOFError
        return data

    def close(self) -> None:
        self.connection.close()

    def __del__(self) -> None:
        self.close()
