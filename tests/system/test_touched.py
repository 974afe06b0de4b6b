"""G20: what one push touches is bounded, so that what others read at once is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.harness import Server
from tests.holding import change, held
from tests.wire import Device, edit, unique

Make = Callable[..., Device]
LARGE = 12_000_000


def outcomes(answer: Any) -> list[str]:
    return [result.get("code", result["status"]) for result in answer["results"]]


async def grow(server: Server, writer: Device, *records: str) -> None:
    """Records of twelve megabytes in the personal space: a device would need a dozen pushes for each."""
    if records:
        writer.write(*(edit(record, n=1) for record in records))
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        await conn.execute(
            "UPDATE syncd.sync_records SET registers = jsonb_set(registers, '{n,value}', $2) "
            "WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)",
            f"_personal:{writer.user}",
            json.dumps("x" * LARGE),
        )
    finally:
        await conn.close()


@pytest.mark.parametrize("legacy", [False, True], ids=["ours", "the first generation"])
async def test_what_goes_beyond_is_refused_for_good_and_the_rest_goes_through(
    server: Server, device: Make, legacy: bool
) -> None:
    writer = device(unique("u"), legacy=legacy)
    await grow(server, writer, *"abcd")
    pushed = [change(record, when=2, m=1) if legacy else edit(record, 2, m=1) for record in (*"abcd", "small")]
    assert outcomes(writer.push(*pushed)) == ["applied", "applied", "push_too_large", "push_too_large", "applied"]
    if legacy:
        assert [row["change"] for row in held(writer)] == pushed[2:4]
    else:
        assert outcomes(writer.push(*pushed[2:4])) == ["applied", "applied"]


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
