"""G20: what one push touches is bounded, so that what others read at once is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.core.principal import Principal
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.protocol.first_generation import push_body
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.service import push as pushing
from syncd.service.event_ids import EventIds
from syncd.service.push import PushRequest
from syncd.store.log import Log, PushCall, Receipt, cursor_key
from syncd.store.pool import Pool
from tests.support.harness import Server
from tests.support.holding import change, held, run
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
LARGE = 12_000_000


def outcomes(answer: Any) -> list[str]:
    return [result.get("code", result["status"]) for result in answer["results"]]


async def grow(server: Server, writer: Device, *records: str) -> None:
    """Records of twelve megabytes in the personal space."""
    if records:
        writer.write(*(edit(record, n=1) for record in records))
    await grow_in(server.owner_dsn, f"_personal:{writer.user}")


async def grow_in(dsn: str, space: str, size: int = LARGE) -> None:
    """Makes all records of a space, and their last changes, twelve megabytes large: a device would need a dozen pushes
    for each."""
    conn = await asyncpg.connect(dsn)
    try:
        for table, column, kind in (("sync_records", "registers", "jsonb"), ("sync_changes", "fields", "json")):
            await conn.execute(
                f"UPDATE syncd.{table} SET {column} = jsonb_set({column}::jsonb, '{{n,value}}', $2)::{kind} "
                "WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)",
                space,
                json.dumps("x" * size),
            )
    finally:
        await conn.close()


async def test_what_goes_beyond_is_refused_for_good_and_the_rest_goes_through(server: Server, device: Make) -> None:
    writer = device(unique("u"))
    await grow(server, writer, *"abcd")
    pushed = [edit(record, 2, m=1) for record in (*"abcd", "small")]
    assert outcomes(writer.push(*pushed)) == ["applied", "applied", "push_too_large", "push_too_large", "applied"]
    assert outcomes(writer.push(*pushed[2:4])) == ["applied", "applied"]


async def test_a_push_of_the_first_generation_is_cut_where_it_touches_too_much(server: Server, device: Make) -> None:
    writer = device(unique("u"), legacy=True)
    await grow(server, writer, *"abcde")
    pushed = [change(record, when=2, m=1) for record in (*"abcde", "small")]
    assert outcomes(writer.push(*pushed)) == ["applied"] * 6
    assert held(writer) == []
    assert outcomes(writer.push(*pushed)) == ["duplicate"] * 6


class Pushing:
    """A user's pushes of the first generation. `tried`: of how many changes each was, as the log was asked."""

    def __init__(self, pool: Pool, key: bytes) -> None:
        self.user, self.tried, self.log, self._now = Principal(unique("u")), list[int](), Log(pool), 1 << 50
        self._pushes = pushing.PushService(self.log, key, Limits(max_touched=64 * 1024), self._now)
        self._append, self.log.push = self.log.push, self._counted  # type: ignore[method-assign]

    async def _counted(self, call: PushCall, *, alone: bool = False) -> Receipt:
        self.tried.append(json.loads(call.head)["n"])
        return await self._append(call, alone=alone)

    async def push(self, n: int, records: Sequence[str]) -> list[str | None]:
        """What became of a change to each record, in one push."""
        self.tried.clear()
        changes = [change(record, when=n + 1, n=n) for record in records]
        body = json.dumps({"changes": changes, "pull": False}).encode()
        asked = PullRequest("app", plain=True)
        events = EventIds(self._now + n)
        answer = await self._pushes.push(PushRequest(self.user, "old", asked, body, push_body(body), self._now, events))
        return [result.code or result.status for result in answer.results]


@pytest.fixture
async def pushes(database: EmbeddedPostgres) -> AsyncIterator[Pushing]:
    pool = Pool(database.runtime_dsn, size=2)
    try:
        yield Pushing(pool, await cursor_key(pool))
    finally:
        await pool.close()


async def test_what_follows_a_cut_is_not_tried_whole_again(pushes: Pushing, database: EmbeddedPostgres) -> None:
    """Thirty records, two of which are too much: each of the cuts tried all that was left, and read it in vain."""
    records = [f"r{n:02}" for n in range(30)]
    assert await pushes.push(0, records) == ["applied"] * 30
    await grow_in(database.owner_dsn, pushes.user.personal, 40_000)
    assert await pushes.push(1, records) == ["applied"] * 30
    # Once more than there are parts, and then once in so many.
    assert pushes.tried.count(1) == 30
    assert len(pushes.tried) <= 30 + 1 + 30 // pushing.SOME, pushes.tried


