"""One live connection, decided: what to send next, and what a frame means. Pure: no I/O, no clock.

The shell reads a frame (`read_frame`), applies what it means to the file, lets the session `learn` it, and
asks it what it wants next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ..data.change import Packed, space_key
from ..data.clock import parse_instant
from ..data.events import Presence
from ..data.values import dump, parse
from ..error_codes import RETRYABLE
from ..errors import BadReply, shape
from ..sync.reply import Page, build_page


@dataclass(frozen=True, slots=True)
class Awaited:
    """A push on its way."""

    request: str
    pushed: tuple[Packed, ...]


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The token was accepted. `server_time` is in microseconds since 1970, where the server told it."""

    user: str
    server_time: int | None


@dataclass(frozen=True, slots=True)
class Delivered:
    """Changes of others, a new cursor, memberships."""

    page: Page


@dataclass(frozen=True, slots=True)
class PushAnswered:
    """The results of the push that was under way."""

    page: Page
    pushed: tuple[Packed, ...]


@dataclass(frozen=True, slots=True)
class PushRefused:
    """Nothing of the push was taken. `again`: the same bytes will do, after `retry_after` seconds at least."""

    again: bool
    code: str
    detail: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class SubscribeRefused:
    """There is no subscription. `cursor_lost`: the cursor is not known; `again`: it will do, as above."""

    cursor_lost: bool
    again: bool
    code: str
    detail: str
    retry_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Complaint:
    """An error that concerns neither the push nor the subscription."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Noise:
    """Nothing to do: a pong, a frame for another app or of a later protocol."""


Meaning = Authenticated | Delivered | PushAnswered | PushRefused | SubscribeRefused | Complaint | Presence | Noise


def read_frame(text: str | bytes, app: str, awaiting: Awaited | None, trust_cursor: bool) -> Meaning:
    """The meaning of a frame. `trust_cursor`: a push's answer may move the cursor. Raises BadReply."""
    try:
        wire = parse(text)
        match wire["type"]:
            case "auth-ok":
                return _read_auth_ok(wire)
            case "changes" if wire.get("appId", app) == app:
                return Delivered(
                    build_page(wire, wire["changes"], _text(wire["syncedUntil"]), bool(wire.get("hasMore")), ())
                )
            case "push-result" if awaiting is not None and wire.get("requestId") == awaiting.request:
                cursor = wire.get("syncedUntil") if trust_cursor else None
                return PushAnswered(build_page(wire, (), cursor, True, awaiting.pushed), awaiting.pushed)
            case "presence":
                space = space_key(_text(wire["spaceId"])) or None
                return Presence(space, _text(wire["userId"]), str(wire.get("clientId") or ""), wire.get("state"))
            case "error":
                return _read_error(wire, app, awaiting)
            case _:
                return Noise()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadReply(f"a frame cannot be read: {shape(error)}.") from None


def _read_auth_ok(wire: Mapping[str, Any]) -> Authenticated:
    time = wire.get("serverTime")
    return Authenticated(_text(wire["userId"]), parse_instant(time) if isinstance(time, str) else None)


def _read_error(wire: Mapping[str, Any], app: str, awaiting: Awaited | None) -> Meaning:
    code, detail = str(wire.get("code") or "error"), str(wire.get("detail") or "")
    wanted = float(wire.get("retryAfter") or 0.0)
    if wire.get("requestId") is not None:
        if awaiting is None or wire["requestId"] != awaiting.request:
            return Noise()
        return PushRefused(code in RETRYABLE, code, detail, wanted)
    if code in ("cursor_lost", "bad_cursor"):
        return SubscribeRefused(True, False, code, detail)
    if wire.get("appId") == app:
        return SubscribeRefused(False, code in RETRYABLE, code, detail, wanted)
    return Complaint(code, detail)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value


class Want(Enum):
    """The next thing that the session wants done."""

    PUSH = "push"  # send what waits
    UNSUBSCRIBE = "unsubscribe"  # first, since of what is pushed the answer must come before anything that is read
    SUBSCRIBE = "subscribe"  # from the replica's cursor
    FIX = "fix"  # the push was refused whole: repeat it over HTTP, whose answer names the culprit
    WAIT = "wait"  # for a frame, or a write


