"""G19: a device of the first generation knows a record by its table and id. What it wrote in the personal space and
then writes under the id of another one is one record, there."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.harness import Server
from tests.support.moving import Home, delete, in_space, insert, known, titles
from tests.support.socket_device import socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture
def home(device: Make) -> Home:
    return Home(device)


@pytest.mark.parametrize("personal", ["named", "not named"])
def test_what_is_deleted_under_the_id_of_a_space_is_deleted(home: Home, personal: str) -> None:
    made = insert("r", 1, title="one")
    home.old.write({**made, "spaceId": home.personal} if personal == "named" else made)
    home.old.write(delete("r", 2, spaceId=home.space))
    assert home.records() == {}
    assert known(home.tablet.drain()[0]) == {}


@pytest.mark.parametrize("then", ["deleted", "edited"])
def test_what_is_made_here_and_written_there_in_one_push_is_one_record(home: Home, then: str) -> None:
    there = delete("r", 2) if then == "deleted" else edit("r", 2, title="two")
    changes = [insert("r", 1, title="one"), in_space(home, there), insert("q", 1, title="q")]
    answer = home.old.push(*changes, since=at(0), pull=True)
    assert [result["status"] for result in answer["results"]] == ["applied"] * 3
    wanted = {"q": "q"} if then == "deleted" else {"r": "two", "q": "q"}
    assert titles(known(answer["serverChanges"])) == wanted
    assert {change["spaceId"] for change in answer["serverChanges"] if change["id"] == "r"} == {home.space}
    assert home.records() == {"q": {home.personal}} | ({} if then == "deleted" else {"r": {home.space}})
    again = home.old.push(*changes, since=at(0), pull=True)
    assert [result["status"] for result in again["results"]] == ["duplicate"] * 3
    assert titles(known(home.tablet.drain()[0])) == wanted


def test_what_is_edited_there_is_one_record_and_whole(home: Home) -> None:
    home.old.write(insert("r", 1, title="one", note="n"))
    home.tablet.write(edit("r", 2, change_id=None, note="m"))
    mine = home.tablet.drain()[1]
    home.old.write(in_space(home, edit("r", 3, title="two")))
    assert home.records() == {"r": {home.space}}
    (record,) = (c for c in home.ours.drain()[0] if c["id"] == "r")
    stamps = {name: (r["value"], r["at"], r["clientId"]) for name, r in record["fields"].items()}
    assert stamps == {
        "title": ("two", at(3), "old"),
        "note": ("m", at(2), "tablet"),
        "createdAt": (at(1), at(1), "old"),
        "deletedAt": (None, at(1), "old"),
    }
    assert home.log() == [
        (home.personal, "insert", "old"), (home.personal, "update", "tablet"), (home.personal, "delete", "_server:old"),
        (home.space, "insert", "old"), (home.space, "update", "tablet"), (home.space, "update", "old"),
    ]  # fmt: skip
    path = f"/sync/app/records/t/r/history?spaceId={home.space}"
    past = home.ours.request("GET", path).json()["changes"]
    assert [change["clientId"] for change in past] == ["old", "tablet", "old"]
    for since in (mine, "", at(0)):
        assert titles(known(home.tablet.drain(since)[0])) == {"r": "two"}


def test_a_device_of_ours_sees_a_deletion_here_and_a_record_there(home: Home) -> None:
    home.old.write(insert("r", 1, title="one"))
    cursor = home.ours.drain()[1]
    home.old.write(in_space(home, edit("r", 2, title="two")))
    news = home.ours.drain(cursor)[0]
    here = [change for change in news if change["spaceId"] == home.personal]
    assert [(change["op"], change["fields"]["deletedAt"]["movedTo"]) for change in here] == [("delete", home.space)]
    there = values([change for change in news if change["spaceId"] == home.space])
    assert there["r"]["title"] == "two"


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_no_page_takes_the_record_from_a_device_that_knows_it_by_its_id(home: Home, size: int) -> None:
    home.old.write(insert("r", 1, title="one"), insert("s", 1, title="s"))
    cursor = home.tablet.drain()[1]
    home.old.write(in_space(home, edit("r", 2, title="two")))
    before = home.tablet.drain("")[0]
    for since in ("", at(0), cursor):
        pages = [page["serverChanges"] for page in home.tablet.pages(since, limit=size)]
        seen: list[list[Json]] = [before] if since == cursor else []
        for page in pages:
            seen.append(page)
            assert not [c for c in page if c["id"] == "r" and c["op"] == "delete"]
        assert titles(known(*seen)) == {"r": "two", "s": "s"}


def test_who_was_away_from_the_space_has_it_when_back(home: Home, device: Make) -> None:
    """A device that had been told of the deletion would keep that, and would be right by the stamps."""
    other = device(unique("bob"))
    home.old.write(insert("r", 1, title="one"))
    home.ours.member(home.space, other.user, "owner")
    home.old.write(in_space(home, edit("r", 2, title="two")))
    home.ours.remove(home.space, home.user)
    away, cursor = home.tablet.drain(at(0))
    assert away == []
    other.member(home.space, home.user)
    assert titles(known(away, home.tablet.drain(cursor)[0])) == {"r": "two"}


def test_a_retry_moves_nothing_and_is_written_once(home: Home) -> None:
    home.old.write(insert("r", 1, title="one"))
    change = in_space(home, edit("r", 2, title="two"))
    home.old.write(change)
    log = home.log()
    assert home.old.push(change)["results"][0]["status"] == "duplicate"
    assert home.log() == log


def test_a_retry_moves_nothing_that_was_made_since(home: Home) -> None:
    change = in_space(home, edit("r", 2, title="there"))
    home.old.write(change)
    home.ours.write(insert("r", 3, title="mine"))
    log = home.log()
    assert home.old.push(change)["results"][0]["status"] == "duplicate"
    assert home.log() == log
    assert home.records() == {"r": {home.personal, home.space}}


def test_one_push_may_make_the_record_and_move_it(home: Home) -> None:
    home.old.write(insert("r", 1, title="one"), in_space(home, edit("r", 2, title="two")))
    assert home.records() == {"r": {home.space}}
    assert titles(known(home.tablet.drain()[0])) == {"r": "two"}


def test_what_a_device_writes_that_has_not_heard_of_it_goes_where_the_record_went(home: Home) -> None:
    home.old.write(insert("r", 1, title="one", note="n"))
    home.old.write(in_space(home, edit("r", 2, title="two")))
    late = edit("r", 3, change_id=None, note="late")
    home.tablet.write(late)
    assert home.tablet.push(late)["results"][0]["status"] == "duplicate"
    assert home.records() == {"r": {home.space}}
    record = known(home.old.drain()[0])["r"]
    assert (record["title"], record["note"]) == ("two", "late")
    home.tablet.write(delete("r", 4))
    assert home.records() == {}


def test_one_push_may_write_in_both_spaces_what_moves_with_it(home: Home) -> None:
    home.old.write(insert("r", 1, title="one", note="n"))
    home.old.write(edit("r", 2, change_id=None, note="m"), in_space(home, edit("r", 3, title="two")))
    assert home.records() == {"r": {home.space}}
    record = known(home.tablet.drain()[0])["r"]
    assert (record["title"], record["note"]) == ("two", "m")


@pytest.mark.parametrize(("there", "title"), [(1, "here"), (3, "there")])
def test_a_record_that_is_in_both_is_merged_by_its_stamps(home: Home, there: int, title: str) -> None:
    home.ours.write({**edit("r", there, title="there", tag="x"), "spaceId": home.space})
    home.old.write(insert("r", 2, title="here"))
    home.old.write(in_space(home, edit("r", 4, note="n")))
    assert home.records() == {"r": {home.space}}
    record = known(home.tablet.drain()[0])["r"]
    assert (record["title"], record["tag"], record["note"]) == (title, "x", "n")


def test_nothing_moves_for_a_device_of_ours(home: Home) -> None:
    home.ours.write(edit("r", 1, title="one"))
    home.ours.write({**edit("r", 2, title="two"), "spaceId": home.space})
    assert home.records() == {"r": {home.personal, home.space}}
    assert len(home.log()) == 2


def test_nothing_moves_to_where_its_writer_may_not_write(home: Home, device: Make) -> None:
    bob = device(unique("bob"), "old", legacy=True)
    home.ours.member(home.space, bob.user, "reader")
    bob.write(insert("r", 1, title="one"))
    for space in (home.space, unique("nowhere")):
        assert (
            bob.push({**edit("r", 2, change_id=None, title="two"), "spaceId": space})["results"][0]["status"]
            == "rejected"
        )
    assert titles(known(bob.drain()[0])) == {"r": "one"}


def test_what_was_held_moves_the_record_when_it_is_written(home: Home) -> None:
    space = unique("later")
    home.old.write(insert("r", 1, title="one"))
    change = {**edit("r", 2, change_id=None, title="two"), "spaceId": space}
    assert home.old.push(change)["results"][0]["status"] == "rejected"
    assert home.records() == {"r": {home.personal}}
    home.ours.create(space)
    deadline = time.monotonic() + 60
    while home.records() != {"r": {space}}:
        assert time.monotonic() < deadline, home.records()
        time.sleep(0.1)
    assert titles(known(home.tablet.drain()[0])) == {"r": "two"}


def test_a_change_that_loses_its_clock_moves_the_record_all_the_same(home: Home) -> None:
    home.old.write(insert("r", 1, title="one"))
    home.old.write(in_space(home, edit("r", "2099-01-01T00:00:00Z", title="two")))
    assert home.records() == {"r": {home.space}}


def test_devices_that_move_and_write_at_once_leave_one_record(home: Home, device: Make) -> None:
    devices = [device(home.user, f"c{n}", legacy=True) for n in range(6)]
    for turn in range(3):
        record = f"r{turn}"
        home.old.write(insert(record, 1, title="one"))

        def write(n: int, record: str = record) -> None:
            change = edit(record, 10 + n, change_id=None, **{f"f{n}": n})
            devices[n].write({**change, "spaceId": home.space} if n % 2 else change)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(write, range(6)))
        assert home.records()[record] == {home.space}
        found = known(home.tablet.drain()[0])[record]
        assert {name: found.get(name) for name in (f"f{n}" for n in range(6))} == {f"f{n}": n for n in range(6)}


def test_an_export_and_its_import_keep_where_a_record_went(home: Home, device: Make) -> None:
    home.old.write(insert("r", 1, title="one"))
    home.tablet.write(edit("r", 2, change_id=None, note="m"))
    home.old.write(in_space(home, edit("r", 3, title="two")))
    whole = home.ours.request("GET", "/backup/export").content
    answer = home.ours.request(
        "POST", "/backup/import", content=whole, headers={"content-type": "application/x-ndjson"}
    )
    assert answer.status_code == 200, answer.text
    lines = [
        line for line in home.ours.request("GET", "/backup/export").content.splitlines() if b"manifest" not in line
    ]
    assert lines == [line for line in whole.splitlines() if b"manifest" not in line]


async def test_sockets_and_streams_do_not_take_it_away_either(server: Server, home: Home) -> None:
    home.old.write(insert("r", 1, title="one"))
    cursor = home.tablet.drain()[1]
    async with (
        socket_of(server, home.user, "tablet") as socket,
        stream_of(server, home.user, app="app", protocol=False, since=cursor) as stream,
    ):
        await socket.subscribe("app", cursor)
        await stream.next("heartbeat")
        home.old.write(in_space(home, edit("r", 2, title="two")))
        home.old.write(edit("last", 3, change_id=None, title="x"))
        await socket.brings("last", "app")
        await stream.brings("last")
        for changes in (socket.changes("app"), stream.changes()):
            assert [change["op"] for change in changes if change["spaceId"] == home.personal] == ["update"]
            await socket.until(lambda: [c for c in socket.changes("app") if c["spaceId"] == home.space])
            assert [c["fields"]["title"]["value"] for c in changes if c["spaceId"] == home.space] == ["one", "two"]


@pytest.mark.parametrize("alone", [False, True], ids=["with what moved it", "after it"])
def test_a_retry_of_what_made_the_record_is_known_although_it_moved(home: Home, alone: bool) -> None:
    """The answer was lost, and the device writes in the space before it sends all of it again."""
    made, edited = insert("r", 1, title="one"), in_space(home, edit("r", 2, change_id=None, title="two"))
    home.old.write(made)
    if alone:
        home.old.write(edited)
    pushed = home.old.push(made, edited)["results"]
    assert [result["status"] for result in pushed] == ["duplicate", "duplicate" if alone else "applied"]
    assert home.old.request("GET", "/sync/app/held").json()["held"] == []
    assert home.records() == {"r": {home.space}}
