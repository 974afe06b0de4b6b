"""The load of the live half: thousands of sockets that only count what they are sent, and a writer, in one process.

It polls, reads and counts, and does nothing else, so that a frame costs it less than it costs any server.
The writer is in the same process, so that both ends of a latency are read from one clock.
"""

from __future__ import annotations

import base64
import multiprocessing
import os
import re
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, Self

TEXT, CLOSE, PING, PONG = 0x81, 0x88, 0x89, 0x8A
MARK = b'"eventId"'  # once in every change
CHANGE = re.compile(rb'"changeId":"([^"]+)"')
AT_ONCE = 50
PATIENCE = 60.0


class Tally(NamedTuple):
    """What came of it: wall time in seconds up to the last receipt, frames and the changes in them, bytes, requests
    that were not answered with 200, and CPU seconds of the load itself."""

    seconds: float
    frames: int
    changes: int
    size: int
    failed: int
    cpu: float


class Heard(NamedTuple):
    """Raw material of latencies, nanoseconds of one clock: when each push was due, when it was answered, and when
    each listener had it."""

    due: list[int]
    answered: list[int]
    received: list[list[int]]


def frame(text: bytes, opcode: int = TEXT) -> bytes:
    """A client's frame. Its mask is zero, which is allowed, and saves the work of masking."""
    size = len(text)
    if size < 126:
        return bytes((opcode, 0x80 | size)) + b"\0\0\0\0" + text
    return bytes((opcode, 0x80 | 126)) + size.to_bytes(2) + b"\0\0\0\0" + text


class _Reader(Protocol):
    def readable(self) -> None: ...
    def close(self) -> None: ...


class _Count:
    """What all listeners were sent since the last look."""

    def __init__(self) -> None:
        self.frames = self.changes = self.size = 0
        self.kept: list[tuple[int, bytes]] | None = None


class _Listener:
    """One socket that is sent frames."""

    __slots__ = ("_count", "_rest", "_socket")

    def __init__(self, raw: socket.socket, count: _Count) -> None:
        self._socket, self._count, self._rest = raw, count, b""

    def readable(self) -> None:
        got = self._socket.recv(1 << 16)
        if not got:
            raise ConnectionError("the server closed a listener")
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
        count.changes += data.count(MARK, 0, at)
        if count.kept is not None:
            count.kept.append((time.perf_counter_ns(), data[:at]))
        self._rest = data[at:]

    def _control(self, opcode: int, text: bytes) -> None:
        if opcode == PING:
            self._socket.send(frame(text, PONG))
        elif opcode == CLOSE:
            raise ConnectionError(f"the server closed a listener: {text!r}")

    def close(self) -> None:
        self._socket.close()


class _Lane:
    """A keep-alive connection that pushes: `ask` a request, and `answered` is when the whole answer was there."""

    def __init__(self, port: int, on_answer: Callable[[_Lane], None]) -> None:
        self.socket = _connect(port)
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