class LiveSession:
    """The state of one connection. `restarting`: the replica is in the middle of asking for everything again."""

    def __init__(self, app: str, client: str, schema_version: int | None, restarting: bool) -> None:
        self._app, self._client, self._schema_version = app, client, schema_version
        self._requests = 0
        self.restarting = restarting
        self.user: str | None = None
        self.awaiting: Awaited | None = None
        self.checked: tuple[str, ...] = ()
        self.subscribed = self.spaces_named = self.caught_up = False
        self.push_held = self.subscribe_held = self.refused = False

    @property
    def trust_cursor(self) -> bool:
        """Whether everything up to the socket's cursor is here."""
        return self.subscribed and self.caught_up

    def next(self, pending: bool, unread: bool = False) -> Want:
        """The next thing to do. `pending`: something waits to be sent. `unread`: some of it to a space that the server
        has not named yet.

        That goes while there is no subscription. Its answer, and then the frame that names the space, come in the order
        in which they were made, and nothing of the space is skipped as the connection's own. A subscription that has
        just begun is left to name the spaces first, so that a slow line need not begin again.
        """
        if self.user is None or self.awaiting is not None:
            return Want.WAIT
        if self.refused:
            return Want.FIX
        if pending and not self.push_held and not self.restarting:
            if not (unread and self.subscribed):
                return Want.PUSH
            return Want.UNSUBSCRIBE if self.spaces_named else Want.WAIT
        if not self.subscribed and not self.subscribe_held:
            return Want.SUBSCRIBE
        return Want.WAIT

    def auth(self, token: str) -> str:
        """The first frame, or a new token. `protocol` 1: inserts come as `fields` alone."""
        return dump({"type": "auth", "token": token, "clientId": self._client, "protocol": 1})

    def subscribe(
        self,
        cursor: str,
        first: Sequence[str] = (),
        acknowledged: Sequence[str] = (),
        roles: str = "",
        chosen: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """Asks for everything after the cursor, and for what happens from then on; new spaces begin with `first`.

        `acknowledged`: changeIds that the server must have, for its history to be that of the replica. `roles`: up to
        where the replica was told of the user's spaces. `chosen`: the members that say what it keeps.
        """
        self.subscribed, self.checked = True, tuple(acknowledged)
        self.spaces_named = self.caught_up = False
        wanted: dict[str, Any] = dict(chosen or {})
        if first:
            wanted["first"] = list(first)
        if acknowledged:
            wanted["pushed"] = list(acknowledged)
        return dump({"type": "subscribe", "appId": self._app, "since": cursor, "roles": roles, **wanted})

    def unsubscribe(self) -> str:
        """Ends the subscription: what comes after the answer to the next push is read after that push."""
        self.subscribed = self.caught_up = False
        return dump({"type": "unsubscribe", "appId": self._app})

    def push(self, packed: Sequence[Packed], incarnations: Sequence[str] = ()) -> str:
        """Sends changes, as one of the file's `incarnations`; from now on their answer is awaited."""
        self._requests += 1
        self.awaiting = Awaited(f"p{self._requests}", tuple(packed))
        head: dict[str, Any] = {"type": "push", "requestId": self.awaiting.request, "appId": self._app}
        head["bases"] = True
        if self._schema_version is not None:
            head["schemaVersion"] = self._schema_version
        if incarnations:
            head["incarnations"] = list(incarnations)
        if len({change.batch for change in packed}) < len(packed):
            head["atomic"] = True
        return f'{dump(head)[:-1]},"changes":[{",".join(change.body for change in packed)}]}}'

    def presence(self, space: str | None, state: Any) -> str:
        """Says where this device is; `state` None takes it back."""
        named = f"_personal:{self.user}" if space is None else space
        return dump({"type": "presence", "spaceId": named, "state": state})

    def learn(self, meaning: Meaning) -> None:
        """Takes note of a frame that was applied."""
        match meaning:
            case Authenticated():
                self.user = meaning.user
            case Delivered():
                self.spaces_named = self.subscribed
                self.caught_up = self.subscribed and not meaning.page.more
                self.restarting = self.restarting and meaning.page.more
            case PushAnswered():
                self.awaiting = None
                # What the server had already it answers without its stamps: they are in the delta alone.
                if any(result.status == "duplicate" for result in meaning.page.results):
                    self.subscribed = False
            case PushRefused():
                self.awaiting = None
                self.push_held, self.refused = meaning.again, not meaning.again
            case SubscribeRefused():
                self.subscribed = self.caught_up = False
                self.restarting = self.restarting or meaning.cursor_lost
                self.subscribe_held = meaning.again
            case _:
                pass

    def resume(self) -> None:
        """A pause that the server asked for is over."""
        self.push_held = self.subscribe_held = False

    def fixed(self) -> None:
        """The push that was refused whole was sent over HTTP."""
        self.refused = False
