"""A WebSocket of a host's server: what is bounded of it, and how it ends. No database is asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.core.errors import Unauthorized
from syncd.core.principal import Principal
from syncd.edge.addresses import DIRECT
from syncd.edge.admission import Admission
from syncd.edge.asgi_socket import AUTH_WITHIN, AsgiSocket
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.heartbeat import STALLED_AFTER
from syncd.edge.incoming_frames import MOST_BEFORE_AUTH, MOST_PARTS_BEFORE_AUTH, PartsAllowance
from syncd.edge.live_deps import LiveDeps
from syncd.edge.pace import KEEPS_UP_BELOW, SLOWEST
from syncd.edge.websocket import CLOSE_WITHIN

AUTH = '{"type":"auth","token":"ann","clientId":"c1","protocol":1}'
MOST, PING_INTERVAL = 100_000, 20.0


class HostServer:
    """The server's half: what it hands over, and what it was given. While `takes` is not set it takes nothing."""

    def __init__(self) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.given: list[dict[str, Any]] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.news = asyncio.Event()
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return await self.incoming.get()

    async def send(self, message: Any) -> None:
        await self.takes.wait()
        self.given.append(message)
        self.news.set()
        if message["type"] == "websocket.close":
            self.incoming.put_nowait({"type": "websocket.disconnect", "code": message["code"]})

    def say(self, text: str) -> None:
        self.incoming.put_nowait({"type": "websocket.receive", "text": text})

    async def next(self, kind: str) -> dict[str, Any]:
        """Waits for a message of a type, or a frame of one."""
        async with asyncio.timeout(20):
            while True:
                for message in self.given:
                    frame = json.loads(message.get("text") or "{}")
                    if kind in (message["type"], frame.get("type")):
                        return {**message, **frame}
                self.news.clear()
                await self.news.wait()


class Hub:
    def __init__(self) -> None:
        self.counts = SimpleNamespace(closed=0)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.ensure_future(work)

    async def connect(self, member: Any) -> None:
        """Anybody."""

    def gone(self, member: Any) -> None:
        """Nobody minds."""


async def whose(authorization: bytes, scope: Any) -> tuple[Principal, float]:
    user = authorization.removeprefix(b"Bearer ").decode()
    if user == "nobody":
        raise Unauthorized
    return Principal(user), 0.0


class Scene:
    """A socket, and what it is made of."""

    def __init__(self, socket: AsgiSocket, server: HostServer, group: Any, serving: asyncio.Task[None]) -> None:
        self.socket, self.server, self.group, self.serving = socket, server, group, serving

    async def over(self) -> None:
        async with asyncio.timeout(20):
            await asyncio.wait([self.serving])
        assert self.group.open == set()


@contextlib.asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    admission = Admission(per_user=0, per_address=0, frames=0, origins=())
    rates = SimpleNamespace(moved=lambda *moved: None, pause=lambda user: 0.0, request=lambda user: None)
    authenticator: Any = SimpleNamespace(authenticate=whose, rates=rates, recheck=0.0)
    nothing: Any = SimpleNamespace(limits=None)
    hub: Any = Hub()
    deps = LiveDeps(hub, authenticator, admission, BytesHeld(1 << 20), BytesHeld(1 << 20), nothing)
    group: Any = SimpleNamespace(admission=admission, addresses=DIRECT, ping_interval=PING_INTERVAL, open=set())
    server = HostServer()
    socket = AsgiSocket(group, {"type": "websocket", "headers": []}, server.receive, server.send, "192.0.2.9", MOST)
    serving = asyncio.ensure_future(socket.serve(deps, "notes"))
    await server.next("websocket.accept")
    try:
        yield Scene(socket, server, group, serving)
    finally:
        server.takes.set()
        server.incoming.put_nowait({"type": "websocket.disconnect", "code": 1001})
        await serving


