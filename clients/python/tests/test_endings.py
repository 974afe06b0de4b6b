"""A sync that may not take longer than it is given."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica, Offline, Replica, RetryPolicy

from tests.support.scripted import Script, page, problem, wire

EARLY = "2001-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]


@pytest.mark.waits
def test_a_sync_of_somebody_offline_takes_no_longer_than_it_may(open_replica: Open) -> None:
    replica = open_replica(send=None, url="http://127.0.0.1:9", retry=RetryPolicy())
    replica.put("t", "r", {"n": 1})
    began = time.monotonic()
    for sync in (replica.sync, replica.push, replica.pull):
        with pytest.raises(Offline) as offline:
            sync(timeout=0.3)
        assert offline.value.code in ("offline", "no_answer")
    assert time.monotonic() - began < 20, "a minute is what it has without"
    assert replica.why("t", "r").state == "offline"


def test_a_sync_whose_time_is_up_keeps_what_it_got(
    open_replica: Open, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0.0

    def slowly(body: Any) -> Any:
        nonlocal passed
        passed = 61.0
        return page(wire("a", n=(1, EARLY)), cursor="c1", more=True)

    began = time.monotonic()
    monkeypatch.setattr("syncd_client.sync.session.time.monotonic", lambda: began + passed)
    replica = open_replica()
    script.answers = [slowly]
    with pytest.raises(Offline) as offline:
        replica.sync(timeout=60)
    monkeypatch.undo()
    assert (offline.value.code, replica.cursor, replica.get("t", "a")) == ("no_answer", "c1", {"n": 1})
    assert replica.sync(timeout=60).requests == 1


def test_a_server_that_asks_for_more_patience_than_there_is_is_left(open_replica: Open, script: Script) -> None:
    replica = open_replica(retry=RetryPolicy(patience=60))
    script.answers = [problem(503, "busy", retry_after="30")]
    with pytest.raises(Exception, match="busy"):
        replica.sync(timeout=5)
    assert len(script.asked) == 1


def test_the_time_is_the_transports_too(open_replica: Open, script: Script) -> None:
    replica = open_replica()
    replica.sync(timeout=9)
    assert all(seconds <= 9 for seconds in script.asked[0].extensions["timeout"].values())


@pytest.mark.waits
def test_an_async_sync_has_a_limit_too(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncReplica(tmp_path / "a.db", app="app", url="http://127.0.0.1:9", token="t") as replica:
            with pytest.raises(Offline):
                await replica.sync(timeout=0.3)

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < 20, "a minute is what it has without"
