"""The application's handle of a live sync: for asyncio, and for programs with threads."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 (its pools have to end after _close_open, which is registered later)
import contextlib
import inspect
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

from ..data.conflict import Conflict
from ..data.events import Answered, Changes, Event, LiveState, Presence, SpacesChanged, Verified
from ..errors import SyncBusy
from ..store.lease import Lease
from .endpoint import Endpoint
from .hub import Bulletin, Hub
from .live_sync import LiveSync
from .watched import KINDS, Watched, says

log = logging.getLogger("syncd_client")
T = TypeVar("T")
EventT = TypeVar("EventT", bound=Event)
Handlers = Sequence[tuple[tuple[type, ...], Callable[[Any], object]]]
ALL = (Changes, Answered, Conflict, Presence, SpacesChanged, LiveState, Verified)
_POLL = 0.02
_EXIT_PATIENCE = 5.0  # seconds


def choose_handlers(
    on_change: Callable[[Changes], object] | None,
    on_state: Callable[[LiveState], object] | None,
    on_event: Callable[[Event], object] | None,
    on_conflict: Callable[[Conflict], object] | None,
) -> Handlers:
    """The callbacks that were given, each with the kinds of events that it is for."""
    given = (((Changes,), on_change), ((LiveState,), on_state), (ALL, on_event), ((Conflict,), on_conflict))
    return [(kinds, handler) for kinds, handler in given if handler is not None]


class Events(AsyncIterator[EventT], Generic[EventT]):
    """The events from now on, until the live sync is closed. One reader each.

    A reader that does not keep up misses details, never the fact: it gets a `Changes` with `everything` set.
    """

    def __init__(self, hub: Hub, kinds: tuple[type, ...]) -> None:
        loop, bell = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the reader's loop is gone
                loop.call_soon_threadsafe(bell.set)

        self._bell = bell
        self._box = hub.open(wake, kinds)
        self._ready: deque[Any] = deque()

    def __aiter__(self) -> Events[EventT]:
        return self

    async def __anext__(self) -> EventT:
        while not self._ready:
            closed = self._box.closed
            self._ready.extend(self._box.take())
            if not self._ready:
                if closed:
                    raise StopAsyncIteration
                self._bell.clear()
                await self._bell.wait()
        event: EventT = self._ready.popleft()
        return event

    def skip(self) -> None:
        """Passes over what waits."""
        self._ready.clear()
        self._box.take()


class AsyncLive:
    """A live sync of an AsyncReplica: `async with replica.live() as live:`. See Replica.live."""

    def __init__(
        self,
        make: Callable[[Hub], Endpoint],
        lease: Lease,
        bulletin: Bulletin,
        handlers: Handlers,
    ) -> None:
        self._make, self._lease, self._bulletin, self._handlers = make, lease, bulletin, handlers
        self._hub = Hub()
        self._sync: LiveSync | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins; `async with` does it. From a coroutine."""
        if self._sync is not None:
            raise SyncBusy("this live sync was begun already.")
        sync = LiveSync(self._make(self._hub), self._lease)
        self._bulletin.attach(self)
        self._sync = sync
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._dispatch(Events(self._hub, ALL))),
            loop.create_task(self._sync.run()),
        ]

    async def _dispatch(self, events: Events[Event]) -> None:
        async for event in events:
            for kinds, handler in self._handlers:
                if isinstance(event, kinds):
                    await self._call(handler, event)

    @staticmethod
    async def _call(handler: Callable[[Any], object], event: Event) -> None:
        try:
            answer = handler(event)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            log.exception("a callback failed")

    @property
    def state(self) -> LiveState:
        """Where it stands now."""
        return LiveState("connecting") if self._sync is None else self._sync.state

    def events(self) -> Events[Event]:
        """Everything from now on: Changes, Answered, Conflict, Presence, SpacesChanged, LiveState, Verified."""
        return Events(self._hub, ALL)

    def changes(self) -> Events[Changes]:
        """The changes in the replica from now on."""
        return Events(self._hub, (Changes,))

    async def watch(self, read: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
        """The answers of a read, such as `replica.pending`: now, and each time that something happened and it answers
        otherwise, until this is closed. What `read` raises ends it."""
        events, last = Events[Event](self._hub, KINDS), None
        while True:
            events.skip()  # it is in what is read now
            answer = await read()
            if (said := says(answer)) != last:
                last = said
                yield answer
            if await anext(events, None) is None:
                return

    def presence(self, space: str | None, state: Any) -> None:
        """Tells the members of a space what this device is doing (any JSON up to 4 KiB); None: it is gone.

        Others' presence comes as `Presence` events. Kept over reconnections, never stored.
        """
        if self._sync is not None:
            self._sync.announce(*self._sync.check_presence(space, state))

    def retry_now(self) -> None:
        """Tries to connect at once, say because the network is back."""
        if self._sync is not None:
            self._sync.retry_now()

    async def wait_until_synced(self, patience: float | None = None) -> bool:
        """Waits until the server has everything written here, and this replica is current.

        Returns whether it came to that in `patience` seconds (None: for ever), and False once it is closed.
        """
        until = None if patience is None else time.monotonic() + patience
        while self.state.name != "closed":
            if self._sync is not None and await asyncio.to_thread(self._sync.synced):
                return True
            if until is not None and time.monotonic() >= until:
                return False
            await asyncio.sleep(_POLL)
        return False

    def receive(self, event: Event) -> None:
        """The replica publishes what happened to it. From any thread."""
        if self._sync is not None:
            self._sync.receive(event)

    async def close(self) -> None:
        """Ends it: what is not sent yet stays in the outbox. Callbacks that are under way are cancelled."""
        if self._sync is None or not self._tasks:
            return
        dispatch, run = self._tasks
        self._tasks = []
        run.cancel()
        await asyncio.wait([run])
        self._bulletin.attach(None)
        self._hub.close()
        if dispatch is not asyncio.current_task():
            await asyncio.wait([dispatch], timeout=1.0)
            dispatch.cancel()

    async def __aenter__(self) -> AsyncLive:
        self.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()


class Live:
    """A live sync of a Replica, in a background thread with a loop of its own. Begins at once. See Replica.live."""

    def __init__(
        self,
        make: Callable[[Hub], contextlib.AbstractAsyncContextManager[Endpoint]],
        lease: Lease,
        bulletin: Bulletin,
        handlers: Handlers,
    ) -> None:
        self._make, self._lease, self._bulletin = make, lease, bulletin
        self._hub, self._sync = Hub(), None
        self._ready = threading.Event()
        self._bulletin.attach(self)
        try:
            self._dispatcher = Dispatcher(self._hub, handlers)
            self._thread = threading.Thread(target=self._run, name="syncd-live", daemon=True)
            self._thread.start()
        except BaseException:
            self._hub.close()
            self._bulletin.attach(None)
            raise
        _open.add(self)
        self._ready.wait()

    _sync: LiveSync | None

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except RuntimeError:
            log.debug("the interpreter is shutting down")
        finally:
            self._ready.set()
            self._hub.close()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._make(self._hub) as endpoint:
            self._sync = LiveSync(endpoint, self._lease)
            self._task = asyncio.create_task(self._sync.run())
            self._ready.set()
            await asyncio.wait([self._task])

    @property
    def state(self) -> LiveState:
        """Where it stands now."""
        if self._sync is None:
            return LiveState("connecting" if self._thread.is_alive() else "closed")
        return self._sync.state

    def watch(self, read: Callable[[], T], tell: Callable[[T], object]) -> Callable[[], None]:
        """Tells the answers of a read, such as `replica.pending`: the first one before this returns, and from then on,
        in the callbacks' thread, each time that something happened and it answers otherwise. Returns how to stop it.
        Raises what the first `read` and `tell` raise."""
        watched = Watched(read, tell)
        stop = self._dispatcher.add((KINDS, watched.look))
        try:
            watched.look()
        except BaseException:
            stop()
            raise
        return stop

    def presence(self, space: str | None, state: Any) -> None:
        """See AsyncLive.presence."""
        if self._sync is not None:
            self._soon(self._sync.announce, *self._sync.check_presence(space, state))

    def retry_now(self) -> None:
        """Tries to connect at once, say because the network is back."""
        if self._sync is not None:
            self._soon(self._sync.retry_now)

    def wait_until_synced(self, patience: float | None = None) -> bool:
        """See AsyncLive.wait_until_synced; stops the calling thread."""
        until = None if patience is None else time.monotonic() + patience
        while self.state.name != "closed":
            if self._sync is not None and self._sync.synced():
                return True
            if until is not None and time.monotonic() >= until:
                return False
            time.sleep(_POLL)
        return False

    def receive(self, event: Event) -> None:
        """The replica publishes what happened to it. From any thread."""
        if self._sync is not None:
            self._sync.receive(event)

    def close(self) -> None:
        """Ends it: what is not sent yet stays in the outbox. Returns when the file is no longer touched."""
        self._end(None)

    def _end(self, patience: float | None) -> None:
        if self._sync is not None:
            self._soon(self._task.cancel)
        self._thread.join(patience)
        _open.discard(self)
        self._bulletin.attach(None)
        self._dispatcher.close()

    def _soon(self, call: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # it is closed
            self._loop.call_soon_threadsafe(call, *args)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


_open: weakref.WeakSet[Live] = weakref.WeakSet()


def _close_open() -> None:
    """At the end of the program, before its thread pools end: a live sync that nobody closed needs them."""
    for live in list(_open):
        live._end(_EXIT_PATIENCE)


getattr(threading, "_register_atexit", atexit.register)(_close_open)


class Dispatcher:
    """Calls the callbacks, one event after the other, in a thread of their own: a slow one delays nothing else."""

    def __init__(self, hub: Hub, handlers: Handlers) -> None:
        self._handlers = [*handlers]
        self._bell = threading.Event()
        self._box = hub.open(self._bell.set, ALL)
        self._thread = threading.Thread(target=self._run, name="syncd-live-callbacks", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            closed = self._box.closed
            for event in self._box.take():
                self._deliver(event)
            if closed:
                return
            self._bell.wait()
            self._bell.clear()

    def add(self, entry: tuple[tuple[type, ...], Callable[[Any], object]]) -> Callable[[], None]:
        """One more handler. Returns how to take it out again, which may be done twice."""
        self._handlers.append(entry)

        def stop() -> None:
            with contextlib.suppress(ValueError):
                self._handlers.remove(entry)

        return stop

    def _deliver(self, event: Event) -> None:
        for kinds, handler in [*self._handlers]:
            if isinstance(event, kinds):
                try:
                    handler(event)
                except Exception:
                    log.exception("a callback failed")

    def close(self) -> None:
        """Waits a second for the callbacks to be done, unless one of them is the caller."""
        if threading.current_thread() is not self._thread:
            self._thread.join(1.0)
