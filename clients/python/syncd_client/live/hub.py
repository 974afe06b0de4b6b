"""Carries events to the application's readers, without growing for ever."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ..data.change import Key
from ..data.events import Answered, Changes, Event, LiveState, name_records
from ..errors import SyncBusy
from ..sync.reply import Page
from ..sync.report import Applied


def describe_answer(page: Page | None, done: Applied) -> Iterator[Event]:
    """The events of an answer of the server that was applied."""
    if done.changed or done.everything:
        yield Changes(name_records(done.changed), "server", done.everything)
    if done.spaces is not None:
        yield done.spaces
    accepted = sum(result.status != "rejected" for result in page.results) if page is not None else 0
    if accepted or done.rejected:
        yield Answered(accepted, tuple(done.rejected))
    if done.verified is not None:
        yield done.verified


class Listener(Protocol):
    """A receiver of a replica's events, from any thread."""

    def receive(self, event: Event) -> None:
        """Takes note of it; never waits."""


class Bulletin:
    """Publishes what happens to a replica to its live sync, if it has one."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def attach(self, listener: Listener | None) -> None:
        """The listener from now on, or None. Raises SyncBusy where there is one already."""
        if listener is not None and self.listener is not None:
            raise SyncBusy("this replica is live already.")
        self.listener = listener

    def committed(self, keys: Iterable[Key]) -> None:
        """The application wrote these records."""
        if self.listener is not None:
            self.listener.receive(Changes(name_records(keys), "device"))

    def publish_answer(self, page: Page | None, done: Applied) -> None:
        """An answer of the server was applied."""
        if self.listener is not None:
            for event in describe_answer(page, done):
                self.listener.receive(event)


class Mailbox:
    """Events on their way to one reader, from any thread. `wake` is called after each change.

    More than `limit` records and other events are not kept: they become one `Changes` with `everything`
    set and the latest state. What others said of their presence, and conflicts, are dropped then
    (`replica.conflicts()` keeps those).
    """

    __slots__ = ("__weakref__", "_events", "_kinds", "_limit", "_lock", "_wake", "_weight", "closed")

    def __init__(self, wake: Callable[[], None], kinds: tuple[type, ...], limit: int = 1000) -> None:
        self._wake, self._kinds, self._limit = wake, kinds, limit
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._weight = 0
        self.closed = False

    def put(self, event: Event) -> None:
        """Adds an event if the reader wants its kind. Never waits."""
        if not isinstance(event, self._kinds):
            return
        with self._lock:
            self._events.append(event)
            self._weight += _weigh(event)
            if self._weight > self._limit and len(self._events) > 1:
                self._shrink()
        self._wake()

    def _shrink(self) -> None:
        states = [event for event in self._events if isinstance(event, LiveState)]
        kept: list[Event] = [*states[-1:]]
        if Changes in self._kinds:
            kept.insert(0, Changes((), "server", everything=True))
        self._events = deque(kept)
        self._weight = sum(map(_weigh, kept))

    def take(self) -> list[Event]:
        """Everything that waits."""
        with self._lock:
            events, self._weight = list(self._events), 0
            self._events.clear()
        return events

    def close(self) -> None:
        """No more will come."""
        self.closed = True
        self._wake()


def _weigh(event: Event) -> int:
    return max(1, len(event.records)) if isinstance(event, Changes) else 1


class Hub:
    """Carries events to every mailbox that somebody still holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._boxes: weakref.WeakSet[Mailbox] = weakref.WeakSet()
        self._closed = False

    def open(self, wake: Callable[[], None], kinds: tuple[type, ...]) -> Mailbox:
        """A new mailbox, for as long as the caller keeps it."""
        box = Mailbox(wake, kinds)
        with self._lock:
            self._boxes.add(box)
            closed = self._closed
        if closed:
            box.close()
        return box

    def publish(self, event: Event) -> None:
        """Hands an event to every reader, from any thread."""
        for box in self._held():
            box.put(event)

    def close(self) -> None:
        """The last event was published."""
        with self._lock:
            self._closed = True
        for box in self._held():
            box.close()

    def _held(self) -> list[Mailbox]:
        with self._lock:
            return list(self._boxes)
