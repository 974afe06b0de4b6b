"""Who is in many spaces has a cursor as short as anybody's: its positions are kept in a row that never changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import MOST_LISTED, MOST_MOVED, Cursor
from tests.support.compacting import compact_now
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.many_spaces import Crowd, many_spaces
from tests.support.socket_device import opened
from tests.support.stream_device import stream_of
from tests.support.wire import Device, Json, edit, unique

LONGEST = 8 * 1024
COUNT = MOST_LISTED + 100


@pytest.fixture(scope="module")
def crowd(server: Server) -> Crowd:
    return many_spaces(server, COUNT)


class Pair:
    """A reader in many spaces and a writer there, in an app of their own."""

    def __init__(self, server: Server, crowd: Crowd, device: Callable[..., Device]) -> None:
        self.server, self.crowd, self.app = server, crowd, unique("app")
        self.reader = device(crowd.user, app=self.app)
        self.old = device(crowd.user, app=self.app, legacy=True)
        self.writer = device(crowd.writer, app=self.app)

    def write(self, *spaces: int, record: str = "r") -> None:
        """One record in each of some spaces, by their places."""
        self.writer.write(*({**edit(record, v=1), "spaceId": self.crowd.spaces[place]} for place in spaces))

    def sql(self, statement: str) -> list[Any]:
        """As a superuser; {user} is the reader's number, {app} the app's."""
        number = "(SELECT n.name_no FROM syncd.sync_names n WHERE n.name = '{}')"
        named = statement.format(user=number.format(self.crowd.user), app=number.format(self.app))
        return asyncio.run(run(self.server.owner_dsn, named))

    def key(self) -> bytes:
        """What signs cursors."""
        return bytes(self.sql("SELECT cursor_key FROM syncd.sync_server")[0][0])

    def opened(self, text: str) -> Cursor:
        """What is in a cursor."""
        found = cursors.decode(text, self.key(), self.crowd.user, self.app, ())
        assert isinstance(found, Cursor)
        return found

    def text(self, cursor: Cursor) -> str:
        """A cursor as the server would write it."""
        return cursors.encode(cursor, self.key(), self.crowd.user, self.app)

    def row(self, text: str) -> int:
        """The row that a cursor names."""
        assert self.opened(text).row
        return self.opened(text).row

    def rows(self) -> list[Any]:
        """The rows of the reader, and which transaction wrote each."""
        return self.sql("SELECT name, xmin::text FROM syncd.sync_cursors WHERE user_no = {user} ORDER BY name")


@pytest.fixture
def pair(server: Server, crowd: Crowd, device: Callable[..., Device]) -> Pair:
    return Pair(server, crowd, device)


def places(changes: list[Json], crowd: Crowd) -> list[int]:
    """Where changes came from, by the places of their spaces."""
    return sorted(crowd.spaces.index(change["spaceId"]) for change in changes)


def test_a_pull_goes_on_from_a_short_cursor_and_one_of_nothing_new_writes_nothing(pair: Pair) -> None:
    pair.write(0, 7, COUNT - 1)
    changes, since = pair.reader.drain()
    assert places(changes, pair.crowd) == [0, 7, COUNT - 1]
    assert len(since) < 100
    before = pair.rows()
    assert pair.reader.pull(since) == {
        "serverChanges": [], "syncedUntil": since, "hasMore": False, "spaces": {"joined": [], "left": []},
    }  # fmt: skip
    pair.write(7, record="s")
    page = pair.reader.pull(since)
    assert (places(page["serverChanges"], pair.crowd), page["hasMore"]) == ([7], False)
    assert since < page["syncedUntil"]
    assert len(page["syncedUntil"]) < 120
    assert pair.reader.pull(page["syncedUntil"])["serverChanges"] == []
    assert pair.rows() == before


def test_a_push_brings_what_was_missed_and_can_be_sent_again(pair: Pair) -> None:
    since = pair.reader.drain()[1]
    pair.write(3)
    own = {**edit("own", change_id="own", v=1), "spaceId": pair.crowd.spaces[4]}
    first = pair.reader.push(own, since=since, pull=True)
    assert [result["status"] for result in first["results"]] == ["applied"]
    assert places(first["serverChanges"], pair.crowd) == [3]
    # Its answer was lost: the same cursor means what it did.
    second = pair.reader.push(own, since=since, pull=True)
    assert [result["status"] for result in second["results"]] == ["duplicate"]
    assert places(second["serverChanges"], pair.crowd) == [3, 4]
    for answer in (first, second):
        assert pair.reader.pull(answer["syncedUntil"])["serverChanges"] == []


def test_much_that_moved_is_kept_anew_and_an_older_cursor_means_what_it_did(pair: Pair) -> None:
    since = pair.reader.drain()[1]
    moved = list(range(MOST_MOVED + 1))
    pair.write(*moved[:-1])
    listed = pair.reader.pull(since, limit=10_000)["syncedUntil"]
    assert pair.row(listed) == pair.row(since)
    pair.write(moved[-1])
    answers = [pair.reader.pull(since, limit=10_000) for _ in range(2)]
    for answer in answers:
        assert places(answer["serverChanges"], pair.crowd) == moved
        assert len(answer["syncedUntil"]) < 100
    assert len({pair.row(text) for text in (since, *(answer["syncedUntil"] for answer in answers))}) == 3
    for text in (listed, *(answer["syncedUntil"] for answer in answers)):
        assert len(text) < LONGEST
        pair.write(9, record=unique("later"))
        assert 9 in places(pair.reader.pull(text)["serverChanges"], pair.crowd)


def test_answers_that_were_lost_make_a_few_rows_and_not_more(pair: Pair) -> None:
    since = pair.reader.drain()[1]
    row = pair.row(since)
    kept = "SELECT syncd.sync_act_as('{0}'), syncd.sync_cursor_keep('{0}', {1}, {2}, '{{}}', '{{}}', '{{}}')"
    for n in range(1, 7):
        pair.sql(kept.format(pair.crowd.user, row + n, row).replace("{", "{{").replace("}", "}}"))
    line = f"SELECT line FROM syncd.sync_cursors WHERE user_no = {{user}} AND name = {row}"
    found = pair.sql(f"SELECT name FROM syncd.sync_cursors WHERE user_no = {{user}} AND line = ({line}) ORDER BY name")
    assert found == [(row + n,) for n in (0, 4, 5, 6)]
    assert pair.reader.pull(since)["syncedUntil"] == since


def test_every_page_of_a_first_sync_is_bounded_and_brings_each_record_once(pair: Pair) -> None:
    pair.write(*range(40))
    pair.write(*range(20, 60), record="s")
    found: list[tuple[str, str]] = []
    pages, since = 0, ""
    while True:
        page = pair.reader.pull(since, limit=15)
        found += [(change["spaceId"], change["id"]) for change in page["serverChanges"]]
        since, pages = page["syncedUntil"], pages + 1
        assert len(since) < LONGEST
        if pages == 3:
            pair.write(59, record="late")
        if not page["hasMore"]:
            break
    assert len(found) == len(set(found)) == 81
    assert pages < 20


def test_tables_that_come_first_come_first_over_all_pages(pair: Pair) -> None:
    for place in range(30):
        space = pair.crowd.spaces[place]
        pair.writer.write(*({**edit(f"{table}-{place}", v=1), "spaceId": space, "table": table} for table in "ab"))
    page = pair.reader.pull("", limit=10, first="b")
    found = page["serverChanges"]
    while page["hasMore"]:
        page = pair.reader.pull(page["syncedUntil"], limit=10)
        found += page["serverChanges"]
    assert sorted(change["id"] for change in found) == sorted(f"{t}-{n}" for t in "ab" for n in range(30))
    tables = [[change["table"] for change in found if change["spaceId"] == space] for space in pair.crowd.spaces[:30]]
    assert tables == [["b", "a"]] * 30


def test_spaces_come_and_go(pair: Pair) -> None:
    since = pair.reader.drain()[1]
    new = pair.writer.create(unique("new"))
    pair.writer.member(new, pair.crowd.user)
    pair.writer.write({**edit("r", v=1), "spaceId": new})
    joined = pair.reader.pull(since)
    assert joined["spaces"] == {"joined": [new], "left": []}
    assert [change["spaceId"] for change in joined["serverChanges"]] == [new]
    pair.writer.remove(new, pair.crowd.user)
    left = pair.reader.pull(joined["syncedUntil"])
    assert left["spaces"] == {"joined": [], "left": [new]}
    assert pair.reader.pull(left["syncedUntil"])["spaces"] == {"joined": [], "left": []}
    # It comes back whole, from each of the three cursors.
    pair.writer.member(new, pair.crowd.user)
    assert [change["id"] for change in pair.reader.pull(since)["serverChanges"]] == ["r"]
    again = pair.reader.pull(left["syncedUntil"])
    assert (again["spaces"]["joined"], len(again["serverChanges"])) == ([new], 1)
    assert pair.reader.pull(again["syncedUntil"])["serverChanges"] == []
    pair.writer.remove(new, pair.crowd.user)


def test_a_space_of_the_row_comes_and_goes(pair: Pair) -> None:
    pair.write(11, 12)
    since, space = pair.reader.drain()[1], pair.crowd.spaces[11]
    number = f"(SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{space}')"
    pair.sql(f"DELETE FROM syncd.sync_memberships WHERE user_no = {{user}} AND space_no = {number}")
    try:
        left = pair.reader.pull(since)
        assert left["spaces"] == {"joined": [], "left": [space]}
        nothing = pair.reader.pull(left["syncedUntil"])
        assert nothing["spaces"] == {"joined": [], "left": []}
        assert pair.reader.pull(since)["spaces"]["left"] == [space]
    finally:
        member = f"SELECT {{user}}, {number}, 'writer'"
        pair.sql(f"INSERT INTO syncd.sync_memberships (user_no, space_no, role) {member}")
    again = pair.reader.pull(nothing["syncedUntil"])
    assert (again["spaces"], places(again["serverChanges"], pair.crowd)) == ({"joined": [space], "left": []}, [11])
    assert pair.reader.pull(again["syncedUntil"])["serverChanges"] == []
    assert pair.reader.pull(since)["spaces"] == {"joined": [], "left": []}


def test_a_row_that_is_gone_is_a_lost_cursor_and_for_the_first_generation_the_beginning(pair: Pair) -> None:
    pair.write(5)
    since, old = pair.reader.drain()[1], pair.old.drain()[1]
    assert len(old) < 100
    assert pair.old.pull(old)["serverChanges"] == []
    pair.sql(
        f"DELETE FROM syncd.sync_cursors WHERE user_no = {{user}} AND name IN ({pair.row(since)}, {pair.row(old)})"
    )
    for answer in (pair.reader.ask(since), pair.reader.send(since=since, pull=True)):
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_lost")
    assert pair.reader.request("GET", f"/sync/{pair.app}/digest", params={"since": since}).status_code == 410
    page = pair.old.pull(old)
    assert places(page["serverChanges"], pair.crowd) == [5]
    assert pair.old.push(since=old, pull=True)["serverChanges"] != []
    assert pair.old.pull(page["syncedUntil"])["serverChanges"] == []


def test_a_position_that_this_history_has_not_is_lost(pair: Pair) -> None:
    pair.write(5)
    cursor = pair.opened(pair.reader.drain()[1])
    older = pair.text(cursor._replace(boot=1))  # from before the first start that is known
    # As after a restore of a backup: how far the head had come when the database was started.
    feed = "SET boots = ARRAY[(SELECT max(started_at) FROM syncd.sync_starts)], bases = ARRAY[{}]"
    for base, status in ((1, 200), (0, 410)):
        pair.sql(f"UPDATE syncd.sync_feeds {feed.format(base)} WHERE app_no = {{app}}")
        assert pair.reader.ask(older).status_code == status
    pair.sql(f"UPDATE syncd.sync_feeds {feed.format(1)}, head = 0 WHERE app_no = {{app}}")
    assert pair.reader.ask(older).status_code == 410
    pair.sql("DELETE FROM syncd.sync_feeds WHERE app_no = {app}")
    assert pair.reader.ask(pair.text(cursor)).status_code == 410


async def test_a_row_is_its_user_s_alone(pair: Pair) -> None:
    since = await asyncio.to_thread(lambda: pair.reader.drain()[1])
    row = await asyncio.to_thread(pair.row, since)
    conn = await asyncpg.connect(pair.server.runtime_dsn)
    try:
        for user, seen in ((pair.crowd.user, 1), (pair.crowd.writer, 0), ("nobody", 0)):
            async with conn.transaction():
                await conn.execute("SELECT syncd.sync_act_as($1)", user)
                named = "FROM syncd.sync_cursors WHERE name = $1"
                assert len(await conn.fetch(f"SELECT {named}", row)) == seen
                assert len(await conn.fetch(f"SELECT 1 {named} FOR NO KEY UPDATE", row)) == seen
            places_ = await conn.fetchval("SELECT spaces FROM syncd.sync_cursor_at($1, $2)", user, _since(row))
            assert (places_ is not None) == bool(seen)
            kept = "SELECT syncd.sync_cursor_keep($1, $2, $3, '{1}', '{1}', '{-1}')"
            async with conn.transaction():
                assert await conn.fetchval(kept, user, row + 2, row) == bool(seen)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await conn.execute("UPDATE syncd.sync_cursors SET seqs = '{}'")
        async with conn.transaction():
            await conn.execute("SELECT syncd.sync_act_as($1)", pair.crowd.writer)
            number = "SELECT name_no FROM syncd.sync_names WHERE name = $1"
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.execute(
                    f"INSERT INTO syncd.sync_cursors SELECT ({number}), 1, 1, now(), '{{}}', '{{}}'", pair.crowd.user
                )
    finally:
        await conn.close()


def _since(row: int) -> str:
    return f'{{"row": {row}, "s": [], "q": [], "b": [], "boot": 0}}'


def test_what_is_used_is_noted_once_a_day_and_what_is_not_is_collected(pair: Pair) -> None:
    since, other = pair.reader.drain()[1], pair.reader.drain()[1]
    used, unused = pair.row(since), pair.row(other)
    pair.sql(
        f"UPDATE syncd.sync_cursors SET used_at = now() - interval '91 days' WHERE name IN ({used}, {unused})"
        " AND user_no = {user}"
    )
    pair.reader.pull(since)
    compact_now(pair.server.owner_dsn, pair.crowd.spaces[0])  # of one space: it collects none
    assert pair.reader.pull(other)["syncedUntil"] == other
    pair.sql(f"UPDATE syncd.sync_cursors SET used_at = now() - interval '91 days' WHERE name = {unused}")
    collected = "SELECT syncd.sync_cursors_collect(now() - interval '90 days', 100)"
    assert pair.sql(collected)[0][0] >= 1
    assert pair.reader.ask(other).status_code == 410
    assert pair.reader.pull(since)["syncedUntil"] == since
    pair.sql(f"UPDATE syncd.sync_cursors SET used_at = now() - interval '91 days' WHERE name = {used}")
    pair.reader.push(since=since, pull=True)
    assert pair.sql(f"SELECT used_at > now() - interval '1 day' FROM syncd.sync_cursors WHERE name = {used}") == [
        (True,)
    ]


def test_digests_are_compared_at_a_kept_cursor(pair: Pair) -> None:
    pair.write(5)
    since = pair.reader.drain()[1]

    def behind() -> list[str]:
        answer = pair.reader.request("GET", f"/sync/{pair.app}/digest", params={"since": since})
        assert answer.status_code == 200, answer.text
        found: list[str] = answer.json()["behind"]
        return found

    assert behind() == []
    pair.write(6)
    assert behind() == [pair.crowd.spaces[6]]


async def test_who_is_live_goes_on_from_a_kept_cursor(pair: Pair) -> None:
    since = await asyncio.to_thread(lambda: pair.reader.drain()[1])
    async with await opened(pair.server) as socket:
        await socket.auth(pair.crowd.user, protocol=1)
        assert (await socket.subscribe(pair.app, since))[-1]["changes"] == []
        for place in (8, 9, 8):
            record = unique("r")
            await asyncio.to_thread(pair.write, place, record=record)
            await socket.brings(record, pair.app)
            reached = socket.all("changes", appId=pair.app)[-1]["syncedUntil"]
            assert len(reached) < LONGEST
            assert (await asyncio.to_thread(pair.reader.pull, reached))["serverChanges"] == []
        everything = await asyncio.to_thread(pair.reader.pull, since)
        assert places(everything["serverChanges"], pair.crowd) == [8, 8, 9]
        # More moves than a cursor lists: it is kept anew on the way.
        many = range(MOST_MOVED + 20)
        for start in (0, MOST_MOVED - 10):
            part = [place for place in many if start <= place < start + MOST_MOVED - 10]
            await asyncio.to_thread(pair.write, *part, record="much")
        wanted = {pair.crowd.spaces[place] for place in many}
        await socket.until(lambda: wanted <= {c["spaceId"] for c in socket.changes(pair.app) if c["id"] == "much"})
        for turn in range(2):
            record = unique("last")
            await asyncio.to_thread(pair.write, turn, record=record)
            await socket.brings(record, pair.app)
        last = socket.all("changes", appId=pair.app)[-1]["syncedUntil"]
        assert await asyncio.to_thread(pair.row, last) != await asyncio.to_thread(pair.row, since)
        assert (await asyncio.to_thread(pair.reader.pull, last))["serverChanges"] == []
        seen = [(change["spaceId"], change["id"]) for change in socket.changes(pair.app)]
        assert len(seen) == len(set(seen))


async def test_a_stream_goes_on_from_a_kept_cursor(pair: Pair) -> None:
    since = await asyncio.to_thread(lambda: pair.reader.drain()[1])
    async with stream_of(pair.server, pair.crowd.user, pair.app, since=since) as stream:
        await asyncio.to_thread(pair.write, 8, record="s")
        await stream.brings("s")
        assert (await asyncio.to_thread(pair.reader.pull, stream.last_id))["serverChanges"] == []
