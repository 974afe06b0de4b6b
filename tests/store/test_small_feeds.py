"""Small feeds are read together: with the same text as by themselves, and nothing of others' spaces."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.compacting import ALL, compact_now
from tests.harness import Server
from tests.many_spaces import many_spaces
from tests.wire import Device, ahead, edit, unique

ALONE = {
    "log": "syncd.sync_log_text(s.space_no, $1, {after}, s.head, NULL, false, s.quoted)",
    "state": "syncd.sync_state_text(s.space_no, $1, {after}, s.head, {after}, NULL, false, s.quoted)",
    "sweep": "syncd.sync_sweep_text(s.space_no, $1, 0, s.head, NULL, NULL, false, false, s.quoted)",
}
FEEDS = """
SELECT s.space_no, h.head, s.space_id, s.quoted FROM syncd.sync_spaces s
JOIN syncd.sync_feeds h ON h.space_no = s.space_no AND h.app_no = $1 ORDER BY s.space_no
"""
TOGETHER = """
SELECT syncd.sync_small_feeds($1::integer, $2::integer[], $3::bigint[], $4::bigint[], $5::integer[],
                              '{}', false, 1000, NULL, 1000000)
"""


async def texts(
    server: Server, user: str, app: str, kind: str, after: int, owner: str = ""
) -> tuple[list[Any], list[Any]]:
    """What `user` gets of the feeds of `owner`, together and one by one."""
    conn = await asyncpg.connect(server.runtime_dsn)
    try:
        async with conn.transaction():
            await conn.execute("SELECT syncd.sync_act_as($1)", owner or user)
            number = await conn.fetchval("SELECT syncd.sync_name($1)", app)
            feeds = await conn.fetch(FEEDS, number)
            await conn.execute("SELECT syncd.sync_act_as($1)", user)
            spaces = [feed["space_no"] for feed in feeds]
            seqs = [feed["head"] if kind == "sweep" else after for feed in feeds]
            bases = [{"log": -1, "state": after, "sweep": -3 - 3 * seq}[kind] for seq in seqs]
            places = list(range(1, len(feeds) + 1))
            together = await conn.fetchval(TOGETHER, number, spaces, seqs, bases, places)
            one = ALONE[kind].format(after=after)
            alone = await conn.fetch(f"SELECT {one} AS text FROM ({FEEDS}) s", number)
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


@pytest.mark.parametrize("kind", ALONE)
@pytest.mark.parametrize("after", [0, 2])
def test_the_text_is_that_of_each_by_itself(server: Server, written: Device, kind: str, after: int) -> None:
    together, alone = asyncio.run(texts(server, written.user, written.app, kind, after))
    if kind == "log":  # what is folded is read as state: of those alone
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
    for kind in ALONE:
        together, alone = asyncio.run(texts(server, writer.user, writer.app, kind, 0))
        assert together == [alone[0], None, alone[2]]
