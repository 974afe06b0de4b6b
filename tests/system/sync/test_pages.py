"""Pages: pushes are never split, nothing is lost between two of them, state comes before the log."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from tests.support.wire import Device, Json, edit, unique, values

Make = Callable[..., Device]


def pushes(device: Device, sizes: list[int]) -> None:
    """Pushes of these sizes; every change of one says which it is of."""
    for number, size in enumerate(sizes):
        device.write(*(edit(f"p{number}-{i}", number + 1, push=number, size=size) for i in range(size)))


def assert_whole(page: list[Json]) -> None:
    """Every push in a page is there with all its changes."""
    for number, changes in itertools.groupby(page, key=lambda c: c["fields"]["push"]["value"]):
        found = list(changes)
        assert len(found) == found[0]["fields"]["size"]["value"], f"push {number} was split"


@pytest.mark.parametrize("history", [0, 1], ids=["state", "log"])
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 37, 10_000])
def test_a_push_is_never_split_by_a_page(device: Make, limit: int, history: int) -> None:
    writer = device(unique("pages"))
    pushes(writer, [1, 5, 2, 1, 30, 4, 1])
    pages = list(writer.pages(limit=limit, history=history))
    for page in pages:
        assert_whole(page["serverChanges"])
    seqs = [c["seq"] for page in pages for c in page["serverChanges"]]
    assert seqs == (list(range(1, 45)) if history else list(range(44, 0, -1)))
    assert len(pages) == 1 or limit < 44
    assert limit > 1 or len(pages) == 7


def test_limit_is_a_target_and_has_more_says_whether_there_is_more(device: Make) -> None:
    writer = device(unique("more"))
    cursor = writer.pull()["syncedUntil"]
    pushes(writer, [3, 3, 3])
    for limit, sizes in ((1, [3, 3, 3]), (3, [3, 3, 3]), (4, [6, 3]), (6, [6, 3]), (9, [9]), (100, [9])):
        pages = list(writer.pages(cursor, limit=limit))
        assert [len(page["serverChanges"]) for page in pages] == sizes
        assert [page["hasMore"] for page in pages] == [True] * (len(sizes) - 1) + [False]


@pytest.mark.parametrize("history", [0, 1], ids=["state", "log"])
def test_a_page_is_bounded_in_bytes_too(device: Make, history: int) -> None:
    writer = device(unique("bytes"))
    for number in range(12):
        writer.write(*(edit(f"r{number}-{i}", x="x" * 450_000, push=number, size=2) for i in range(2)))
    pages = list(writer.pages(limit=10_000, history=history))
    assert len(pages) > 1
    for page in pages:
        assert_whole(page["serverChanges"])
        assert sum(len(c["fields"]["x"]["value"]) for c in page["serverChanges"]) < 6 << 20
    seqs = [c["seq"] for page in pages for c in page["serverChanges"]]
    assert seqs == (list(range(1, 25)) if history else list(range(24, 0, -1)))


@pytest.mark.parametrize("limit", [1, 3, 37])
def test_any_size_of_page_gives_the_same_stream_over_several_spaces(device: Make, limit: int) -> None:
    writer = device(unique("stream"))
    spaces = [writer.create(unique("s")) for _ in range(3)]
    for number in range(12):
        writer.write(
            *(
                {**edit(f"r{number}-{i}", number + 1, n=number), "spaceId": space}
                for i in range(number % 4 + 1)
                for space in spaces[: number % 3 + 1]
            )
        )

    def stream(size: int) -> dict[str, list[Json]]:
        changes, _ = writer.drain(limit=size, history=1)
        return {space: [c for c in changes if c["spaceId"] == space] for space in spaces}

    assert stream(limit) == stream(10_000)
    for changes in stream(limit).values():
        assert [c["seq"] for c in changes] == list(range(1, len(changes) + 1))


def test_a_push_over_several_spaces_is_whole_in_each(device: Make) -> None:
    writer = device(unique("several"))
    a, b = writer.create(unique("a")), writer.create(unique("b"))
    results = writer.push(*({**edit(f"r{i}", x=i), "spaceId": (a, b)[i % 2]} for i in range(6)))["results"]
    assert [r["seq"] for r in results] == [1, 1, 2, 2, 3, 3]
    for page in writer.pages(limit=1, history=1):
        assert len({c["spaceId"] for c in page["serverChanges"]}) == 1
        assert len(page["serverChanges"]) == 3


def test_state_comes_first_and_the_log_after_it(device: Make) -> None:
    writer = device(unique("state"))
    for n in range(5):
        writer.write(edit("a", n + 1, n=n), edit("b", n + 1, m=n))
    state, cursor = writer.drain()
    assert [(c["id"], c["op"], c["seq"]) for c in state] == [("b", "insert", 10), ("a", "insert", 9)]
    writer.write(edit("a", 10, n=10))
    writer.write(edit("a", 11, n=11))
    log, _ = writer.drain(cursor)
    assert [(c["op"], c["seq"], c["fields"]["n"]["value"]) for c in log] == [("update", 11, 10), ("update", 12, 11)]


def test_a_record_that_is_touched_between_two_pages_is_not_lost(device: Make) -> None:
    writer = device(unique("touched"))
    for n in range(8):
        writer.write(edit(f"r{n}", 1, n=n))
    first = writer.pull(limit=3)
    seen = [c["id"] for c in first["serverChanges"]]
    assert seen == ["r7", "r6", "r5"]
    writer.write(edit("r0", 2, n="again"), edit("r5", 2, n="moved"), edit("new", 2, n="new"))
    rest, cursor = writer.drain(first["syncedUntil"], limit=3)
    state = values(first["serverChanges"] + rest)
    assert state == {
        **{f"r{n}": {"n": n} for n in range(8)},
        "r0": {"n": "again"},
        "r5": {"n": "moved"},
        "new": {"n": "new"},
    }
    assert writer.drain(cursor)[0] == []


def test_a_record_that_is_deleted_between_two_pages_is_not_kept(device: Make) -> None:
    writer = device(unique("deleted"))
    for n in range(6):
        writer.write(edit(f"r{n}", 1, n=n))
    first = writer.pull(limit=3)
    writer.write(
        *(
            {
                "table": "t",
                "id": f"r{n}",
                "op": "delete",
                "changeId": f"d{n}",
                "deletedAt": edit("x", 2, y=1)["fields"]["y"]["at"],
            }
            for n in (1, 4)
        )
    )
    rest, _ = writer.drain(first["syncedUntil"], limit=2)
    assert set(values(first["serverChanges"] + rest)) == {"r0", "r2", "r3", "r5"}
    assert [c["op"] for c in rest if c["id"] == "r1"] == ["delete"]


def test_a_fresh_device_hears_nothing_of_records_deleted_before(device: Make) -> None:
    writer = device(unique("fresh"))
    writer.write(edit("a", 1, x=1), edit("b", 1, x=1))
    writer.write({"table": "t", "id": "a", "op": "delete", "changeId": "d", "deletedAt": "2026-01-02T00:00:00Z"})
    assert [c["id"] for c in writer.drain()[0]] == ["b"]
    assert [c["op"] for c in writer.drain(history=1)[0]] == ["update", "update", "delete"]


def test_a_snapshot_taken_while_records_are_rewritten_loses_none(device: Make) -> None:
    writer, reader = device(unique("rewritten"), "w"), None
    names = [f"r{n}" for n in range(40)]
    writer.write(*(edit(name, 1, n=0) for name in names))
    for name in names:
        writer.write(edit(name, 2, n=0))
    stop, rounds = threading.Event(), itertools.count(3)

    def rewrite() -> None:
        for turn in rounds:
            if stop.is_set():
                return
            writer.write(*(edit(name, turn, n=turn) for name in names[turn % 7 :: 7]))

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for turn in range(8):
            reader = device(writer.user, f"reader{turn}")
            cursor, held, met = "", [], set()
            for page in itertools.islice(reader.pages(limit=2), 400):
                held += page["serverChanges"]
                met |= {c["id"] for c in page["serverChanges"]}
                cursor = page["syncedUntil"]
                if len(met) == len(names):
                    break
            assert met == set(names)
            stop_at, _ = reader.drain(cursor, limit=10_000)
            assert set(values(held + stop_at)) == set(names)
    finally:
        stop.set()
        thread.join()
    assert reader is not None
    final, _ = reader.drain(cursor)
    assert values(held + final) == values(writer.drain(history=1)[0])


def test_a_page_narrowed_to_a_table_holds_nothing_else_and_misses_nothing(device: Make) -> None:
    writer = device(unique("narrow"))
    for n in range(30):
        writer.write(*({**edit(f"{table}{n}", 1, n=n), "table": table} for table in ("x", "y", "z")))
    for tables in (["x"], ["y", "z"], ["x", "y", "z"], ["nothing"]):
        for query in ({"collection": ",".join(tables)}, {"collection": tables}):
            changes, cursor = writer.drain(limit=4, **query)
            assert sorted(c["id"] for c in changes) == sorted(
                f"{t}{n}" for t in tables for n in range(30) if t != "nothing"
            )
            assert writer.drain(cursor, **query)[0] == []
    writer.write({**edit("late", 1, n=1), "table": "y"}, {**edit("late", 1, n=1), "table": "x"})
    assert [c["table"] for c in writer.drain(cursor, collection="nothing")[0]] == []
