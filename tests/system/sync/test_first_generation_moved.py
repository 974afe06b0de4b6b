"""G19: a record that went from the personal space to another one stays one record, whoever writes it where it was: also
a device of ours that has not heard of it, and also where it had been deleted before it went."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.compacting import compact_now
from tests.support.harness import Server
from tests.support.moving import Home, delete, in_space, insert, known, titles
from tests.support.socket_device import socket_of
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture
def home(device: Make) -> Home:
    return Home(device)


def put(record: str, when: int, **fields: Any) -> Json:
    """What a client of ours sends of a record that it makes."""
    whole = edit(record, when, **fields, deletedAt=None)
    return {**whole, "op": "insert"}


def buried(record: str, when: int) -> Json:
    """What a client of ours sends of a record that it deletes."""
    return {**delete(record, when), "changeId": unique("c")}


def moved(home: Home) -> None:
    """A record that a device of the first generation made and moved."""
    home.old.write(insert("r", 1, title="one", note="n"))
    home.old.write(in_space(home, edit("r", 2, title="two")))


class TestADeletedRecord:
    @pytest.fixture(autouse=True)
    def _deleted(self, home: Home) -> None:
        home.old.write(insert("r", 1, title="one", note="n"))
        home.old.write(delete("r", 2))

    def test_is_not_brought_back_by_half_by_a_device_that_has_not_heard_of_it(self, home: Home) -> None:
        home.tablet.write(in_space(home, edit("r", 3, title="two")))
        assert home.records() == {}
        for since in ("", at(0)):
            assert known(home.tablet.drain(since)[0]) == {}
        log = [change for change in home.ours.drain(history=1)[0] if change["spaceId"] == home.space]
        assert [change["op"] for change in log] == ["delete", "update"]
        assert log[0]["deletedAt"] == at(2)

    def test_comes_back_whole_where_it_is_made_again(self, home: Home) -> None:
        home.tablet.write(in_space(home, insert("r", 3, title="two")))
        assert home.records() == {"r": {home.space}}
        record = known(home.tablet.drain()[0])["r"]
        assert (record["title"], record["note"]) == ("two", "n")

    def test_takes_one_that_is_there_with_it_by_its_stamps(self, home: Home) -> None:
        home.ours.write({**put("r", 1, title="there"), "spaceId": home.space})
        home.tablet.write(in_space(home, edit("r", 3, title="two")))
        assert home.records() == {}
        home.ours.write({**put("r", 4, title="anew"), "spaceId": home.space})
        assert home.records() == {"r": {home.space}}
        assert titles(known(home.tablet.drain()[0])) == {"r": "anew"}

    def test_of_two_devices_goes_with_the_writes_of_both(self, home: Home) -> None:
        home.tablet.write(insert("q", 1, title="one"))
        home.old.write(delete("q", 2))
        home.tablet.write(in_space(home, edit("q", 3, title="two")))
        log = [c for c in home.ours.drain(history=1)[0] if c["spaceId"] == home.space and c["id"] == "q"]
        assert [(c["op"], c["clientId"]) for c in log] == [
            ("delete", "old"),
            ("update", "tablet"),
            ("update", "tablet"),
        ]
        assert "deletedAt" in log[1]["fields"], "a change to a tombstone is whole"


def test_what_was_written_before_it_went_comes_from_where_it_is(home: Home) -> None:
    """An object that comes again, after a member of it that is newer, would take that member away."""
    home.old.write(insert("q", 1, title="q"))
    cursor = home.tablet.drain()[1]
    home.old.write(insert("r", 1, cfg={"theme": "light"}))
    home.old.write(in_space(home, edit("r", 2, **{"cfg.theme": "dark"})))
    for since in (cursor, at(0)):
        page = [change for change in home.tablet.drain(since)[0] if change["id"] == "r"]
        assert {change["spaceId"] for change in page} == {home.space}
        assert list(page[-1]["fields"]) == ["cfg.theme"]


def test_the_server_says_itself_where_a_record_went(home: Home) -> None:
    """In the device's name it could stamp as the device does."""
    moved(home)
    assert (home.personal, "delete", "_server:old") in home.log()


