"""A change as it travels: read from the wire, written to it, and checked before it is queued. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from ..errors import BadReply, InvalidQuery, InvalidWrite, shape
from .clock import EPOCH, format_instant, parse_instant
from .merge import TOMBSTONE, Register, Registers
from .values import dump, take

PERSONAL = ""  # how a replica names the personal space; the wire leaves it out or says _personal:<user>
MAX_ID = 255
_PERSONAL_PREFIX = "_personal:"
Key = tuple[str, str, str]  # (table, space, record)


@dataclass(frozen=True, slots=True)
class Change:
    """One write to one record. `space` is "" for the personal space; `op` is insert, update or delete.

    `whole`: the server has nothing else of the record. `unseen`: of registers that were written over something that
    their writer had not seen, the stamp that it had seen, by field; 0: none. `erased`: it has registers whose values
    were erased for good.
    """

    change_id: str | None
    space: str
    table: str
    record: str
    op: str
    client: str
    registers: Registers
    whole: bool = False
    unseen: Mapping[str, int] = field(default_factory=dict)
    erased: bool = False


def space_key(space: str | None) -> str:
    """The name inside the replica of a space that the server names: the personal one is always ""."""
    return PERSONAL if space is None or space.startswith(_PERSONAL_PREFIX) else space


def name_space(space: str | None, user: str | None, refuse: type[InvalidQuery | InvalidWrite] = InvalidWrite) -> str:
    """The name inside the replica of `user` of a space that the application names. Raises `refuse`.

    A personal space has a name too, which is another's for everybody else: it is taken where it is known to be
    one's own.
    """
    if space is None or space == PERSONAL:
        return PERSONAL
    if isinstance(space, str) and space.startswith(_PERSONAL_PREFIX):
        if user is not None and space == _PERSONAL_PREFIX + user:
            return PERSONAL
        raise refuse("that is not known to be this user's personal space: leave space out for one's own.")
    return check_asked("the space", space) if refuse is InvalidQuery else check_id("the space", space)


def read_change(wire: Mapping[str, Any], client: str | None = None) -> Change:
    """Reads a change of the server (or of the outbox, whose writer is `client`). Raises BadReply."""
    try:
        writer = wire.get("clientId") or client or ""
        fields, op = wire.get("fields"), wire["op"]
        registers: Registers = {}
        if op == "insert" and wire.get("data"):
            registers = _read_data(wire["data"], writer)
        for name, register in (fields or {}).items():
            registers[name] = _read_register(register, writer)
        if op == "delete" and TOMBSTONE not in registers:
            at = parse_instant(wire["deletedAt"])
            registers[TOMBSTONE] = Register(format_instant(at), at, writer)
        return Change(
            wire.get("changeId"),
            space_key(wire.get("spaceId")),
            wire["table"],
            wire["id"],
            op,
            writer,
            registers,
            wire.get("whole") is True,
            {name: _seen(register["base"]) for name, register in (fields or {}).items() if "base" in register},
            any("erased" in register for register in (fields or {}).values()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadReply(f"a change cannot be read: {shape(error)}.") from None


def _seen(base: str | None) -> int:
    return 0 if base is None else parse_instant(base)


def _read_register(wire: Mapping[str, Any], writer: str) -> Register:
    at = wire.get("at") or wire["updatedAt"]
    sent = wire.get("sent")
    return Register(
        wire["value"], parse_instant(at), wire.get("clientId", writer), parse_instant(sent) if sent else None
    )


def _read_data(data: Mapping[str, Any], writer: str) -> Registers:
    """An insert of the first generation: every register at updatedAt, else createdAt, else the epoch."""
    at = EPOCH
    for name in ("createdAt", "updatedAt"):
        with suppress(ValueError, TypeError):
            at = parse_instant(data[name]) if name in data else at
    return {name: Register(value, at, writer) for name, value in data.items()}


def write_change(
    *,
    change_id: str,
    space: str,
    table: str,
    record: str,
    op: str,
    values: Mapping[str, Any],
    at: int | Mapping[str, int],
    extra: Mapping[str, Any],
    bases: Mapping[str, int] | None = None,
) -> str:
    """The bytes that are sent, and sent again, for one change. `at` is one stamp, or one a field.

    `bases` are the stamps of others' registers that it replaces.
    """
    bases = bases or {}
    stamps = {name: at if isinstance(at, int) else at[name] for name in values}
    wire: dict[str, Any] = {"changeId": change_id, "table": table, "id": record, "op": op}
    if space != PERSONAL:
        wire["spaceId"] = space
    if op == "delete":
        wire["deletedAt"] = format_instant(stamps[TOMBSTONE])
        values = {name: value for name, value in values.items() if name != TOMBSTONE or name in bases}
    if values:
        wire["fields"] = {name: {"value": value, "at": format_instant(stamps[name])} for name, value in values.items()}
    for name, base in bases.items():
        wire["fields"][name]["base"] = format_instant(base)
    return dump(wire | dict(extra))


def check_id(name: str, text: object) -> str:
    """An id or a field name: 1 to 255 characters, no control characters, not `.` or `..`. Raises InvalidWrite."""
    if not isinstance(text, str):
        raise InvalidWrite(f"{name} must be text, not {type(text).__name__}.", field=name)
    if not 1 <= len(text) <= MAX_ID:
        raise InvalidWrite(f"{name} must have 1 to {MAX_ID} characters, not {len(text)}.", field=name)
    if text in (".", ".."):
        raise InvalidWrite(f"{name} must not be {text!r}, which addresses lose on their way.", field=name)
    if not text.isprintable() and any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text):
        raise InvalidWrite(f"{name} has a control character or a lone surrogate.", field=name)
    return text


def check_asked(name: str, text: object) -> str:
    """As `check_id`, for what is only looked for. Raises InvalidQuery."""
    try:
        return check_id(name, text)
    except InvalidWrite as why:
        raise InvalidQuery(why.detail) from None


def check_fields(fields: Mapping[str, Any], space: str) -> dict[str, Any]:
    """A copy of a put's or patch's registers, if the server would take them. Raises InvalidWrite with the field."""
    if not fields:
        raise InvalidWrite("a change needs at least one field.")
    for name in fields:
        check_id(f"the field name {name!r}", name)
        if name == TOMBSTONE:
            raise InvalidWrite("deletedAt is the tombstone: use delete() and undelete().", field=name)
        if name == "spaceId" and space == PERSONAL:
            raise InvalidWrite("spaceId would name the change's space: pass space= instead.", field=name)
    return {name: take(value, name) for name, value in fields.items()}


@dataclass(frozen=True, slots=True)
class Write:
    """A write of the application, checked, not yet stamped. A delete has no values of its own.

    `upsert`: also where there is no such record; an insert always is.
    """

    op: Literal["insert", "update", "delete"]
    table: str
    space: str
    record: str
    values: Mapping[str, Any]
    extra: Mapping[str, Any]
    upsert: bool = False


class Refusal(NamedTuple):
    """Why a change was refused: the server's code, a sentence, and which of its fields is wrong, where one is named."""

    code: str
    detail: str
    field: str | None = None


class Packed(NamedTuple):
    """A change on its way in a push."""

    change_id: str
    batch: str
    body: str
    space: str
