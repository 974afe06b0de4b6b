"""The past, asked of the server: a record's changes, a record or a space at a moment, and the way back to it.

Functions on a Replica; they need the server. (`replica.undo()` does not.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from .data.change import PERSONAL, name_space, space_key
from .data.clock import parse_instant
from .data.merge import Register, Registers, is_deleted
from .errors import InvalidQuery, NotConnected, Refused
from .replica import Replica
from .store.ids import new_id
from .sync import transport
from .sync.request import ask, read_answer, segment
from .sync.tokens import subject


@dataclass(frozen=True, slots=True)
class Version:
    """A record as it was. `complete` is false where the server's log no longer says all of it."""

    table: str
    space: str | None
    id: str
    seq: int
    registers: Registers
    complete: bool

    @property
    def deleted(self) -> bool:
        """Whether it was deleted then."""
        return is_deleted(self.registers)

    @property
    def fields(self) -> dict[str, Any]:
        """Its plain values, the tombstone `deletedAt` included where it has one."""
        return {name: register.value for name, register in self.registers.items()}


@dataclass(frozen=True, slots=True)
class PastChange:
    """A change of a record: `fields` took effect, `superseded` lost on arrival. `created_at` is RFC 3339 text."""

    seq: int
    event_id: str
    op: str
    user: str
    client: str
    change_id: str | None
    created_at: str
    schema_version: int | None
    actor: Any
    origin: str | None
    fields: Registers
    superseded: Registers


def record_at(
    replica: Replica, table: str, id: str, *, space: str | None = None, seq: int | None = None, at: str | None = None
) -> Version | None:
    """A record after the change `seq` of its space, at the instant `at` (RFC 3339), or now; None if there was none.

    Deleted ones too. Raises InvalidQuery where there can be no such table or record, Refused (`space_not_found`,
    `history_gone`), Offline, ServerBusy, NotAllowed, BadReply.
    """
    params = {**_in_space(replica, space), **_given(seq=seq, at=at)}
    try:
        return read_answer(partial(_version, ask(replica, "GET", _record(replica, table, id), params), space))
    except Refused as why:
        if why.code == "record_not_found":
            return None
        raise


def changes(
    replica: Replica, table: str, id: str, *, space: str | None = None, page: int = 100
) -> Iterator[PastChange]:
    """A record's changes, newest first, fetched `page` at a time as they are taken.

    Raises what `record_at` raises, and Refused `cursor_lost` where the server's database was restored meanwhile: what
    came is of a history that there is no more.
    """
    params = {**_in_space(replica, space), "limit": str(page)}
    while True:
        found = ask(replica, "GET", f"{_record(replica, table, id)}/history", params)
        read = read_answer(partial(_changes, found))
        yield from read
        if not found.get("hasMore"):
            return
        params |= read_answer(partial(_next, found, read))


def space_at(
    replica: Replica, *, space: str | None = None, seq: int | None = None, at: str | None = None, page: int = 1000
) -> Iterator[Version]:
    """The records that lived in a space at a moment, fetched `page` at a time. Raises what `changes` raises."""
    params = {**_given(seq=seq, instant=at), "limit": str(page)}
    while True:
        found = ask(replica, "GET", f"{_whole(replica, space)}/at", params)
        yield from read_answer(partial(_versions, found, space))
        if not found.get("hasMore"):
            return
        params = {"limit": str(page), "after": found["next"]}


def restore(replica: Replica, table: str, id: str, seq: int, *, space: str | None = None) -> int:
    """Takes a record back to what it was after the change `seq`, as a new change, and fetches it.

    What is unsent is sent first: it is part of what is taken back. Returns the new change's seq, to whose
    predecessor it can be restored in turn. Raises what `record_at` and `sync` raise.
    """
    found = _restore(replica, f"{_record(replica, table, id)}/restore", _in_space(replica, space), {"seq": seq})
    return max(seq for _, _, seq in found)


