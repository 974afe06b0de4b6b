"""`python -m tests.support.dying HOW NTH WORDS…`: the command `syncd WORDS…`, which ends itself by SIGKILL at the n-th
call of an erasure to the database: once it is answered ("after"), or while it is answered ("within")."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from syncd.__main__ import main
from syncd.store.erasures import ErasureOperator

# The least that a statement takes, so that the process ends before its answer.
WITHIN = 0.0005


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Dying:
    """Counts the calls."""

    def __init__(self, how: str, nth: int) -> None:
        self.how, self.left = how, nth

    def wrapped(self, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        @wraps(call)
        async def called(*arguments: Any) -> Any:
            self.left -= 1
            if self.left == 0 and self.how == "within":
                asyncio.get_running_loop().call_later(WITHIN, die)
            found = await call(*arguments)
            if self.left == 0 and self.how == "after":
                die()
            return found

        return called


if __name__ == "__main__":
    dying = Dying(sys.argv[1], int(sys.argv[2]))
    for name, call in vars(ErasureOperator).items():
        if inspect.iscoroutinefunction(call):
            setattr(ErasureOperator, name, dying.wrapped(call))
    sys.argv = ["syncd", *sys.argv[3:]]
    main()
