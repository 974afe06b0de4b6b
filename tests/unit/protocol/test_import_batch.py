"""What the log is given of an export: changes in batches, names and feeds by number, no record twice in a wave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from syncd.core.errors import Malformed
from syncd.protocol.import_batch import ImportBatch, arrange
from syncd.store.pool import Refusal
from syncd.transfer.export_reader import ExportReader
from syncd.transfer.importer import Batches, ImportReport, restore
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


LOOKED_AT: list[int] = []


async def parts(most: int, *places: dict[str, Any]) -> tuple[list[list[tuple[int, int]]], ImportReport]:
    """What is written at once of an import where so many changes are as much as may be, 100 for one of 'large': of each
    change its seq and the end of its push."""
    source, report = cast(ExportReader, Lines(*places)), ImportReport(len(places))
    written: list[list[tuple[int, int]]] = []

    async def append(made: ImportBatch) -> tuple[str, list[int]]:
        rows = sorted((row for wave in made.waves for row in json.loads(wave)), key=lambda row: row["i"])
        LOOKED_AT.append(len(rows))
        sizes = [100 if row["r"] == "large" else 1 for row in rows]
        beyond = [n for n in range(1, len(rows) + 1) if sum(sizes[:n]) > most]
        if beyond:
            raise Refusal("SY008", "touched", json.dumps(beyond[:1]))
        written.append(list(zip(made.seqs, made.ends, strict=True)))
        return "a" * len(rows), [max(made.seqs)]

    await restore(Batches(source, reader(), report), append, report)
    return written, report


def push(first: int, last: int, **more: Any) -> list[dict[str, Any]]:
    return [{"seq": n, "changeId": f"k{n}", "pushEnd": last, **more} for n in range(first, last + 1)]


async def test_a_batch_that_touches_too_much_is_written_in_whole_pushes() -> None:
    written, report = await parts(5, *push(1, 3), *push(4, 5), *push(6, 9), *push(10, 10))
    assert [[seq for seq, _ in part] for part in written] == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]]
    assert {end for part in written for _, end in part} == {3, 5, 9, 10}
    assert (report.imported, report.refused) == (10, 0)


async def test_a_push_that_touches_too_much_ends_where_a_part_of_it_does() -> None:
    written, report = await parts(4, *push(1, 2), *push(3, 12), *push(13, 14))
    assert written == [
        [(1, 2), (2, 2)],
        [(3, 6), (4, 6), (5, 6), (6, 6)],
        [(7, 10), (8, 10), (9, 10), (10, 10)],
        [(11, 12), (12, 12), (13, 14), (14, 14)],
    ]
    assert report.imported == 14


async def test_a_change_that_touches_too_much_by_itself_is_refused_and_the_others_are_written() -> None:
    written, report = await parts(4, *push(1, 1, id="large"), *push(2, 3), *push(4, 4, id="large"), *push(5, 5))
    assert [[seq for seq, _ in part] for part in written] == [[2, 3], [5]]
    assert [(one["line"], one["code"]) for one in report.refusals] == [(1, "push_too_large"), (4, "push_too_large")]
    assert (report.imported, report.refused) == (3, 2)


async def test_a_push_is_whole_where_those_behind_it_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it changes may count behind what they do: the log counts record by record."""
    written: list[list[int]] = []

    async def append(made: ImportBatch) -> tuple[str, list[int]]:
        if len(made.seqs) > 5:
            raise Refusal("SY008", "touched", "[2]")
        written.append(made.ends)
        return "a" * len(made.seqs), [max(made.seqs)]

    report = ImportReport(12)
    source = cast(ExportReader, Lines(*push(1, 2), *push(3, 7), *push(8, 12)))
    await restore(Batches(source, reader(), report), append, report)
    assert written == [[2, 2], [7] * 5, [12] * 5]


async def test_the_work_for_a_push_in_parts_grows_with_its_changes() -> None:
    LOOKED_AT.clear()
    written, _ = await parts(4, *push(1, 1000))
    assert [len(part) for part in written] == [4] * 250
    assert sum(LOOKED_AT) < 5 * 1000


async def test_batches_grow_again_behind_what_was_too_much() -> None:
    LOOKED_AT.clear()
    lines = [{"seq": n, "changeId": f"k{n}", "id": "large" if n == 2 else "small"} for n in range(1, 401)]
    _, report = await parts(400, lines[0], {**lines[1], "id": "large"}, *lines[2:])
    assert report.imported == 400
    assert len(LOOKED_AT) < 12


async def ahead(source: Lines, append: Any, report: ImportReport) -> None:
    """An operator's import, which reads while it writes, two changes at a time."""
    await restore(Batches(cast(ExportReader, source), reader(), report, most=2, ahead=True), append, report)


async def test_what_is_read_ahead_is_written_and_told_in_order() -> None:
    written: list[list[int]] = []

    async def append(made: ImportBatch) -> tuple[str, list[int]]:
        written.append(made.seqs)
        return "an"[: len(made.seqs)], [0]

    report = ImportReport(7)
    wrong = {"seq": 4, "id": ""}
    await ahead(
        Lines(*push(1, 1), *push(2, 2), *push(3, 3), wrong, *push(5, 5), *push(6, 6), *push(7, 7)), append, report
    )
    assert written == [[1, 2], [3, 5], [6, 7]]
    assert [(one["line"], one["code"]) for one in report.refusals] == [
        (2, "space_not_found"), (4, "invalid_change"), (5, "space_not_found"), (7, "space_not_found"),
    ]  # fmt: skip
    assert (report.imported, report.refused) == (3, 4)


@pytest.mark.parametrize("full", [True, False], ids=["the log refuses", "the source ends"])
async def test_what_is_read_ahead_is_done_when_an_import_fails(full: bool) -> None:
    """Its file is closed then."""
    reading: list[bool] = []

    class Broken(Lines):
        def lines(self) -> Iterator[bytes]:
            reading.append(True)
            yield from super().lines()
            time.sleep(0.1)  # as a disk may take, while the log refuses what was read before
            reading.pop()
            if not full:
                raise Malformed("A line is longer than any change.", code="invalid_export")

    async def append(made: ImportBatch) -> tuple[str, list[int]]:
        if full:
            raise Refusal("XX000", "full", "")
        return "a" * len(made.seqs), [0]

    report = ImportReport(3)
    with pytest.raises(Refusal if full else Malformed):
        await ahead(Broken(*push(1, 1), *push(2, 2), *push(3, 3)), append, report)
    assert reading == []
    assert report.imported == (0 if full else 2)
