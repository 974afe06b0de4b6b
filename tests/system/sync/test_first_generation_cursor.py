"""G5, G19: a first-generation device's cursor is used as far as it goes. A cursor of no use means the beginning."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
import pytest

from syncd.protocol.cursor import Cursor, encode
from tests.support.harness import Server
from tests.support.wire import Device, Json, edit, unique, values

Make = Callable[..., Device]
FIRST = "1970-01-01T00:00:00.000Z"


@pytest.fixture
def pair(device: Make) -> tuple[Device, Device]:
    """Two devices of one user, the first of the first generation."""
    user = unique("pair")
    return device(user, "old", legacy=True), device(user, "other")


def of(table: str, change: Json) -> Json:
    return {**change, "table": table}


def ids(answer: Json) -> list[str]:
    return [change["id"] for change in answer["serverChanges"]]


def ages(server: Server, user: str, seqs: int) -> None:
    """As if a user had joined and written the first changes two hours ago."""

    async def age() -> None:
        connection = await asyncpg.connect(server.owner_dsn)
        mine = "(SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)"
        try:
            await connection.execute(
                f"UPDATE syncd.sync_memberships SET joined_at = now() - interval '1 day' WHERE space_no = {mine}",
                f"_personal:{user}",
            )
            await connection.execute(
                "UPDATE syncd.sync_changes SET created_at = now() - interval '2 hours' "
                f"WHERE seq <= {seqs} AND space_no = {mine}",
                f"_personal:{user}",
            )
        finally:
            await connection.close()

    asyncio.run(age())


class TestBetweenCollections:
    """The device keeps a cursor a collection, and uses that of a push, which is for all, in a pull, and the reverse."""

    def test_a_cursor_for_all_tables_serves_one_as_it_is(self, pair: tuple[Device, Device]) -> None:
        old, other = pair
        other.write(*(of("tasks", edit(f"t{n}", n + 1, n=n)) for n in range(50)), of("notes", edit("n", 1, n=1)))
        cursor = old.drain()[1]
        assert ids(old.pull(cursor, collection="tasks")) == []
        other.write(of("tasks", edit("new", 1, n=1)), of("notes", edit("m", 1, n=1)))
        answer = old.pull(cursor, collection="tasks")
        assert ids(answer) == ["new"]
        assert ids(old.pull(answer["syncedUntil"], collection="tasks")) == []

    def test_a_push_and_a_pull_of_one_collection_cost_what_is_new(
        self, device: Make, pair: tuple[Device, Device]
    ) -> None:
        """From the first moment on: its user has just joined the space that it is all in."""
        old, other = pair
        owner = device(unique("owner"))
        space = owner.create(unique("garden"))
        owner.member(space, old.user)
        owner.write(*({**of("tasks", edit(f"t{n}", n + 1, n=n)), "spaceId": space} for n in range(1000)))
        _, cursor = old.drain(FIRST, collection="tasks")
        other.write(of("notes", edit("n", 1, n=1)))
        change = {"table": "tasks", "id": "t5", "op": "update", "fields": {"n": {"value": -1, "at": "2026-02-01"}}}
        for turn in range(3):
            pushed = old.push({**change, "spaceId": space}, since=cursor, pull=True)
            assert {change["id"] for change in pushed["serverChanges"]} == ({"n"} if turn == 0 else set())
            pulled = old.pull(pushed["syncedUntil"], collection="tasks")
            assert ids(pulled) == []
            cursor = pulled["syncedUntil"]

    def test_nothing_is_missed_going_to_and_fro(self, pair: tuple[Device, Device]) -> None:
        old, other = pair
        held: dict[str, set[str]] = {"tasks": set(), "notes": set()}
        cursors = {"tasks": FIRST, "notes": FIRST}

        def take(table: str, answer: Json) -> None:
            for change in answer["serverChanges"]:
                held[change["table"]].add(change["id"])
            cursors[table] = answer["syncedUntil"]

        wrote: dict[str, set[str]] = {"tasks": set(), "notes": set()}
        for n in range(12):
            for table in cursors:
                other.write(of(table, edit(f"{table}{n}", n + 1, n=n)))
                wrote[table].add(f"{table}{n}")
            table = ("tasks", "notes")[n // 2 % 2]
            if n % 3:
                take(table, old.pull(cursors[table], collection=table))
            else:
                own = of(table, edit(f"own{n}", n + 1, change_id=None, n=n))
                take(table, old.push(own, since=cursors[table], pull=True))
        for table in cursors:
            take(table, old.pull(cursors[table], collection=table))
        assert {table: held[table] >= wrote[table] for table in held} == {"tasks": True, "notes": True}

    def test_a_cursor_of_a_page_that_was_cut_is_no_instant_for_more_tables(
        self, server: Server, pair: tuple[Device, Device]
    ) -> None:
        """The device ignores `hasMore` and pushes: what the page left out must still come."""
        old, other = pair
        for n in range(30):
            other.write(of("tasks", edit(f"tasks{n}", n + 1, n=n)))
        ages(server, old.user, 30)
        for since in ("", FIRST, old.drain()[1]):
            if since not in ("", FIRST):
                for n in range(30):
                    other.write(of("tasks", edit(f"later{n}", n + 1, n=n)))
                ages(server, old.user, 70)
            wanted = {change["id"] for change in old.drain(since)[0]}
            page = old.pull(since, collection="tasks", limit=1)
            assert page["hasMore"]
            own = of("tasks", edit(unique("own"), 1, change_id=None, n=1))
            pushed = old.push(own, since=page["syncedUntil"], pull=True)
            rest, _ = old.drain(pushed["syncedUntil"])
            found = {change["id"] for change in page["serverChanges"] + pushed["serverChanges"] + rest}
            assert found >= wanted

    def test_a_push_between_the_pages_of_a_collection_brings_none_again(
        self, server: Server, pair: tuple[Device, Device]
    ) -> None:
        """A push with the cursor of a page that was cut is answered with that cursor, and the next pull goes on."""
        old, other = pair
        for n in range(30):
            other.write(of("tasks", edit(f"t{n}", n + 1, n=n)))
        ages(server, old.user, 30)
        page = old.pull(FIRST, collection="tasks", limit=1)
        found = ids(page)
        assert page["hasMore"], page
        while page["hasMore"]:
            own = of("tasks", edit("own", len(found) * 1000, change_id=None, n=1))
            pushed = old.push(own, since=page["syncedUntil"], pull=True)
            assert (ids(pushed), pushed["syncedUntil"], pushed["hasMore"]) == ([], page["syncedUntil"], True)
            page = old.pull(pushed["syncedUntil"], collection="tasks", limit=2)
            found += ids(page)
        assert {f"t{n}" for n in range(30)} <= set(found)

    def test_a_cursor_that_is_kept_by_its_text_comes_to_be_kept(self, pair: tuple[Device, Device]) -> None:
        old, other = pair
        cursor = FIRST
        for n in range(6):
            other.write(of("tasks", edit(f"t{n}", n + 1, n=n)))
            for answer in (
                old.push(of("notes", edit(f"n{n}", n + 1, change_id=None, n=n)), since=cursor, pull=True),
                old.pull(cursor, collection="tasks"),
            ):
                assert answer["syncedUntil"] > cursor
                cursor = answer["syncedUntil"]

    def test_for_a_client_of_ours_other_tables_are_still_the_beginning(self, device: Make) -> None:
        new = device(unique("new"))
        new.write(of("x", edit("a", 1, n=1)), of("y", edit("b", 1, n=1)))
        assert ids(new.pull(new.drain()[1], collection="x")) == ["a"]


class TestWhatIsNoCursorOfThisDevice:
    @pytest.fixture
    def useless(self, server: Server, device: Make, pair: tuple[Device, Device]) -> list[str]:
        old, other = pair
        other.write(edit("a", 1, n=1), edit("gone", 1, n=1))
        other.write({"table": "t", "id": "gone", "op": "delete", "deletedAt": "2026-01-02T00:00:00Z", "changeId": "d"})
        mine = old.drain()[1]
        now = int(datetime.now(UTC).timestamp() * 1_000_000)
        return [
            "garbage", "0", mine[:-1], mine + "A", mine.upper(), mine[:28], mine + "/../", "2026-13-01T00:00:00Z",
            "2026-01-01", "é" * 40, "A" * 20_000, "9999-12-31T23:59:59.999999Z.AAAA",
            device(unique("another")).pull()["syncedUntil"],
            device(old.user, app="another").pull()["syncedUntil"],
            encode(Cursor(now, 1, (), ()), b"another server's key", old.user, "app"),
        ]  # fmt: skip

    def test_it_is_the_beginning_for_a_pull(self, pair: tuple[Device, Device], useless: list[str]) -> None:
        for since in useless:
            changes, cursor = pair[0].drain(since)
            assert values(changes) == {"a": {"n": 1}}, since
            assert {change["id"] for change in changes if change["op"] == "delete"} == {"gone"}, since
            assert pair[0].drain(cursor)[0] == []

    def test_it_is_the_beginning_for_a_push(self, pair: tuple[Device, Device], useless: list[str]) -> None:
        for n, since in enumerate(useless):
            change = edit("mine", n + 1, change_id=None, n=n)
            answer = pair[0].push(change, since=since, pull=True)
            assert [result["status"] for result in answer["results"]] == ["applied"], since
            assert "a" in ids(answer)
            assert pair[0].drain(answer["syncedUntil"])[0] == []
        assert values(pair[1].drain()[0])["mine"] == {"n": len(useless) - 1}

    @pytest.mark.parametrize("since", [5, {}, [], True, None], ids=repr)
    def test_what_is_no_text_in_a_push_is_the_beginning(self, pair: tuple[Device, Device], since: object) -> None:
        pair[1].write(edit("a", 1, n=1))
        assert ids(pair[0].push(since=since, pull=True)) == ["a"]

    def test_what_is_no_text_in_an_address_is_the_beginning(self, pair: tuple[Device, Device]) -> None:
        pair[1].write(edit("a", 1, n=1))
        answer = pair[0].request("GET", "/sync/app/pull?since=%FF%FE")
        assert (answer.status_code, ids(answer.json())) == (200, ["a"])

    def test_an_instant_stays_one(self, pair: tuple[Device, Device]) -> None:
        pair[1].write(edit("a", 1, n=1))
        assert [ids(pair[0].pull(since)) for since in (FIRST, "2020-01-01T00:00:00+02:00")] == [["a"]] * 2

    def test_a_client_of_ours_is_still_told(self, pair: tuple[Device, Device], useless: list[str]) -> None:
        for since in useless:
            refused = pair[1].ask(since)
            assert (refused.status_code, refused.json()["code"]) == (400, "bad_cursor"), since


def test_a_cursor_ahead_of_a_restored_database_is_the_beginning(server: Server, pair: tuple[Device, Device]) -> None:
    """The feed is as it was after its first change, as a backup that is put back makes it."""
    old, other = pair
    other.write(edit("a", 1, n=1))
    other.write(edit("b", 1, n=1), edit("c", 1, n=1))
    cursor = old.drain()[1]
    asyncio.run(put_back(server, old.user))
    assert other.ask(cursor).json()["code"] == "cursor_lost"
    pulled = old.pull(cursor)
    pushed = old.push(edit("d", 1, change_id=None, n=1), since=cursor, pull=True)
    assert (ids(pulled), pushed["results"][0]["status"]) == (["a"], "applied")
    assert set(ids(pushed)) >= {"a"}
    for answer in (pulled, pushed):
        assert set(values(answer["serverChanges"] + old.drain(answer["syncedUntil"])[0])) == {"a", "d"}


async def put_back(server: Server, user: str) -> None:
    """The personal space of a user has its first change alone."""
    space = f"(SELECT space_no FROM syncd.sync_spaces WHERE space_id = '_personal:{user}')"
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        await connection.execute(
            f"DELETE FROM syncd.sync_changes WHERE seq > 1 AND space_no = {space};"
            f"DELETE FROM syncd.sync_records WHERE seq > 1 AND space_no = {space};"
            f"UPDATE syncd.sync_feeds SET head = 1 WHERE space_no = {space}"
        )
    finally:
        await connection.close()
