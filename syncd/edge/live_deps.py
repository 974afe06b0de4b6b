"""What live connections work with."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from syncd.edge.addresses import Addresses
from syncd.edge.admission import Admission
from syncd.edge.answers import Scope
from syncd.edge.authenticator import Authenticator
from syncd.edge.bytes_held import BytesHeld
from syncd.live.hub import Hub
from syncd.service.push import PushService


class Transport(Protocol):
    """A socket as its session and its commands see it."""

    @property
    def address(self) -> str: ...
    @property
    def scope(self) -> Scope | None: ...
    @property
    def keeps_up(self) -> bool: ...
    @property
    def page_bytes(self) -> int: ...
    @property
    def taken(self) -> int: ...
    async def drained(self) -> None: ...
    async def page_turn(self) -> None: ...
    def send(self, *parts: bytes | bytearray) -> None: ...
    async def send_page(self, head: bytes, changes: bytes | bytearray, tail: bytes) -> None: ...
    def close(self, code: int, reason: str) -> None: ...
    def abort(self) -> None: ...
    def pause(self, paused: bool) -> None: ...


class LiveDeps(NamedTuple):
    """What every session works with."""

    hub: Hub
    authenticator: Authenticator
    admission: Admission
    bodies: BytesHeld
    answers: BytesHeld
    pushes: PushService


class SocketGroup(Protocol):
    """What a socket needs of those who look after all of them."""

    admission: Admission
    addresses: Addresses
    ping_interval: float
    open: set[Any]

    def deps(self) -> LiveDeps:
        """What sessions work with. Raises DatabaseUnavailable."""
