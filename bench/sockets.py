"""The sockets of the live half's load: listeners that only count what they are sent, and lanes that push."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from bench.ws_load import CLOSE, PING, PONG, TEXT, frame

PATIENCE = 60.0


class Count:
    """What all listeners were sent since the last look."""

    def __init__(self, mark: bytes) -> None:
        self.frames = self.changes = self.size = 0
        self.mark = mark
        # When, to which listener, and what.
        self.kept: list[tuple[int, Listener, bytes]] | None = None


class Listener:
    """One socket that is sent frames."""

    __slots__ = ("_count", "_rest", "_socket")

    def __init__(self, raw: socket.socket, count: Count) -> None:
        self._socket, self._count, self._rest = raw, count, b""

    def readable(self) -> None:
        got = self._socket.recv(1 << 16)
        if not got:
            raise ConnectionError("the server closed a listener")
        self.take(got)

    def take(self, got: bytes) -> None:
        """Counts the whole frames of what came."""
        data, count, at = self._rest + got, self._count, 0
        end = len(data)
        while end - at >= 2:
            size, start = data[at + 1], at + 2
            if size == 126:
                size, start = int.from_bytes(data[at + 2 : at + 4]), at + 4
            elif size == 127:
                size, start = int.from_bytes(data[at + 2 : at + 10]), at + 10
            if start + size > end:
                break
            if data[at] == TEXT:
                count.frames += 1
            else:
                self._control(data[at], data[start : start + size])
            at = start + size
        count.size += at
        count.changes += data.count(count.mark, 0, at)
        if count.kept is not None:
            count.kept.append((time.perf_counter_ns(), self, data[:at]))
        self._rest = data[at:]

    def _control(self, opcode: int, text: bytes) -> None:
        if opcode == PING:
            self._socket.send(frame(text, PONG))
        elif opcode == CLOSE:
            raise ConnectionError(f"the server closed a listener: {text!r}")

    def close(self) -> None:
        self._socket.close()


class Lane:
    """A keep-alive connection that pushes: `ask` a request, and `answered` is when the whole answer was there."""

    def __init__(self, port: int, on_answer: Callable[[Lane], None]) -> None:
        self.socket = connect(port)
        self._on_answer, self._buffer = on_answer, b""
        self.busy, self.number, self.failed = False, 0, 0

    def ask(self, request: bytes, number: int = 0) -> None:
        self.busy, self.number = True, number
        self.socket.sendall(request)

    def readable(self) -> None:
        got = self.socket.recv(1 << 16)
        if not got:
            raise ConnectionError("the server closed a lane")
        self._buffer += got
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().index(b"content-length:", 0, head) + 15
        if len(self._buffer) >= head + 4 + int(self._buffer[at : self._buffer.index(b"\r", at)]):
            self.failed += not (self._buffer.startswith(b"HTTP/1.1 200") and b'"status":"applied"' in self._buffer)
            self._buffer, self.busy = b"", False
            self._on_answer(self)

    def close(self) -> None:
        self.socket.close()


def connect(port: int) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    raw.settimeout(None)  # with a time-out every read would be two system calls
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def accepted(raw: socket.socket) -> bytes:
    """Reads the answer to a handshake; returns what came after it."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        got = raw.recv(4096)
        if not got:
            break
        answer += got
    if not answer.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"the handshake was refused: {answer[:200]!r}")
    return answer.partition(b"\r\n\r\n")[2]
