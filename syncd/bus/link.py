"""A bus over one connection that everybody hears, kept up: heartbeats notice when it is dead, however it died.

The only proof that a connection carries hints is that something sent on it is heard on it. A closed socket is the
friendly case; a frozen server, a lost route or a pooler that swallows LISTEN say nothing at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from syncd.bus.hints import BusError, Hint, Outbox, State, decode, encode
from syncd.core.failures import log_failure

log = structlog.get_logger("syncd.store")

# Seconds. A fault is noticed HEARTBEAT_EVERY + HEARTBEAT_LATE + CHECK_EVERY after it happened at the latest, and
# repaired within 5.
HEARTBEAT_EVERY = 1.0
HEARTBEAT_LATE = 2.0
# Hints are gathered for so long, and for longer where no other worker was heard for some heartbeats.
COALESCE, COALESCE_ALONE = 0.003, 0.03
OTHERS_FOR = 10 * HEARTBEAT_EVERY
CONNECT_WITHIN = 2.0
CHECK_EVERY = 0.25
FIRST_RETRY = 0.05
LAST_RETRY = 1.5
RECHECK = 60.0
OPENING = 1.0
LAST_WORDS = 0.25


class LinkLost(Exception):
    """The connection is of no use any more; the text says why."""


class Link(Protocol):
    """One connection. Everybody hears each payload that is sent on it, the sender included."""

    @property
    def closed(self) -> bool:
        """Whether it is known to have ended."""
        ...

    async def send(self, payloads: list[str]) -> None:
        """Raises, or hangs, when the other side is away."""
        ...

    async def close(self) -> None:
        """End it within a second, whatever hangs; a `send` under way fails."""
        ...


# Makes a link that calls the function with every payload it hears. Raises BusError when trying again is useless.
Connect = Callable[[Callable[[str], None]], Awaitable[Link]]


class HeartbeatBus:
    """A `Bus` over a link that is made again whenever it is lost. `name` says in the log what it is."""

    def __init__(self, name: str, connect: Connect) -> None:
        self.told = self.heard = self.sent = self.ignored = self.reconnects = 0
        self._log = log.bind(bus=name)
        self._connect = connect
        self._receive: Callable[[Hint], None] = lambda hint: None
        self._outbox = Outbox()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._settled = asyncio.Event()
        self._state: State = "down"
        self._been_up = False
        self._life: asyncio.Task[None] | None = None
        self._instance = secrets.token_urlsafe(9)
        self._link_number = 0
        # Of the link of the moment: its heartbeat, and since when one, or a send, has been waiting to come through.
        self._heartbeat = ""
        self._heartbeat_since = self._sending_since = math.inf
        # When another worker was last heard.
        self._others = -math.inf

    @property
    def state(self) -> State:
        return self._state

    @property
    def alone(self) -> bool:
        """Whether no other worker was heard lately."""
        return asyncio.get_running_loop().time() - self._others > OTHERS_FOR

    @property
    def dropped(self) -> int:
        return self._outbox.dropped

    async def open(self, receive: Callable[[Hint], None]) -> None:
        assert self._life is None, "a bus is opened once"
        self._receive = receive
        self._life = asyncio.create_task(self._live(), name="syncd bus")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._settled.wait(), OPENING)

    def publish(self, hint: Hint) -> None:
        self.told += 1
        self._outbox.add(hint)
        self._idle.clear()
        self._wake.set()

    async def close(self) -> None:
        if self._life is None:
            return
        if self._state == "up":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), LAST_WORDS)
        self._life.cancel()
        await asyncio.gather(self._life, return_exceptions=True)

    async def _live(self) -> None:
        tries = 0
        while True:
            was_up = False
            try:
                link = await self._connect(self._deliver)
                was_up = await self._hold(link)
            except BusError as why:
                self._give_up(str(why))
                await asyncio.sleep(RECHECK)
            # Any other error: these are hints, and to try again is all there is to do about them.
            except Exception as why:
                self._fall(why)
            tries = 0 if was_up else min(tries + 1, 10)
            await asyncio.sleep(min(LAST_RETRY, FIRST_RETRY * 2**tries) * random.uniform(0.5, 1))

    async def _hold(self, link: Link) -> bool:
        """Use the link until it is lost. Whether it was ever up."""
        self._link_number += 1
        self._forget_link()
        self._heartbeat = f"!{self._instance}.{self._link_number}"
        sending = asyncio.create_task(self._send(link), name="syncd bus sender")
        try:
            why = await self._watch(link, sending)
        finally:
            was_up = self._state == "up"
            self._state = "down"
            # The link first: a sender that hangs in it fails then, and does not have to be interrupted.
            try:
                await link.close()
            finally:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)
                self._forget_link()
        self._fall(why, lost=was_up)
        return was_up

    async def _watch(self, link: Link, sending: asyncio.Task[None]) -> Exception:
        """Returns when the link is lost: why."""
        while not sending.done():
            if link.closed:
                return LinkLost("it was closed")
            if asyncio.get_running_loop().time() - min(self._heartbeat_since, self._sending_since) > HEARTBEAT_LATE:
                return LinkLost("nothing comes through")
            await asyncio.wait({sending}, timeout=CHECK_EVERY)
        why = sending.exception()
        return why if isinstance(why, Exception) else LinkLost("it was given up")

    async def _send(self, link: Link) -> None:
        """Hints as they come and a heartbeat every HEARTBEAT_EVERY seconds, until the link fails."""
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            self._wake.clear()
            hints = self._outbox.take()
            payloads = encode(hints)
            chunks = len(payloads)
            self._sending_since = clock()
            if self._sending_since >= due:
                payloads.insert(0, self._heartbeat)
                due = self._sending_since + HEARTBEAT_EVERY
                self._heartbeat_since = min(self._heartbeat_since, self._sending_since)
            try:
                await link.send(payloads)
            except BaseException:
                for hint in hints:
                    self._outbox.add(hint)
                raise
            self._sending_since = math.inf
            self.sent += chunks
            if not self._outbox:
                self._idle.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wake.wait()
                    await asyncio.sleep(COALESCE_ALONE if self.alone else COALESCE)

    def _deliver(self, payload: str) -> None:
        if payload.startswith("!"):
            # One of an earlier link of ours, or of somebody else, says nothing about this link.
            if payload == self._heartbeat:
                self._heartbeat_since = math.inf
                self._rise()
            elif not payload.startswith(f"!{self._instance}."):
                self._others = asyncio.get_running_loop().time()
            return
        hints, strange = decode(payload)
        self.heard += len(hints)
        self.ignored += strange
        for hint in hints:
            try:
                self._receive(hint)
            except Exception as why:
                log_failure(self._log, "hint not taken", why)

    def _rise(self) -> None:
        if self._state == "up":
            return
        self.reconnects += self._been_up
        self._been_up = True
        self._state = "up"
        self._settled.set()
        self._log.info("bus is up")

    def _fall(self, why: Exception, *, lost: bool = False) -> None:
        """Down; said once, not at every try."""
        if lost or not self._settled.is_set():
            text = str(why) if isinstance(why, LinkLost) else type(why).__name__
            self._log.warning("bus is down: changes of other workers are found by polling", error=text)
        self._state = "down"
        self._settled.set()

    def _give_up(self, why: str) -> None:
        if self._state != "unavailable":
            self._log.error(why)
        self._state = "unavailable"
        self._settled.set()

    def _forget_link(self) -> None:
        self._heartbeat = ""
        self._heartbeat_since = self._sending_since = math.inf
