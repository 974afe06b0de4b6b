"""The server's answers, read and checked whole before anything of them is applied. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..data.change import Change, Packed, Refusal, read_change, space_key
from ..data.clock import parse_instant
from ..data.conflict import Conflict
from ..data.events import JoinedSpace
from ..data.values import parse
from ..data.words import spelled
from ..error_codes import TEXTS
from ..errors import BadReply, shape

_CHANGE = re.compile(r"/changes/(\d+)(?:/|$)", re.ASCII)


class Overwritten(NamedTuple):
    """A register of the device `by` that a change was written over, without its writer having seen it."""

    field: str
    value: Any
    by: str
    at: int


@dataclass(frozen=True, slots=True)
class Result:
    """The server's word on one change. `at`: lowered stamps in microseconds, by field; `field`: which one is wrong."""

    change_id: str
    status: str
    at: Mapping[str, int]
    code: str
    detail: str
    overwrote: Sequence[Overwritten] = ()
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a push or a pull: changes to apply, the cursor after them, memberships, results."""

    changes: Sequence[Change]
    cursor: str | None  # None: it stays where it was
    more: bool
    joined: Sequence[str]
    left: Sequence[str]
    results: Sequence[Result] = ()
    conflicts: Sequence[Conflict] = ()
    unreadable: Sequence[str] = ()
    roles: Sequence[JoinedSpace] = ()
    roles_until: str | None = None  # None: it stays where it was
    partial: bool = False  # it leaves out what the replica does not want, and goes on from what it has
    until: str = ""  # with what to ask for the rest of what was there when the reading began


@dataclass(frozen=True, slots=True)
class Problem:
    """A refusal. `blamed`: why, by index in the push, where the pointers name changes."""

    status: int
    code: str
    detail: str
    errors: Sequence[Any] = ()
    blamed: Mapping[int, Refusal] = field(default_factory=dict)


def read_page(body: bytes, pushed: Sequence[Packed]) -> Page:
    """Reads the answer to a push of `pushed`, or to a pull where nothing was. Raises BadReply."""
    try:
        wire = parse(spelled(body))
        # Where `until` is empty there is more, but that came later than this reading began.
        more = bool(wire.get("hasMore")) and wire.get("until") != ""
        return build_page(wire, wire.get("serverChanges"), _text(wire["syncedUntil"]), more, pushed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadReply(f"the answer cannot be read: {shape(error)}.", garbled=_garbled(error)) from None


def _garbled(error: Exception) -> bool:
    return isinstance(error, json.JSONDecodeError | UnicodeDecodeError)


def build_page(wire: Mapping[str, Any], changes: Any, cursor: str | None, more: bool, pushed: Sequence[Packed]) -> Page:
    """A page of an answer or a frame; `changes` are the wire's. Raises BadReply."""
    try:
        spaces = wire.get("spaces") or {}
        results = [_read_result(result, sent) for result, sent in _pairs(wire, pushed)]
        return Page(
            changes=[read_change(change) for change in changes or ()],
            cursor=cursor,
            more=more,
            joined=[_text(space) for space in spaces.get("joined") or ()],
            left=[_text(space) for space in spaces.get("left") or ()],
            unreadable=tuple(_text(space) for space in spaces.get("unreadable") or ()),
            roles=tuple(_read_space(space) for space in spaces.get("roles") or () if space_key(space["id"])),
            roles_until=spaces.get("rolesUntil"),
            partial=spaces.get("partial") is True,
            until=_text(wire.get("until", "")),
            results=results,
            conflicts=[_read_conflict(conflict, pushed) for conflict in wire.get("conflicts") or ()],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadReply(f"the answer cannot be read: {shape(error)}.") from None


def _pairs(wire: Mapping[str, Any], pushed: Sequence[Packed]) -> list[tuple[Mapping[str, Any], Packed]]:
    results = wire.get("results") or ()
    if len(results) != len(pushed):
        raise BadReply(f"{len(pushed)} changes were pushed, {len(results)} answered.")
    return list(zip(results, pushed, strict=True))


def _read_space(wire: Mapping[str, Any]) -> JoinedSpace:
    return JoinedSpace(_text(wire["id"]), _text(wire["name"]), _text(wire["role"]))


def _read_result(wire: Mapping[str, Any], sent: Packed) -> Result:
    if wire.get("changeId", sent.change_id) != sent.change_id:
        raise BadReply(f"the answer to {sent.change_id} names {wire['changeId']}.")
    if wire["status"] not in ("applied", "superseded", "duplicate", "rejected"):
        raise BadReply("a change has a status that is none.")
    at = {name: parse_instant(instant) for name, instant in (wire.get("at") or {}).items()}
    code = wire.get("code") or "rejected"
    overwrote = tuple(
        Overwritten(item["field"], item["value"], item["by"], parse_instant(item["at"]))
        for item in wire.get("overwrote") or ()
    )
    named = wire.get("field")
    wrong = named if isinstance(named, str) else None
    return Result(sent.change_id, wire["status"], at, code, wire.get("detail") or _cause(code), overwrote, wrong)


def _read_conflict(wire: Mapping[str, Any], pushed: Sequence[Packed]) -> Conflict:
    space = wire["spaceId"] if "spaceId" in wire else _space_of(wire, pushed)
    return Conflict(
        table=wire["table"],
        space=space_key(space) or None,
        id=wire["id"],
        field=wire["field"],
        client_value=wire.get("clientValue"),
        client_timestamp=wire.get("clientTimestamp") or "",
        server_value=wire.get("serverValue"),
        server_timestamp=wire.get("serverTimestamp") or "",
        by=wire.get("by"),
    )


def _space_of(wire: Mapping[str, Any], pushed: Sequence[Packed]) -> str | None:
    """A conflict need not name its space: it is that of a pushed change to the record."""
    for sent in pushed:
        change = parse(sent.body)
        if change["table"] == wire["table"] and change["id"] == wire["id"]:
            space: str | None = change.get("spaceId")
            return space
    return None


def read_problem(status: int, body: bytes) -> Problem:
    """Reads a refusal; one that is not of the server's making has the code `http_<status>`."""
    try:
        wire = parse(body)
        errors = [error for error in wire.get("errors") or () if isinstance(error, dict)]
        code, detail = str(wire["code"]), str(wire.get("detail") or _cause(wire["code"]) or wire.get("title") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Problem(status, f"http_{status}", "The answer is not syncd's.")
    blamed: dict[int, Refusal] = {}
    for error in errors:
        match = _CHANGE.match(str(error.get("pointer", "")))
        if match:
            reason = f"{error.get('detail') or detail} ({error['pointer']})"
            blamed.setdefault(int(match[1]), Refusal(str(error.get("code") or code), reason))
    return Problem(status, code, detail, errors, blamed)


def _cause(code: Any) -> str:
    """The cause of a code, for a server that says no more."""
    return TEXTS[code][0] if code in TEXTS else ""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("expected text")
    return value
