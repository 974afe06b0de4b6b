"""The user of a live connection, asked for again: a session that the application has ended says so only when asked."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator

import structlog

from syncd.core.error_codes import TRY_AGAIN_LATER
from syncd.core.errors import Forbidden, SyncdError, Unauthorized
from syncd.core.failures import log_failure
from syncd.core.principal import Principal
from syncd.edge.answers import Scope
from syncd.edge.live_deps import LiveDeps
from syncd.edge.problems import close_code
from syncd.live.connection import Connection

log = structlog.get_logger("syncd.live")

# How often in a row it may fail to say so before nobody knows whose the connection is any more.
FAILURES = 2


@contextlib.contextmanager
def asked_again(deps: LiveDeps, connection: Connection, authorization: bytes, scope: Scope | None) -> Iterator[None]:
    """While it lasts the user of a connection is asked for again and again, where what was said has no end of its own,
    and the connection is ended where the application does not know the user any more."""
    task = None
    if every := deps.authenticator.recheck(authorization):
        task = deps.hub.spawn(_keep_asking(every, deps, connection, authorization, scope))
    try:
        yield
    finally:
        if task is not None:
            task.cancel()


async def _keep_asking(
    every: float, deps: LiveDeps, connection: Connection, authorization: bytes, scope: Scope | None
) -> None:
    failures, end = 0, None
    while end is None:
        await asyncio.sleep(every * random.uniform(0.8, 1))
        try:
            caller = await deps.authenticator.authenticate_again(authorization, scope)
            end, failures = await _take_over(deps, connection, caller), 0
        except (Unauthorized, Forbidden) as why:
            end = close_code(why)
        except Exception as why:
            # Also one that nobody foresaw: who is not asked about any more would stay for ever.
            known = why if isinstance(why, SyncdError) else SyncdError(log_failure(log, "failed", why).detail)
            failures += 1
            end = (TRY_AGAIN_LATER, close_code(known)[1]) if failures >= FAILURES else None
    connection.sink.end(*end)


async def _take_over(deps: LiveDeps, connection: Connection, caller: Principal) -> tuple[int, str] | None:
    """A list of spaces counts from now on. A close code and a reason, where it is somebody else by now."""
    if caller.user != connection.caller.user:
        return 4403, "a connection stays its user's"
    if caller.external is not None:
        connection.caller = caller
        # Where the database is away it is told with the next answer.
        with contextlib.suppress(SyncdError):
            await deps.hub.renew(connection)
    return None
