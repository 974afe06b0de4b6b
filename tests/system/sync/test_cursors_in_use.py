"""Cursors in use: what was left out comes later, whatever changed since; and they never go back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.wire import Device, edit, unique, values

Make = Callable[..., Device]


def plain(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def test_another_collection_begins_again_with_the_state(device: Make) -> None:
    writer = device(unique("filter"))
    writer.write({**edit("a", 1, n=1), "table": "x"}, {**edit("b", 1, n=1), "table": "y"})
    _, cursor = writer.drain(collection="x")
    changes, cursor = writer.drain(cursor, collection="x,y")
    assert {c["table"] for c in changes} == {"x", "y"}
    changes, cursor = writer.drain(cursor)
    assert {c["table"] for c in changes} == {"x", "y"}
    assert writer.drain(cursor)[0] == []


def test_a_deletion_in_the_meantime_is_heard_of_after_the_collection_changed_back(device: Make) -> None:
    writer = device(unique("filter"))
    writer.write({**edit("a", 1, n=1), "table": "x"}, {**edit("b", 1, n=1), "table": "y"})
    held, cursor = writer.drain(collection="x")
    _, cursor = writer.drain(cursor, collection="y")
    writer.write({"table": "x", "id": "a", "op": "delete", "deletedAt": "2026-01-02T00:00:00Z", "changeId": "d"})
    _, cursor = writer.drain(cursor, collection="y")
    more, _ = writer.drain(cursor, collection="x")
    assert values(held + more) == {}


def test_a_plain_instant_means_all_that_could_have_come_after_it(device: Make) -> None:
    writer = device(unique("plain"), legacy=True)
    for n in range(5):
        writer.write(edit(f"r{n}", n + 1, n=n))
    now = datetime.now(UTC)
    for since in (
        "1970-01-01T00:00:00.000Z",
        plain(now - timedelta(days=300)),
        plain(now - timedelta(seconds=5)),
        plain(now),
    ):
        changes, cursor = writer.drain(since)
        assert set(values(changes)) == {f"r{n}" for n in range(5)}, since
        assert writer.drain(cursor)[0] == []
    assert cursor > since  # the first generation keeps the greater text


def test_a_plain_instant_from_before_a_deletion_brings_the_deletion(device: Make) -> None:
    writer = device(unique("plain"), legacy=True)
    writer.write(edit("a", 1, n=1), edit("b", 1, n=1))
    since = plain(datetime.now(UTC))
    writer.write({"table": "t", "id": "a", "op": "delete", "deletedAt": "2026-01-02T00:00:00Z", "changeId": "d"})
    assert [(c["id"], c["op"]) for c in writer.drain(since)[0] if c["op"] == "delete"] == [("a", "delete")]


def test_a_plain_instant_overlaps_and_does_not_start_over(device: Make, server: Server) -> None:
    """A device that joined long ago gets the log since shortly before the instant, not everything."""
    writer = device(unique("plain"), legacy=True)
    for n in range(6):
        writer.write(edit(f"r{n}", n + 1, n=n))

    async def age() -> None:
        """As if r0 to r3 had been written two hours ago, by a member who joined a day ago."""
        connection = await asyncpg.connect(server.owner_dsn)
        try:
            mine = "(SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)"
            space = f"_personal:{writer.user}"
            await connection.execute(
                f"UPDATE syncd.sync_memberships SET joined_at = now() - interval '1 day' WHERE space_no = {mine}", space
            )
            await connection.execute(
                "UPDATE syncd.sync_changes SET created_at = now() - interval '2 hours' WHERE seq < 5 AND space_no = "
                + mine,
                space,
            )
        finally:
            await connection.close()

    asyncio.run(age())
    now = datetime.now(UTC)
    assert [c["seq"] for c in writer.drain(plain(now - timedelta(hours=1)))[0]] == [5, 6]
    assert [c["seq"] for c in writer.drain(plain(now))[0]] == [5, 6]
    assert [c["seq"] for c in writer.drain(plain(now - timedelta(hours=2)))[0]] == [1, 2, 3, 4, 5, 6]
    assert [c["seq"] for c in writer.drain(plain(now - timedelta(hours=2)), limit=1)[0]] == [1, 2, 3, 4, 5, 6]
    ours = device(writer.user, "ours")
    assert [c["seq"] for c in ours.drain(plain(now + timedelta(hours=2)))[0]] == []


def test_the_text_of_a_cursor_never_goes_back(device: Make) -> None:
    writer = device(unique("forward"), legacy=True)
    cursors = [""]
    for n in range(10):
        answer = writer.push(edit(f"r{n}", n + 1, n=n), since=cursors[-1], pull=True)
        cursors += [answer["syncedUntil"], writer.pull(answer["syncedUntil"])["syncedUntil"]]
    assert cursors == sorted(cursors)
    ahead, writer = "2999-01-01T00:00:00.000000Z", device(writer.user, "ours")
    assert writer.pull(ahead)["syncedUntil"] > ahead
    assert writer.pull(writer.pull(ahead)["syncedUntil"])["syncedUntil"][:27] >= ahead


def test_an_old_cursor_stays_good(device: Make) -> None:
    writer = device(unique("old"))
    _, cursor = writer.drain()
    for n in range(5):
        writer.write(edit(f"r{n}", n + 1, n=n))
        assert [c["seq"] for c in writer.drain(cursor)[0]] == list(range(n + 1, 0, -1))


def test_a_space_that_is_joined_comes_whole_and_once(device: Make) -> None:
    owner, guest = device(unique("owner")), device(unique("guest"))
    guest.write(edit("mine", 1, n=1))
    _, cursor = guest.drain()
    space = owner.create(unique("s"))
    for n in range(7):
        owner.write({**edit(f"r{n % 3}", n + 1, n=n), "spaceId": space})
    owner.member(space, guest.user, "reader")
    for limit in (1, 1000):
        pages = list(guest.pages(cursor, limit=limit))
        assert pages[0]["spaces"] == {"joined": [space], "left": []}
        assert all(page["spaces"]["joined"] == [] for page in pages[1:])
        changes = [c for page in pages for c in page["serverChanges"]]
        assert values(changes) == {"r0": {"n": 6}, "r1": {"n": 4}, "r2": {"n": 5}}
        assert len(changes) == 3
    again = guest.pull(pages[-1]["syncedUntil"])
    assert (again["serverChanges"], again["spaces"]) == ([], {"joined": [], "left": []})
    owner.write({**edit("r0", 10, n=10), "spaceId": space})
    assert [c["fields"]["n"]["value"] for c in guest.pull(again["syncedUntil"])["serverChanges"]] == [10]


def test_a_space_that_is_left_is_named_once_and_stops_at_once(device: Make) -> None:
    owner, guest = device(unique("owner")), device(unique("guest"))
    guest.write(edit("mine", 1, n=1))
    space = owner.create(unique("s"))
    owner.member(space, guest.user)
    owner.write({**edit("r", 1, n=1), "spaceId": space})
    _, cursor = guest.drain()
    owner.write({**edit("r", 2, n=2), "spaceId": space})
    owner.remove(space, guest.user)
    page = guest.pull(cursor)
    assert (page["serverChanges"], page["spaces"]) == ([], {"joined": [], "left": [space]})
    assert guest.pull(page["syncedUntil"])["spaces"] == {"joined": [], "left": []}
    assert guest.push(edit("x", n=1), since=cursor, pull=True)["spaces"]["left"] == [space]
    owner.member(space, guest.user)
    back = guest.pull(page["syncedUntil"])
    assert back["spaces"]["joined"] == [space]
    assert [c["fields"]["n"]["value"] for c in back["serverChanges"] if c["spaceId"] == space] == [2]
    assert guest.pull(cursor)["spaces"] == {"joined": [], "left": []}  # it never heard that it was away


def test_a_space_that_is_deleted_is_left_by_all(device: Make) -> None:
    owner, guest = device(unique("owner")), device(unique("guest"))
    space = owner.create(unique("s"))
    owner.member(space, guest.user)
    cursors = [device.drain()[1] for device in (owner, guest)]
    assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
    for one, cursor in zip((owner, guest), cursors, strict=True):
        assert one.pull(cursor)["spaces"] == {"joined": [], "left": [space]}
        assert one.push({**edit("r", n=1), "spaceId": space})["results"][0]["code"] == "space_not_found"
    for one, status in ((guest, 409), (owner, 201)):
        assert one.request("POST", "/spaces", json={"id": space, "name": "again"}).status_code == status


@pytest.mark.parametrize("own", [0, 1], ids=["as another device", "as the same device"])
def test_an_emptied_device_gets_its_own_data_back(device: Make, own: int) -> None:
    user = unique("emptied")
    writer = device(user, "c1")
    writer.write(edit("a", 1, n=1), edit("b", 2, n=2))
    reader = device(user, "c1" if own else "c2")
    assert values(reader.drain()[0]) == {"a": {"n": 1}, "b": {"n": 2}}
    assert len(reader.drain(history=1)[0]) == 2


def test_a_push_is_answered_without_itself_and_with_all_else(device: Make) -> None:
    user = unique("delta")
    one, two = device(user, "c1"), device(user, "c2")
    one.write(edit("first", 1, n=1))
    _, cursor = one.drain()
    two.write(edit("b", 1, n="two"))
    one.write(edit("a", 1, n="one before"))
    answer = one.push(edit("c", 2, n="this very push"), since=cursor, pull=True)
    assert [c["id"] for c in answer["serverChanges"]] == ["b", "a"]
    assert one.pull(answer["syncedUntil"])["serverChanges"] == []
    assert [c["id"] for c in two.pull(cursor)["serverChanges"]] == ["b", "a", "c"]


def test_a_push_whose_delta_does_not_fit_says_so(device: Make) -> None:
    user = unique("delta")
    one, two = device(user, "c1"), device(user, "c2")
    _, cursor = one.drain()
    for n in range(3):
        two.write(*(edit(f"r{n}-{i}", 1, n=n) for i in range(500)))
    answer = one.push(edit("mine", 2, n=1), since=cursor, pull=True)
    assert answer["hasMore"]
    rest, _ = one.drain(answer["syncedUntil"])
    got = [c["seq"] for c in answer["serverChanges"] + rest]
    assert sorted(got) in (list(range(1, 1501)), list(range(1, 1502)))


def test_what_a_push_wrote_is_read_at_once_by_every_device(device: Make) -> None:
    user = unique("ryw")
    writer, reader = device(user, "c1"), device(user, "c2")
    cursor = ""
    started = time.monotonic()
    for n in range(20):
        writer.write(edit("a", n + 1, n=n))
        page = reader.pull(cursor)
        assert page["serverChanges"][-1]["fields"]["n"]["value"] == n
        cursor = page["syncedUntil"]
    assert time.monotonic() - started < 30
