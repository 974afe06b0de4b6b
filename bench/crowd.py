"""The load of the live half: thousands of sockets that only count what they are sent, and a writer, in one process.

It polls, reads and counts, and does nothing else, so that a frame costs it less than it costs any server.
The writer is in the same process, so that both ends of a latency are read from one clock.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import re
import resource
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol, Self

from bench.sockets import PATIENCE, Count, Lane, Listener, accepted, connect
from bench.ws_load import frame, handshake

AT_ONCE = 50
QUIET = 0.2  # seconds without a frame, after which nothing is on its way


class Speech(NamedTuple):
    """How a server speaks of changes: what is once in each that it delivers, what names one (a pattern with a group),
    and how many frames it sends to a new socket before it listens."""

    mark: bytes = b'"eventId"'
    name: bytes = rb'"changeId":"([^"]+)"'
    greetings: int = 0


SYNCD = Speech()


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


class _Reader(Protocol):
    def readable(self) -> None: ...
    def close(self) -> None: ...


class _Audience:
    """Everything that the process holds. Its public methods are what `Crowd.call` calls."""

    def __init__(self, speech: Speech) -> None:
        self._poll, self._readers, self._count = select.epoll(), dict[int, _Reader](), Count(speech.mark)
        self._speech, self._listeners = speech, 0

    # -- listeners -----------------------------------------------------------------------------------------

    def open(self, port: int, path: str, hellos: Sequence[Sequence[bytes]], expected: int) -> int:
        """Opens a socket for each list of frames, sends them, and waits for `expected` frames to each.
        Returns how many are open."""
        for start in range(0, len(hellos), AT_ONCE):
            chunk = hellos[start : start + AT_ONCE]
            sockets = [connect(port) for _ in chunk]
            for raw in sockets:
                raw.sendall(handshake(path))
            rests = [accepted(raw) for raw in sockets]
            greeted = self._count.frames + self._speech.greetings * len(chunk)
            for raw, rest in zip(sockets, rests, strict=True):
                listener = Listener(raw, self._count)
                self._add(raw.fileno(), listener)
                listener.take(rest)
            self._until(lambda greeted=greeted: self._count.frames >= greeted)  # type: ignore[misc]
            for raw, hello in zip(sockets, chunk, strict=True):
                raw.sendall(b"".join(map(frame, hello)))
            wanted = greeted + expected * len(chunk)
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
        left, total = dict[Lane, Iterator[bytes]](), sum(map(len, lanes)) * self._listeners
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

    def windowed(self, port: int, path: str, messages: Sequence[bytes], window: int) -> Tally:
        """One socket sends messages of a change each, `window` of them on their way at any time. The changes of the
        tally are those that were there once: a server that repeats some has more of them on their way."""
        with self._speaking(port, path) as speaker:
            began, start = self._began(keep=True), time.perf_counter_ns()
            for sent, message in enumerate(messages, 1):
                speaker.sendall(frame(message))
                due = (sent - window + 1) * self._listeners
                self._until(lambda due=due: began.changes >= due)  # type: ignore[misc]
            self._until(lambda: began.changes >= len(messages) * self._listeners)
            tally = self._tally(began, 0)
            received = self._received(began, messages)
        instants = [instant for some in received for instant in some]
        return tally._replace(seconds=(max(instants) - start) / 1e9, changes=len(instants))

    def spoken(self, port: int, path: str, messages: Sequence[bytes], rate: float) -> Heard:
        """One socket sends messages of a change each, every one at its time, `rate` a second."""
        with self._speaking(port, path) as speaker:
            began, now = self._began(keep=True), time.perf_counter_ns()
            due = [now + int((n + 1) / rate * 1e9) for n in range(len(messages))]
            for at, message in zip(due, messages, strict=True):
                self._until(lambda at=at: time.perf_counter_ns() >= at, at)  # type: ignore[misc]
                speaker.sendall(frame(message))
            self._until(lambda: began.changes >= len(messages) * self._listeners)
            return Heard(due, due, self._received(began, messages))

    @contextlib.contextmanager
    def _speaking(self, port: int, path: str) -> Iterator[socket.socket]:
        """A socket that says something; what it is sent itself is not counted."""
        raw, own = connect(port), Count(self._speech.mark)
        raw.sendall(handshake(path))
        listener = Listener(raw, own)
        rest = accepted(raw)
        self._add(raw.fileno(), listener)
        listener.take(rest)
        self._until(lambda: own.frames >= self._speech.greetings)
        try:
            yield raw
        finally:
            self._poll.unregister(raw.fileno())
            del self._readers[raw.fileno()]
            raw.close()

    def paced(self, port: int, requests: Sequence[bytes], rate: float, lanes: int) -> Heard:
        """Pushes of one change, each at its time, `rate` a second. One that finds no lane free waits, and its time
        stays as it was."""
        began, now = self._began(keep=True), time.perf_counter_ns()
        due = [now + int((n + 1) / rate * 1e9) for n in range(len(requests))]
        answered = [0] * len(requests)

        def note(lane: Lane) -> None:
            answered[lane.number] = time.perf_counter_ns()

        with self._writing(port, lanes, note) as writers:
            for number, request in enumerate(requests):
                self._until(lambda number=number: time.perf_counter_ns() >= due[number], due[number])  # type: ignore[misc]
                self._until(lambda: not all(lane.busy for lane in writers))
                next(lane for lane in writers if not lane.busy).ask(request, number)
            self._until(lambda: began.changes >= len(requests) * self._listeners and all(answered))
        return Heard(due, answered, self._received(began, requests))

    # -- the loop ------------------------------------------------------------------------------------------

    def _add(self, number: int, reader: _Reader) -> None:
        self._readers[number] = reader
        self._poll.register(number, select.EPOLLIN)

    def _writing(self, port: int, lanes: int, on_answer: Callable[[Lane], None]) -> _Writers:
        return _Writers(self, [Lane(port, on_answer) for _ in range(lanes)])

    def add(self, lane: Lane) -> None:
        self._add(lane.socket.fileno(), lane)

    def remove(self, lane: Lane) -> None:
        self._poll.unregister(lane.socket.fileno())
        del self._readers[lane.socket.fileno()]
        lane.close()

    def _settle(self) -> None:
        """Reads until nothing more comes for a moment: what is late from before is not of what comes next."""
        deadline = time.perf_counter() + PATIENCE
        while (ready := self._poll.poll(QUIET, 1024)) and time.perf_counter() < deadline:
            for number, _ in ready:
                self._readers[number].readable()

    def _began(self, keep: bool = False) -> Count:
        self._settle()
        count = self._count
        count.frames = count.changes = count.size = 0
        count.kept = [] if keep else None
        self._start, self._cpu = time.perf_counter(), time.process_time()
        return count

    def _received(self, count: Count, requests: Sequence[bytes]) -> list[list[int]]:
        """The receipts of what was sent, when nothing more comes: repeats may have been counted as what is late."""
        self._settle()
        kept, count.kept = count.kept or [], None
        return receipts(self._speech.name, requests, kept)

    def _tally(self, count: Count, failed: int) -> Tally:
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

    def __init__(self, audience: _Audience, lanes: list[Lane]) -> None:
        self._audience, self._lanes = audience, lanes

    def __enter__(self) -> list[Lane]:
        for lane in self._lanes:
            self._audience.add(lane)
        return self._lanes

    def __exit__(self, *ignored: object) -> None:
        for lane in self._lanes:
            self._audience.remove(lane)


def receipts(name: bytes, requests: Sequence[bytes], kept: Sequence[tuple[int, Listener, bytes]]) -> list[list[int]]:
    """When each listener first received what was pushed, by push."""
    pattern = re.compile(name)
    places = {pattern.findall(request)[0]: n for n, request in enumerate(requests)}
    received: list[dict[Listener, int]] = [{} for _ in requests]
    for instant, listener, data in kept:
        for change in pattern.findall(data):
            # A peer may send once more what it sent before, late, and nothing was asked about that.
            if (place := places.get(change)) is not None:
                received[place].setdefault(listener, instant)
    return [list(some.values()) for some in received]


def _next(lane: Lane, requests: Iterator[bytes]) -> None:
    request = next(requests, None)
    if request is not None:
        lane.ask(request)


def more_files() -> None:
    """Lets this process, and those that it starts, open as many files as they may."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _serve(pipe: Connection, speech: Speech) -> None:
    more_files()
    audience = _Audience(speech)
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

    def __init__(self, speech: Speech = SYNCD) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._pipe, other = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(other, speech), daemon=True)
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
