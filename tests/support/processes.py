"""Which tests start processes: a database, a server, Node. All others are what `make fast` runs.

A test says it by a fixture: `workspace`, which most get through another one, or `processes`. It is not a list that
could be out of date: a process started by a test without them is that test's failure, in every run.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})


class Watch:
    """Knows whether what runs now may start processes."""

    def __init__(self) -> None:
        self._forbidden = False
        sys.addaudithook(self._hear)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around a test and the fixtures that are made for it."""
        self._forbidden = is_fast(item)
        try:
            return (yield)
        finally:
            self._forbidden = False

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._forbidden and event in EVENTS:
            started = f": {arguments[1]}" if event == "subprocess.Popen" else ""
            pytest.fail(f"it starts a process and uses neither `workspace` nor `processes` ({event}{started})")


def is_fast(item: pytest.Item) -> bool:
    """Starts no process, so it needs no database."""
    names = getattr(item, "fixturenames", ())
    return "processes" not in names and "playwright" not in names
