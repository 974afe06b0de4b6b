"""Nobody's body holds up a worker: one of too many members is refused, and one that is large is read beside others."""

from __future__ import annotations

import asyncio
import gzip

import httpx

from tests.support.harness import Server
from tests.support.wire import edit, unique


def test_a_push_of_too_many_members_is_not_read(server: Server) -> None:
    """A parser that goes through a million of them is a second in which nobody is served."""
    data = ",".join(f'"{n}":1' for n in range(70_000))
    change = f'{{"table":"t","id":"HERE","op":"insert","data":{{{data}}}}}'
    body = f'{{"changes":[{",".join(change.replace("HERE", str(n)) for n in range(3))}]}}'
    headers = {"Authorization": f"Bearer {server.token(unique('mallory'))}", "X-Client-Id": "c", "X-Sync-Protocol": "1"}
    headers["Content-Type"] = "application/json"
    answer = httpx.post(f"{server.url}/sync/app", content=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_ten_kilobytes_that_unpack_to_ten_megabytes_hold_up_nobody(server: Server) -> None:
    """It took seconds in which nothing else was answered. The last number makes the push a bad one."""
    ones = "[" + "1234567890123456," * 57_000 + "1]"
    changes = [edit(f"r{n}", x=1) for n in range(9)] + [edit("last", x="HERE")]
    body = (
        str({"changes": changes}).replace("'", '"').replace('"value": 1', f'"value": {ones}').replace('"HERE"', "1e999")
    )
    headers = {"Authorization": f"Bearer {server.token(unique('mallory'))}", "X-Client-Id": "c", "X-Sync-Protocol": "1",
               "Content-Encoding": "gzip", "Content-Type": "application/json"}  # fmt: skip
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        worst = asyncio.create_task(http.post("/sync/app", content=gzip.compress(body.encode()), headers=headers))
        asked = 0
        while not worst.done():
            assert (await http.get("/health")).status_code == 200
            asked += 1
        answer = await worst
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_value"), answer.text
    # Who is held up hears once before it, and once after it.
    assert asked > 3
