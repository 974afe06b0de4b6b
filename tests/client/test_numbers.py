"""Numbers go through a real server and come back as the type that they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from syncd_client import Replica

from tests.support.vectors import check_number, vectors

NUMBERS = vectors("numbers")
EARLY = "2001-01-01T00:00:00.000000Z"


def test_numbers_go_through_a_real_server_and_back(server: Any, tmp_path: Path) -> None:
    token = server.token("numbers")
    fields = ",".join(f'"n{i}":{{"value":{vector["sent"]},"at":"{EARLY}"}}' for i, vector in enumerate(NUMBERS))
    body = f'{{"changes":[{{"changeId":"c","table":"t","id":"raw","op":"insert","fields":{{{fields}}}}}]}}'
    headers = {"Authorization": f"Bearer {token}", "X-Client-Id": "raw", "Content-Type": "application/json"}
    httpx.post(f"{server.url}/sync/app", content=body, headers=headers).raise_for_status()
    with (
        Replica(tmp_path / "one.db", app="app", url=server.url, token=token) as one,
        Replica(tmp_path / "two.db", app="app", url=server.url, token=token) as two,
    ):
        one.sync()
        raw = one.get("t", "raw")
        assert raw is not None
        one.put("t", "again", dict(raw))
        one.sync()
        two.sync()
        for replica, record in ((one, "raw"), (two, "raw"), (two, "again")):
            found = replica.get("t", record)
            assert found is not None
            for i, vector in enumerate(NUMBERS):
                check_number(found[f"n{i}"], vector)
        assert two.verify().differences == 0
