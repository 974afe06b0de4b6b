"""How long a connection lasts: renewal in place, expiry, other users, and what is left when it is over."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.socket_device import opened, socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import edit, unique

pytestmark = pytest.mark.waits


async def wrote(server: Server, user: str, record: str) -> None:
    """A change by another device of the user."""
    async with Device(server, user, "elsewhere") as device:
        await device.push([edit(record, x=1)])


async def says_nothing(server: Server) -> None:
    began = time.monotonic()
    async with await opened(server) as socket:
        assert await socket.ends() == 4408
        assert 9 < time.monotonic() - began < 20


async def hears_nothing(server: Server) -> None:
    began = time.monotonic()
    async with stream_of(server, unique("ann")) as stream:
        await stream.next("heartbeat", 2, within=40)
        assert 12 < time.monotonic() - began < 30
        assert stream.all("heartbeat")[1].data == {}


async def test_silence_of_a_device_is_ended_after_10_s_and_that_of_a_stream_broken_after_15_s(server: Server) -> None:
    await asyncio.gather(says_nothing(server), hears_nothing(server))


async def test_ping_is_answered(server: Server) -> None:
    async with socket_of(server, unique("ann")) as socket:
        assert await socket.ask({"type": "ping"}, "pong") == {"type": "pong"}
        await socket.send('{"type":"ping"}', ' { "type" : "ping" } ')
        await socket.until(lambda: len(socket.all("pong")) == 3)
        await (await socket.connection.ping())


async def test_an_expired_token_ends_it_within_about_a_second_and_a_new_one_keeps_it(server: Server) -> None:
    user = unique("ann")
    soon = time.time() + 6
    token = server.token(user, ttl=6)
    async with socket_of(server, user, token=token) as ends, socket_of(server, user, token=token) as stays:
        await ends.subscribe()
        await stays.subscribe()
        await stays.auth(user)
        assert await ends.ends() == 4401
        assert int(soon) <= time.time() < int(soon) + 15
        await wrote(server, user, "later")
        await stays.brings("later")
        assert ends.changes() == []


async def test_another_user_cannot_take_a_connection_over(server: Server) -> None:
    ann, bob = unique("ann"), unique("bob")
    async with socket_of(server, ann) as socket:
        await socket.subscribe()
        await socket.send({"type": "auth", "token": server.token(bob), "clientId": "c1"})
        assert await socket.ends() == 4403
        assert len(socket.all("auth-ok")) == 1
        await wrote(server, ann, "for-ann")
        await wrote(server, bob, "for-bob")
        assert socket.changes() == []


async def test_a_client_id_that_cannot_be_ends_it(server: Server) -> None:
    for client in ("", "x" * 256, "a\u0001"):
        async with await opened(server) as socket:
            await socket.send({"type": "auth", "token": server.token("ann"), "clientId": client, "protocol": 1})
            assert await socket.ends() == 4400


async def test_many_sockets_come_and_go_and_leave_nothing(server: Server, http: httpx.Client) -> None:
    async def visit(n: int) -> None:
        async with socket_of(server, unique("visitor"), path="/ws" if n % 2 else "/ws/notes") as socket:
            if n % 3:
                await socket.subscribe()

    await asyncio.gather(*(visit(n) for n in range(60)))
    for _ in range(1200):
        text = (await asyncio.to_thread(http.get, "/metrics")).text
        found = [line for line in text.splitlines() if line.startswith("syncd_connections{")]
        if found and all(float(line.rsplit(" ", 1)[1]) == 0 for line in found):
            return
        await asyncio.sleep(0.05)
    raise AssertionError(found)
