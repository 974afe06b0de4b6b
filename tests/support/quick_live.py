"""Live replicas that are quick to try again, and waiting for what they come to."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from syncd_client import LivePolicy

QUICK = LivePolicy(
    first=0.05,
    longest=0.5,
    restart_spread=0.2,
    ping_interval=0.5,
    poll_interval=0.2,
    socket_interval=1.0,
    refused_interval=0.5,
    watch_interval=0.1,
)
# Who takes a silence for the end at once, which a busy machine has too.
HASTY = replace(QUICK, open_timeout=2.0, ping_timeout=1.0, answer_timeout=3.0)
if os.environ.get("TEST_LINE"):
    QUICK = HASTY = LivePolicy()  # on a bad line a second is no time for an answer


async def until(check: Callable[[], Any], what: str = "", patience: float = 180.0) -> None:
    """Waits until `check` holds."""
    deadline = time.monotonic() + patience
    while not check():
        assert time.monotonic() < deadline, f"it never came to that: {what}"
        await asyncio.sleep(0.02)
