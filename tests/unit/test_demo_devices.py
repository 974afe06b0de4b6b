"""The demo's devices write whatever a history says."""

from __future__ import annotations

from pathlib import Path

import httpx

from examples.demo.devices import TABLE, Device, Part
from examples.demo.history import Commit, Edit


def test_a_history_may_begin_with_files_that_go(tmp_path: Path) -> None:
    edits = (Edit("gone.txt", "deleted", 0, 1), Edit("new.txt", "renamed", 0, 0, old="old.txt"))
    part = Part("device-01", "ann", (Commit("c1", "ann", 1_700_000_000_000_000, "Tidied up", edits),))
    with httpx.Client() as http:
        device = Device(part, tmp_path, "http://127.0.0.1:1", "token", http)
        for commit in part.commits:
            device.write(commit)
        assert device.written == 3
        assert [record["path"] for record in device.replica.query(TABLE, space="repository")] == ["new.txt"]
        device.close()
