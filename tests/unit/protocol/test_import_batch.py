"""What the log is given of an export: changes in batches, names and feeds by number, no record twice in a wave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast

from syncd.protocol.export_format import ImportBatch, arrange
from syncd.transfer.export_reader import ExportReader
from syncd.transfer.importer import BATCH_REPEATS, MOST_REPEATS, Batches, ImportReport
from tests.unit.protocol.test_export_format import AT, EVENT, LATER, reader, text


def batch(*places: dict[str, Any]) -> ImportBatch:
    lines = reader()
    return arrange([lines.read(text(**place)) for place in places])


def test_a_batch_has_one_member_a_change_and_numbers_for_names() -> None:
    events = [EVENT[:-1] + end for end in "abc"]
    made = batch(
        {"seq": 4, "pushEnd": 5, "eventId": events[0], "changeId": "k1"},
        {"seq": 5, "userId": "bob", "clientId": "tablet", "table": "u", "createdAt": LATER, "eventId": events[1]},
        {"seq": 2, "spaceId": "z", "eventId": events[2], "changeId": "k3"},
    )
    names = made.head["names"]
    assert sorted(names) == sorted({"ann", "bob", "phone", "tablet", "t", "u", "app"})
    assert made.head.keys() == {"feeds", "names"}

    def named(numbers: list[int]) -> list[str]:
        return [names[number - 1] for number in numbers]

    assert [(one["s"], named([one["a"]]), one["after"]) for one in made.head["feeds"]] == [
        ("s", ["app"], 0),
        ("z", ["app"], 0),
    ]
    assert (made.feeds, made.seqs, made.ends, made.ats) == ([1, 1, 2], [4, 5, 2], [5, 5, 2], [AT, LATER, AT])
    assert (made.events, made.ids) == (events, ["k1", f"\x02{events[1]}", "k3"])
    assert (named(made.authors), named(made.devices)) == (["ann", "bob", "ann"], ["phone", "tablet", "phone"])
    (wave,) = map(json.loads, made.waves)
    assert [(row["i"], row["k"], row["r"], *named([row["w"], row["u"], row["t"]])) for row in wave] == [
        (1, 1, "r", "ann", "phone", "t"), (2, 1, "r", "bob", "tablet", "u"), (3, 2, "r", "ann", "phone", "t"),
    ]  # fmt: skip


def test_a_feed_goes_on_after_the_line_before_it() -> None:
    lines = reader()
    lines.read(text(seq=7))
    rest = [lines.read(text(seq=8)), lines.read(text(seq=9)), lines.read(text(spaceId="z", seq=3))]
    assert [feed["after"] for feed in arrange(rest).head["feeds"]] == [7, 0]


def test_feeds_are_in_the_order_of_their_bytes() -> None:
    changes = [
        reader().read(text(spaceId=space, appId=app)) for space, app in (("z", "a"), ("é", "a"), ("a", "b"), ("a", "a"))
    ]
    made = arrange(changes)
    assert [(one["s"], made.head["names"][one["a"] - 1]) for one in made.head["feeds"]] == [
        ("a", "a"), ("a", "b"), ("z", "a"), ("é", "a"),
    ]  # fmt: skip
    assert made.feeds == [3, 4, 2, 1]


def test_no_record_is_twice_in_a_wave() -> None:
    made = batch(
        *({"seq": n, "id": record} for n, record in enumerate("aabaca", 1)), {"seq": 7, "id": "a", "table": "u"}
    )
    waves = [[(row["i"], row["r"]) for row in json.loads(wave)] for wave in made.waves]
    assert waves == [[(1, "a"), (3, "b"), (5, "c"), (7, "a")], [(2, "a")], [(4, "a")], [(6, "a")]]


class Lines:
    """An export of these lines, one push each where they do not say."""

    def __init__(self, *places: dict[str, Any]) -> None:
        self._texts = [text(**place) for place in places]

    def lines(self) -> Iterator[bytes]:
        return iter(self._texts)


def sizes_of(*places: dict[str, Any]) -> list[int]:
    """How many changes the batches of an import have."""
    source, report = cast(ExportReader, Lines(*places)), ImportReport(len(places))
    batches = Batches(source, reader(), report)
    sizes = [len(batch) for batch in iter(batches.next, [])]
    assert report.refused == 0
    return sizes


def test_a_record_is_in_a_batch_so_many_times_at_most() -> None:
    """Each time all of it is merged, and its space is kept from others until the end of the batch."""
    again = [{"seq": n, "changeId": f"k{n}"} for n in range(1, 101)]
    assert sizes_of(*again) == [BATCH_REPEATS, BATCH_REPEATS, BATCH_REPEATS, 100 - 3 * BATCH_REPEATS]
    assert sizes_of(*({**one, "id": f"r{n % 4}"} for n, one in enumerate(again))) == [100]
    others = [{**one, "id": f"r{n}"} for n, one in enumerate(again)]
    assert sizes_of(*others) == [100]


def test_a_push_is_whole_in_a_batch_while_it_is_not_too_much() -> None:
    def push(first: int, last: int) -> list[dict[str, Any]]:
        return [{"seq": n, "changeId": f"k{n}", "pushEnd": last} for n in range(first, last + 1)]

    assert sizes_of(*push(1, 100), *push(101, 110)) == [100, 10]
    assert sizes_of(*push(1, MOST_REPEATS + 10), *push(MOST_REPEATS + 11, MOST_REPEATS + 12)) == [MOST_REPEATS, 12]
