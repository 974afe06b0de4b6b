"""A file that was copied to another place, as a phone's backup is, is another device from its first opening on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica

from tests.client.scripted import Script
from tests.client.test_against_server import check_same

Open = Callable[..., Replica]


def copy(replica: Replica, tmp_path: Path, name: str) -> None:
    """As a backup does it: everything that belongs to the file."""
    with replica.store.read() as db:
        path = Path(db.execute("PRAGMA database_list").fetchone()[2])
    for file in tmp_path.glob(f"{path.name}*"):
        shutil.copy2(file, tmp_path / file.name.replace(path.stem, name, 1))


def test_a_copy_takes_a_new_client_id_keeps_what_is_unsent_and_says_so(
    open_replica: Open, script: Script, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    phone = open_replica("phone")
    phone.put("t", "sent", {"n": 1})
    phone.sync()
    unsent = phone.put("t", "r", {"n": 1})
    with caplog.at_level(logging.WARNING):
        copy(phone, tmp_path, "second")
        second = open_replica("second")
    assert second.client_id != phone.client_id == second.copied_from
    assert phone.client_id in caplog.text
    assert [change.change_id for change in second.pending()] == [unsent]
    assert second.get("t", "r") == {"n": 1}
    assert {register.client for register in second.registers("t", "r").values()} == {second.client_id}
    assert {register.client for register in second.registers("t", "sent").values()} == {phone.client_id}
    second.sync()
    assert script.asked[-1].headers["x-client-id"] == second.client_id
    second.close()
    again = open_replica("second")
    assert (again.client_id, again.copied_from) == (second.client_id, None)


def test_a_file_that_stays_or_is_renamed_stays_the_device(open_replica: Open, tmp_path: Path) -> None:
    first = open_replica("first")
    first.put("t", "r", {"n": 1})
    beside = open_replica("first")
    assert (beside.client_id, beside.copied_from) == (first.client_id, None)
    beside.close()
    first.close()
    (tmp_path / "first.db").rename(tmp_path / "renamed.db")
    renamed = open_replica("renamed")
    assert (renamed.client_id, renamed.copied_from) == (first.client_id, None)
    assert open_replica("memory", client_id="own").copied_from is None


def test_a_client_id_of_the_applications_own_is_kept(open_replica: Open, tmp_path: Path) -> None:
    phone = open_replica("phone", client_id="own")
    copy(phone, tmp_path, "second")
    assert open_replica("second", client_id="own").client_id == "own"


def test_two_copies_with_clocks_behind_end_equal_and_verified(server: Any, tmp_path: Path) -> None:
    """Both stamp `what I saw + 1`: under one name these would be equal stamps with different values."""
    token = server.token("copied")
    options: dict[str, Any] = {"app": "app", "url": server.url, "token": token, "durability": "normal"}
    with Replica(tmp_path / "phone.db", **options) as phone:
        phone.put("t", "r", {"n": "first"})
        phone.sync()
        copy(phone, tmp_path, "second")
        with Replica(tmp_path / "second.db", wall=lambda: 1_000_000, **options) as second:
            phone.wall = lambda: 1_000_000
            phone.patch("t", "r", {"n": "phone"})
            second.patch("t", "r", {"n": "second"})
            for _ in range(2):
                for replica in (phone, second):
                    replica.sync()
            check_same(phone, second)
            assert phone.verify().differences == second.verify().differences == 0