async def test_a_device_says_who_it_is_and_is_answered() -> None:
    async with scene() as found:
        found.server.say(AUTH)
        assert (await found.server.next("auth-ok"))["userId"] == "ann"
        found.server.say('{"type":"ping"}')
        await found.server.next("pong")


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([AUTH.replace('"ann"', '"nobody"')], 4401),
        ([AUTH.replace("ann", "x" * MOST_BEFORE_AUTH)], 1009),
        ([AUTH, '{"type":"ping","x":"' + "x" * MOST + '"}'], 1009),
        (['{"type":"unheard-of"}'] * int(MOST_PARTS_BEFORE_AUTH + 100), 4400),
        ([None], 4400),
    ],
    ids=["nobody", "too large before auth", "too large", "no messages", "binary"],
)
async def test_what_is_beyond_a_bound_ends_it(frames: list[str | None], code: int) -> None:
    async with scene() as found:
        for frame in frames:
            if frame is None:
                found.server.incoming.put_nowait({"type": "websocket.receive", "bytes": b"x"})
            else:
                found.server.say(frame)
        assert (await found.server.next("websocket.close"))["code"] == code
        await found.over()


async def test_frames_before_auth_are_counted() -> None:
    async with scene() as found:
        # Five milliseconds would be worth a frame, however fast the machine is.
        found.socket._parts = PartsAllowance(time.monotonic() + 3600)
        found.socket._parts._left = 0
        found.server.say('{"type":"ping"}')
        assert (await found.server.next("websocket.close"))["code"] == 4429


async def test_who_does_not_say_who_it_is_is_ended_when_the_time_is_over() -> None:
    async with scene() as found:
        now = time.monotonic()
        found.socket.look(now + AUTH_WITHIN - 1, 0.0)
        assert not found.socket._close_by
        found.socket.look(now + AUTH_WITHIN + 1, 0.0)
        assert (await found.server.next("websocket.close"))["code"] == 4408


async def test_what_waits_for_a_device_that_takes_nothing_is_bounded_and_it_is_given_up() -> None:
    async with scene() as found:
        found.server.say(AUTH)
        await found.server.next("auth-ok")
        found.server.takes.clear()
        assert found.socket.keeps_up
        found.socket.send(b'"' + b"x" * KEEPS_UP_BELOW + b'"')
        assert not found.socket.keeps_up
        waiting = asyncio.ensure_future(found.socket.page_turn())
        await asyncio.sleep(0)
        patience = STALLED_AFTER * PING_INTERVAL + (KEEPS_UP_BELOW + 2) / SLOWEST
        found.socket.look(time.monotonic() + patience - 5, 0.0)
        assert not found.serving.done()
        found.socket.look(time.monotonic() + patience + 5, 0.0)
        await found.over()
        with pytest.raises(ConnectionResetError):
            await waiting


async def test_a_close_that_nobody_takes_ends_after_a_few_seconds() -> None:
    async with scene() as found:
        found.server.takes.clear()
        found.socket.close(4403, "a reason")
        found.socket.look(time.monotonic() + CLOSE_WITHIN - 1, 0.0)
        assert not found.serving.done()
        found.socket.look(time.monotonic() + CLOSE_WITHIN + 1, 0.0)
        await found.over()


async def test_what_was_sent_before_a_close_comes_before_it() -> None:
    async with scene() as found:
        found.socket.send(b'{"type":"', b'last"}')
        found.socket.close(1012, "restarting")
        found.socket.send(b'{"type":"too late"}')
        await found.over()
        assert [message["type"] for message in found.server.given] == [
            "websocket.accept", "websocket.send", "websocket.close",
        ]  # fmt: skip


async def test_a_server_that_says_that_the_device_has_gone_is_believed() -> None:
    async with scene() as found:

        async def gone(message: Any) -> None:
            raise OSError

        found.socket._send = gone
        found.socket.send(b"{}")
        await found.over()


async def test_no_more_is_taken_while_there_is_too_much_to_do() -> None:
    async with scene() as found:
        await asyncio.sleep(0)
        found.socket.pause(True)
        found.server.incoming.put_nowait({"type": "nothing that is known"})  # is taken: it was asked for before
        asked = found.server.asked
        found.server.say(AUTH)
        for _ in range(10):
            await asyncio.sleep(0)
        assert (found.server.asked, found.server.incoming.qsize()) == (asked, 1)
        found.socket.pause(False)
        await found.server.next("auth-ok")
