"""Reads on standbys: which of them may answer, and that what they answer was allowed when it was asked for.

A read goes three ways. The primary says how far a standby has to be, and takes over a list of memberships where one
came; the standby reads if it is so far; the primary says again whose spaces the user is in, and where that is not what
the standby read by, the answer is thrown away. Where anything goes wrong on a standby, the primary answers:
nobody sees an error of a standby's. One that is behind, promoted, gone or of another history is left alone, and looked
at again and again, more and more rarely.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import asyncpg
import msgspec
import structlog

from syncd.core.errors import SyncdError
from syncd.core.failures import log_failure
from syncd.postgres.contexts import ActingCall, bound
from syncd.postgres.statements import statement
from syncd.store.pool import GONE, Pool, Row, with_good_contexts

T = TypeVar("T")
log = structlog.get_logger("syncd.store")

# How long a read waits for a standby to come to where the primary is, and how often it looks.
WAIT, LOOK_AGAIN = 0.05, 0.004
# How long a standby may take in all; then the primary is asked, and the standby left alone.
PATIENCE = 2.0
# How often a standby is looked at, and the longest time between two looks at one that is left alone.
LOOK_EVERY, LONGEST_AWAY = 1.0, 10.0
# Why a standby is left alone; all else is of one read.
AWAY = {"behind", "slow", "promoted", "another_role", "another_history", "another_system", "unreachable"}


class ReadPoint(NamedTuple):
    """Where the primary is: bytes of WAL that are flushed, the history's start and the time (us), as whom it is asked,
    and the user's spaces as one value."""

    lsn: int
    start_us: int
    now_us: int
    role: str
    members: bytes

    def wanted(self) -> tuple[int, int, str]:
        """What a standby is asked to be."""
        return self.lsn, self.start_us, self.role


class StandbyLook(NamedTuple):
    """Why a standby could not answer, None where it could, and the bytes of WAL that it has replayed."""

    why: str | None
    replayed: int | None


class NotThere(Exception):
    """A standby does not answer this read. `why`: one of AWAY, or of this read alone."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Standby:
    """One of them. `lag`: the bytes that it was behind when it was looked at last."""

    def __init__(self, name: str, pool: Pool) -> None:
        self.name, self.pool = name, pool
        self.why: str | None = "not looked at yet"
        self.lag, self.patient = 0, False
        # A read that finds all connections in use is the primary's. One of them is left for looks.
        self._places = max(1, pool.size - 1)
        self._away, self._again, self._since = LOOK_EVERY, 0.0, 0.0
        self._system: int | None = None

    @property
    def due(self) -> bool:
        """Whether it is time to look at it."""
        return time.monotonic() >= self._again

    def free(self, *, patient: bool = False) -> bool:
        """Whether it is read, and has a connection for one more; `patient`: of what takes long."""
        return self.why is None and self._places > 0 and (self.patient or not patient)

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of its connections is in use."""
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    def leave(self, why: str) -> None:
        """From now on the primary is asked, until a look finds it well."""
        now = time.monotonic()
        if self.why != why:
            log.warning("a standby is not read", standby=self.name, why=why, remedy="docs/operate/running.md")
        if self.why is None and now - self._since > LONGEST_AWAY:
            self._away = LOOK_EVERY
        self.why, self._again = why, now + self._away
        self._away = min(2 * self._away, LONGEST_AWAY)
        if why == "unreachable":
            self._system = None
            self.pool.drop()

    def welcome(self) -> None:
        """It is read from now on."""
        if self.why is not None:
            log.info("a standby is read", standby=self.name)
            self.why, self._since = None, time.monotonic()

    async def wait(self, name: str, point: ReadPoint, call: ActingCall | str, until: float) -> Row:
        """The row that it answers, when it is so far. Raises NotThere, and what its database does."""

        async def ask(connection: Any) -> Row:
            return await connection.fetchrow(statement(name), *bound(connection, *point.wanted(), call))

        while True:
            with self.place():
                async with self.pool.connection() as connection:
                    row = await with_good_contexts(connection, ask)
            if row["why"] is None:
                return row
            if row["why"] not in ("behind", "another_history") or time.monotonic() >= until:
                raise NotThere(row["why"])
            await asyncio.sleep(LOOK_AGAIN)

    async def look(self, point: ReadPoint, system: int | None) -> None:
        """Whether it can be read. Raises NotThere, and what its database does."""
        async with self.pool.connection() as connection:
            if self._system is None and system is not None:
                self._system = await system_of(connection)
            if system not in (None, self._system):
                raise NotThere("another_system")
            self.patient = bool(await connection.fetchval(statement("patient_there")))
            found = StandbyLook(*await connection.fetchrow(statement("look_there"), *point.wanted(), "{}"))
        self.lag = max(0, point.lsn - (found.replayed or 0))
        await self.wait("look_there", point, "{}", time.monotonic() + WAIT)


