"""Small calls travel together: those that come while one is under way wait, and are performed as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeAlias, TypeVar

from syncd.core.errors import Busy, DatabaseUnavailable, SyncdError
from syncd.store.turns import ACTING, FairQueue

C = TypeVar("C")
R = TypeVar("R")
# A call, its answer, whose it is, and when it came.
_Waiting: TypeAlias = "tuple[C, asyncio.Future[R], str, float]"

# At some thousands a second these would wait for a second; whoever comes then is better told so.
MOST_WAITING = 8192
# Seconds. A group takes some milliseconds, where it does not wait for a lock.
LATE = 0.02


class Batcher(Generic[C, R]):
    """Performs calls in groups of at most `size`, at most `lanes` groups at a time: of each user in the order
    they came, and of one user after the other. Beside a group that is under way another one begins when `spare` calls
    wait, or when they have waited for LATE seconds: a large group costs less than two small ones.

    `together` answers a whole group or fails as a whole; then each of its calls is performed by `alone`,
    so that a failure reaches only the call that caused it. What it answers with None is performed alone as well.
    `owned`: a group whose calls are all of one user is that user's, else it is nobody's. `on_wait`: is told how
    long the one of a group that came last was on its way, from `join` until it was answered.
    """

    def __init__(
        self,
        together: Callable[[list[C]], Awaitable[list[R] | list[R | None]]],
        alone: Callable[[C], Awaitable[R]],
        lanes: int,
        size: int,
        *,
        owned: bool = False,
        spare: int = 1,
        on_wait: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._together, self._alone, self._size, self._owned = together, alone, size, owned
        self._on_wait = on_wait
        self._free = self._lanes = lanes
        self._spare = spare
        self._late: asyncio.TimerHandle | None = None
        self._waiting: FairQueue[_Waiting[C, R]] = FairQueue()
        self._under_way: set[asyncio.Task[None]] = set()

    async def join(self, call: C) -> R:
        """The answer to `call`. A caller that goes away leaves its group alone. Raises Busy when too many wait."""
        if len(self._waiting) >= MOST_WAITING:
            raise Busy
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        user = ACTING.get()
        self._waiting.push(user, (call, answer, user, time.monotonic()))
        if self._free and self._enough():
            self._begin()
        elif self._free:
            self._begin_later()
        return await answer

    def _enough(self) -> bool:
        """Whether those who wait are a group, beside those under way."""
        return self._free == self._lanes or len(self._waiting) >= self._spare

    def _begin(self) -> None:
        self._free -= 1
        # A group is nobody's alone.
        task = asyncio.get_running_loop().create_task(self._drive(), context=Context())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _begin_later(self) -> None:
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(LATE, self._begin_late, context=Context())

    def _begin_late(self) -> None:
        self._late = None
        if self._waiting and self._free:
            self._begin()

    async def _drive(self) -> None:
        try:
            while self._waiting:
                group = [self._waiting.pop() for _ in range(min(self._size, len(self._waiting)))]
                if await self._perform(group):
                    self._on_wait(time.monotonic() - max(came for *_, came in group))
                if self._free < self._lanes - 1 and len(self._waiting) < self._spare:
                    break
        finally:
            self._free += 1
            if self._waiting:
                self._begin_later()

    async def _perform(self, group: list[_Waiting[C, R]]) -> bool:
        """Whether it was performed as a group: one that met a lock, or failed, says nothing of the load."""
        if self._owned:
            users = {user for _, _, user, _ in group}
            ACTING.set(users.pop() if len(users) == 1 else "")
        try:
            answers = await self._together([call for call, *_ in group])
        except SyncdError as why:
            # After a lost connection nobody knows whether it was committed: the device decides, by its change ids.
            if len(group) == 1 or isinstance(why, DatabaseUnavailable):
                for _, answer, *_ in group:
                    _fail(answer, why)
            else:
                await asyncio.gather(*(self._perform_alone(*waiting[:3]) for waiting in group))
            return False
        except BaseException as why:
            for _, answer, *_ in group:
                _fail(answer, why)
            if not isinstance(why, Exception):
                raise
            return False
        apart: list[_Waiting[C, R]] = []
        for waiting, result in zip(group, answers, strict=True):
            if result is None:
                apart.append(waiting)
            elif not waiting[1].done():
                waiting[1].set_result(result)
        await asyncio.gather(*(self._perform_alone(*waiting[:3]) for waiting in apart))
        return not apart

    async def _perform_alone(self, call: C, answer: asyncio.Future[R], user: str) -> None:
        ACTING.set(user)
        try:
            result = await self._alone(call)
        except Exception as why:
            _fail(answer, why)
        else:
            if not answer.done():
                answer.set_result(result)


def _fail(answer: asyncio.Future[R], why: BaseException) -> None:
    if not answer.done():
        answer.set_exception(why)
