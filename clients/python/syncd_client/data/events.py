"""The events of a replica. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from .change import Key
from .conflict import Conflict


@dataclass(slots=True)
class Verified:
    """The result of a verification.

    `spaces` and `records` were compared, `differences` of the records were otherwise than on the server and
    `repaired` of them are no more. `skipped`: spaces (None: the personal one) that were written to all the
    time, or that the server was not ready to compare. `restarted`: so much was different that everything was
    fetched again.
    """

    spaces: int = 0
    records: int = 0
    differences: int = 0
    repaired: int = 0
    skipped: list[str | None] = field(default_factory=list)
    restarted: bool = False


LiveName = Literal["connecting", "live", "polling", "following", "offline", "busy", "refused", "closed"]
Source = Literal["server", "device", "file"]


class RecordKey(NamedTuple):
    """The name of a record, as the replica's methods take it; `space` is None for the personal one."""

    space: str | None
    table: str
    id: str


@dataclass(frozen=True, slots=True)
class Changes:
    """Records that may read differently now.

    `source`: "server" for what others wrote, "device" for this replica's own writes, "file" for writes of
    another process or replica on the same file. `everything`: too many to be listed, or listed nowhere:
    query again whatever is on the screen.
    """

    records: tuple[RecordKey, ...]
    source: Source
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Answered:
    """The server's word on own changes: how many it has now, and the changeIds that it refused."""

    accepted: int
    rejected: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Presence:
    """The presence of another device in a space: any JSON, or None when it is not there any more."""

    space: str | None
    user: str
    client: str
    state: Any


class JoinedSpace(NamedTuple):
    """A shared space of the user. `name` and `role` ("owner", "writer" or "reader") are None where the server has not
    told them yet."""

    id: str
    name: str | None
    role: str | None


@dataclass(frozen=True, slots=True)
class SpacesChanged:
    """The user's shared spaces are others now: those `joined` and `left`, by id, and those of which the server told
    another `role` or name, as they are now."""

    joined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    role: tuple[JoinedSpace, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveState:
    """The state of a live sync. `code` and `detail` say why where it is not "live".

    connecting: on the way, or catching up. live: what happens is here at once. polling: sockets are
    blocked, so it asks over HTTP. following: another process keeps this file current. offline, busy: it
    tries again by itself. refused: token, permission or protocol; it tries again now and then. closed: over.

    `login`: where the login is why, "signed_out" (the user has to sign in) or "refused" (the server does not
    believe the token, as `detail` says).
    """

    name: LiveName
    code: str | None = None
    detail: str = ""
    login: Literal["signed_out", "refused"] | None = None


Event = Changes | Answered | Conflict | Presence | SpacesChanged | LiveState | Verified


def name_records(keys: Iterable[Key]) -> tuple[RecordKey, ...]:
    """The application's names of records."""
    return tuple(dict.fromkeys(RecordKey(space or None, table, record) for table, space, record in keys))
