"""Live messages, from bytes and to bytes. Pure.

What everyone gets is encoded once: a frame of changes is `changes_head`, the changes, and a tail with the
listener's own cursor, so that a thousand listeners cost a thousand tails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from syncd.core.errors import Fault, Malformed
from syncd.core.ids import fault_in_id
from syncd.core.values import HALF, without_halves
from syncd.protocol.first_generation import NULL, LegacyPush, readable
from syncd.protocol.messages import IncomingChange, lone_surrogate, malformed
from syncd.protocol.normalize import string_in

T = TypeVar("T")

MAX_TABLES, MAX_PRIORITY, MAX_PUSHED, MAX_SPACES = 100, 8, 64, 100
# Names in a list of tables, each as often as it is there. A longer list is refused before anybody looks into it.
MAX_NAMES = 1000
MAX_STATE = 4096
SMALLEST_PAGE = 1024
SEPARATOR = b"\x1e"


class Auth(msgspec.Struct, tag="auth"):
    """`protocol` 1: inserts come with `fields` alone, as with the header X-Sync-Protocol: 1."""

    token: str
    clientId: str | None = None
    protocol: int = 0


class Subscribe(msgspec.Struct, tag="subscribe"):
    """The frame that asks for an app's changes after `since`, of all tables or of `collections`."""

    appId: str | None = None
    since: str | None = None
    collections: list[str] | str | None = None
    first: list[str] | str | None = None
    limit: int | None = None
    bytes: int | None = None
    pushed: list[str] | None = None
    roles: str | None = None
    spaces: list[str] | None = None
    knownCollections: list[str] | str | None = None
    knownSpaces: list[str] | None = None


class Unsubscribe(msgspec.Struct, tag="unsubscribe"):
    """The frame that ends a subscription."""

    appId: str | None = None


class PushFrame(msgspec.Struct, tag="push"):
    """The frame that pushes changes; `requestId` comes back with the result."""

    changes: list[IncomingChange]
    requestId: str | int | None = None
    appId: str | None = None
    schemaVersion: int | None = None
    atomic: bool = False
    incarnations: list[str] | None = None
    bases: bool = False


class PresenceFrame(msgspec.Struct, tag="presence"):
    """`state` null: no longer here, or only listening."""

    spaceId: str
    state: Raw = Raw(b"null")


class Ping(msgspec.Struct, tag="ping"):
    """The frame that asks for a `pong`."""


class LegacySubscribe(msgspec.Struct, tag="subscribe"):
    """A subscription of the first generation: whatever its cursor is."""

    appId: str | None = None
    since: Raw = NULL
    collections: list[str] | str | None = None
    first: list[str] | str | None = None
    limit: int | None = None

    def message(self) -> Subscribe:
        """The same with a text for a cursor."""
        return Subscribe(self.appId, string_in(self.since), self.collections, self.first, self.limit)


class LegacyPushFrame(LegacyPush, tag="push"):
    """A push of the first generation."""

    requestId: str | int | None = None
    appId: str | None = None

    def message(self) -> PushFrame:
        """The same with texts for instants."""
        body = self.body()
        return PushFrame(body.changes, self.requestId, self.appId, self.schemaVersion, self.atomic)


Incoming = Auth | Subscribe | Unsubscribe | PushFrame | PresenceFrame | Ping
_DECODER = msgspec.json.Decoder(Incoming)
_LEGACY = msgspec.json.Decoder(Auth | LegacySubscribe | Unsubscribe | LegacyPushFrame | PresenceFrame | Ping)


def incoming(text: bytes, *, legacy: bool = False) -> Incoming:
    """The message in a frame; `legacy`: of the first generation, taken as it comes, with UNREADABLE for a change that
    cannot be read.

    Raises Malformed with the place that is at fault; its code says whether it is only a change of a push that is
    (`invalid_change`, `invalid_value`), of which the socket's other pushes know nothing.
    """
    try:
        return _incoming(text, legacy)
    except Malformed as why:
        if not legacy:
            raise
        envelope, changes = readable(text, why)
        message = _incoming(envelope, legacy)
        if not isinstance(message, PushFrame):
            raise
        return msgspec.structs.replace(message, changes=changes)


