"""A pull that asks with `until` is told when it has what was there as it began, however fast others write."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.wire import Device, Json, edit, unique

Make = Callable[..., Device]
MOST = 60


def read(reader: Device, since: str, between: Callable[[], object], **query: object) -> list[Json]:
    """Pages of one change, until it is told that it has what was there; something happens before each but the first."""
    pages: list[Json] = []
    until = ""
    while len(pages) < MOST:
        page = reader.pull(since, limit=1, until=until, **query)
        pages.append(page)
        if not page["hasMore"] or page["until"] == "":
            return pages
        since, until = page["syncedUntil"], page["until"]
        between()
    raise AssertionError("it was never told that it had what was there")


async def dated_ahead(dsn: str, space: str) -> None:
    """The changes of a space are of an hour from now."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "UPDATE syncd.sync_changes c SET created_at = now() + interval '1 hour' FROM syncd.sync_spaces s"
        " WHERE s.space_no = c.space_no AND s.space_id = $1",
        space,
    )
    await connection.close()


def records(pages: list[Json]) -> set[str]:
    return {change["id"] for page in pages for change in page["serverChanges"]}


def test_it_has_all_that_was_there_and_nothing_is_lost(device: Make) -> None:
    writer = device(unique("until"))
    writer.write(edit("first", n=1))
    since = writer.pull()["syncedUntil"]
    for n in range(5):
        writer.write(edit(f"r{n}", n=n))
    late = iter(range(1000))
    pages = read(writer, since, lambda: writer.write(edit(f"late{next(late)}", n=1)))
    assert records(pages) >= {f"r{n}" for n in range(5)}
    rest = list(writer.pages(pages[-1]["syncedUntil"]))
    assert records(pages) | records(rest) == {f"r{n}" for n in range(5)} | {f"late{n}" for n in range(next(late))}


def test_where_a_page_has_room_it_has_the_other_feeds_too(device: Make) -> None:
    """Else a push to two spaces that came since would be there by half, and what moved between them in neither."""
    ann = device(unique("ann"))
    spaces = [ann.create(unique("space")) for _ in range(3)]
    since = ann.pull()["syncedUntil"]
    ann.write(*(edit(f"r{n}", n=1) | {"spaceId": spaces[1]} for n in range(2)))
    ann.write(edit("r2", n=1) | {"spaceId": spaces[1]})
    first = ann.pull(since, limit=1, until="")
    ann.write(*(edit("both", n=1) | {"spaceId": space} for space in spaces))
    page = ann.pull(first["syncedUntil"], limit=100, until=first["until"])
    assert sorted(change["spaceId"] for change in page["serverChanges"] if change["id"] == "both") == sorted(spaces)
    assert (page["hasMore"], page.get("until")) == (False, None)


def test_a_page_of_the_state_is_large_so_that_its_reader_comes_to_the_end(device: Make) -> None:
    writer = device(unique("until"))
    for n in range(40):
        writer.write(edit(f"r{n}", n=n))
    turn = iter(range(1000))

    def touched() -> None:
        n = next(turn)
        for k in range(12):
            writer.write(edit(f"r{(12 * n + k) % 40}", n + 2, n=n))

    pages = read(writer, "", touched)
    assert records(pages) == {f"r{n}" for n in range(40)}


def test_of_a_space_that_was_left_nothing_is_said_to_remain(device: Make) -> None:
    ann = device(unique("ann"))
    spaces = [ann.create(unique("space")) for _ in range(3)]
    ann.write(*(edit("first", n=1) | {"spaceId": space} for space in spaces))
    since = ann.pull()["syncedUntil"]
    for n in range(2):
        ann.write(edit(f"r{n}", n=1) | {"spaceId": spaces[0]})
    first = ann.pull(since, limit=1, until="")
    assert ann.request("DELETE", f"/spaces/{spaces[2]}").status_code == 204
    page = ann.pull(first["syncedUntil"], limit=100, until=first["until"])
    assert page["spaces"]["left"] == [spaces[2]]
    assert (page["hasMore"], page.get("until")) == (False, None)


@pytest.mark.parametrize("history", [0, 1], ids=["state", "log"])
def test_a_first_reading_goes_through_the_whole_state(device: Make, history: int) -> None:
    writer = device(unique("until"))
    for n in range(5):
        writer.write(edit(f"r{n}", n=n))
    pages = read(writer, "", lambda: writer.write(edit("busy", n=1), edit("busy-too", n=1)), history=history)
    assert records(pages) >= {f"r{n}" for n in range(5)}


def test_of_every_space_what_was_there(device: Make) -> None:
    ann = device(unique("ann"))
    spaces = [ann.create(unique("space")) for _ in range(4)]
    ann.write(*(edit("first", n=1) | {"spaceId": space} for space in spaces))
    since = ann.pull()["syncedUntil"]
    for n, space in enumerate(spaces):
        ann.write(*(edit(f"r{n}-{i}", n=1) | {"spaceId": space} for i in range(2)))
    pages = read(ann, since, lambda: ann.write(*(edit("busy", n=1) | {"spaceId": space} for space in spaces)))
    assert records(pages) >= {f"r{n}-{i}" for n in range(4) for i in range(2)}


def test_what_was_written_before_the_clock_went_back_is_read(device: Make, server: Server) -> None:
    """Its date lies ahead of every instant that is asked for: it counts as of before."""
    writer = device(unique("until"))
    writer.write(edit("first", n=1))
    since = writer.pull()["syncedUntil"]
    for n in range(3):
        writer.write(edit(f"r{n}", n=n))
    asyncio.run(dated_ahead(server.dsn("postgres"), f"_personal:{writer.user}"))
    assert records(read(writer, since, lambda: None)) == {"r0", "r1", "r2"}, "what was there is said to be late"


def test_who_does_not_ask_is_told_nothing(device: Make) -> None:
    writer = device(unique("until"))
    for n in range(3):
        writer.write(edit(f"r{n}", n=n))
    assert "until" not in writer.pull(limit=1)
    assert "until" not in writer.pull(limit=100, until="")


@pytest.mark.parametrize("until", ["x", "-1", "1" * 17, "١", "1e3", " 1"])
def test_what_no_answer_gave_is_refused_by_its_name(device: Make, until: str) -> None:
    answer = device(unique("until")).ask(until=until)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["pointer"] == "/until"
