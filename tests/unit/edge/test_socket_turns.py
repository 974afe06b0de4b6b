"""Subscriptions of a socket that wait for their turn."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from syncd.core.principal import Principal
from syncd.edge.admission import LEAST_SUBSCRIPTIONS, MOST_PLACES, Admission, UserAllowance
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.live_deps import LiveDeps
from syncd.edge.socket_session import SocketSession
from syncd.live.connection import Connection, Subscription
from syncd.live.hub import Hub
from syncd.protocol.pull_messages import PullRequest

NOTHING = cast(Any, None)
SUBSCRIBE = b'{"type":"subscribe","appId":"notes","since":""}'
UNSUBSCRIBE = b'{"type":"unsubscribe","appId":"notes"}'


class Long(UserAllowance):
    """Each subscription has to wait for longer than a test does."""

    def __init__(self) -> None:
        super().__init__(100)
        self.asked = asyncio.Event()

    def begin(self, spaces: int) -> float:
        self.asked.set()
        return 600.0


class Line:
    """A socket that takes all it is sent."""

    address, keeps_up, page_bytes = "", True, 1 << 20

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, *parts: bytes) -> None:
        self.sent.append(b"".join(parts))

    def pause(self, paused: bool) -> None:
        """Nothing comes anyway."""


class Scene:
    """Ann's socket, and a user's allowance by which everything has to wait. No database is asked."""

    def __init__(self) -> None:
        self.hub = Hub(NOTHING, NOTHING, NOTHING, b"k" * 32)
        admission = Admission(per_user=0, per_address=0, frames=100, origins=())
        bodies = BytesHeld(1 << 20)
        self.line, self.ann = Line(), Long()
        deps = LiveDeps(self.hub, NOTHING, admission, bodies, bodies, NOTHING)
        self.session = SocketSession(deps, cast(Any, self.line), None)
        self.connection = self.session.connection = Connection(self.session, Principal("ann"), "phone", None)
        self.connection.fields_alone = True
        self.session._bucket = self.ann
        self.ann.listening.add(self.connection)
        self.hub.state.entered(self.connection, 1)

    def listens(self, *apps: str) -> None:
        for app in apps:
            self.connection.subscriptions[app] = Subscription(self.connection, PullRequest(app), b"")

    async def told(self, frame: bytes) -> None:
        """A frame comes, and is worked on to its end."""
        self.session.receive(frame)
        await self.over()

    async def over(self) -> None:
        if (task := self.session._task) is not None:
            async with asyncio.timeout(20):
                await task


async def test_a_socket_that_is_lost_does_not_wait_for_its_turn() -> None:
    scene = Scene()
    scene.session.receive(SUBSCRIBE)
    await scene.ann.asked.wait()
    scene.session.gone()
    await scene.over()
    assert not scene.connection.subscriptions
    assert not scene.hub.state.users


async def test_a_subscription_that_is_refused_waits_for_nothing_and_costs_nothing() -> None:
    scene = Scene()
    scene.listens(*map(str, range(LEAST_SUBSCRIPTIONS)))
    scene.connection.spaces = dict.fromkeys(range(MOST_PLACES), "space")
    await scene.told(SUBSCRIBE)
    assert b'"too_many_requests"' in scene.line.sent[0]
    assert not scene.ann.asked.is_set()


async def test_a_subscription_ends_without_a_wait() -> None:
    scene = Scene()
    scene.listens("notes", "other")
    await scene.told(UNSUBSCRIBE)
    assert list(scene.connection.subscriptions) == ["other"]
    assert not scene.ann.asked.is_set()
