"""Small feeds are read together: with the same text as by themselves, and nothing of others' spaces."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import asyncpg
import pytest

from tests.support.compacting import ALL, compact_now
from tests.support.harness import Server
from tests.support.many_spaces import many_spaces
from tests.support.wire import Device, ahead, at, edit, unique


class Kind(NamedTuple):
    """How a feed is read by itself; where a cursor stands that is read so, by its seq; for whom; which tables first."""

    alone: str
    base: Callable[[int], int]
    legacy: str = "false"
    first: str = "NULL"


LOG = "syncd.sync_log_text(s.space_no, $1, {after}, s.head, NULL, {legacy}, s.quoted)"
STATE = "syncd.sync_state_text(s.space_no, $1, {after}, s.head, {after}, NULL, {legacy}, s.quoted)"
SWEEP = "syncd.sync_sweep_text(s.space_no, $1, 0, s.head, NULL, {first}, {named}, {legacy}, s.quoted)"
NAMED = f"concat_ws(',', {SWEEP.replace('{named}', 'true')}, {SWEEP.replace('{named}', 'false')})"
FIRST = "ARRAY(SELECT n.name_no FROM syncd.sync_names n WHERE n.name = 'notes')"
KINDS = {
    "log": Kind(LOG, lambda seq: -1),
    "state": Kind(STATE, lambda seq: seq),
    "sweep": Kind(SWEEP, lambda seq: -3 - 3 * seq),
    "sweep of named tables and the others": Kind(NAMED, lambda seq: -2 - 3 * seq, first=FIRST),
    "sweep of the others": Kind(SWEEP, lambda seq: -3 - 3 * seq, first=FIRST),
    "first generation's log": Kind(LOG, lambda seq: -1, "true"),
    "first generation's history": Kind(LOG, lambda seq: -1, "NULL"),
    "first generation's state": Kind(STATE, lambda seq: seq, "true"),
    "first generation's sweep": Kind(SWEEP, lambda seq: -3 - 3 * seq, "true"),
    "first generation's sweep of named tables": Kind(NAMED, lambda seq: -2 - 3 * seq, "true", FIRST),
}
FEEDS = """
SELECT s.space_no, h.head, s.space_id, s.quoted FROM syncd.sync_spaces s
JOIN syncd.sync_feeds h ON h.space_no = s.space_no AND h.app_no = $1 ORDER BY s.space_no
"""
TOGETHER = """
SELECT syncd.sync_feeds_together($1::integer, $2::integer[], $3::bigint[], $4::bigint[], $5::integer[],
                                 '{{}}', false, 1000, NULL, 1000000, {legacy}, {first})
