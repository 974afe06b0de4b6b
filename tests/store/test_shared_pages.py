"""A page of a first sync is made once for all who may read it, and never when it is not right any more."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import asyncpg
import pytest

import syncd
from syncd.postgres.contexts import ActingCalls
from syncd.protocol.pull_messages import PullRequest
from syncd.service.pull import PullState
from syncd.store.log import Page
from syncd.store.pool import Pool
from syncd.store.shared_pages import SharedPages
from tests.support.compacting import ALL, compact_now
from tests.support.erasing import erase
from tests.support.harness import Server
from tests.support.moving import Home, in_space, insert
from tests.support.wire import Device, Json, edit, unique, values

Make = Callable[..., Device]
TEXT, CANARY = "x" * 200, "canary-of-eve"
VERSION = """
SELECT h.space_no, h.app_no, syncd.sync_feed_version(h.space_no, h.app_no) AS version,
       syncd.sync_sweep_text(h.space_no, h.app_no, 0, h.head, NULL, NULL, false, false, s.quoted) AS text
FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names n ON n.name_no = h.app_no
WHERE s.space_id = $1 AND n.name = $2
"""


def read(server: Server, user: str, query: str, *arguments: Any) -> Any:
    """The first row of a query of the runtime role that acts as a user."""

    async def ask() -> Any:
        conn = await asyncpg.connect(server.runtime_dsn)
        try:
            async with conn.transaction():
                await conn.execute("SELECT syncd.sync_act_as($1)", user)
                return await conn.fetchrow(query, *arguments)
        finally:
            await conn.close()

    return asyncio.run(ask())


def fill(writer: Device, space: str, count: int = 200) -> None:
    made = [{**edit(f"r{n}", n + 1, v=n, text=TEXT), "op": "insert", "spaceId": space} for n in range(count)]
    for start in range(0, count, 100):  # a page ends between two pushes
        writer.write(*made[start : start + 100])


@pytest.fixture
def ann(device: Make) -> Device:
    return device(unique("ann"), app=unique("app"))


@pytest.fixture
def hall(ann: Device) -> str:
    """A space of Ann's with records of 60 kB in all."""
    space = ann.create(unique("hall"))
    fill(ann, space)
    return space


class Answer(NamedTuple):
    """What the database answered, that as it was opened, and where its reader stands then."""

    body: bytes
    opened: bytes
    since: Json
    more: bool

    @property
    def ids(self) -> list[str]:
        return [change["id"] for change in json.loads(b"[" + self.opened + b"]")]


class Reader:
    """What a worker does for first pulls, and the pages that it keeps."""

    def __init__(self, server: Server) -> None:
        self._dsn, self._pages = server.runtime_dsn, SharedPages()

    def pull(self, app: str, user: str, since: Json | None = None, **how: Any) -> Answer:
        return asyncio.run(self._pull(app, user, since or {}, how))

    async def _pull(self, app: str, user: str, since: Json, more: Json) -> Answer:
        pool, offer = Pool(self._dsn, size=1), self._pages.offer(app)
        how = {"limit": 1000, "bytes": 1 << 21, "kept": offer.known(), **more}
        try:
            call = json.dumps({"user": user, "app": app, "since": since, "how": how}).encode()
            page = Page(*(await pool.fetch("pull", ActingCalls([call])))[0])
        finally:
            await pool.close()
        place = {"s": page.spaces, "q": page.seqs, "b": page.bases, "boot": page.boot_us}
        return Answer(page.body, offer.opened(page.body), place, page.more)


@pytest.fixture
def reader(server: Server) -> Reader:
    return Reader(server)


def test_the_second_device_is_sent_what_the_first_was_and_the_database_makes_it_once(
    ann: Device, hall: str, reader: Reader
) -> None:
    ann.member(hall, "bob-" + hall, "reader")
    first, *others = [reader.pull(ann.app, user) for user in (ann.user, "bob-" + hall, ann.user, "bob-" + hall)]
    assert first.body.startswith(b"\x02")
    assert [other.body for other in others] == [first.body, b"\x010\x01", b"\x010\x01"]
    assert [other.opened for other in others] == [first.opened] * 3
    assert len(first.ids) == 200
    assert json.loads(b"[" + first.opened + b"]") == [c for c in ann.drain()[0] if c["spaceId"] == hall]


