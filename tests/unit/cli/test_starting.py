"""What decides when something is started again, and when an address is taken."""

from __future__ import annotations

import socket
import time

import pytest

from syncd.cli import serve
from syncd.cli.signals import Pause


def test_who_lived_for_a_while_is_started_again_at_once_and_who_dies_young_later_each_time() -> None:
    pause = Pause()
    assert [pause.after(lived) for lived in (10.1, 86400.0)] == [0.0, 0.0]
    assert [pause.after(9.9) for _ in range(8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert [pause.after(lived) for lived in (10.1, 1.0)] == [0.0, 0.1]


def test_an_address_that_somebody_is_just_leaving_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    leaving, coming = socket.create_server(("127.0.0.1", 0)), socket.socket()
    address = leaving.getsockname()
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            leaving.close()

    monkeypatch.setattr(time, "sleep", nap)
    with coming:
        serve._bind(coming, address)
        assert (len(naps), coming.getsockname()) == (3, address)


def test_an_address_that_stays_taken_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "GOING_SECONDS", 0.0)
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket() as coming,
        pytest.raises(OSError, match="in use"),
    ):
        serve._bind(coming, other.getsockname())