"""


async def texts(
    server: Server, user: str, app: str, name: str, after: int, owner: str = ""
) -> tuple[list[Any], list[Any]]:
    """What `user` gets of the feeds of `owner`, together and one by one."""
    kind, conn = KINDS[name], await asyncpg.connect(server.runtime_dsn)
    try:
        async with conn.transaction():
            await conn.execute("SELECT syncd.sync_act_as($1)", owner or user)
            number = await conn.fetchval("SELECT syncd.sync_name($1)", app)
            feeds = await conn.fetch(FEEDS, number)
            await conn.execute("SELECT syncd.sync_act_as($1)", user)
            spaces = [feed["space_no"] for feed in feeds]
            seqs = [feed["head"] if "sweep" in name else after for feed in feeds]
            places = list(range(1, len(feeds) + 1))
            how = {"after": after, "legacy": kind.legacy, "first": kind.first, "named": "false"}
            query, bases = TOGETHER.format(**how), [kind.base(seq) for seq in seqs]
            together = await conn.fetchval(query, number, spaces, seqs, bases, places)
            alone = await conn.fetch(f"SELECT {kind.alone.format(**how)} AS text FROM ({FEEDS}) s", number)
            return list(together), [row["text"] or "" for row in alone]
    finally:
        await conn.close()


@pytest.fixture(scope="module")
def written(server: Server, device: Callable[..., Device]) -> Device:
    """A device with ten spaces, with records that were made, changed and deleted, some of them folded."""
    writer = device(unique("ann"), app=unique("app"))
    for place in range(10):
        space = writer.create(unique("small"))
        changes = [
            edit("kept", v=place, s='"quoted" \u2028'), edit("gone", v=1), edit("kept", 2, w=None),
            {**edit("note", v=1, c={"a": 1}), "table": "notes"}, {**edit("note", 2, **{"c.a": 2}), "table": "notes"},
            {**edit("made", 3, v=[1, {"a": "b"}]), "op": "insert", "schemaVersion": 3, "actor": {"name": "x"}},
        ]  # fmt: skip
        writer.write(*({**change, "spaceId": space} for change in changes))
        gone = {
            "table": "t",
            "id": "gone",
            "op": "delete",
            "deletedAt": edit("x", 5, v=1)["fields"]["v"]["at"],
            "changeId": "d" + space,
        }
        writer.write({**gone, "spaceId": space})
        if place % 3 == 0:
            compact_now(server.owner_dsn, space, tombstones=ALL)
            writer.write({**edit("late", ahead(0), v=1), "op": "insert", "spaceId": space})
    return writer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("after", [0, 2])
def test_the_text_is_that_of_each_by_itself(server: Server, written: Device, kind: str, after: int) -> None:
    together, alone = asyncio.run(texts(server, written.user, written.app, kind, after))
    if "log" in kind or "history" in kind:  # what is folded is read as state: of those alone
        together = [text for place, text in enumerate(together) if place % 3]
        alone = [text for place, text in enumerate(alone) if place % 3]
    assert together == alone
    assert all('"kept"' in text or after for text in alone)


def test_row_security_is_the_guard_of_what_is_read_together(
    server: Server, written: Device, device: Callable[..., Device]
) -> None:
    stranger = device(unique("eve"), app=written.app)
    stranger.create(unique("own"))
    together, alone = asyncio.run(texts(server, stranger.user, written.app, "sweep", 0, owner=written.user))
    assert together == [None] * 10
    assert alone == []


@pytest.mark.parametrize(
    ("legacy", "query"),
    [
        (False, {}),
        (False, {"first": "notes"}),
        (False, {"history": 1}),
        (True, {}),
        (True, {"first": "notes"}),
        (True, {"collection": "notes"}),
        (True, {"history": 1}),
        (True, {"since": at(1)}),
    ],
    ids=str,
)
def test_pages_have_the_same_in_the_same_order_however_much_is_in_one(
    written: Device, device: Callable[..., Device], legacy: bool, query: dict[str, Any]
) -> None:
    """Of a page of one change no feed is small."""
    reader = device(written.user, app=written.app, legacy=legacy)
    changes, cursor = reader.drain(limit=1, **query)
    assert changes == reader.drain(**query)[0]
    assert len({change["spaceId"] for change in changes}) == 10
    assert reader.drain(**{**query, "since": cursor})[0] == []


CALLED = """
SELECT f.funcname, f.calls FROM pg_stat_xact_user_functions f JOIN pg_proc p ON p.oid = f.funcid
WHERE f.schemaname = 'syncd' AND p.provolatile <> 'i' ORDER BY f.funcname
"""


async def called(server: Server, user: str, app: str, since: dict[str, Any], how: dict[str, Any]) -> dict[str, int]:
    """How often a pull of everything calls functions that read; those that make a text of what was read count not."""
    how, conn = {"limit": 10_000, "bytes": 10_000_000, **how}, await asyncpg.connect(server.owner_dsn)
    try:
        async with conn.transaction():
            await conn.execute("SET LOCAL track_functions = 'all'; SET LOCAL ROLE syncd_runtime")
            pull = json.dumps([{"user": user, "app": app, "since": since, "how": how}])
            assert await conn.fetchval("SELECT p.more FROM syncd.sync_pull($1::jsonb) p", pull) is False
            await conn.execute("RESET ROLE")
            return dict(await conn.fetch(CALLED))
    finally:
        await conn.close()


@pytest.mark.parametrize(
    ("since", "how"),
    [
        ({}, {}),
        ({}, {"first": ["notes"]}),
        ({}, {"tables": ["none"]}),
        ({}, {"legacy": True}),
        ({}, {"legacy": True, "first": ["notes"]}),
        ({}, {"legacy": True, "history": True}),
        ({}, {"legacy": True, "tables": ["none"]}),
        ({"at": 0}, {"legacy": True}),
    ],
    ids=str,
)
def test_what_a_pull_asks_does_not_grow_with_the_spaces(
    server: Server, device: Callable[..., Device], since: dict[str, Any], how: dict[str, Any]
) -> None:
    counts = list[dict[str, int]]()
    for spaces in (10, 30):
        crowd, app = many_spaces(server, spaces), unique("app")
        device(crowd.writer, app=app).write(*({**edit("r", v=1), "spaceId": space} for space in crowd.spaces))
        counts.append(asyncio.run(called(server, crowd.user, app, since, how)))
    assert counts[0] == counts[1]


def test_a_page_has_hundreds_of_small_feeds_of_a_user_in_thousands_of_spaces(
    server: Server, device: Callable[..., Device]
) -> None:
    crowd, app = many_spaces(server, 3000), unique("app")
    writer, reader = device(crowd.writer, app=app), device(crowd.user, app=app)
    wanted = crowd.spaces[:400]
    for start in range(0, 400, 100):
        writer.write(*({**edit("r", v=1), "spaceId": space} for space in wanted[start : start + 100]))
    large = {**edit("large", v="x" * 40_000), "spaceId": wanted[200]}
    writer.write(large)
    pages = list(reader.pages(limit=1000))
    assert [len(page["serverChanges"]) for page in pages] == [401]
    assert [change["spaceId"] for change in pages[0]["serverChanges"] if change["id"] == "r"] == wanted
    writer.write(*({**edit("r", 2, v=2), "spaceId": space} for space in wanted[:20]))
    news = reader.pull(pages[-1]["syncedUntil"])
    assert [(change["spaceId"], change["op"]) for change in news["serverChanges"]] == [
        (space, "update") for space in wanted[:20]
    ]
    assert news["hasMore"] is False


def test_what_is_large_is_left_to_be_read_by_itself(server: Server, device: Callable[..., Device]) -> None:
    writer = device(unique("ann"), app=unique("app"))
    for length in (10, 40_000, 10):
        noise = random.Random(length).randbytes(length).hex()
        writer.write({**edit("r", v=noise), "spaceId": writer.create(unique("small"))})
    for kind in KINDS:
        together, alone = asyncio.run(texts(server, writer.user, writer.app, kind, 0))
        assert together == [alone[0], None, alone[2]]