class ReadCounts(Protocol):
    """What is counted: reads by who answered, "primary" or a standby's name; those that a standby did not answer, by
    why; and how far the standbys are behind by name, in bytes, or -1 less that where one is not read."""

    reads: dict[str, int]
    turned: dict[str, int]
    standbys: dict[str, int]


class Standbys:
    """All of them."""

    def __init__(self, primary: Pool, standbys: Sequence[Standby], counts: ReadCounts) -> None:
        self._primary, self.all, self._counts = primary, list(standbys), counts
        self._turn = 0
        self._system: int | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Ends their connections."""
        for task in self._tasks:
            task.cancel()
        for standby in self.all:
            await standby.pool.close()

    async def read(self, name: str, call: bytes) -> tuple[Row, ReadPoint] | None:
        """What a standby answers to a call, and at which point; None: the primary is to be asked. `call` is as the
        primary takes it. Raises what the primary says of who asks: Refusal, Busy, DatabaseUnavailable."""
        standby = self._next()
        if standby is not None:
            head, rest = _parted(call)
            point = await self.point(head)
            try:
                work = standby.wait(name, point, ActingCall(rest), time.monotonic() + WAIT)
                row = await self._within(work)
            except Exception as why:
                self._turn_from(standby, why)
            else:
                if await self._still(standby, head, row["members"]):
                    return row, point
        self._count("primary")
        return None

    async def begin(
        self, stack: AsyncExitStack, user: str, work: Callable[[Any], AbstractAsyncContextManager[T]]
    ) -> T | None:
        """Enters `work(connection)` on a standby where it may take long, to be left with `stack`; None: the primary is
        to be asked. `work` begins a transaction, as the user. Raises what `read` raises."""
        standby = self._next(patient=True)
        if standby is not None:
            head = msgspec.json.encode({"user": user})
            point = await self.point(head)
            async with AsyncExitStack() as own:
                try:
                    found, members = await self._within(_begun(own, standby, point, work))
                except Exception as why:
                    self._turn_from(standby, why)
                else:
                    if await self._still(standby, head, members):
                        own.push(partial(self._long_ended, standby))
                        await stack.enter_async_context(own.pop_all())
                        return found
        self._count("primary")
        return None

    async def point(self, head: bytes) -> ReadPoint:
        """Where the primary is now. Raises Refusal, Busy, DatabaseUnavailable."""
        return ReadPoint(*(await self._primary.fetch("read_point", ActingCall(head)))[0])

    @property
    def turned(self) -> dict[str, int]:
        """Reads that no standby answered that was asked, by why."""
        return self._counts.turned

    async def watch(self) -> None:
        """Looks at all of them, again and again."""
        while True:
            due = [standby for standby in self.all if standby.due]
            if due:
                await asyncio.gather(*map(self.look, due))
            await asyncio.sleep(LOOK_EVERY)

    async def look(self, standby: Standby) -> None:
        """Looks whether one can be read."""
        try:
            if self._system is None:
                self._system = await self._primary.attempt(system_of)
            point = ReadPoint(*(await self._primary.fetch("read_point", "{}"))[0])
        except SyncdError:
            return  # the primary is away: nothing is known of the others
        try:
            await self._within(standby.look(point, self._system or None))
        except Exception as why:
            reason = _reason(why)
            self._leave(standby, reason if reason in AWAY - {"slow"} else "unreachable")
        else:
            standby.welcome()
            self._counts.standbys[standby.name] = standby.lag

    def _next(self, *, patient: bool = False) -> Standby | None:
        """The one whose turn it is."""
        ready = [standby for standby in self.all if standby.free(patient=patient)]
        self._turn += 1
        return ready[self._turn % len(ready)] if ready else None

    async def _still(self, standby: Standby, head: bytes, members: bytes) -> bool:
        """Whether the user is in the same spaces on the primary, now. Raises what the primary says."""
        user = msgspec.json.decode(head, type=_Asker).user
        same = (await self.point(msgspec.json.encode({"user": user}))).members == members
        if same:
            self._count(standby.name)
        else:
            self._turn_from(standby, NotThere("members"))
        return same

    def _long_ended(self, standby: Standby, kind: Any, error: BaseException | None, trace: Any) -> None:
        """Where it failed in the middle, the next one is asked of the primary."""
        if isinstance(error, (asyncpg.PostgresError, *GONE)):
            self._turn_from(standby, error)
            self._leave(standby, _reason(error))

    async def _within(self, work: Coroutine[Any, Any, T]) -> T:
        """Waits no longer than a standby has, and for nothing of one that swallows what is sent to it. Raises what
        `work` raises, and TimeoutError."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task}, timeout=PATIENCE)
        finally:
            done = task.done()
            if not done:
                task.cancel()
        if not done:
            raise TimeoutError
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was asked for, or nobody waits for it any more

    def _turn_from(self, standby: Standby, why: BaseException) -> None:
        reason = _reason(why)
        self._counts.turned[reason] = self._counts.turned.get(reason, 0) + 1
        if reason in AWAY:
            self._leave(standby, reason)

    def _leave(self, standby: Standby, why: str) -> None:
        standby.leave(why)
        self._counts.standbys[standby.name] = -1 - standby.lag

    def _count(self, where: str) -> None:
        self._counts.reads[where] = self._counts.reads.get(where, 0) + 1


