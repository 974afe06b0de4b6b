"""A device writes, with a stamp from before, to a record that was deleted before it heard of it: it is gone there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from syncd_client import Replica

from tests.support.harness import Server
from tests.support.wire import Device, unique

WRITTEN, EDITED, DELETED = (f"2026-01-01T{hour}:00:00.000000Z" for hour in (10, 11, 12))
WALL = 1_767_261_600_000_000  # at WRITTEN


@pytest.mark.parametrize("heard", [False, True], ids=["new", "was-there-before"])
@pytest.mark.parametrize("live", [False, True], ids=["sync", "live"])
def test_a_write_from_before_a_deletion_leaves_nothing(
    server: Server, device: Callable[..., Device], tmp_path: Path, live: bool, heard: bool
) -> None:
    user = unique("user")
    other = device(user, "other")
    fields = {"n": {"value": 1, "at": EDITED}}
    other.write({"changeId": "1", "table": "t", "id": "r", "op": "insert", "fields": fields})
    other.write({"changeId": "2", "table": "t", "id": "r", "op": "delete", "deletedAt": DELETED})
    token = server.token(user)
    with Replica(tmp_path / "r.db", app="app", url=server.url, token=token, wall=lambda: WALL) as replica:
        if heard:
            replica.sync()
        replica.put("t", "r", {"n": 0})
        if live:
            with replica.live() as handle:
                assert handle.wait_until_synced(60)
        replica.sync()
        assert replica.get("t", "r") is None
        assert replica.pending() == replica.rejected() == replica.kept_aside() == []
