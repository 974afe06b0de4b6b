"""A device and the copy of its file, or of its whole machine, end equal with the server that both sync with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.store.store import Store

from tests.support.agreeing import check_same
from tests.support.replicas import copy
from tests.support.wire import unique


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


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is where it was, as in the image of a whole machine, of which two run: only the server can see it."""
    monkeypatch.setattr(Store, "place", lambda self: "here")


@pytest.mark.usefixtures("image")
def test_an_image_of_a_machine_is_told_at_its_first_push(
    server: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = server.token(unique("image"))
    options: dict[str, Any] = {"app": "app", "url": server.url, "token": token, "durability": "normal"}
    with Replica(tmp_path / "phone.db", **options) as phone:
        phone.put("t", "r", {"n": "first"})
        phone.sync()
        copy(phone, tmp_path, "second")
        with Replica(tmp_path / "second.db", wall=lambda: 1_000_000, **options) as second:
            assert (second.client_id, second.copied_from) == (phone.client_id, None)
            phone.wall = lambda: 1_000_000
            phone.patch("t", "r", {"n": "phone"})
            second.patch("t", "r", {"n": "second"})
            phone.sync()
            with caplog.at_level(logging.WARNING):
                assert second.sync().pushed == 1
            assert second.client_id != phone.client_id == second.copied_from
            assert second.client_id in caplog.text
            assert (second.pending(), phone.copied_from) == ([], None)
            for replica in (phone, second, phone):
                replica.sync()
            check_same(phone, second)
            assert {second.client_id, phone.client_id} >= {r.client for r in phone.registers("t", "r").values()}
            assert phone.verify().differences == second.verify().differences == 0


@pytest.mark.usefixtures("image")
def test_of_two_images_that_are_live_one_is_told_and_both_end_equal(server: Any, tmp_path: Path) -> None:
    token = server.token(unique("image"))
    options: dict[str, Any] = {"app": "app", "url": server.url, "token": token, "durability": "normal"}
    with Replica(tmp_path / "phone.db", **options) as phone:
        phone.put("t", "r", {"n": 0})
        phone.sync()
        copy(phone, tmp_path, "second")
        with Replica(tmp_path / "second.db", wall=lambda: 1_000_000, **options) as second:
            phone.wall, first = lambda: 1_000_000, phone.client_id
            lives = [replica.live() for replica in (phone, second)]
            for n in range(1, 4):
                for replica in (phone, second):
                    replica.patch("t", "r", {"n": f"{n} {replica is phone}"})
            assert all(live.wait_until_synced(30) for live in lives)
            assert {phone.copied_from, second.copied_from} == {None, first}
            assert all(live.wait_until_synced(30) for live in lives)
            for live in lives:
                live.close()
            for replica in (phone, second):
                replica.sync()
            check_same(phone, second)
            assert phone.verify().differences == second.verify().differences == 0


def test_two_processes_of_one_file_are_one_device(server: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"app": "app", "url": server.url, "token": server.token(unique("one"))}
    with Replica(tmp_path / "r.db", **options) as one, Replica(tmp_path / "r.db", **options) as other:
        for n in range(3):
            for replica in (one, other):
                replica.put("t", "r", {"n": n})
                replica.push()
        assert (one.copied_from, other.copied_from, one.client_id) == (None, None, other.client_id)
