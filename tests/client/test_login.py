"""A login that is at fault, told from a line that is, by a real server."""

from __future__ import annotations

import time
from pathlib import Path

import jwt
import pytest
from syncd_client import LivePolicy, Replica

from tests.support.harness import Server
from tests.support.wire import unique


@pytest.mark.parametrize(
    ("ends", "secret", "login", "says"),
    [(-60, None, "signed_out", "expired"), (60, "another secret of more than 32 bytes", "refused", "signature")],
)
def test_a_login_that_is_at_fault_is_told_from_a_line(
    server: Server, tmp_path: Path, ends: int, secret: str | None, login: str, says: str
) -> None:
    user = unique("user")
    key = secret or (server.data_dir / "jwt_secret").read_text().strip()
    token = jwt.encode({"sub": user, "exp": int(time.time()) + ends}, key, algorithm="HS256")
    with (
        Replica(tmp_path / "one.db", app="app", url=server.url, token=token) as replica,
        replica.live(policy=LivePolicy(first=0.05, longest=0.5)) as live,
    ):
        deadline = time.monotonic() + 60
        while live.state.name != "refused":
            assert time.monotonic() < deadline, live.state
            time.sleep(0.02)
        assert (live.state.code, live.state.login) == ("unauthorized", login)
        assert says in live.state.detail