class _Asker(msgspec.Struct):
    user: str


async def _begun(
    stack: AsyncExitStack, standby: Standby, point: ReadPoint, work: Callable[[Any], AbstractAsyncContextManager[T]]
) -> tuple[T, bytes]:
    """What `work` begins on a standby that is so far, and the spaces that it is read by. Raises NotThere."""
    await standby.pool.open()
    if standby.pool.pooled:
        raise NotThere("pooled")  # what comes next may be asked of another server
    stack.enter_context(standby.place())
    connection = await stack.enter_async_context(standby.pool.exclusive())
    until = time.monotonic() + WAIT
    while why := (await connection.fetchrow(statement("look_there"), *point.wanted(), "{}"))["why"]:
        if why != "behind" or time.monotonic() >= until:
            raise NotThere(why)
        await asyncio.sleep(LOOK_AGAIN)
    found = await stack.enter_async_context(work(connection))
    return found, await connection.fetchval(statement("members_now"))


def _parted(call: bytes) -> tuple[bytes, bytes]:
    """What the primary is to be told of who asks, and the call without a list of memberships, which is taken over by
    then."""
    members = msgspec.json.decode(call, type=dict[str, msgspec.Raw])
    head = {name: members[name] for name in ("user", "list", "asOf") if name in members}
    if len(head) == 1:
        return msgspec.json.encode(head), call
    rest = {name: value for name, value in members.items() if name not in ("list", "asOf")}
    return msgspec.json.encode(head), msgspec.json.encode(rest)


async def system_of(connection: Any) -> int | None:
    """Which cluster of databases it is; 0 where that is kept from this role."""
    try:
        found: int = await connection.fetchval(statement("system"))
    except asyncpg.InsufficientPrivilegeError:
        return 0
    return found


def _reason(why: BaseException) -> str:
    """Why a standby did not answer, as a word."""
    match why:
        case NotThere():
            return why.why
        case asyncpg.SerializationError() | asyncpg.DeadlockDetectedError() | asyncpg.QueryCanceledError():
            return "conflict"  # with what is replayed
        case asyncpg.ReadOnlySQLTransactionError():
            return "writes"
        case TimeoutError():
            return "slow"
        case OSError():
            return "unreachable"
        case SyncdError():
            return "unreachable" if why.code == "database_unavailable" else "busy"
        case _ if isinstance(why, GONE):
            return "unreachable"
        case asyncpg.PostgresError():
            return "refused"
    log_failure(log, "a read on a standby failed", why)
    return "failed"
