"""The Python client and the real server: what one device writes, the others have."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import (
    AsyncReplica,
    HttpSender,
    Limits,
    Replica,
    RetryPolicy,
)
from syncd_client.error_codes import TEXTS

from tests.support.agreeing import Server, check_same, create_space, lossy, set_role

Device = Callable[..., Replica]
UNIQUE = iter(range(1_000_000))


@pytest.fixture
def user() -> str:
    return f"client-user-{next(UNIQUE)}-{random.getrandbits(40):x}"


@pytest.fixture
def device(server: Server, tmp_path: Path, user: str) -> Iterator[Device]:
    """Opens devices of one user, or of another."""
    opened: list[Replica] = []

    def open_device(name: str, of: str = user, **options: Any) -> Replica:
        token = server.token(of)
        replica = Replica(
            tmp_path / f"{name}.db",
            **({"app": "app", "url": server.url, "token": token, "durability": "normal"} | options),
        )
        opened.append(replica)
        return replica

    yield open_device
    for replica in opened:
        replica.close()


@pytest.fixture
def space(server: Server, user: str) -> str:
    """A shared space that the user owns."""
    return create_space(server, user)


def test_two_devices_that_were_offline_agree_afterwards(device: Device) -> None:
    phone, laptop = device("phone"), device("laptop")
    phone.put("tasks", "t1", {"title": "milk", "done": False})
    phone.sync()
    laptop.sync()
    assert laptop.get("tasks", "t1") == {"title": "milk", "done": False}
    phone.patch("tasks", "t1", {"title": "oat milk"})
    laptop.patch("tasks", "t1", {"done": True})
    laptop.patch("tasks", "t1", {"title": "soy milk"})
    laptop.sync()
    report = phone.sync()
    laptop.sync()
    assert phone.get("tasks", "t1") == laptop.get("tasks", "t1") == {"title": "soy milk", "done": True}
    assert report.superseded == 1
    assert [(c.field, c.client_value, c.server_value) for c in phone.conflicts()] == [("title", "oat milk", "soy milk")]
    check_same(phone, laptop)


def test_a_new_device_gets_everything_page_by_page(device: Device) -> None:
    first = device("first", limits=Limits(push_changes=100))
    for _ in range(12):
        with first.batch() as batch:
            for n in range(100):
                batch.put(
                    "tasks", first.new_id(), {"n": n, "text": "ünïcödé 😀", "big": 2**60 + 1, "deep": [{"a": [None]}]}
                )
    first.delete("tasks", first.query("tasks", limit=1)[0].id)
    first.sync()
    second = device("second", limits=Limits(pull_limit=100))
    report = second.sync()
    assert report.requests > 10
    assert len(second.query("tasks")) == 1199
    check_same(first, second)


def test_a_device_that_lost_its_store_and_kept_its_id_gets_its_own_data_back(device: Device) -> None:
    old = device("old", client_id="the-device")
    old.put("tasks", "t", {"n": 1})
    old.sync()
    new = device("new", client_id="the-device")
    new.sync()
    assert new.get("tasks", "t") == {"n": 1}


def test_a_deleted_record_comes_back_by_put_and_by_undelete_everywhere(device: Device) -> None:
    one, two = device("one"), device("two")
    for act in (lambda r: r.put("t", "r", {"n": 2}), lambda r: r.undelete("t", "r")):
        one.put("t", "r", {"n": 1})
        one.delete("t", "r")
        one.sync()
        two.sync()
        assert two.get("t", "r") is None
        act(two)
        two.sync()
        one.sync()
        assert one.get("t", "r") is not None
        check_same(one, two)


@pytest.mark.parametrize("act", ["undelete", "put"])
def test_a_record_that_comes_back_is_whole_on_a_device_that_came_while_it_was_deleted(device: Device, act: str) -> None:
    one, two = device("one"), device("two")
    one.put("t", "r", {"title": "x", "n": 1})
    one.delete("t", "r")
    one.sync()
    two.sync()
    assert two.get("t", "r") is None
    if act == "undelete":
        one.undelete("t", "r")
    else:
        one.put("t", "r", {"n": 1})
    one.sync()
    two.sync()
    assert two.get("t", "r") == {"title": "x", "n": 1}
    check_same(one, two)


def test_a_device_that_brings_back_what_it_never_saw_gets_the_whole_of_it(device: Device) -> None:
    one, two = device("one"), device("two")
    one.put("t", "r", {"title": "x", "n": 1})
    one.delete("t", "r")
    one.sync()
    two.sync()
    two.put("t", "r", {"n": 2})
    two.sync()
    one.sync()
    assert one.get("t", "r") == {"title": "x", "n": 2}
    two.sync()
    check_same(one, two)


def test_a_retry_after_a_lost_reply_has_one_effect(device: Device, server: Server, user: str) -> None:
    with lossy(1.0, most=1) as http:
        one = device("one", send=HttpSender(http))
        one.put("t", "a", {"n": 1})
        one.put("t", "b", {"n": 2})
        report = one.sync()
    assert (report.duplicates, one.pending()) == (2, [])
    two = device("two")
    assert two.sync().pulled == 2
    check_same(one, two)


def test_a_wrong_clock_neither_wins_for_ever_nor_loses_its_writes(device: Device) -> None:
    year_9999 = 253_370_764_800_000_000
    wrong, right = device("wrong", wall=lambda: year_9999), device("right")
    wrong.put("t", "r", {"n": "wrong"})
    wrong.delete("t", "gone", upsert=True)
    wrong.sync()
    assert wrong.why("t", "r").state == "clock_lowered"
    right.sync()
    assert right.get("t", "r") == {"n": "wrong"}
    right.patch("t", "r", {"n": "right"})
    right.sync()
    wrong.sync()
    assert wrong.get("t", "r") == {"n": "right"}
    wrong.patch("t", "r", {"n": "wrong again"})
    wrong.sync()
    right.sync()
    assert right.get("t", "r") == {"n": "wrong again"}
    right.delete("t", "r")
    right.sync()
    wrong.sync()
    assert wrong.get("t", "r") is None
    check_same(wrong, right)


def test_once_mended_a_clock_that_was_years_ahead_writes_in_its_own_time(device: Device) -> None:
    ahead = [3 * 365 * 86_400]
    mended, other = device("mended", wall=lambda: skewed(ahead[0])()), device("other")
    mended.put("t", "r", {"n": "by the wrong clock"})
    mended.sync()
    ahead[0] = 0
    other.sync()
    mended.patch("t", "r", {"n": "earlier"})
    time.sleep(0.01)
    other.patch("t", "r", {"n": "later"})
    other.sync()
    assert mended.sync().superseded == 1
    assert mended.get("t", "r") == {"n": "later"}
    check_same(mended, other)


def test_a_clock_mended_before_anything_was_lowered_does_not_win_over_later_writes(device: Device) -> None:
    ahead = [3 * 365 * 86_400]
    mended, other = device("mended", wall=lambda: skewed(ahead[0])()), device("other")
    other.put("t", "r", {"a": 0, "b": 0})
    other.sync()
    mended.sync()
    mended.patch("t", "r", {"b": "by the wrong clock"})
    ahead[0] = 0
    mended.patch("t", "r", {"a": "earlier"})
    time.sleep(0.01)
    other.patch("t", "r", {"a": "later"})
    other.sync()
    mended.sync()
    assert mended.get("t", "r") == {"a": "later", "b": "by the wrong clock"}
    other.sync()
    check_same(mended, other)


def test_a_lowered_write_whose_reply_was_lost_still_converges(device: Device) -> None:
    with lossy(1.0, most=1) as http:
        wrong = device("wrong", send=HttpSender(http), wall=lambda: 3_000_000_000_000_000)
        wrong.put("t", "r", {"n": "wrong"})
        wrong.sync()
        right = device("right")
        right.sync()
        check_same(wrong, right)
        right.patch("t", "r", {"n": "right"})
        right.sync()
        wrong.sync()
    assert wrong.get("t", "r") == {"n": "right"}
    check_same(wrong, right)


def test_a_clock_that_is_an_hour_behind_can_edit(device: Device) -> None:
    slow, right = device("slow", wall=skewed(-3600)), device("right")
    right.put("t", "r", {"n": 1})
    right.sync()
    slow.sync()
    slow.patch("t", "r", {"n": 2})
    assert slow.sync().superseded == 0
    right.sync()
    assert right.get("t", "r") == {"n": 2}


def test_a_shared_space_is_joined_read_written_and_left(device: Device, server: Server, user: str, space: str) -> None:
    guest = f"guest-of-{user}"
    mine, theirs = device("mine"), device("theirs", of=guest)
    mine.put("t", "r", {"n": 1}, space=space)
    mine.sync()
    refused = theirs.put("t", "theirs", {"n": 1}, space=space)
    assert theirs.sync().rejected == [refused]
    assert theirs.why("t", "theirs", space=space).state == "no_permission"
    set_role(server, user, space, guest, "reader")
    theirs.sync()
    assert space in [one.id for one in theirs.spaces()]
    assert theirs.get("t", "r", space=space) == {"n": 1}
    theirs.requeue(refused)
    assert len(theirs.sync().rejected) == 1
    assert theirs.rejected()[0].code == "not_a_writer"
    set_role(server, user, space, guest, "writer")
    theirs.requeue(theirs.rejected()[0].change_id)
    assert theirs.sync().pushed == 1
    mine.sync()
    assert mine.get("t", "theirs", space=space) == {"n": 1}
    theirs.patch("t", "r", {"n": 2}, space=space)
    set_role(server, user, space, guest, None)
    theirs.pull()
    assert theirs.get("t", "r", space=space) is None
    assert space not in [one.id for one in theirs.spaces()]
    (aside,) = theirs.kept_aside()
    theirs.move(aside.change_id, None)
    theirs.sync()
    assert theirs.get("t", "r") == {"n": 2}
    assert theirs.why("t", "r").state == "synced"
    mine.sync()
    assert mine.get("t", "r", space=space) == {"n": 1}


def test_an_atomic_batch_with_one_refused_change_is_refused_whole(device: Device, server: Server, user: str) -> None:
    foreign = create_space(server, f"stranger-{user}")
    one, two = device("one"), device("two")
    before = one.put("t", "before", {"n": 1})
    with one.batch() as batch:
        batch.put("t", "a", {"n": 1})
        batch.put("t", "b", {"n": 1}, space=foreign)
    after = one.put("t", "after", {"n": 1})
    report = one.sync()
    assert sorted(report.rejected) == sorted(batch.change_ids)
    assert before not in report.rejected
    assert after not in report.rejected
    refused = {change.change_id: (change.code, change.detail) for change in one.rejected()}
    assert refused[batch.change_ids[1]] == ("space_not_found", f"{' '.join(TEXTS['space_not_found'])} (/changes/2)")
    assert refused[batch.change_ids[0]][0] == "batch_rejected"
    assert one.why("t", "b", space=foreign).state == "no_permission"
    two.sync()
    assert sorted(record.id for record in two.query("t")) == ["after", "before"]
    one.drop(batch.change_ids[0])
    check_same(one, two)


def test_a_poisoned_change_at_the_head_does_not_wedge_the_device(device: Device) -> None:
    one = device("one", limits=Limits(change_bytes=2_000_000))  # more than the server takes
    huge = one.put("t", "huge", {"text": "x" * 1_100_000})
    ids = [one.put("t", f"r{n}", {"n": n}) for n in range(20)]
    report = one.sync()
    assert report.rejected == [huge]
    assert report.pushed == len(ids)
    assert one.rejected()[0].code == "change_too_large"
    one.fix(huge, {"text": "short"})
    assert one.sync().pushed == 1
    two = device("two")
    two.sync()
    assert two.get("t", "huge") == {"text": "short"}


def test_a_cursor_of_nobody_begins_again(device: Device) -> None:
    one = device("one")
    one.put("t", "r", {"n": 1})
    one.sync()
    one.put("t", "s", {"n": 2})
    with one.store.write() as db:
        db.execute("UPDATE meta SET value = 'nonsense' WHERE key = 'cursor'")
    report = one.sync()
    assert (report.restarted, report.pushed) == (True, 1)
    assert sorted(record.id for record in one.query("t")) == ["r", "s"]


@pytest.mark.parametrize("loss", [0.0, 0.4])
@pytest.mark.parametrize("seed", range(3))
def test_devices_that_edit_at_random_converge(device: Device, user: str, space: str, seed: int, loss: float) -> None:
    rng = random.Random(f"{seed}-{user}")
    retry = RetryPolicy(attempts=50, first=0.001, longest=0.002)
    with lossy(loss) as http:
        options = {"limits": Limits(push_changes=7, pull_limit=5), "send": HttpSender(http), "retry": retry}
        devices = [device(f"d{n}", wall=skewed(by), **options) for n, by in enumerate([0, 0, 1800, -1800, 10**7])]
        for where in (None, space):
            devices[0].put("t", "seed", {"x": 0}, space=where)
        for replica in devices:  # from here on all of them follow the log
            replica.sync()
        for _ in range(120):
            edit_at_random(rng.choice(devices), rng, rng.choice([None, space]))
        for replica in devices * 2:
            replica.sync()
    assert all(replica.pending() == replica.rejected() == [] for replica in devices)
    check_same(*devices)
    fresh = device("fresh")
    fresh.sync()
    check_same(fresh, devices[0])


def skewed(seconds: int) -> Callable[[], int]:
    """A wall clock that is wrong."""
    return lambda: time.time_ns() // 1000 + seconds * 1_000_000


def edit_at_random(replica: Replica, rng: random.Random, where: str | None) -> None:
    record = rng.choice("abcd")
    match rng.randrange(7):
        case 0 | 1:
            replica.patch("t", record, {rng.choice("xy"): rng.random()}, space=where, upsert=True)
        case 2:
            replica.put("t", record, {"x": rng.random()}, space=where)
        case 3:
            replica.delete("t", record, space=where, upsert=True)
        case 4:
            with replica.batch() as batch:
                for name in rng.sample("abcd", 3):
                    batch.patch("t", name, {"x": rng.random()}, space=where, upsert=True)
        case _:
            replica.sync()


def test_devices_sync_at_the_same_time(device: Device) -> None:
    devices = [device(f"d{n}") for n in range(4)]
    failures: list[BaseException] = []

    def work(replica: Replica) -> None:
        try:
            for n in range(15):
                replica.patch("t", f"r{n % 4}", {"by": replica.client_id, "n": n}, upsert=True)
                replica.sync()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(replica,)) for replica in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for replica in devices:
        replica.sync()
    check_same(*devices)


async def test_the_async_replica_syncs_too(server: Server, tmp_path: Path, user: str) -> None:
    token = server.token(user)
    async with AsyncReplica(tmp_path / "a.db", app="app", url=server.url, token=token, durability="normal") as one:
        await one.put("t", "r", {"n": 1})
        assert (await one.sync()).pushed == 1
        async with AsyncReplica(tmp_path / "b.db", app="app", url=server.url, token=token, durability="normal") as two:
            await two.sync()
            assert await two.get("t", "r") == {"n": 1}