def _incoming(text: bytes, legacy: bool) -> Incoming:
    message = decoded(text, _LEGACY if legacy else _DECODER)
    return message.message() if isinstance(message, LegacySubscribe | LegacyPushFrame) else message


def decoded(text: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A frame as `decoder` has it. Raises Malformed, as `incoming` does."""
    try:
        text.decode()
        return decoder.decode(text)
    except UnicodeDecodeError as wrong:
        raise Malformed(f"The frame is not UTF-8: byte {wrong.start}.", code="malformed_json") from None
    except msgspec.ValidationError as wrong:
        refused = malformed(wrong)
        if refused.code == "invalid_change":
            raise refused from None
        raise Malformed(refused.detail, code="invalid_message", faults=refused.faults) from None
    except msgspec.DecodeError as wrong:
        raise _half(text) or Malformed(f"The frame is not JSON: {wrong}.", code="malformed_json") from None
    except RecursionError:
        raise Malformed("The frame is nested too deeply.", code="invalid_value") from None


class _Named(msgspec.Struct):
    """What names a message, also where the rest of it cannot be read."""

    type: str = ""
    requestId: Raw = Raw(b"null")
    appId: Raw = Raw(b"null")
    spaceId: Raw = Raw(b"null")


_NAMED = msgspec.json.Decoder(_Named)


def _named(text: bytes) -> _Named:
    try:
        return _NAMED.decode(without_halves(text))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return _Named()


def _half(text: bytes) -> Malformed | None:
    """Half a surrogate pair, which is JSON but no text: only what a user wrote with it cannot be."""
    if b"\\u" not in text or _named(text).type not in ("push", "presence"):
        return None
    return lone_surrogate(text) or Malformed("A lone surrogate is not text.", code="invalid_value")


def is_auth(text: bytes) -> bool:
    """Whether a frame that cannot be read was to say who its sender is."""
    return _named(text).type == "auth"


# Where no space came or went.
STAYED = b'{"joined":[],"left":[]}'
# What says which message it was, in the error that answers it.
_NAMED_BY = {"push": "requestId", "subscribe": "appId", "presence": "spaceId"}


def names(text: bytes) -> dict[str, Any]:
    """What names a message that is at fault elsewhere, so that its sender knows which it was."""
    named = _named(text)
    name = _NAMED_BY.get(named.type)
    if name is None:
        return {}
    try:
        raw = bytes(getattr(named, name))
        value = None if HALF in raw else msgspec.json.decode(raw, type=str | int | None)
    except (msgspec.MsgspecError, ValueError):
        return {}
    return {} if value is None else {name: value}


def tables_in(given: list[str] | str | None, name: str = "collections", most: int = MAX_TABLES) -> tuple[str, ...]:
    """Tables as a list or comma-separated, sorted, each once; `name`: of the member that has them. Raises Malformed."""
    if isinstance(given, str):
        return tables_in_texts([given], name, most)
    return _tables(given or (), name, most)


def tables_in_texts(texts: Sequence[str], name: str, most: int) -> tuple[str, ...]:
    """The same of texts that are each one table, or several with commas between. Raises Malformed."""
    if len(texts) > MAX_NAMES or sum(text.count(",") + 1 for text in texts) > MAX_NAMES:
        raise _too_many(name, most)
    return _tables([table for text in texts for table in text.split(",")], name, most)


def _tables(given: Sequence[str], name: str, most: int) -> tuple[str, ...]:
    if len(given) > MAX_NAMES:
        raise _too_many(name, most)
    tables = set[str]()
    for table in given:
        if not table or table in tables:
            continue
        if len(tables) == most:
            raise _too_many(name, most)
        if wrong := fault_in_id(table):
            raise Malformed(f"{name} {wrong}.", faults=(Fault(f"/{name}", wrong),))
        tables.add(table)
    return tuple(sorted(tables))


def _too_many(name: str, most: int) -> Malformed:
    return Malformed(f"At most {most} tables in {name}.", faults=(Fault(f"/{name}", "too many"),))


def some(given: Sequence[str] | str | None, names: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The names in a member that means all of them where it is left out: in one that is there is one at least. Raises
    Malformed."""
    if given is not None and not names:
        raise Malformed(f"{name} names none. Leave it out for all.", faults=(Fault(f"/{name}", "is empty"),))
    return names


def spaces_in(given: Sequence[str] | None, name: str) -> tuple[str, ...]:
    """Ids of spaces, sorted, each once, "" for the personal one; None: all; `name`: of the member that has them. Raises
    Malformed."""
    if given is None:
        return ()
    if len(given) > MAX_SPACES:
        raise Malformed(f"At most {MAX_SPACES} spaces in {name}.", faults=(Fault(f"/{name}", "too many"),))
    for space in given:
        if space and (wrong := fault_in_id(space)):
            raise Malformed(f"{name} {wrong}.", faults=(Fault(f"/{name}", wrong),))
    return some(given, tuple(sorted(set(given))), name)


def pushed_in(given: Sequence[str]) -> tuple[str, ...]:
    """Change ids that a device says were acknowledged. Raises Malformed."""
    if len(given) > MAX_PUSHED:
        raise Malformed(f"At most {MAX_PUSHED} ids in pushed.", faults=(Fault("/pushed", "too many"),))
    for change in given:
        if wrong := fault_in_id(change):
            raise Malformed(f"pushed {wrong}.", faults=(Fault("/pushed", wrong),))
    return tuple(given)


def page_bytes(given: int | None, most: int) -> int:
    """About how large a page may be, by what a device asked for; None: `most`. Raises Malformed."""
    if given is None:
        return most
    if given < SMALLEST_PAGE:
        wrong = f"must be at least {SMALLEST_PAGE:,}"
        raise Malformed(f"bytes {wrong}.", faults=(Fault("/bytes", wrong),))
    return min(given, most)


def auth_ok(user: str, server_time: str) -> bytes:
    """The frame that says that a token was taken; `server_time`: an instant as text."""
    return msgspec.json.encode({"type": "auth-ok", "userId": user, "serverTime": server_time})


def error(code: str, detail: str, **named: Any) -> bytes:
    """An error frame; `named`: requestId, appId and the like, left out where None."""
    more = {name: value for name, value in named.items() if value is not None}
    return msgspec.json.encode({"type": "error", "code": code, "detail": detail, **more})


def changes_head(app: str) -> bytes:
    """The start of every frame of changes of an app; the changes follow, comma-separated."""
    return b'{"type":"changes","appId":%s,"changes":[' % msgspec.json.encode(app)


def spaces_said(joined: Sequence[str], left: Sequence[str], unreadable: Sequence[str] = ()) -> bytes:
    """What an answer says of spaces, as JSON text. `unreadable`: of which something cannot be read, and nothing was."""
    said = {"joined": joined, "left": left}
    return msgspec.json.encode({**said, "unreadable": unreadable} if unreadable else said)


def changes_tail(cursor: bytes, more: bool, spaces: bytes = STAYED) -> bytes:
    """The end of a frame of changes. `spaces`: as spaces_said."""
    return b'],"hasMore":%s,"spaces":%s,"syncedUntil":"%s"}' % (b"true" if more else b"false", spaces, cursor)


# The same around the cursor of who is current, for whom it is made many times a second.
TAIL, _, END = changes_tail(b"|", False).partition(b"|")


def sync_available(app: str, tables: Iterable[str]) -> bytes:
    """The frame that says that there is news in an app, and in which tables; none: it is not said."""
    return msgspec.json.encode({"type": "sync-available", "appId": app, "tables": sorted(set(tables))})


def presence(space: str, user: str, client: str, state: bytes) -> bytes:
    """`state` is JSON text."""
    said = {"type": "presence", "spaceId": space, "userId": user, "clientId": client, "state": Raw(state)}
    return msgspec.json.encode(said)


PONG = b'{"type":"pong"}'
INVITATIONS = b'{"type":"invitations"}'
