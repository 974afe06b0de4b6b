"""Signed contexts: how a server proves to the database who acts (schema/functions/context.sql checks).

A call's arguments that say who acts are of the classes below. The pool binds them to the connection that it takes:
where the server has a key, each becomes a text that is signed for that connection, else the user as it is.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

SQLSTATE = "SY030"
SESSION = "SELECT session, now FROM syncd.sync_session()"
# As long as a call may wait for its connection's turn in the database, and for a clock that is corrected meanwhile.
SECONDS = 60
BY_NAME, BY_NUMBER = "u", "n"
_LABEL, _BLOCK = b"syncd context\0", 64


def pads(key: str) -> bytes:
    """The key as the database keeps it: what HMAC-SHA256 hashes before a text, with our label, and before its hash."""
    secret = key.encode()
    block = (hashlib.sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
    return bytes(byte ^ 0x36 for byte in block) + _LABEL + bytes(byte ^ 0x5C for byte in block)


class ContextSession:
    """What one connection signs with: the key, the session's name in the database, and how many it has signed."""

    def __init__(self, key: str) -> None:
        both = pads(key)
        self._inner, self._outer = hashlib.sha256(both[:-_BLOCK]), hashlib.sha256(both[-_BLOCK:])
        self._name, self._ahead, self._count = "", 0.0, 0

    @property
    def begun(self) -> bool:
        """Whether the database has named it."""
        return bool(self._name)

    async def begin(self, connection: Any) -> None:
        """Has the database name the session; before the first context, and after `forget`."""
        self._name, now = await connection.fetchrow(SESSION)
        self._ahead, self._count = now - time.monotonic(), 0

    def forget(self) -> None:
        """The database refused a context, as after a reset of the connection."""
        self._name = ""

    def sign(self, purpose: str, who: str) -> str:
        """A context for the next call on this connection: for one transaction, and of no use on another connection."""
        self._count += 1
        expires = int(time.monotonic() + self._ahead) + SECONDS
        said = f"{purpose}{self._name}{expires:010}{self._count:012}{who}"
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(said.encode())
        outer.update(inner.digest())
        return f"\x01{outer.hexdigest()}{said}"


class _User(msgspec.Struct):
    user: str


_decode = msgspec.json.Decoder(_User).decode


class ActingUser(NamedTuple):
    """An argument that is a user."""

    user: str

    def bound(self, session: ContextSession | None) -> str:
        return self.user if session is None else session.sign(BY_NAME, self.user)


class ActingNumber(NamedTuple):
    """An argument that is a user's number."""

    number: int

    def bound(self, session: ContextSession | None) -> str:
        return str(self.number) if session is None else session.sign(BY_NUMBER, str(self.number))


class ActingCall(NamedTuple):
    """An argument that is a JSON object with a "user"."""

    call: bytes

    def bound(self, session: ContextSession | None) -> str:
        if session is None:
            return self.call.decode()
        context = session.sign(BY_NAME, _decode(self.call).user)
        return f'{{"context":{msgspec.json.encode(context).decode()},{self.call[1:].decode()}'


class ActingCalls(NamedTuple):
    """An argument that is an array of such objects. They act in their order."""

    calls: Sequence[bytes]

    def bound(self, session: ContextSession | None) -> str:
        return f"[{','.join(ActingCall(call).bound(session) for call in self.calls)}]"


class ActingNumbers(NamedTuple):
    """An argument that is an array of JSON objects whose "user" is a number."""

    calls: Iterable[Mapping[str, Any]]

    def bound(self, session: ContextSession | None) -> str:
        calls = self.calls
        if session is not None:
            calls = [{**call, "context": session.sign(BY_NUMBER, str(call["user"]))} for call in calls]
        return msgspec.json.encode(calls).decode()


ACTING = (ActingUser, ActingNumber, ActingCall, ActingCalls, ActingNumbers)


def bound(connection: Any, *arguments: Any) -> list[Any]:
    """The arguments of a call, for the connection that it goes over."""
    session = getattr(connection, "session", None)
    return [value.bound(session) if isinstance(value, ACTING) else value for value in arguments]