def test_who_is_no_member_is_sent_nothing_of_a_page_that_is_there(ann: Device, hall: str, reader: Reader) -> None:
    stranger, gone = "eve-" + hall, "bob-" + hall
    ann.member(hall, gone)
    ann.remove(hall, gone)
    for _ in range(3):
        assert TEXT.encode() in reader.pull(ann.app, ann.user).opened
    for user in (stranger, gone):
        assert reader.pull(ann.app, user)[:2] == (b"", b"")


def test_pages_of_some_tables_are_others_than_those_of_all(ann: Device, hall: str, reader: Reader) -> None:
    notes = ({**edit(f"n{n}", n + 1, text=TEXT), "op": "insert", "table": "notes", "spaceId": hall} for n in range(99))
    ann.write(*notes)
    whole = reader.pull(ann.app, ann.user)
    some, _, again = (reader.pull(ann.app, ann.user, tables=["notes"]) for _ in range(3))
    rest = reader.pull(ann.app, ann.user, tables=["t"])
    assert [len(answer.ids) for answer in (whole, some, again, rest)] == [299, 99, 99, 200]
    assert again.body == b"\x010\x01"


def test_a_later_page_is_made_again_when_what_it_has_is_other(ann: Device, hall: str, reader: Reader) -> None:
    first = reader.pull(ann.app, ann.user, limit=100)
    later, _, again = (reader.pull(ann.app, ann.user, first.since, limit=100) for _ in range(3))
    assert (again.body[:1], again.opened) == (b"\x01", later.opened)
    assert "r5" in later.ids
    ann.write({**edit("r5", 9000, v=1), "spaceId": hall})
    now = reader.pull(ann.app, ann.user, first.since, limit=100)
    assert now.ids == [one for one in later.ids if one != "r5"]


def test_members_with_other_spaces_share_the_pages_of_a_large_one_and_none_is_sent_twice(
    device: Make, ann: Device, reader: Reader
) -> None:
    bob = device(unique("bob"), app=ann.app)
    bob.write(edit("own", v=1), edit("own2", v=1))  # in a space that is older, and comes before
    hall = ann.create(unique("hall"))
    fill(ann, hall, 300)
    ann.member(hall, bob.user)

    def all_of(user: str) -> tuple[list[str], int]:
        found, since, named = list[str](), dict[str, Any](), 0
        for _ in range(20):
            answer = reader.pull(ann.app, user, since, limit=100)
            found, since, named = found + answer.ids, answer.since, named + answer.body.count(b"\x01") // 2
            if not answer.more:
                return found, named
        raise AssertionError("it does not end")

    everything = [f"r{n}" for n in reversed(range(300))]
    for _ in range(2):
        assert all_of(ann.user)[0] == everything
    found, named = all_of(bob.user)
    assert sorted(found) == sorted([*everything, "own", "own2"])
    assert named == 3


@pytest.fixture
def written(server: Server, ann: Device, hall: str) -> Iterator[Callable[[], tuple[str, str]]]:
    """What the feed stands at, and its text."""

    def look() -> tuple[str, str]:
        row = read(server, ann.user, VERSION, hall, ann.app)
        return row["version"], row["text"]

    before = look()
    yield look
    version, text = look()
    assert text != before[1], "what was done changed nothing that can be read"
    assert version != before[0], "the records are others, and the feed stands where it stood"


class TestWhoeverChangesARecordMovesTheVersionOfItsFeed:
    @pytest.fixture(autouse=True)
    def _written(self, written: Callable[[], tuple[str, str]]) -> None:
        """Looks before and after."""

    def test_an_edit(self, ann: Device, hall: str) -> None:
        ann.write({**edit("r1", 9000, v=2), "spaceId": hall})

    def test_edits_of_an_older_stamp(self, ann: Device, hall: str) -> None:
        ann.write({**edit("r1", 0, other=2), "spaceId": hall}, {**edit("r2", 0, other=2), "spaceId": hall})

    def test_a_deletion(self, ann: Device, hall: str) -> None:
        deletion = {"table": "t", "id": "r1", "op": "delete", "deletedAt": edit("x", 9000, v=1)["fields"]["v"]["at"]}
        ann.write({**deletion, "changeId": unique("d"), "spaceId": hall})

    def test_an_erasure_of_a_record(self, server: Server, ann: Device, hall: str) -> None:
        erase(server, "record", hall, "t", "r1", "--app", ann.app)

    async def test_a_backend(self, server: Server, ann: Device, hall: str) -> None:
        conn = await asyncpg.connect(server.owner_dsn)
        try:
            async with conn.transaction():
                change = {"op": "update", "table": "t", "id": "r1", "spaceId": hall, "fields": {"v": 4}}
                await syncd.write(conn, user=ann.user, app=ann.app, changes=[change])
        finally:
            await conn.close()

    def test_many_at_once(self, device: Make, ann: Device, hall: str) -> None:
        devices = [device(ann.user, f"c{n}", app=ann.app) for n in range(12)]
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda n: devices[n].write({**edit(f"r{n}", 9000, v=-1), "spaceId": hall}), range(12)))

    def test_a_deletion_that_is_forgotten(self, server: Server, ann: Device, hall: str) -> None:
        deletion = {"table": "t", "id": "r1", "op": "delete", "deletedAt": edit("x", 9000, v=1)["fields"]["v"]["at"]}
        ann.write({**deletion, "changeId": unique("d"), "spaceId": hall})
        compact_now(server.owner_dsn, hall, tombstones=ALL)


