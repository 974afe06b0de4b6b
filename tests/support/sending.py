"""A process that sends for webhooks, a message for each change, to be killed: `python -m tests.support.sending DSN STEP
NTH` ends itself by SIGKILL when it comes to a step for the n-th time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from syncd.consumers import webhook_sender
from syncd.consumers.batch import ConsumerBatch
from syncd.consumers.webhook_sender import WebhookOptions, WebhookRunner, WebhookSender
from syncd.store.webhooks import WebhookOperator
from tests.support.programs import REPOSITORY

# Of a message that is taken, and further ones of one that never is.
TAKEN = ("taken by it", "asked", "answered", "counted", "acknowledged", "settled")
NEVER_TAKEN = ("asked", "answered", "counted", "buried", "settled")

Call = Callable[..., Awaitable[Any]]


def sending(dsn: str, step: str = "", nth: int = 0) -> subprocess.Popen[bytes]:
    """The program; without a step it sends until it is killed."""
    return subprocess.Popen([sys.executable, "-m", "tests.support.sending", dsn, step, str(nth)], cwd=REPOSITORY)


class Dying:
    """Ends this process at a step."""

    def __init__(self, step: str, nth: int) -> None:
        self.step, self.left = step, nth

    def at(self, step: str) -> None:
        if step == self.step:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str, *, before: str = "", after: str = "") -> None:
        call: Call = getattr(owner, name)

        async def called(*arguments: Any, **more: Any) -> Any:
            self.at(before)
            found = await call(*arguments, **more)
            self.at(after)
            return found

        setattr(owner, name, called)


if __name__ == "__main__":
    dying = Dying(sys.argv[2] or "never", int(sys.argv[3]))
    dying.around(WebhookOperator, "take", after="taken by it")
    dying.around(webhook_sender, "deliver", before="asked", after="answered")
    dying.around(WebhookOperator, "attempted", after="counted")
    dying.around(WebhookOperator, "bury", after="buried")
    dying.around(ConsumerBatch, "ack", after="acknowledged")
    dying.around(WebhookSender, "_sent", after="settled")
    webhook_sender.CHANGES, webhook_sender.LEASE = 1, 1.0
    asyncio.run(WebhookRunner(sys.argv[1], WebhookOptions((0.05,), 10)).run())
