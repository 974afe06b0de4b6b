"""A file that was copied to another place, as a phone's backup is, is another device from its first opening on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from syncd_client import Offline, Refused, Replica, RetryPolicy

from tests.support.replicas import copy
from tests.support.scripted import Script, problem

Open = Callable[..., Replica]


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


def incarnations(script: Script) -> list[list[str]]:
    return [push["incarnations"] for push in script.pushes]


def test_a_push_whose_answer_was_lost_names_what_it_may_have_been_sent_as(open_replica: Open, script: Script) -> None:
    first = open_replica("first", retry=RetryPolicy(attempts=1))
    first.put("t", "r", {"n": 1})
    script.answers = [httpx2.ReadError("lost"), httpx2.ReadError("lost")]
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
