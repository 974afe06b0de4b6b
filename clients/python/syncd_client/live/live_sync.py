"""A live sync from beginning to end: the lease, one connection after another, polling where there is none."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import Any

from ..data.events import Changes, Event, LiveName, LiveState
from ..data.values import take
from ..error_codes import TEXTS
from ..errors import StoreFailed, SyncdError
from ..store.lease import Lease
from ..store.outbox import waiting
from ..store.store import get_meta
from ..sync import apply
from ..sync.failures import place
from ..sync.steps import Scope
from .connection import Connection
from .endpoint import Endpoint
from .exchange_lock import ExchangeLock
from .reconnect import Ending, Reconnect, failed
from .tasks import in_thread

log = logging.getLogger("syncd_client")
_CLOSE_PATIENCE = 30.0


def _cancelled() -> bool:
    """Whether this task is to end, also where a library has swallowed the cancellation."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class LiveSync:
    """Keeps one replica current for as long as `run` runs. Everything but `receive` and `synced` is the loop's."""

    def __init__(self, endpoint: Endpoint, lease: Lease) -> None:
        self._end, self._lease = endpoint, lease
        self._loop = asyncio.get_running_loop()
        self._exchange_lock = ExchangeLock(self._loop, self._returned)
        self._reconnect = Reconnect(endpoint.policy, endpoint.renewable)
        self._kick = asyncio.Event()
        self._announced: dict[str | None, Any] = {}
        self._connection: Connection | None = None
        self._noted: Ending | None = None
        self.state = LiveState("connecting")

    async def run(self) -> None:
        """Syncs until it is cancelled."""
        reason = LiveState("closed")
        tasks = [self._loop.create_task(self._poll_file()), self._loop.create_task(self._verify())]
        try:
            await self._take_lease()
            await self._lead()
        except Exception as error:
            log.error("a live sync ended by itself: %s", place(error))
            reason = LiveState("closed", "internal", f"This client failed ({type(error).__name__}).")
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self.state = reason
            self._end.hub.publish(reason)

    async def _take_lease(self) -> None:
        policy = self._end.policy
        while True:
            try:
                if self._lease.take():
                    self._show("connecting")
                    return
                self._show("following", detail="Another process keeps this file current.")
                await asyncio.sleep(policy.watch_interval)
            except StoreFailed as error:
                await self._report(failed(error))
                await asyncio.sleep(policy.store_interval)

    async def _lead(self) -> None:
        self._lease.lender = self._exchange_lock
        try:
            while not _cancelled():
                await self._connect_once()
        finally:
            self._lease.lender = None
            try:
                await self._exchange_lock.end(_CLOSE_PATIENCE)
            finally:
                self._lease.release()

    async def _wait_for_room(self) -> None:
        """Nothing is asked of the server while the file cannot take the answer."""
        while True:
            await self._rest(self._vary(self._end.policy.store_interval))
            with suppress(StoreFailed):
                await in_thread(self._end.store.check_room)
                return

    async def _connect_once(self) -> None:
        """One connection, and what comes after it: a pause, or polling."""
        ending, lasted = await self._connect()
        plan = self._reconnect.after(ending, lasted, random.random())
        if plan.fix:
            ending = await self._exchange("push") or ending
        elif plan.poll:
            failure = await self._poll()
            if failure is None:
                return
            ending = failure
        if not plan.silent:
            await self._report(ending)
        if ending.local:
            await self._wait_for_room()
            return
        await self._rest(max(plan.pause, self._end.policy.bounded(ending.retry_after)))

    async def _connect(self) -> tuple[Ending, float]:
        connection = self._connection = Connection(
            self._end, self._exchange_lock, self._announced, self._opened, self._caught_up, self._report
        )
        try:
            ending = await connection.run()
        except SyncdError as error:
            ending = failed(error)
        except Exception as error:
            ending = self._failed(error)
        finally:
            self._connection = None
        if _cancelled():
            raise asyncio.CancelledError
        opened = connection.opened_at
        return ending, 0.0 if opened is None else self._loop.time() - opened

    # -- polling -----------------------------------------------------------------------------------

    async def _poll(self) -> Ending | None:
        """Syncs over HTTP until it is time to try a socket again (None), or until that does not work either."""
        until = self._loop.time() + self._vary(self._end.policy.socket_interval)
        while (failure := await self._exchange("both")) is None:
            self._noted = None
            self._show("polling", "no_socket", TEXTS["no_socket"][0])
            if self._loop.time() >= until or _cancelled():
                return None
            await self._rest(self._vary(self._end.policy.poll_interval))
        return failure

    async def _exchange(self, scope: Scope) -> Ending | None:
        try:
            async with self._exchange_lock.alone():
                await self._end.exchange(scope)
        except SyncdError as error:
            return failed(error)
        except Exception as error:
            return self._failed(error)
        return None

    @staticmethod
    def _failed(error: Exception) -> Ending:
        """An error that should not happen, or a file that cannot be written to: it is logged and tried again later."""
        log.error("a live sync failed: %s", place(error))
        return Ending("refused", "internal", f"This client failed ({type(error).__name__}).")

    @staticmethod
    def _vary(seconds: float) -> float:
        return seconds * random.uniform(0.75, 1.25)

    async def _rest(self, seconds: float) -> None:
        """A pause that ends early when there is a reason to hurry."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kick.wait()
        self._kick.clear()

    # -- what happens ------------------------------------------------------------------------------

    async def _opened(self) -> None:
        """The server accepted the token: whatever kept the writes back is over."""
        await in_thread(self._clear_trouble)
        self._noted = None
        self._show("connecting", detail="Catching up.")

    def _caught_up(self) -> None:
        self._noted = None
        self._show("live")

    async def _report(self, ending: Ending) -> None:
        """Tells the application, and `why`, what is wrong."""
        self._show(ending.state, ending.code, ending.detail, ending.login)
        if self._noted != ending:
            self._noted = ending
            with suppress(StoreFailed):  # it is told at least
                await in_thread(self._note_trouble, ending)

    def _note_trouble(self, ending: Ending) -> None:
        with self._end.store.write() as db:
            apply.note_trouble(db, ending.trouble, ending.code, ending.detail)

    def _clear_trouble(self) -> None:
        with self._end.store.read() as db:
            if get_meta(db, "trouble") is None:
                return
        with self._end.store.write() as db:
            apply.clear_trouble(db)

    def _show(self, name: LiveName, code: str | None = None, detail: str = "", login: Any = None) -> None:
        state = LiveState(name, code, detail, login)
        if state != self.state:
            self.state = state
            self._end.hub.publish(state)

    # -- the file ----------------------------------------------------------------------------------

    async def _poll_file(self) -> None:
        """Notices what other processes write into the file."""
        seen: int | None = None
        while True:
            try:
                version = await in_thread(self._end.store.version)
            except StoreFailed as error:
                log.warning("the file cannot be looked at: %s", error.detail)
            else:
                if seen not in (None, version):
                    self._end.hub.publish(Changes((), "file", everything=True))
                    self._hurry()
                seen = version
            await asyncio.sleep(self._end.policy.watch_interval)

    async def _verify(self) -> None:
        """Compares the replica with the server now and then; while polling every sync sees to it."""
        while True:
            await asyncio.sleep(self._vary(self._end.policy.verify_interval))
            with suppress(StoreFailed):
                if self.state.name == "live" and await in_thread(self._end.verification_due):
                    await self._exchange("pull")

    def receive(self, event: Event) -> None:
        """Takes note of what the replica publishes; own writes are sent at once. From any thread."""
        self._end.hub.publish(event)
        if isinstance(event, Changes) and event.source == "device":
            try:
                self._loop.call_soon_threadsafe(self._hurry)
            except RuntimeError:
                log.debug("the loop of a live sync is closed")

    def _hurry(self) -> None:
        if self._connection is not None:
            self._connection.nudge()
        if self.state.name == "polling":
            self._kick.set()

    def _returned(self) -> None:
        """The application synced over HTTP in between: if that worked, a socket may too."""
        self._hurry()
        self._kick.set()

    def retry_now(self) -> None:
        """Ends a pause: the network may be back."""
        self._kick.set()

    def check_presence(self, space: str | None, state: Any) -> tuple[str | None, Any]:
        """A copy of what is to be announced, and where. Raises InvalidWrite."""
        return self._end.named(space) or None, take(state, "state")

    def announce(self, space: str | None, state: Any) -> None:
        """Announces this device's presence in a space, now and after each reconnection."""
        self._announced[space] = state
        if self._connection is not None:
            self._connection.announce(space, state)

    def synced(self) -> bool:
        """Whether everything that was written here is on the server. From any thread; asks the file."""
        if self.state.name not in ("live", "polling", "following"):
            return False
        with self._end.store.read() as db:
            return not waiting(db)
