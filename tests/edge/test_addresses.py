"""For which address a client counts, behind proxies that are trusted and others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from syncd.edge.addresses import Addresses, counted
from syncd.settings import Settings
from syncd.settings.setting import SettingsError
from tests.support.harness import Server
from tests.support.raw_socket import HANDSHAKE
from tests.support.wire import unique

PROXY, OTHER = "10.0.0.1", "192.0.2.9"
PER_ADDRESS = 4


def of(*headers: tuple[str, str], peer: str = PROXY, proxies: tuple[str, ...] = ("10.0.0.0/8", "fd00::/8")) -> str:
    return Addresses(proxies).of(peer, [(name.encode(), value.encode()) for name, value in headers])


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([("x-forwarded-for", OTHER)], OTHER),
        ([("x-forwarded-for", f"203.0.113.5, {OTHER}")], OTHER),
        ([("x-forwarded-for", f"203.0.113.5, {OTHER}, 10.2.3.4")], OTHER),
        ([("x-forwarded-for", "203.0.113.5"), ("x-forwarded-for", OTHER)], OTHER),
        ([("x-forwarded-for", f"{OTHER}:4711")], OTHER),
        ([("x-forwarded-for", "[2001:db8:1:2:3::1]:4711")], "2001:db8:1:2::/64"),
        ([("x-forwarded-for", "2001:db8:1:2:3::1")], "2001:db8:1:2::/64"),
        ([("x-forwarded-for", f"::ffff:{OTHER}")], OTHER),
        ([("forwarded", f"for={OTHER}")], OTHER),
        ([("forwarded", f'for=203.0.113.5, proto=https;For="{OTHER}:80";by=10.0.0.1')], OTHER),
        ([("forwarded", 'for="[2001:db8:1:2::9]"')], "2001:db8:1:2::/64"),
    ],
)
def test_the_nearest_that_is_no_proxy_counts(headers: list[tuple[str, str]], address: str) -> None:
    assert of(*headers) == address


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([], PROXY),
        ([("x-forwarded-for", "")], PROXY),
        ([("x-forwarded-for", "unknown")], PROXY),
        ([("x-forwarded-for", f"{OTHER}, unknown, 10.9.9.9")], "10.9.9.9"),
        ([("x-forwarded-for", "10.9.9.9")], "10.9.9.9"),
        ([("forwarded", "for=_hidden")], PROXY),
        ([("forwarded", "by=192.0.2.9")], PROXY),
        ([("forwarded", f'for="{OTHER}')], PROXY),
        ([("forwarded", f'host="a;for=203.0.113.5;b";for={OTHER}')], PROXY),
        ([("forwarded", f'for={OTHER};host="a,for=203.0.113.5;b"')], PROXY),
        ([("forwarded", f'for={OTHER};host="\\",for=203.0.113.5;b=\\""')], PROXY),
        ([("x-forwarded-for", "\xff")], PROXY),
        ([("x-forwarded-for", f"{OTHER}{',10.0.0.1' * 1000}")], PROXY),
    ],
)
def test_of_whom_nobody_knows_the_last_who_is_known_counts(headers: list[tuple[str, str]], address: str) -> None:
    assert of(*headers) == address


def test_what_a_client_wrote_into_the_list_holds_up_nobody() -> None:
    """It came before any token was looked at; reading it once is all that it may cost."""
    blanks = " " * 100_000
    assert of(("forwarded", f'for={blanks}"')) == PROXY
    assert of(("forwarded", f'for={blanks}", for={OTHER}')) == OTHER


def test_where_two_say_it_neither_is_believed() -> None:
    """A proxy passes on what its client wrote into the header that the proxy does not use."""
    assert of(("x-forwarded-for", OTHER), ("forwarded", "for=203.0.113.5")) == PROXY


def test_who_is_no_proxy_says_nothing() -> None:
    assert of(("x-forwarded-for", OTHER), peer="203.0.113.5") == "203.0.113.5"
    assert of(("x-forwarded-for", OTHER), proxies=()) == PROXY


def test_a_network_of_ipv6_is_one_address() -> None:
    assert counted("2001:db8::1") == counted("2001:db8::ffff:1") != counted("2001:db8:0:1::1")
    assert counted("::ffff:192.0.2.9") == counted("192.0.2.9") == "192.0.2.9"
    assert counted("") == ""


def test_what_is_no_network_is_said() -> None:
    assert Settings.load({"SYNCD_TRUSTED_PROXIES": "10.0.0.0/8, ::1"}).trusted_proxies == ("10.0.0.0/8", "::1")
    with pytest.raises(SettingsError, match=r"SYNCD_TRUSTED_PROXIES='10\.0\.0\.0/33' cannot be used"):
        Settings.load({"SYNCD_TRUSTED_PROXIES": "10.0.0.0/33"})


# -- over sockets -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Server]:
    """A server of few connections and bodies by address, whose proxies are at 127.0.0.5."""
    limits = {
        "trusted_proxies": "127.0.0.5", "max_connections_per_address": PER_ADDRESS, "max_body": 1 << 20,
        "max_bodies_per_address": 1,
    }  # fmt: skip
    with Server(workspace / "addresses", settings=limits) as server:
        yield server


def abort(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def said(
    stack: AsyncExitStack, server: Server, head: bytes, *, client: str = "", peer: str = "127.0.0.5"
) -> tuple[int, dict[str, Any]]:
    """The status of an answer, and its JSON where it is a refusal; the connection stays until the stack ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(peer, 0))
    stack.callback(abort, writer)
    forwarded = f"X-Forwarded-For: {client}\r\n\r\n".encode() if client else b"\r\n"
    writer.write(head.removesuffix(b"\r\n") + forwarded)
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    status = int(answer.split()[1])
    if status < 400:
        return status, {}
    size = next(
        int(line.split(b":")[1]) for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    return status, json.loads(await reader.readexactly(size))


def head_of(server: Server, *lines: str) -> bytes:
    token = f"Authorization: Bearer {server.token(unique('ann'))}"
    return "\r\n".join([*lines, "Host: localhost", token, "X-Sync-Protocol: 1", "X-Client-Id: c", "", ""]).encode()


async def test_connections_of_a_proxy_are_not_one_client_s(served: Server) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(3 * PER_ADDRESS):
            status, _ = await said(stack, served, head_of(served, "GET /health HTTP/1.1"), client=OTHER)
            assert status == 200


@pytest.mark.parametrize("kind", ["socket", "stream"])
async def test_a_client_behind_a_proxy_has_its_own_bound(served: Server, kind: str) -> None:
    def head() -> bytes:
        return HANDSHAKE if kind == "socket" else head_of(served, "GET /sync/notes/stream HTTP/1.1")

    welcome = 101 if kind == "socket" else 200
    async with AsyncExitStack() as stack:
        for _ in range(PER_ADDRESS):
            assert (await said(stack, served, head(), client=f"203.0.113.1, {OTHER}"))[0] == welcome
        status, refused = await said(stack, served, head(), client=f"203.0.113.2, {OTHER}")
        assert (status, refused["code"]) == (429, "too_many_requests")
        assert (await said(stack, served, head(), client="192.0.2.10"))[0] == welcome
    async with AsyncExitStack() as stack:
        for _ in range(300):
            if (await said(stack, served, head(), client=OTHER))[0] == welcome:
                return
            await asyncio.sleep(0.1)
    raise AssertionError("the places were not given back")


async def test_a_stream_is_one_connection(served: Server) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(PER_ADDRESS):
            head = head_of(served, "GET /sync/notes/stream HTTP/1.1")
            assert (await said(stack, served, head, peer="127.0.0.6"))[0] == 200


async def test_bodies_are_counted_for_the_client_behind_a_proxy(served: Server) -> None:
    """Two large bodies of one client are one too many; of two clients they are not."""

    async def begun(stack: AsyncExitStack, client: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, local_addr=("127.0.0.5", 0))
        stack.callback(abort, writer)
        size = 1 << 20
        head = head_of(served, "POST /sync/notes HTTP/1.1", f"Content-Length: {size}", f"X-Forwarded-For: {client}")
        writer.write(head + b" " * (size - 100_000))
        await writer.drain()
        return reader, writer

    async with AsyncExitStack() as stack:
        first = await begun(stack, OTHER)
        second = await begun(stack, OTHER)
        third = await begun(stack, "192.0.2.11")
        answers = [asyncio.ensure_future(reader.readline()) for reader, _ in (first, second)]
        done, _ = await asyncio.wait(answers, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        # Both, where the second met the bound before the room of the first was given back.
        assert {task.result().split()[1] for task in done} == {b"429"}
        third[1].write(b" " * 100_000)
        assert (await asyncio.wait_for(third[0].readline(), 30)).split()[1] == b"400"  # no JSON, but taken
        for task in answers:
            task.cancel()