def test_a_record_that_moves_moves_the_version_of_both_feeds(server: Server, device: Make) -> None:
    home = Home(device)

    def look() -> dict[str, Any]:
        return {
            space: tuple(read(server, home.ours.user, VERSION, space, home.ours.app) or ())
            for space in (home.space, f"_personal:{home.ours.user}")
        }

    home.old.write(insert("s", 1, title="other"), insert("r", 1, title="one"))
    home.old.write(in_space(home, edit("s", 2, title="there")))
    before = look()
    home.old.write(in_space(home, edit("r", 2, title="two")))
    after = look()
    for space, (no, app, version, text) in before.items():
        assert (no, app) == after[space][:2]
        assert text != after[space][3]
        assert version != after[space][2]


def test_pages_over_http_are_right_whatever_happens_between_two_devices(device: Make, ann: Device, hall: str) -> None:
    def as_sent(name: str) -> dict[str, Json]:
        other = device(ann.user, unique(name), app=ann.app)
        return values([c for c in other.drain()[0] if c["spaceId"] == hall])

    whole = as_sent("a")
    assert as_sent("b") == as_sent("b") == whole
    assert len(whole) == 200
    ann.write({**edit("r7", 9000, v="changed"), "spaceId": hall})
    assert as_sent("c")["r7"]["v"] == "changed"
    deletion = {"table": "t", "id": "r8", "op": "delete", "deletedAt": edit("x", 9000, v=1)["fields"]["v"]["at"]}
    ann.write({**deletion, "changeId": unique("d"), "spaceId": hall})
    assert set(whole) - set(as_sent("d")) == {"r8"}


def test_a_device_in_the_middle_of_its_first_sync_goes_on_after_others_wrote(
    device: Make, ann: Device, hall: str
) -> None:
    fill(ann, hall, 3000)
    other = device(ann.user, unique("b"), app=ann.app)
    cursor, found = "", list[Json]()
    for n, page in enumerate(device(ann.user, unique("a"), app=ann.app).pages()):
        mine = other.pull(cursor)
        assert mine["serverChanges"] == page["serverChanges"] or n
        found += mine["serverChanges"]
        cursor = mine["syncedUntil"]
        ann.write({**edit(f"r{n}", 90_000 + n, v=f"late {n}"), "spaceId": hall})
    found += other.drain(cursor)[0]
    fresh = device(ann.user, unique("c"), app=ann.app)
    assert values(found) == values(fresh.drain()[0])


def test_what_a_user_wrote_is_in_no_page_that_is_sent_after_the_user_is_erased(
    server: Server, device: Make, ann: Device, hall: str, reader: Reader
) -> None:
    eve = device("eve-" + hall, app=ann.app)
    ann.member(hall, eve.user)
    eve.write(*({**edit(f"e{n}", n + 1, v=CANARY), "op": "insert", "spaceId": hall} for n in range(20)))
    for _ in range(3):
        assert CANARY.encode() in reader.pull(ann.app, ann.user).opened
        assert CANARY in str(device(ann.user, unique("a"), app=ann.app).drain()[0])
    erase(server, "user", eve.user)
    assert CANARY.encode() not in reader.pull(ann.app, ann.user).opened
    fresh = device(ann.user, unique("b"), app=ann.app)
    assert CANARY not in str(fresh.drain()[0])


def test_only_first_syncs_of_clients_of_ours_name_pages() -> None:
    def shared(**more: Any) -> bool:
        return PullState(PullRequest("app", **more), "u", b"k").shared

    assert shared(plain=False)
    assert not shared()
    assert not shared(plain=False, history=True)
