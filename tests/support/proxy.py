"""The proxy of syncd.testing, before servers of the tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from syncd.testing.network import Network
from syncd.testing.proxy import Faults
from syncd.testing.proxy import Proxy as PlainProxy
from tests.support.harness import PATH

# "bad": what asks a server of the tests by its URL does so over a bad line.
LINE = os.environ.get("TEST_LINE", "")


class Proxy(PlainProxy):
    """Its address has the path below which the tests' servers have syncd."""

    path = PATH


def bad_line(**more: Any) -> Faults:
    """A line as there are many: 15 kB/s, two seconds there and back, one way halts now and then, and one connection
    of twenty is cut."""
    return Faults(**{"bytes_per_second": 15_000.0, "delay": 1.0, "halts": 1.5, "cut": 0.05, **more})


@contextlib.contextmanager
def beside(port: int, faults: Faults, seed: int = 0) -> Iterator[PlainProxy]:
    """A proxy on an event loop of its own, for tests that have none, or that block theirs."""
    with Network(Proxy(port, seed=seed)) as network:
        network.proxy.faults = faults
        yield network.proxy
