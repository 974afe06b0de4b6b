"""A file that was copied to another place, as a phone's backup is, is another device from its first opening on."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import Offline, Refused, Replica, RetryPolicy
from syncd_client.store.store import Store

from tests.client.scripted import Script, problem
from tests.client.test_against_server import check_same
from tests.support.wire import unique

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


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is where it was, as in the image of a whole machine, of which two run: only the server can see it."""
    monkeypatch.setattr(Store, "place", lambda self: "here")


def incarnations(script: Script) -> list[list[str]]:
    return [push["incarnations"] for push in script.pushes]


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


def test_a_push_whose_answer_was_lost_names_what_it_may_have_been_sent_as(open_replica: Open, script: Script) -> None:
    first = open_replica("first", retry=RetryPolicy(attempts=1))
    first.put("t", "r", {"n": 1})
    script.answers = [httpx.ReadError("lost"), httpx.ReadError("lost")]
    for _ in range(2):
        with pytest.raises(Offline):
            first.push()
    first.close()
    again = open_replica("first", retry=RetryPolicy(attempts=1))
    again.push()
    again.put("t", "r", {"n": 2})
    again.push()
    one, same, more, after = incarnations(script)
    assert one == same == more[:2], "any of them may be the one that the server has"
    assert [name.partition(".")[0] for name in more] == ["1", "2", "3"]
    assert (after[0], len(after)) == (more[2], 2), "what was answered is what it begins with"


def test_two_processes_of_one_file_are_one_device(server: Any, tmp_path: Path) -> None:
    options: dict[str, Any] = {"app": "app", "url": server.url, "token": server.token(unique("one"))}
    with Replica(tmp_path / "r.db", **options) as one, Replica(tmp_path / "r.db", **options) as other:
        for n in range(3):
            for replica in (one, other):
                replica.put("t", "r", {"n": n})
                replica.push()
        assert (one.copied_from, other.copied_from, one.client_id) == (None, None, other.client_id)


def test_what_another_process_was_told_counts_here_too(open_replica: Open, script: Script) -> None:
    one, other = open_replica("file"), open_replica("file")
    before = one.client_id
    for replica in (one, other):
        replica.put("t", "r", {"n": 1})
    script.answers = [problem(409, "device_copied")]
    one.push()
    assert one.client_id != before == one.copied_from
    other.put("t", "r", {"n": 2})
    other.push()
    assert (other.client_id, other.copied_from) == (one.client_id, before)
    assert {request.headers["x-client-id"] for request in script.asked[1:]} == {one.client_id}


def test_a_client_id_of_the_applications_own_names_no_incarnation(open_replica: Open, script: Script) -> None:
    replica = open_replica(client_id="own")
    replica.put("t", "r", {"n": 1})
    replica.push()
    assert "incarnations" not in script.pushes[0]


def test_a_server_that_refuses_every_copy_is_not_asked_for_ever(open_replica: Open, script: Script) -> None:
    replica = open_replica()
    change = replica.put("t", "r", {"n": 1})
    script.answers = [problem(409, "device_copied")] * 9
    with pytest.raises(Refused):
        replica.push()
    assert [queued.change_id for queued in replica.pending()] == [change]
