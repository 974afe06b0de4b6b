"""G20: what one push touches is bounded, so that what others read at once is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx

from tests.harness import Server
from tests.holding import change, held, run
from tests.wire import Device, edit, unique

Make = Callable[..., Device]
LARGE = 12_000_000


def outcomes(answer: Any) -> list[str]:
    return [result.get("code", result["status"]) for result in answer["results"]]


async def grow(server: Server, writer: Device, *records: str) -> None:
    """Records of twelve megabytes in the personal space."""
    if records:
        writer.write(*(edit(record, n=1) for record in records))
    await grow_in(server, f"_personal:{writer.user}")


async def grow_in(server: Server, space: str) -> None:
    """Makes all records of a space, and their last changes, twelve megabytes large: a device would need a dozen pushes
    for each."""
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        for table, column, kind in (("sync_records", "registers", "jsonb"), ("sync_changes", "fields", "json")):
            await conn.execute(
                f"UPDATE syncd.{table} SET {column} = jsonb_set({column}::jsonb, '{{n,value}}', $2)::{kind} "
                "WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)",
                space,
                json.dumps("x" * LARGE),
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


def test_it_is_cut_so_often_and_what_is_left_is_held_until_it_is_tried_again(workspace: Path) -> None:
    settings = {"max_touched": 64 * 1024}
    with Server(workspace / "touches-little", settings=settings) as server, httpx.Client(timeout=60) as http:
        http.base_url = server.url
        old, other = (Device(http, server, "ann", name, legacy=True) for name in ("c1", "c2"))
        records = [f"r{n:02}" for n in range(36)]
        for record in records:
            old.push(change(record, n="x" * 40_000))
        answer = old.push(*(change(record, when=2, m=n) for n, record in enumerate(records)))
        assert outcomes(answer) == ["applied"] * 33 + ["push_too_large"] * 3
        assert [row["id"] for row in held(old)] == records[33:]
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