class _Audience:
    """Everything that the process holds. Its public methods are what `Crowd.call` calls."""

    def __init__(self) -> None:
        self._poll, self._readers, self._count = select.epoll(), dict[int, _Reader](), _Count()
        self._listeners = 0

    # -- listeners -----------------------------------------------------------------------------------------

    def open(self, port: int, path: str, hellos: Sequence[Sequence[bytes]], expected: int) -> int:
        """Opens a socket for each list of frames, sends them, and waits for `expected` frames to each.
        Returns how many are open."""
        for start in range(0, len(hellos), AT_ONCE):
            chunk = hellos[start : start + AT_ONCE]
            sockets = [_connect(port) for _ in chunk]
            for raw in sockets:
                raw.sendall(_handshake(path))
            rests = [_accepted(raw) for raw in sockets]
            wanted = self._count.frames + expected * len(chunk)
            for raw, rest, hello in zip(sockets, rests, chunk, strict=True):
                assert not rest
                self._add(raw.fileno(), _Listener(raw, self._count))
                raw.sendall(b"".join(map(frame, hello)))
            self._until(lambda wanted=wanted: self._count.frames >= wanted)  # type: ignore[misc]
            self._listeners += len(chunk)
        return self._listeners

    def close(self) -> None:
        """Closes all listeners."""
        for number, reader in list(self._readers.items()):
            self._poll.unregister(number)
            reader.close()
        self._readers.clear()
        self._listeners = 0

    def idle(self) -> None:
        """A moment in which pings are answered."""
        for number, _ in self._poll.poll(0.05, 1024):
            self._readers[number].readable()

    # -- writers -------------------------------------------------------------------------------------------

    def burst(self, port: int, lanes: Sequence[Sequence[bytes]]) -> Tally:
        """Each lane pushes as soon as it has its answer, until every listener has every change."""
        left, total = dict[_Lane, Iterator[bytes]](), sum(map(len, lanes)) * self._listeners
        began = self._began()
        with self._writing(port, len(lanes), lambda lane: _next(lane, left[lane])) as writers:
            left.update(zip(writers, map(iter, lanes), strict=True))
            for lane in writers:
                _next(lane, left[lane])
            self._until(lambda: began.changes >= total)
            failed = sum(lane.failed for lane in writers)
        return self._tally(began, failed)

    def steps(self, port: int, requests: Sequence[bytes]) -> Tally:
        """One push after the other, each when everybody has the one before."""
        began, failed = self._began(), 0
        with self._writing(port, 1, lambda lane: None) as (lane,):
            for number, request in enumerate(requests, 1):
                lane.ask(request)
                self._until(lambda number=number: began.changes >= number * self._listeners and not lane.busy)  # type: ignore[misc]
            failed = lane.failed
        return self._tally(began, failed)

    def broadcasts(self, port: int, payload: bytes, count: int, window: int) -> Tally:
        """Has a broadcaster send a payload `count` times, `window` of them on their way at any time."""
        control = _connect(port)
        control.sendall(_handshake("/say"))
        _accepted(control)
        began, sent, said = self._began(), 0, frame(payload)
        while sent < count:
            control.sendall(said)
            sent += 1
            due = (sent - window + 1) * self._listeners
            self._until(lambda due=due: began.frames >= due)  # type: ignore[misc]
        self._until(lambda: began.frames >= count * self._listeners)
        control.close()
        return self._tally(began, 0)

    def paced(self, port: int, requests: Sequence[bytes], rate: float, lanes: int) -> Heard:
        """Pushes of one change, each at its time, `rate` a second. One that finds no lane free waits, and its time
        stays as it was."""
        began, now = self._began(keep=True), time.perf_counter_ns()
        due = [now + int((n + 1) / rate * 1e9) for n in range(len(requests))]
        answered = [0] * len(requests)

        def note(lane: _Lane) -> None:
            answered[lane.number] = time.perf_counter_ns()

        with self._writing(port, lanes, note) as writers:
            for number, request in enumerate(requests):
                self._until(lambda number=number: time.perf_counter_ns() >= due[number], due[number])  # type: ignore[misc]
                self._until(lambda: not all(lane.busy for lane in writers))
                next(lane for lane in writers if not lane.busy).ask(request, number)
            self._until(lambda: began.changes >= len(requests) * self._listeners and all(answered))
        kept, began.kept = began.kept or [], None
        return Heard(due, answered, _receipts(requests, kept))

    # -- the loop ------------------------------------------------------------------------------------------

    def _add(self, number: int, reader: _Reader) -> None:
        self._readers[number] = reader
        self._poll.register(number, select.EPOLLIN)

    def _writing(self, port: int, lanes: int, on_answer: Callable[[_Lane], None]) -> _Writers:
        return _Writers(self, [_Lane(port, on_answer) for _ in range(lanes)])

    def add(self, lane: _Lane) -> None:
        self._add(lane.socket.fileno(), lane)

    def remove(self, lane: _Lane) -> None:
        self._poll.unregister(lane.socket.fileno())
        del self._readers[lane.socket.fileno()]
        lane.close()

    def _began(self, keep: bool = False) -> _Count:
        count = self._count
        count.frames = count.changes = count.size = 0
        count.kept = [] if keep else None
        self._start, self._cpu = time.perf_counter(), time.process_time()
        return count

    def _tally(self, count: _Count, failed: int) -> Tally:
        seconds, used = time.perf_counter() - self._start, time.process_time() - self._cpu
        return Tally(seconds, count.frames, count.changes, count.size, failed, used)

    def _until(self, done: Callable[[], bool], due: int = 0) -> None:
        """Reads what comes until `done`, looking again at the latest at `due`, nanoseconds."""
        poll, readers, deadline = self._poll.poll, self._readers, time.perf_counter() + PATIENCE
        while not done():
            wait = max(0.0, min(0.05, (due - time.perf_counter_ns()) / 1e9)) if due else 0.05
            for number, _ in poll(wait, 1024):
                readers[number].readable()
            if time.perf_counter() > deadline:
                raise TimeoutError(f"{self._count.frames} frames, {self._count.changes} changes, and no more came")


class _Writers:
    """Lanes that are open, and part of the loop, for a while."""

    def __init__(self, audience: _Audience, lanes: list[_Lane]) -> None:
        self._audience, self._lanes = audience, lanes

    def __enter__(self) -> list[_Lane]:
        for lane in self._lanes:
            self._audience.add(lane)
        return self._lanes

    def __exit__(self, *ignored: object) -> None:
        for lane in self._lanes:
            self._audience.remove(lane)


def _receipts(requests: Sequence[bytes], kept: Sequence[tuple[int, bytes]]) -> list[list[int]]:
    """When what was pushed was received, by push."""
    places = {CHANGE.findall(request)[0]: n for n, request in enumerate(requests)}
    received: list[list[int]] = [[] for _ in requests]
    for instant, data in kept:
        for change in CHANGE.findall(data):
            received[places[change]].append(instant)
    return received


def _next(lane: _Lane, requests: Iterator[bytes]) -> None:
    request = next(requests, None)
    if request is not None:
        lane.ask(request)


def _connect(port: int) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    raw.settimeout(None)  # with a time-out every read would be two system calls
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return raw


def _handshake(path: str) -> bytes:
    key = base64.b64encode(os.urandom(16))
    return (
        b"GET %s HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n" % (path.encode(), key)
    )


def _accepted(raw: socket.socket) -> bytes:
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


def more_files() -> None:
    """Lets this process, and those that it starts, open as many files as they may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(pipe: Connection) -> None:
    more_files()
    audience = _Audience()
    while True:
        try:
            while not pipe.poll():
                audience.idle()
            name, arguments = pipe.recv()
            result = True, getattr(audience, name)(*arguments)
        except EOFError:
            return
        except Exception as why:
            result = False, f"{type(why).__name__}: {why}"
        pipe.send(result)


class Crowd:
    """The process, from outside."""

    def __init__(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def call(self, name: str, *arguments: Any) -> Any:
        """Calls a method of the process. Raises RuntimeError with what went wrong there."""
        self._pipe.send((name, arguments))
        fine, result = self._pipe.recv()
        if not fine:
            raise RuntimeError(f"{name}: {result}")
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        self._pipe.close()
        self._process.join(5)
        self._process.kill()