async def test_parts_that_are_written_do_not_use_up_the_cuts(
    pushes: Pushing, database: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three bursts of large records among small ones: each is too much once or twice, and all can be written."""
    monkeypatch.setattr(pushing, "CUTS", 8)
    large = [f"large{n}" for n in range(9)]
    assert await pushes.push(0, large) == ["applied"] * 9
    await grow_in(database.owner_dsn, pushes.user.personal, 40_000)
    small = [[f"s{burst}-{n}" for n in range(60)] for burst in range(4)]
    records = [*small[0], *large[:3], *small[1], *large[3:6], *small[2], *large[6:], *small[3]]
    assert await pushes.push(1, records) == ["applied"] * len(records)


def test_it_is_cut_so_often_and_what_is_left_is_held_until_it_is_tried_again(workspace: Path) -> None:
    settings = {"max_touched": 64 * 1024}
    with Server(workspace / "touches-little", settings=settings) as server, httpx.Client(timeout=60) as http:
        http.base_url = server.url
        old, other = (Device(http, server, "ann", name, legacy=True) for name in ("c1", "c2"))
        # Two are too much, so that after SOME that were written by themselves it fails again.
        written = pushing.CUTS * pushing.SOME
        records = [f"r{n:03}" for n in range(written + 4)]
        old.push(*(change(record, n=1) for record in records))
        asyncio.run(grow_in(server.owner_dsn, "_personal:ann", 40_000))
        answer = old.push(*(change(record, when=2, m=n) for n, record in enumerate(records)))
        assert outcomes(answer) == ["applied"] * written + ["applied", "push_too_large"] * 2
        assert [row["id"] for row in held(old)] == records[written + 1 :: 2]
        run(server, "held", "retry", "--user", "ann")
        assert held(old) == []
        shown = {change["id"]: change["data"]["m"] for change in other.drain()[0]}
        assert shown == {record: n for n, record in enumerate(records)}


async def test_a_push_that_must_be_whole_is_refused_whole(server: Server, device: Make) -> None:
    writer = device(unique("u"))
    await grow(server, writer, *"abc")
    refused = writer.send(*(edit(record, 2, m=1) for record in "abcd"), atomic=True)
    assert (refused.status_code, refused.json()["code"]) == (422, "atomic_rejected")
    faults = refused.json()["errors"]
    assert [(fault["pointer"], fault["code"]) for fault in faults] == [("/changes/2", "push_too_large")]
    assert writer.push(edit("e", n=1))["results"][0]["seq"] == 4


async def test_a_restore_that_would_touch_more_is_refused_whole(server: Server, device: Make) -> None:
    writer = device(unique("u"))
    writer.write(*(edit(record, n=1, m=0) for record in "abc"))
    before = writer.push(edit("d", n=1))["results"][0]["seq"]
    writer.write(*(edit(record, 2, m=1) for record in "abc"))
    await grow(server, writer)
    path = f"/sync/app/spaces/_personal:{writer.user}/restore"
    refused = writer.request("POST", path, json={"seq": before, "clientId": "c1"})
    assert (refused.status_code, refused.json()["code"]) == (422, "restore_too_large"), refused.text


CUTS = """
SELECT syncd.sync_log_cut(h.space_no, h.app_no, 0, h.head, 1000, 2097152),
       syncd.sync_state_cut(h.space_no, h.app_no, 0, h.head, 1000, 2097152),
       syncd.sync_sweep_cut(h.space_no, h.app_no, h.head, 1000, 2097152)
FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1
"""


async def test_what_was_written_without_a_bound_is_read_in_parts(server: Server, device: Make) -> None:
    writer = device(unique("u"))
    await grow(server, writer, *"abcdefgh")
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        assert tuple(await conn.fetchrow(CUTS, f"_personal:{writer.user}")) == (6, 6, 2)
    finally:
        await conn.close()
    writer.headers["accept-encoding"] = "identity"
    pages = [[change["id"] for change in page["serverChanges"]] for page in writer.pages()]
    assert pages == [list("hgfedc"), list("ba")]


async def test_a_page_counts_what_is_packed_as_it_is_sent(device: Make) -> None:
    writer = device(unique("u"))
    for record in range(6):
        writer.write(edit(f"r{record}", n="x" * 100_000))
    for history in (0, 1):
        assert [len(page["serverChanges"]) for page in writer.pages(history=history, bytes=200_000)] == [2, 2, 2]
