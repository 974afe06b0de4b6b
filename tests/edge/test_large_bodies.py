"""Nobody's body holds up a worker: one of too many members is refused, and one that is large is read beside others."""

from __future__ import annotations

import asyncio
import gzip

import httpx
import pytest

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


async def test_an_export_reaches_who_goes_on_sending_a_body_after_it(server: Server) -> None:
    """It was closed as soon as all was sent, and so reset: what has been sent and was not read is lost with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "GET /backup/export HTTP/1.1\r\nHost: here\r\nX-Sync-Protocol: 1\r\nConnection: close\r\n"
    head += f"Authorization: Bearer {server.token(unique('ann'))}\r\nTransfer-Encoding: chunked\r\n\r\n"
    try:
        writer.write(head.encode())
        assert (await reader.readline()).split()[1] == b"200"
        for _ in range(10):
            writer.write(b"%x\r\n%b\r\n" % (1 << 16, b"x" * (1 << 16)))
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        assert (await reader.read()).endswith(b"\r\n0\r\n\r\n")
    finally:
        writer.close()


READS_NONE = [
    ("PUT", "/blocks/{other}", 204), ("DELETE", "/blocks/{other}", 204), ("GET", "/quota", 200),
    ("GET", "/spaces", 200), ("GET", "/invitations", 200), ("GET", "/sync/app/pull?since=", 200),
    ("GET", "/health", 200), ("GET", "/readyz", 200),
    ("GET", "/openapi.json", 200), ("GET", "/docs/errors", 200), ("GET", "/", 200), ("DELETE", "/spaces/{space}", 204),
    ("POST", "/invitations/{other}/accept", 404), ("GET", "/nothing", 404), ("GET", "/backup/export", 200),
]  # fmt: skip


@pytest.mark.parametrize("ending", ["close", "keep-alive"])
@pytest.mark.parametrize(("method", "address", "status"), READS_NONE, ids=[f"{m} {a}" for m, a, _ in READS_NONE])
async def test_an_answer_reaches_who_sends_a_body_that_nobody_reads(
    server: Server, method: str, address: str, status: int, ending: str
) -> None:
    """A connection that is closed while its client writes is reset, and the answer lost with it."""
    user, space = unique("ann"), unique("space")
    headers = {"Authorization": f"Bearer {server.token(user)}"}
    if "{space}" in address:
        async with httpx.AsyncClient(headers=headers) as http:
            (await http.post(f"{server.url}/spaces", json={"id": space, "name": "x"})).raise_for_status()
    path = address.format(other=unique("bob"), space=space)
    head = f"{method} {path} HTTP/1.1\r\nHost: here\r\nAuthorization: {headers['Authorization']}\r\n"
    head += f"X-Sync-Protocol: 1\r\nAccept: text/html\r\nConnection: {ending}\r\nTransfer-Encoding: chunked\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    chunk = b"%x\r\n%b\r\n" % (1 << 16, b"x" * (1 << 16))
    try:
        writer.write(head.encode())
        for _ in range(48):
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        assert (await reader.readline()).split()[1] == str(status).encode()
        while await reader.readline() != b"\r\n":
            pass
        if ending == "close":
            await reader.read()
    finally:
        writer.close()
