"""What the runner knows of the tasks that it has begun."""

from __future__ import annotations

import asyncio

from syncd.core.principal import Principal
from syncd.edge.stream import Stream
from syncd.live import effects
from syncd.live.connection import Connection, Subscription
from syncd.live.runner import Outside, Runner
from syncd.live.state import LiveState
from syncd.protocol.pull_messages import PullRequest
from syncd.service.counts import Counts
from syncd.store.live import Live
from syncd.store.log import Log
from syncd.store.pool import Pool
from tests.support.interleaved import SilentBus
from tests.unit.live.world import KEY


async def test_a_catching_up_that_was_stopped_leaves_the_next_one_to_be_stopped() -> None:
    """It ends when the next has begun."""
    pool = Pool("postgresql://nobody.asks/")
    runner = Runner(LiveState(KEY, Counts()), Outside(Log(pool), Live(pool), SilentBus(), None, lambda users: None))
    stream = Stream()
    stream.heartbeat()  # nothing is read before that is taken
    subscription = Subscription(Connection(stream, Principal("ann"), "", "notes"), PullRequest("notes"), b"")

    def performed(*decided: effects.Effect) -> asyncio.Task[None] | None:
        runner.state.effects.extend(decided)
        runner.perform()
        return runner._catching_up.get(subscription)

    first = performed(effects.StartCatchingUp(subscription))
    assert first is not None
    await asyncio.sleep(0)
    second = performed(effects.StopCatchingUp(subscription), effects.StartCatchingUp(subscription))
    assert second is not None
    await asyncio.wait([first])
    assert performed() is second
    assert performed(effects.StopCatchingUp(subscription)) is None
    async with asyncio.timeout(20):
        await asyncio.wait([second])
    assert second.cancelled()
    await runner.close()
