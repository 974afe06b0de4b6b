"""What every test has, wherever it is: the examples that Hypothesis draws, no settings of the caller, patience.

A test of `FAST` needs no database and starts no process. One that does fails, so the folders stay what they say.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator

import hypothesis
import pytest
from httpx._config import DEFAULT_TIMEOUT_CONFIG, create_ssl_context
from httpx._transports import default as transports

# The folders of `make fast`.
FAST = ("tests/unit/", "clients/python/tests/")
EVENTS = frozenset({"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "os.exec"})

# Httpx gives up after five seconds where a test says nothing; a machine may stand still for longer.
vars(DEFAULT_TIMEOUT_CONFIG).update(dict.fromkeys(("connect", "read", "write", "pool"), 60.0))
# The certificates of all authorities are read once, and not again for each of some thousand clients.
vars(transports)["create_ssl_context"] = functools.cache(create_ssl_context)

# The same examples every time, so that a red test stays red; a soak looks for new ones and prints how to repeat them.
SOAK = bool(os.environ.get("SYNCD_SOAK"))
# Of a planted fault (tools/mutants.py) it is enough to know that it is found.
PHASES = tuple(phase for phase in hypothesis.Phase if phase.name != "shrink" or "MUTANTS" not in os.environ)
# In `make test` fewer than its own hundred: they are the same each time, so that more of them are not more often.
EXAMPLES = 100 if SOAK or "MUTANTS" in os.environ else 40
hypothesis.settings.register_profile(
    "syncd", derandomize=not SOAK, max_examples=EXAMPLES, print_blob=True, deadline=None, phases=PHASES,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],  # a busy machine is
)  # fmt: skip
hypothesis.settings.load_profile("syncd")
# For `make fast`: `--hypothesis-profile=fast`.
hypothesis.settings.register_profile("fast", hypothesis.settings.default, max_examples=10)


class Watch:
    """Knows whether what runs now may start processes."""

    def __init__(self) -> None:
        self._forbidden = False
        sys.addaudithook(self._hear)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Around a test and the fixtures that are made for it."""
        self._forbidden = item.nodeid.startswith(FAST)
        try:
            return (yield)
        finally:
            self._forbidden = False

    def _hear(self, event: str, arguments: tuple[object, ...]) -> None:
        if self._forbidden and event in EVENTS:
            started = f": {arguments[1]}" if event == "subprocess.Popen" else ""
            pytest.fail(f"it starts a process, which no test of {' or '.join(FAST)} does ({event}{started})")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Watch())


@pytest.fixture(scope="session", autouse=True)
def _no_settings_of_the_caller() -> None:
    """What the developer's shell has set is not what is tested."""
    for name in [name for name in os.environ if name.startswith("SYNCD_") or name in ("PGHOST", "PGPORT")]:
        del os.environ[name]
