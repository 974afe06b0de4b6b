"""Who is too many or too fast is told so, and nobody else notices; what comes as garbage harms nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.support.device import Device
from tests.support.drawn import drawn, examples
from tests.support.harness import PATH, Server
from tests.support.processes import workers_of
from tests.support.socket_device import Socket, opened, refusal, socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import edit, unique

PER_USER, PER_ADDRESS, FRAMES = 3, 8, 10
ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def strict(workspace: Path) -> Iterator[Server]:
    """A server with low limits, and one web origin."""
    limits = {
        "max_connections_per_user": PER_USER,
        "max_connections_per_address": PER_ADDRESS,
        "max_frames_per_second": FRAMES,
        "allowed_origins": ORIGIN,
    }
    with Server(workspace / "strict", settings=limits) as server:
        yield server


async def works(server: Server, user: str, **more: Any) -> None:
    """A bystander is served as ever."""
    async with await opened(server, **more) as socket:
        await socket.auth(user)
        await socket.subscribe()
        await socket.push(edit(unique("r"), x=1))


# -- how many, how fast ------------------------------------------------------------------------------------------


async def test_a_user_has_so_many_connections_and_no_more(strict: Server) -> None:
    ann, bob = unique("ann"), unique("bob")
    async with contextlib.AsyncExitStack() as stack:
        for n in range(PER_USER - 1):
            await stack.enter_async_context(socket_of(strict, ann, f"c{n}"))
        await stack.enter_async_context(stream_of(strict, ann))
        async with await opened(strict) as one_more:
            await one_more.send({"type": "auth", "token": strict.token(ann), "clientId": "c"})
            assert await one_more.ends() == 4429
        headers = {"Authorization": f"Bearer {strict.token(ann)}"}
        async with httpx.AsyncClient(base_url=strict.url) as http:
            refused = await http.get("/sync/notes/stream", headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) >= 1
        await works(strict, bob)
    for _ in range(1200):
        with contextlib.suppress(AssertionError):
            await works(strict, ann)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the places were not given back")


async def test_an_address_has_so_many_connections_and_no_more(strict: Server) -> None:
    here, elsewhere = ("127.0.0.2", 0), ("127.0.0.3", 0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(PER_ADDRESS):
            await stack.enter_async_context(await opened(strict, local_addr=here))
        refused = await refusal(strict, local_addr=here)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) >= 1
        await works(strict, unique("bob"), local_addr=elsewhere)
    for _ in range(1200):
        with contextlib.suppress(Exception):
            await works(strict, unique("ann"), local_addr=here)
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the places were not given back")


async def test_a_flood_of_frames_ends_its_connection_and_no_other_users(strict: Server) -> None:
    ann, bob = unique("ann"), unique("bob")
    async with socket_of(strict, ann) as flood, socket_of(strict, bob) as calm:
        await calm.subscribe()
        for n in range(FRAMES):
            await flood.send({"type": "ping"})
            await flood.until(lambda n=n: len(flood.all("pong")) > n)  # type: ignore[misc]
        with contextlib.suppress(ConnectionClosed):
            for _ in range(FRAMES * 20):
                await flood.send({"type": "ping"})
        assert await flood.ends() == 4429
        assert len(flood.all("pong")) < FRAMES * 10
        await calm.push(edit("r", x=1))
        assert calm.code is None


async def test_what_is_within_the_limits_is_never_refused(strict: Server) -> None:
    async with socket_of(strict, unique("ann")) as socket:
        for _ in range(FRAMES * 2):
            await socket.ask({"type": "ping"}, "pong")
        await asyncio.sleep(1.5)
        for _ in range(FRAMES):
            await socket.ask({"type": "ping"}, "pong")


# -- pages of other origins ---------------------------------------------------------------------------------------


async def test_programs_and_pages_of_the_server_and_of_allowed_origins_may_connect(strict: Server) -> None:
    for origin in (None, strict.url, strict.url.upper(), ORIGIN):
        await works(strict, unique("ann"), origin=origin)


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "https://app.example.evil.example", "https://app.example:444", "http://[", "x",
     "http://app.example", "http://127.0.0.1", "ä"],
    ids=repr,
)  # fmt: skip
async def test_pages_of_other_origins_may_not(strict: Server, origin: str) -> None:
    answer = await raw(strict, f"Origin: {origin}")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


# -- garbage ------------------------------------------------------------------------------------------------------


async def raw(server: Server, *lines: str, method: str = "GET") -> httpx.Response:
    """A handshake with further header lines, as it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = [
        f"{method} {PATH}/ws HTTP/1.1",
        *([] if any(line.lower().startswith("host:") for line in lines) else [f"Host: 127.0.0.1:{server.port}"]),
        "Upgrade: websocket",
        "Connection: Upgrade",
        *([] if any("-Key:" in line for line in lines) else ["Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]),
        *([] if any("-Version:" in line for line in lines) else ["Sec-WebSocket-Version: 13"]),
        *lines,
    ]
    writer.write("\r\n".join([*head, "", ""]).encode("latin-1"))
    async with asyncio.timeout(20):
        status = (await reader.readline()).decode()
        headers = [tuple(line.decode("latin-1").strip().split(": ", 1)) async for line in until_empty(reader)]
        body = b"" if " 101 " in status else await reader.read()
    writer.close()
    return httpx.Response(int(status.split()[1]), headers=headers, content=body)  # type: ignore[arg-type]


async def until_empty(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while (line := await reader.readline()).strip():
        yield line


@pytest.mark.parametrize(
    ("lines", "method"),
    [
        (("Origin: https://app.example", "Origin: https://app.example"), "GET"),
        (("Host: a", "Host: b"), "GET"),
        (("Sec-WebSocket-Key: short",), "GET"),
        (("Sec-WebSocket-Key: ä",), "GET"),
        (("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), "GET"),
        (("Sec-WebSocket-Version: 12",), "GET"),
        (("Sec-WebSocket-Extensions: ;;;",), "GET"),
        (("Sec-WebSocket-Protocol: ,,;",), "GET"),
        ((f"X-Large: {'x' * 20_000}",), "GET"),
        (tuple(f"X-{n}: y" for n in range(200)), "GET"),
        ((), "POST"),
        ((), "HEAD"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
async def test_a_handshake_that_makes_no_sense_is_refused_and_not_an_error(
    strict: Server, lines: tuple[str, ...], method: str
) -> None:
    began = len(strict.output())
    try:
        answer = await raw(strict, *lines, method=method)
        assert answer.status_code == 101 or 400 <= answer.status_code < 500, answer.text
    except (IndexError, ConnectionError):
        pass  # it was cut off without an answer
    said = strict.output()[began:]
    assert "Traceback" not in said
    assert "failed" not in said
    await works(strict, unique("ann"))


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["auth", "subscribe", "unsubscribe", "push", "presence", "ping", "changes", ""])
MEMBERS = st.sampled_from(
    ["token", "clientId", "protocol", "appId", "since", "collections", "changes", "requestId", "spaceId", "state",
     "atomic", "schemaVersion", "limit"]
)  # fmt: skip
CHANGE = st.dictionaries(
    st.sampled_from(["table", "id", "op", "changeId", "fields", "data", "deletedAt", "spaceId", "actor", "origin"]),
    JSONS | st.sampled_from(["t", "update", "insert", "delete", "2026-01-01T00:00:00Z"]),
    max_size=2,
).map(lambda change: {**edit("r", x=1), **change})
# Most of a frame is as it should be, or it would never get far.
RIGHT: dict[str, Any] = {
    "auth": {"token": "x", "clientId": "c"},
    "subscribe": {"appId": "app", "since": ""},
    "unsubscribe": {"appId": "app"},
    "push": {"appId": "app", "requestId": 1},
    "presence": {"spaceId": "_personal:garbage", "state": 1},
}
NEAR = st.builds(
    lambda kind, rest, changes: {
        **RIGHT.get(kind, {}), **rest, "type": kind, **({"changes": changes} if kind == "push" else {})
    },
    TYPES, st.dictionaries(MEMBERS, JSONS | st.just("app"), max_size=2), st.lists(CHANGE, max_size=2),
)  # fmt: skip
GARBAGE = st.lists(NEAR | st.binary(max_size=40) | st.text(max_size=40) | JSONS, min_size=1, max_size=4)


def as_frame(thing: Any) -> str | bytes:
    if isinstance(thing, str | bytes):
        return thing
    try:
        return json.dumps(thing)
    except UnicodeEncodeError:
        return "x"


@drawn
@settings(max_examples=examples(100), suppress_health_check=list(HealthCheck))
@given(garbage=GARBAGE)
async def test_whatever_comes_in_frames_the_server_lives_and_nothing_fails(server: Server, garbage: list[Any]) -> None:
    began = len(server.output())
    async with socket_of(server, "garbage") as socket:
        with contextlib.suppress(ConnectionClosed, UnicodeEncodeError):
            for thing in garbage:
                await socket.send(as_frame(thing))
            await socket.send({"type": "ping"})
        await until_answered(socket)
        assert socket.code in (None, 4400, 4401, 4403, 4429, 1007), (socket.code, socket.reason)
        assert not [frame for frame in socket.all("error") if frame["code"] == "internal"], socket.frames
    assert "failed" not in server.output()[began:]


async def until_answered(socket: Socket) -> None:
    """Until a ping was answered, or the connection ended."""
    with contextlib.suppress(AssertionError):
        await socket.next("pong")
    assert socket.all("pong") or socket.code is not None, socket.frames


async def test_random_bytes_after_the_handshake_harm_nothing(server: Server) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    chance = random.Random(seed)
    began = len(server.output())
    for _ in range(40):
        async with await opened(server) as socket:
            socket.connection.transport.write(chance.randbytes(chance.choice((1, 2, 10, 500))))
            socket.connection.transport.write_eof()
            await socket.ends()
    said = server.output()[began:]
    assert "Traceback" not in said
    assert "failed" not in said
    async with socket_of(server, unique("ann")) as socket:
        await socket.subscribe()


# -- who does not read ----------------------------------------------------------------------------------------------


def memory(server: Server) -> int:
    return sum(worker.memory_info().rss for worker in workers_of(server))


@pytest.mark.parametrize("what", ["answers that echo", "pings"])
async def test_who_asks_and_never_reads_costs_little(server: Server, what: str) -> None:
    big = json.dumps({"type": "push", "appId": "", "requestId": "x" * 900_000, "changes": []})
    async with socket_of(server, unique("deaf")) as socket:
        await socket.fence()
        transport = socket.connection.transport
        transport.pause_reading()
        before = memory(server)
        began = time.monotonic()
        sent = 0
        while time.monotonic() - began < 3 and sent < 200:
            sent += 1
            if what == "pings":
                transport.write((b"\x89\xfd\0\0\0\0" + b"x" * 125) * 4000)
            else:
                with contextlib.suppress(TimeoutError, ConnectionClosed):
                    await asyncio.wait_for(socket.connection.send(big), 0.2)
            await asyncio.sleep(0.01)
        grown = memory(server) - before
        assert grown < 40 << 20, f"{grown >> 20} MiB after {sent} rounds"
        transport.abort()


async def test_who_reads_nothing_of_a_backlog_holds_up_nobody(server: Server) -> None:
    user = unique("ann")
    async with Device(server, user, "elsewhere") as device:
        for turn in range(12):
            await device.push([edit(f"r{turn}-{n}", text="x" * 9_000) for n in range(100)])
        async with socket_of(server, user, "deaf") as deaf, socket_of(server, user, "well") as well:
            deaf.connection.transport.pause_reading()
            await deaf.send({"type": "subscribe", "appId": "notes", "since": ""})
            before = memory(server)
            pages = await well.subscribe()
            assert len({c["id"] for page in pages for c in page["changes"]}) == 1200
            await device.push([edit("last", x=1)])
            await well.brings("last")
            assert memory(server) - before < 40 << 20
            deaf.connection.transport.resume_reading()
            await deaf.brings("last")
            assert {c["id"] for c in deaf.changes()} >= {c["id"] for c in well.changes()}
