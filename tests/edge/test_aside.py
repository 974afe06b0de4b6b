"""What takes long to read is read beside the others' requests: nobody's body holds up a worker."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time

import httpx
import pytest

from syncd.service.aside import LARGE, MOST_MEMBERS, SMALL, aside, is_large
from tests.harness import Server
from tests.wire import edit, unique


@pytest.mark.parametrize(
    ("body", "large"),
    [
        (b"{" + b'"a":1,' * (SMALL // 6 - 1) + b"}", False),
        (b'{"a":"' + b"x" * (LARGE - 100) + b'"}', False),
        (b'{"a":"' + b"x" * LARGE + b'"}', True),
        (b"{" + b'"a":1,' * (MOST_MEMBERS + 1) + b"}", True),
        (b"{" + b'"a" :1,' * MOST_MEMBERS + b"}", True),
        (b"[" + b'{"at":"2026-01-01T10:00:00Z"},' * 5_000 + b"]", False),
    ],
    ids=["small", "one long text", "longer", "many members", "many with a space", "instants"],
)
def test_a_body_is_large_by_its_size_or_its_members(body: bytes, large: bool) -> None:
    assert is_large(body) == large


def test_a_push_of_too_many_members_is_not_read(server: Server) -> None:
    """A parser that goes through a million of them is a second in which nobody is served."""
    data = ",".join(f'"{n}":1' for n in range(70_000))
    change = f'{{"table":"t","id":"HERE","op":"insert","data":{{{data}}}}}'
    body = f'{{"changes":[{",".join(change.replace("HERE", str(n)) for n in range(3))}]}}'
    headers = {"Authorization": f"Bearer {server.token(unique('mallory'))}", "X-Client-Id": "c", "X-Sync-Protocol": "1"}
    headers["Content-Type"] = "application/json"
    answer = httpx.post(f"{server.url}/sync/app", content=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_what_is_large_is_done_in_another_thread() -> None:
    assert await aside(False, threading.get_ident) == threading.get_ident()
    assert await aside(True, threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await aside(True, divmod, 1, 0)


@pytest.mark.alone
async def test_ten_kilobytes_that_unpack_to_ten_megabytes_hold_up_nobody(server: Server) -> None:
    """It took seconds in which nothing else was answered. The last number makes the push a bad one."""
    ones = "[" + "1," * 510_000 + "1]"
    changes = [edit(f"r{n}", x=1) for n in range(9)] + [edit("last", x="HERE")]
    body = (
        str({"changes": changes}).replace("'", '"').replace('"value": 1', f'"value": {ones}').replace('"HERE"', "1e999")
    )
    headers = {"Authorization": f"Bearer {server.token(unique('mallory'))}", "X-Client-Id": "c", "X-Sync-Protocol": "1",
               "Content-Encoding": "gzip", "Content-Type": "application/json"}  # fmt: skip
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as http:
        worst = asyncio.create_task(http.post("/sync/app", content=gzip.compress(body.encode()), headers=headers))
        longest, asked = 0.0, 0
        while not worst.done() or asked < 3:
            began = time.monotonic()
            assert (await http.get("/health")).status_code == 200
            longest, asked = max(longest, time.monotonic() - began), asked + 1
        answer = await worst
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_value"), answer.text
    assert longest < 1.0