class TestADeviceOfOursThatHasNotHeardOfIt:
    def found(self, home: Home) -> Json:
        assert home.records() == {"r": {home.space}}
        record = known(home.tablet.drain()[0])["r"]
        assert values(home.ours.drain()[0])["r"].items() >= record.items()
        return record

    def test_edits_the_record_where_it_is(self, home: Home) -> None:
        moved(home)
        cursor, heard = home.ours.drain()[1], home.tablet.drain()[1]
        change = edit("r", 3, note="late")
        home.ours.write(change)
        assert home.ours.push(change)["results"][0]["status"] == "duplicate"
        record = self.found(home)
        assert (record["title"], record["note"]) == ("two", "late")
        there = [c for c in home.ours.drain(cursor)[0] if c["spaceId"] == home.space]
        assert [(c["clientId"], c["fields"]) for c in there] == [("ours", {"note": {"value": "late", "at": at(3)}})]
        assert [c["fields"]["note"]["value"] for c in home.tablet.drain(heard)[0]] == ["late"]

    def test_of_many_changes_each_goes_where_its_record_is(self, home: Home) -> None:
        moved(home)
        home.ours.write(edit("q", 3, n=1), edit("r", 3, note="a"), edit("r", 4, note="b", tag=1), put("s", 3, n=2))
        assert home.records() == {"r": {home.space}, "q": {home.personal}, "s": {home.personal}}
        record = known(home.tablet.drain()[0])["r"]
        assert (record["title"], record["note"], record["tag"]) == ("two", "b", 1)

    @pytest.mark.parametrize("when", [2, "2099-01-01T00:00:00Z"], ids=["before it moved", "ahead of the clock"])
    def test_deletes_it(self, home: Home, when: Any) -> None:
        moved(home)
        gone = buried("r", 2) if when == 2 else {**buried("r", 2), "deletedAt": when}
        assert home.ours.push(gone)["results"][0]["status"] in ("applied", "superseded")
        assert home.records() == {}
        assert known(home.tablet.drain(at(0))[0]) == {}
        home.tablet.write(edit("r", 5, change_id=None, title="later"))
        assert home.records() == {}

    @pytest.mark.parametrize("when", [3, "2099-01-01T00:00:00Z"], ids=["before it moved", "ahead of the clock"])
    def test_makes_it_and_it_is_one(self, home: Home, when: Any) -> None:
        moved(home)
        made = put("r", when, title="mine", tag=1)
        home.ours.push(made)
        record = self.found(home)
        assert (record["title"], record["note"], record["tag"]) == ("mine", "n", 1)
        assert home.ours.push(made)["results"][0]["status"] == "duplicate"
        home.tablet.write(edit("r", 4, change_id=None, note="late"))
        assert self.found(home)["note"] == "late"

    def test_in_one_transaction_all_or_nothing(self, home: Home) -> None:
        moved(home)
        cursor = home.ours.drain()[1]
        bad = {**edit("r", 4, n=1), "spaceId": "nowhere"}
        refused = home.ours.send(edit("r", 3, note="late"), bad, atomic=True)
        assert refused.status_code == 422, refused.text
        assert home.ours.drain(cursor)[0] == []

    @pytest.mark.parametrize("role", [None, "reader"])
    def test_is_told_if_its_user_may_not_write_there_and_may_make_another(
        self, home: Home, device: Make, role: str | None
    ) -> None:
        bob = device(unique("bob"))
        moved(home)
        home.ours.member(home.space, bob.user, "owner")
        if role is None:
            home.ours.remove(home.space, home.user)
        else:
            bob.member(home.space, home.user, role)
        code = "space_not_found" if role is None else "not_a_writer"
        before = values([c for c in bob.drain()[0] if c["spaceId"] == home.space])
        results = home.ours.push(edit("q", 3, n=1), edit("r", 3, note="late"), buried("r", 4))["results"]
        assert [result.get("code", result["status"]) for result in results] == ["applied", code, code]
        home.ours.push(put("r", "2098-01-01T00:00:00Z", title="mine"))
        assert values([c for c in bob.drain()[0] if c["spaceId"] == home.space]) == before
        assert home.personal in home.records()["r"]

    async def test_and_whoever_listens_hears_of_it(self, server: Server, home: Home) -> None:
        moved(home)
        async with socket_of(server, home.user, "listener", protocol=1) as socket:
            await socket.subscribe("app", home.ours.drain()[1])
            home.ours.write(put("r", "2098-01-01T00:00:00Z", title="mine"))
            await socket.until(lambda: [c for c in socket.changes("app") if c["spaceId"] == home.space])
            await socket.until(lambda: len([c for c in socket.changes("app") if c["spaceId"] == home.personal]) == 2)


def test_what_was_written_in_a_space_first_is_not_shown_to_it_by_a_write_in_the_personal_one(home: Home) -> None:
    """It says who may read it; ids of records may be the same by chance."""
    home.old.write(in_space(home, insert("r", 1, title="shared")))
    home.old.write(edit("r", 2, change_id=None, secret="mine"))
    assert home.records() == {"r": {home.space, home.personal}}
    assert all("secret" not in c["fields"] for c in home.ours.drain()[0] if c["spaceId"] == home.space)


def test_where_a_record_went_survives_a_compaction_and_an_export_into_an_empty_server(
    server: Server, home: Home, folder: Path
) -> None:
    moved(home)
    home.old.write(insert("gone", 1, title="x"))
    home.old.write(delete("gone", 2))
    home.old.write(in_space(home, edit("gone", 3, title="y")))
    for space in (home.personal, home.space):
        compact_now(server.owner_dsn, space)
    late = edit("r", 3, change_id=None, note="late")
    home.tablet.write(late)
    assert home.records() == {"r": {home.space}}
    lines = home.ours.request("GET", "/backup/export").content
    with Server(folder / "empty") as empty, httpx.Client(base_url=empty.url, timeout=60) as http:
        home.old, home.tablet, home.ours = (
            Device(http, empty, home.user, device.client, legacy=device is not home.ours)
            for device in (home.old, home.tablet, home.ours)
        )
        sent = {"content": lines, "headers": {"content-type": "application/x-ndjson"}}
        assert home.ours.request("POST", "/backup/import", **sent).status_code == 200
        assert home.records() == {"r": {home.space}}
        assert titles(known(home.tablet.drain(at(0))[0])) == {"r": "two"}
        assert home.tablet.push(late)["results"][0]["status"] == "duplicate"
        home.tablet.write(edit("r", 4, change_id=None, note="later"))
        home.ours.write(edit("r", 5, tag="ours"), edit("gone", 5, tag="ours"))
        assert home.records() == {"r": {home.space}}
        record = known(home.tablet.drain(at(0))[0])["r"]
        assert (record["title"], record["note"], record["tag"]) == ("two", "later", "ours")
