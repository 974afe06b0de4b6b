"""A device whose clock was wrong, beside another: what both show when it was mended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from syncd_client import Replica

from tests.support.agreeing import check_same
from tests.support.harness import Server
from tests.support.replicas import Wall
from tests.support.wire import unique

YEARS = 3 * 365 * 86_400_000_000


def test_of_two_writes_ahead_and_after_the_clock_was_mended_both_unsent_the_later_stands(
    server: Server, tmp_path: Path
) -> None:
    wall, user = Wall(time.time_ns() // 1000 + YEARS), unique("mended")
    own: Any = {"app": "app", "url": server.url, "token": server.token(user), "durability": "normal"}
    with Replica(tmp_path / "wrong", wall=wall, **own) as wrong, Replica(tmp_path / "right", **own) as right:
        wrong.put("t", "r", {"n": "ahead", "m": "ahead"})
        wall.now -= YEARS
        wrong.patch("t", "r", {"n": "mended"})
        wrong.sync()
        right.sync()
        assert wrong.get("t", "r") == right.get("t", "r") == {"n": "mended", "m": "ahead"}
        right.patch("t", "r", {"n": "others"})
        for each in (right, wrong):
            each.sync()
        assert wrong.get("t", "r") == right.get("t", "r") == {"n": "others", "m": "ahead"}
        check_same(wrong, right)