def restore_space(
    replica: Replica, *, space: str | None = None, seq: int | None = None, at: str | None = None
) -> list[tuple[str, str, int]]:
    """Takes a whole space back to a moment, as one batch, and fetches it. Returns (table, id, seq) of what changed.

    To undo it, restore to the first seq less one. Raises what `restore` raises; Refused `restore_too_large` says how
    many records it would concern.
    """
    goal = {"seq": seq} if at is None else {"instant": at}
    return _restore(replica, f"{_whole(replica, space)}/restore", {}, goal)


def revert(
    replica: Replica,
    actor: Mapping[str, Any],
    *,
    space: str | None = None,
    seq: int | None = None,
    at: str | None = None,
) -> list[tuple[str, str, int]]:
    """Takes back, as one batch, what an actor wrote in a space, and fetches it. Returns (table, id, seq) of changes.

    `actor`: what the changes' actor has, say `{"agent": "tidy", "run": "7"}`; less of it means more of them. It is
    flat: up to ten texts, numbers, booleans or None. What others wrote over it since stays. `seq`, `at`: only changes
    after that. To undo it, revert `{"reverted": actor}`. Raises what `restore` raises; Refused `restore_too_large` and
    `history_gone` say so where it has to be told since when.
    """
    goal = {"actor": dict(actor), "seq": seq, "instant": at}
    given = {name: value for name, value in goal.items() if value is not None}
    return _restore(replica, f"{_whole(replica, space)}/revert", {}, given)


def _restore(
    replica: Replica, path: str, params: dict[str, str], goal: Mapping[str, Any]
) -> list[tuple[str, str, int]]:
    replica.push()
    body = {**goal, "clientId": replica.client_id, "changeId": new_id(replica.wall())}
    found = ask(replica, "POST", path, params, body)
    replica.pull()
    return read_answer(lambda: [(result["table"], result["id"], result["seq"]) for result in found["results"]])


def _record(replica: Replica, table: str, id: str) -> str:
    return f"{transport.app_path(replica.app)}/records/{segment('the table', table)}/{segment('the record id', id)}"


def _whole(replica: Replica, space: str | None) -> str:
    name = name_space(space, replica.user, InvalidQuery)
    if name == PERSONAL:
        user = subject(replica.server.url_and_tokens()[1].ask())
        if user is None:
            raise NotConnected("the token does not say whose personal space it is.", remedy="Pass space=.")
        name = f"_personal:{user}"
    return f"{transport.app_path(replica.app)}/spaces/{segment('the space', name)}"


def _in_space(replica: Replica, space: str | None) -> dict[str, str]:
    name = name_space(space, replica.user, InvalidQuery)
    return {} if name == PERSONAL else {"spaceId": name}


def _given(**params: object) -> dict[str, str]:
    return {name: str(value) for name, value in params.items() if value is not None}


def _version(wire: Any, space: str | None) -> Version:
    registers = _registers(wire["fields"], wire["clientId"])
    return Version(wire["table"], space_key(space) or None, wire["id"], wire["seq"], registers, wire["complete"])


def _versions(wire: Any, space: str | None) -> list[Version]:
    return [_version(record, space) for record in wire["records"]]


def _changes(wire: Any) -> list[PastChange]:
    return [_change(change) for change in wire["changes"]]


def _next(wire: Any, read: list[PastChange]) -> dict[str, str]:
    """Where the next page begins; an older server knows only the seq."""
    return {"after": wire["next"]} if "next" in wire else {"before": str(read[-1].seq)}


def _change(wire: Any) -> PastChange:
    client = wire["clientId"]
    return PastChange(
        wire["seq"], wire["eventId"], wire["op"], wire["userId"], client, wire.get("changeId"), wire["createdAt"],
        wire.get("schemaVersion"), wire.get("actor"), wire.get("origin"),
        _registers(wire["fields"], client), _registers(wire["superseded"], client),
    )  # fmt: skip


def _registers(fields: Mapping[str, Any], client: str) -> Registers:
    found: Registers = {}
    for name, wire in fields.items():
        sent = wire.get("sent")
        found[name] = Register(
            wire["value"],
            parse_instant(wire["at"]),
            wire.get("clientId", client),
            parse_instant(sent) if sent else None,
        )
    return found
