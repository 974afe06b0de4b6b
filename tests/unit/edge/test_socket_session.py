"""What a socket's session counts, and for how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.core.errors import Busy
from syncd.core.principal import Principal
from syncd.edge import socket_session
from syncd.edge.admission import Admission
from syncd.edge.bytes_held import BytesHeld, Holder
from syncd.edge.live_deps import LiveDeps
from syncd.edge.pace import SLOW_BELOW, SLOW_FOR
from syncd.edge.socket_session import SocketSession

AUTH = b'{"type":"auth","token":"t","protocol":1}'


class Line:
    """A socket whose device takes nothing."""

    address, scope, keeps_up, page_bytes, taken = "192.0.2.9", None, True, 65536, 0

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.lost = asyncio.Event()

    async def drained(self) -> None:
        await self.page_turn()

    async def page_turn(self) -> None:
        await self.lost.wait()
        raise ConnectionResetError

    def send(self, *parts: bytes | bytearray) -> None:
        self.sent.append(b"".join(parts))

    async def send_page(self, head: bytes, changes: bytes | bytearray, tail: bytes) -> None:
        self.send(head, changes, tail)

    def abort(self) -> None:
        self.lost.set()

    def close(self, code: int, reason: str) -> None:
        self.lost.set()

    def pause(self, paused: bool) -> None:
        pass


class Hub:
    """Which connections there are, and no feeds."""

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.renewing, self.renewed = asyncio.Event(), asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(work))
        return self.tasks[-1]

    async def connect(self, connection: Any) -> None:
        self.connections.add(connection)

    async def renew(self, connection: Any) -> None:
        self.renewing.set()
        await self.renewed.wait()

    def large_texts(self, changes: list[bytes]) -> bytes:
        return b",".join(changes)

    def gone(self, connection: Any) -> None:
        self.connections.discard(connection)


async def authenticated(header: bytes, scope: Any) -> tuple[Principal, float]:
    return Principal("ann"), 0.0


def sessions(hub: Any, answers: BytesHeld) -> tuple[Admission, Callable[[Line], SocketSession]]:
    admission = Admission(per_user=0, per_address=0, frames=0, origins=())
    rates = SimpleNamespace(moved=lambda user, came, went: None, pause=lambda user: 0.0)
    authenticator: Any = SimpleNamespace(authenticate=authenticated, rates=rates, recheck=0.0)
    pushes: Any = None
    deps = LiveDeps(hub, authenticator, admission, BytesHeld(1 << 20), answers, pushes)
    return admission, lambda line: SocketSession(deps, line, None)


async def test_a_connection_that_is_lost_while_its_token_is_renewed_is_let_go_of_once() -> None:
    hub = Hub()
    admission, session = sessions(hub, BytesHeld(1 << 20))
    lost, other = session(Line()), session(Line())
    for one in (lost, other):
        one.receive(AUTH)
    await asyncio.gather(*hub.tasks)
    lost.receive(AUTH)
    await hub.renewing.wait()
    lost.gone()
    hub.renewed.set()
    await asyncio.gather(*hub.tasks)
    assert hub.connections == {other.connection}
    assert admission.connections_of("ann") == 1


@pytest.mark.parametrize(("taken", "gives_way"), [(1, True), (int(3 * SLOW_FOR * SLOW_BELOW), False)])
async def test_a_large_page_gives_way_where_its_device_is_slow(
    monkeypatch: pytest.MonkeyPatch, taken: int, gives_way: bool
) -> None:
    earlier = SimpleNamespace(monotonic=lambda: time.monotonic() - 2 * SLOW_FOR)
    monkeypatch.setattr(socket_session, "time", earlier)
    answers, hub, line = BytesHeld(1 << 20, in_all=1), Hub(), Line()
    _, session = sessions(hub, answers)
    subscription: Any = SimpleNamespace(request=SimpleNamespace(app="notes"))
    page: Any = SimpleNamespace(synced_until="c", more=False, spaces=b"[]", changes=[b" " * (1 << 19)])
    await session(line).page(subscription, page)
    line.taken = taken
    with pytest.raises(Busy):
        answers.check(1 << 20, Holder(answers, "203.0.113.5", "bob"))
    assert line.lost.is_set() is gives_way
    line.abort()
    await asyncio.gather(*hub.tasks)
    assert not answers.bytes
    assert not answers.waits
