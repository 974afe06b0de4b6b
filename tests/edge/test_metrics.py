"""/metrics: every worker's numbers, whichever worker is asked."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import httpx
import pytest

from syncd.edge.metrics import PAGE, Board, Numbers
from tests.support.harness import Server

AT = "2026-01-01T00:00:00Z"


def sums(text: str) -> dict[str, float]:
    """Each metric summed over its labels."""
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? ([0-9.e+-]+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found


def test_any_worker_tells_the_numbers_of_all(folder: Path) -> None:
    with Server(folder / "data", workers=3) as server:
        headers = {"Authorization": f"Bearer {server.token('ann')}", "Connection": "close"}
        for i in range(30):
            change = {
                "table": "t",
                "id": str(i),
                "op": "update",
                "changeId": str(i),
                "fields": {"n": {"value": i, "at": AT}},
            }
            body = {"clientId": "d", "changes": [change]}
            assert httpx.post(f"{server.url}/sync/app", json=body, headers=headers).status_code == 200
            assert httpx.get(f"{server.url}/sync/app/pull", headers=headers).status_code == 200
        deadline = time.monotonic() + 20
        while True:
            text = httpx.get(f"{server.url}/metrics", headers={"Connection": "close"}).text
            found = sums(text)
            if (found["syncd_pushes_total"], found["syncd_changes_total"], found["syncd_pulls_total"]) == (30, 30, 30):
                break
            assert time.monotonic() < deadline, text
            time.sleep(0.2)
        assert set(re.findall(r'syncd_bus_up\{worker="(\d)"\} 1.0', text)) == {"0", "1", "2"}
        assert "ann" not in text


def test_pages_that_first_syncs_share_are_counted(folder: Path) -> None:
    with Server(folder / "data") as server:
        ann = {"Authorization": f"Bearer {server.token('ann')}", "X-Sync-Protocol": "1"}
        changes = [
            {"table": "t", "id": str(i), "op": "update", "fields": {"n": {"value": "x" * 200, "at": AT}}}
            for i in range(200)
        ]
        body = {"clientId": "d", "changes": [{**change, "changeId": change["id"]} for change in changes]}
        assert httpx.post(f"{server.url}/sync/app", json=body, headers=ann).status_code == 200
        pulled = [httpx.get(f"{server.url}/sync/app/pull", headers=ann).text for _ in range(4)]
        assert all("xxx" in text for text in pulled)
        deadline = time.monotonic() + 20
        # One that is asked for twice is kept.
        while (found := sums(httpx.get(f"{server.url}/metrics").text))["syncd_shared_pages_total"] != 2:
            assert time.monotonic() < deadline, found
            time.sleep(0.1)
        assert found["syncd_shared_page_bytes"] > 200 * 200


def test_metrics_say_what_they_are(server: Server) -> None:
    answer = httpx.get(f"{server.url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE syncd_fanout_lag_seconds histogram" in answer.text
    assert "# TYPE syncd_connections gauge" in answer.text


@pytest.fixture
def fd() -> int:
    return os.memfd_create("test")


def test_a_page_that_is_torn_or_empty_is_left_out(fd: int) -> None:
    boards = [Board(fd, place) for place in range(4)]
    for place in (0, 1, 3):
        boards[place].put(Numbers({"pushes": place}))
    os.pwrite(fd, b"x", PAGE + 12)
    assert [(place, page.counts["pushes"]) for place, page in boards[0].pages()] == [(0, 0), (3, 3)]


def test_without_a_board_there_is_nothing_of_others() -> None:
    board = Board(None, 0)
    board.put(Numbers())
    assert list(board.pages()) == []
