"""G7, G19: two devices of the first generation that wrote a field at one instant end with the same, and so does one
whose edit was too old: each engine takes what it is sent with an equal stamp, and shows what it wrote itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from syncd.core.clock import format_instant
from tests.support.legacy_devices import DexieEngine, LegacyDevice, LocalStore, TextEngine
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
T10, T10_05 = 1767261600_000_000, 1767261900_000_000
ENGINES: list[type[LegacyDevice]] = [DexieEngine, LocalStore, TextEngine]


def devices(device: Make, engine: type[LegacyDevice]) -> tuple[LegacyDevice, LegacyDevice]:
    """Two of one user with one clock, that have a record; the greater client id is the second's."""
    user = unique("pair")
    one, two = (engine(device(user, client, legacy=True), lambda: T10) for client in ("d0", "d1"))
    one.insert("t", "r", title="", body="")
    for each in (one, two, one):
        each.sync("t")
    return one, two


def edits(device: LegacyDevice, at: int = T10_05, **fields: str) -> None:
    """An edit at an instant, which its own screen shows whatever it knows."""
    device._clock, device._last = lambda: at, 0
    for name in (*fields, "updatedAt"):
        device._stamps.pop(("t", "r", name), None)
    device.edit("t", "r", **fields)


def agree(*all_: LegacyDevice) -> object:
    for each in all_ * 2:
        each.pull("t")
    new = type(all_[0])(all_[0].wire)
    new.pull("t")
    shown = new.shown("t")["r"]
    assert [each.shown("t")["r"] for each in all_] == [shown] * len(all_)
    return shown["title"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("heard", [False, True], ids=["answered", "pulled before"])
def test_who_wrote_at_one_instant_shows_what_stands(
    device: Make, engine: type[LegacyDevice], first: int, heard: bool
) -> None:
    pair = devices(device, engine)
    for number, each in enumerate(pair):
        edits(each, title=f"v{number}")
    pair[first].push("t")
    if heard:
        pair[1 - first].pull("t")
    pair[1 - first].push("t")
    assert agree(*pair) == "v1"


def test_also_where_others_wrote_between(device: Make) -> None:
    one, two = devices(device, TextEngine)
    edits(one, title="v0")
    edits(two, title="v1")
    one.push("t")
    two.pull("t")
    for n in range(1, 5):
        edits(one, T10_05 + n * 1_000_000, body=f"b{n}")
        one.push("t")
    two.push("t")
    assert agree(one, two) == "v1"


@pytest.mark.parametrize("engine", ENGINES)
def test_an_edit_that_is_older_than_what_its_device_has_is_put_right(device: Make, engine: type[LegacyDevice]) -> None:
    """Its clock is behind; it has pulled already what its edit loses to."""
    one, two = devices(device, engine)
    edits(two, title="later")
    two.push("t")
    one.pull("t")
    edits(one, T10_05 - 60_000_000, title="earlier")
    assert one.shown("t")["r"]["title"] == "earlier"
    one.push("t")
    assert agree(one, two) == "later"


def test_an_edit_that_meets_nothing_brings_nothing_back(device: Make) -> None:
    one, _ = devices(device, DexieEngine)
    cursor = one.cursors["t"]
    for n in range(1, 4):
        edits(one, T10_05 + n * 1_000_000, title=f"v{n}")
        answer = one.wire.push(one.pending.pop(), since=cursor, pull=True)
        assert answer["serverChanges"] == []
        cursor = answer["syncedUntil"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("titles", ["aba", "abab", "abcacb", "aabbaabb", "ababababab"])
def test_a_value_that_comes_back_within_one_millisecond_stands(
    device: Make, engine: type[LegacyDevice], titles: str
) -> None:
    """Written with a coarse clock, another value between: the last is no repeat of the first. A retry is one."""
    one, two = devices(device, engine)
    for title in titles:
        edits(one, title=title)
    pending = list(one.pending)
    one.push("t")
    assert agree(one, two) == titles[-1]
    again = one.wire.push(*pending)["results"]
    assert [result["status"] for result in again] == ["duplicate"] * len(titles)
    assert agree(one, two) == titles[-1]


def test_the_same_twice_in_one_push_is_written_once(device: Make) -> None:
    one, two = devices(device, DexieEngine)
    for title in "aab":
        edits(one, title=title)
    statuses = [result["status"] for result in one.wire.push(*one.pending)["results"]]
    assert statuses == ["applied", "duplicate", "applied"]
    assert agree(two) == "b"


class TestWithinOneMillisecond:
    """Clients of ours date by the microsecond: X.123456 is later than what a device of these writes at X.123."""

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("first", ["ours", "theirs"])
    @pytest.mark.parametrize("heard", [False, True], ids=["answered", "pulled before"])
    def test_who_wrote_beside_a_client_of_ours_shows_what_stands(
        self, device: Make, engine: type[LegacyDevice], first: str, heard: bool
    ) -> None:
        one, two = devices(device, engine)
        ours = device(one.wire.user, "a0")
        edits(one, title="theirs")
        if first == "theirs":
            one.push("t")
        writes(ours, 456, "ours")
        if heard:
            one.pull("t")
        one.push("t")
        assert agree(one, two) == "ours"

    @pytest.mark.parametrize("engine", ENGINES)
    def test_who_edits_what_it_was_just_sent_is_put_right(self, device: Make, engine: type[LegacyDevice]) -> None:
        one, two = devices(device, engine)
        writes(device(one.wire.user, "a0"), 456, "ours")
        for each in (one, two):
            each.pull("t")
        edits(one, title="theirs")
        assert one.shown("t")["r"]["title"] == "theirs"
        one.push("t")
        assert agree(one, two) == "ours"

    @pytest.mark.parametrize("engine", ENGINES)
    def test_of_two_writes_of_ours_the_later_is_shown(self, device: Make, engine: type[LegacyDevice]) -> None:
        one, two = devices(device, engine)
        ours = [device(one.wire.user, f"a{n}") for n in range(2)]
        writes(ours[0], 100, "first")
        one.pull("t")
        writes(ours[1], 900, "second")
        writes(ours[0], 500, "late", status="superseded")
        assert agree(one, two) == "second"


def writes(ours: Device, micros: int, title: str, status: str = "applied") -> None:
    """A write of ours, so many microseconds after what the others write."""
    change = {"table": "t", "id": "r", "op": "update", "changeId": unique("c")}
    stamp = format_instant(T10_05 + micros)
    answer = ours.push({**change, "fields": {"title": {"value": title, "at": stamp}}})
    assert answer["results"][0]["status"] == status


class TestBetweenTwoPages:
    """What a device has still to pull does not keep the answer to its push from putting it right."""

    @staticmethod
    def half_read(device: Make, engine: type[LegacyDevice]) -> tuple[LegacyDevice, LegacyDevice]:
        """The first has seen what the second wrote later than it will, and a page of what the second wrote since."""
        one, two = devices(device, engine)
        edits(two, title="later")
        two.push("t")
        one.pull("t")
        for n in range(36):
            two.insert("t", f"other{n}", title="")
            if n % 12 == 11:
                two.push("t")
        one.page = {"limit": 1}
        one.pull("t")
        assert "other0" in one.shown("t")
        assert "other35" not in one.shown("t")
        return one, two

    @pytest.mark.parametrize("engine", ENGINES)
    def test_an_edit_that_is_older_is_put_right(self, device: Make, engine: type[LegacyDevice]) -> None:
        one, two = self.half_read(device, engine)
        cursor = one.cursors["t"]
        edits(one, T10_05 - 60_000_000, title="earlier")
        one.push("t")
        assert (one.shown("t")["r"]["title"], one.cursors["t"]) == ("later", cursor)
        one.page = {}
        assert agree(one, two) == "later"

    def test_also_in_a_push_of_several_parts(self, device: Make) -> None:
        """A record is written in the personal space, and then under the id of a space: the first part has lost."""
        one, two = self.half_read(device, TextEngine)
        one.insert("t", "moves", title="")
        edits(one, T10_05 - 60_000_000, title="earlier")
        one.space = device(one.wire.user, "a0").create(unique("garden"))
        one.edit("t", "moves", title="moved")
        one.push("t")
        assert one.shown("t")["r"]["title"] == "later"
        one.page = {}
        assert agree(one, two) == "later"

    def test_also_where_the_page_ends_before_its_space(self, device: Make) -> None:
        """The personal space, which is read first, has more than a page."""
        user = unique("pair")
        old, other = device(user, "old", legacy=True), device(user, "other")
        other.write(edit("made", 1, title=""))
        garden = other.create(unique("garden"))
        other.write({**edit("r", 2000, title="later"), "spaceId": garden})
        _, cursor = old.drain()
        other.write(*(edit(f"other{n}", 1, title="x" * 800_000) for n in range(3)))
        lost = {**edit("r", 1000, change_id=None, title="earlier"), "spaceId": garden}
        answer = old.push(lost, since=cursor, pull=True)
        assert answer["hasMore"]
        assert answer["serverChanges"][-1]["fields"]["title"]["value"] == "later"


class TestWhoseAnswerWasLost:
    """The push is sent again, and its answer is what the first one was."""

    @pytest.mark.parametrize("engine", ENGINES)
    @pytest.mark.parametrize("read", ["all", "a page"])
    def test_an_edit_that_is_older_is_put_right(self, device: Make, engine: type[LegacyDevice], read: str) -> None:
        if read == "a page":
            one, two = TestBetweenTwoPages.half_read(device, engine)
        else:
            one, two = devices(device, engine)
            edits(two, title="later")
            two.push("t")
            one.pull("t")
        edits(one, T10_05 - 60_000_000, title="earlier")
        one.wire.push(*one.pending, since=one.cursors["t"], pull=True)
        one.push("t")
        assert one.shown("t")["r"]["title"] == "later"
        one.page = {}
        assert agree(one, two) == "later"

    @pytest.mark.parametrize("engine", ENGINES)
    def test_a_deletion_that_is_older_is_put_right(self, device: Make, engine: type[LegacyDevice]) -> None:
        one, two = devices(device, engine)
        one._clock, one._last = lambda: T10 - 60_000_000, 0
        one._stamps.pop(("t", "r", "deletedAt"), None)
        one.delete("t", "r")
        assert "r" not in one.shown("t")
        one.wire.push(*one.pending, since=one.cursors["t"], pull=True)
        one.push("t")
        assert agree(one, two) == ""

    def test_what_stood_is_not_told_again(self, device: Make) -> None:
        one, _ = devices(device, DexieEngine)
        edits(one, title="stands")
        cursor = one.cursors["t"]
        for status in ("applied", "duplicate"):
            answer = one.wire.push(*one.pending, since=cursor, pull=True)
            assert (answer["results"][0]["status"], answer["serverChanges"]) == (status, [])
            cursor = answer["syncedUntil"]
