"""From the changes a device sent to what the log is given: one canonical form for every generation. Pure.

A normalized change holds its registers twice: `f` as the log keeps and sends them ({value, at}), `g` as the
merged record keeps them ({value, at, clientId}). Its members are short because they are parsed once a change.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd.core.clock import EPOCH_TEXT, LAST, canonical_instant, format_instant
from syncd.core.errors import Fault, InvalidId, Malformed
from syncd.core.ids import fault_in_id
from syncd.core.pieces import in_turns
from syncd.core.values import InvalidValue, check_value
from syncd.protocol.messages import IncomingChange, IncomingRegister

OPS = {"insert": 1, "update": 2, "delete": 3}
QUICK = b'"tfn'  # how a value begins that is good whatever follows


class LogRegister(msgspec.Struct, gc=False, omit_defaults=True):
    """A register as the log keeps it; `at`, `sent` and `base` are instants as text. `base`: it was written over what
    its writer had not seen."""

    value: Raw
    at: str
    sent: str | UnsetType | None = UNSET
    movedTo: str | UnsetType = UNSET
    erased: bool | UnsetType = UNSET
    base: str | UnsetType | None = UNSET


class StateRegister(msgspec.Struct, gc=False, omit_defaults=True):
    """A register as the state keeps it: with the device that wrote it."""

    value: Raw
    at: str
    clientId: str
    sent: str | UnsetType | None = UNSET
    movedTo: str | UnsetType = UNSET
    erased: bool | UnsetType = UNSET


class NormalizedChange(msgspec.Struct, gc=False, omit_defaults=True):
    """One change for the log. i: place in the push, from 1; s, t: places in the push's spaces and tables, from 1;
    r: record; o: op; c: change id; e: event id; lo, hi: least and greatest stamp in microseconds;
    v: schema version; a: actor as JSON text; n: origin; b: what its writer had seen, as functions/unseen.sql has it."""

    i: int
    r: str
    o: int
    f: dict[str, LogRegister]
    g: dict[str, StateRegister]
    lo: int
    hi: int
    s: int = 0
    t: int = 0
    c: str | None = None
    e: str = ""
    v: int | None = None
    a: str | None = None
    n: str | None = None
    b: dict[str, dict[str, str]] | list[str] | None = None


def deletes(fields: Mapping[str, LogRegister]) -> bool | None:
    """Whether a record is deleted with these registers of a change, or is there again; None: they say nothing about
    that. A device can write it in a change of any name."""
    register = fields.get("deletedAt")
    return None if register is None else bytes(register.value).strip() != b"null"


class Limits(NamedTuple):
    """What a push may hold; sizes in bytes."""

    max_changes: int = 1000
    max_change: int = 1 << 20
    max_depth: int = 64
    max_schema_version: int | None = None
    # The records that a push changes, together, with what it writes to them.
    max_touched: int = 32 << 20
    # Of what the first generation pushes and may not be written: how much of one user's is held, and whether a space
    # that nobody has heard of is made for it, within which bounds.
    held_changes: int = 10_000
    held_bytes: int = 16 << 20
    make_spaces: bool = False
    space_bounds: Mapping[str, Any] = {}


class Stamp(NamedTuple):
    """An instant, as text and in microseconds."""

    text: str
    micros: int


# Ahead of any clock, so the database's will settle it.
RECEIPT = Stamp(format_instant(LAST), LAST)
# Below any other.
OLDEST = Stamp(EPOCH_TEXT, 0)
NULL = Raw(b"null")


class Stamps:
    """Instants of one push, parsed once each: a change's fields mostly share theirs.

    `legacy`: changes are taken as they come, without fields too.
    """

    legacy = False

    def __init__(self) -> None:
        self._known: dict[str, Stamp] = {}

    def of(self, text: str) -> Stamp:
        stamp = self._known.get(text)
        if stamp is None:
            stamp = self._known[text] = Stamp(*canonical_instant(text))
        return stamp

    def written(self, text: str | None, at: str, *members: str) -> Stamp | None:
        """A field's instant, None for the time of receipt; it stands in `members` below the pointer `at`. Raises
        Malformed."""
        if text is None:
            raise _invalid(_pointer(at, *members[:-1]), "a field needs its instant, `at`")
        try:
            return self._known.get(text) or self.of(text)
        except ValueError as wrong:
            raise _invalid(_pointer(at, *members), str(wrong)) from None

    def untimed(self, content: str) -> str | None:
        """An id for a change without times of its own, whose content has the id `content`; None: it is a new one."""
        return None


def _invalid(pointer: str, detail: str, code: str = "invalid_change") -> Malformed:
    return Malformed(f"{detail} ({pointer})", code=code, faults=(Fault(pointer, detail),))


def _checked(text: str, at: str, member: str) -> None:
    if wrong := fault_in_id(text):
        pointer = _pointer(at, member)
        raise InvalidId(f"{wrong} ({pointer})", faults=(Fault(pointer, wrong),))


def string_in(raw: Raw | None) -> str | None:
    """The string in a JSON text, or None where it holds something else."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except msgspec.MsgspecError:
        return None


def space_of(change: IncomingChange, personal: str) -> str:
    """Its `spaceId`, else the legacy `data.spaceId`, `fields.spaceId.value`, else the personal space."""
    if change.spaceId is not None:
        return change.spaceId
    legacy = string_in((change.data or {}).get("spaceId"))
    if legacy is None and change.fields and "spaceId" in change.fields:
        legacy = string_in(change.fields["spaceId"].value)
    return personal if legacy is None else legacy


def _pointer(at: str, *members: str) -> str:
    """A JSON pointer to a member below another (RFC 6901)."""
    return "/".join((at, *(member.replace("~", "~0").replace("/", "~1") for member in members)))


class _Registers:
    """The registers of one change, as they are gathered."""

    __slots__ = ("bases", "client", "log", "low", "max_depth", "newest", "pointer", "state")

    def __init__(self, client: str, pointer: str, max_depth: int) -> None:
        self.client, self.pointer, self.max_depth = client, pointer, max_depth
        self.log: dict[str, LogRegister] = {}
        self.state: dict[str, StateRegister] = {}
        # What the writer had seen, where it says so.
        self.bases: dict[str, str | None] = {}
        self.low, self.newest = LAST, OLDEST

    def write(
        self, field: str, value: Raw, stamp: Stamp, sent: str | UnsetType | None = UNSET, member: str = "fields"
    ) -> None:
        """One register; `member`: below which its value stands."""
        raw = bytes(value)
        if raw[0] not in QUICK:
            try:
                check_value(raw, self.max_depth)
            except InvalidValue as wrong:
                raise _invalid(_pointer(self.pointer, member, field), str(wrong), "invalid_value") from None
        text, micros = stamp
        self.log[field] = LogRegister(value, text, sent)
        self.state[field] = StateRegister(value, text, self.client, sent)
        if micros < self.low:
            self.low = micros
        if micros > self.newest.micros:
            self.newest = stamp

    def write_fields(self, fields: dict[str, IncomingRegister], stamps: Stamps) -> bool:
        """Registers, each with its own stamp. Says whether the device gave one."""
        timed = False
        for name, register in fields.items():
            at = register.at if register.at is not None else register.updatedAt
            stamp = stamps.written(at, self.pointer, "fields", name, "at")
            if register.base is not UNSET:
                self.bases[name] = register.base
                if register.base is not None:
                    stamps.written(register.base, self.pointer, "fields", name, "base")
            if wrong := fault_in_id(name):
                raise self._misnamed(name, "fields", wrong)
            if stamp is None:
                self.write(name, register.value, RECEIPT, None)
            else:
                self.write(name, register.value, stamp)
                timed = True
        return timed

    def write_data(self, data: dict[str, Raw], stamps: Stamps) -> bool:
        """An insert's whole record, all at one stamp. Says whether the device gave one."""
        stamp, timed = OLDEST, False
        for name in ("updatedAt", "createdAt"):
            text = string_in(data.get(name))
            if text is not None:
                try:
                    stamp, timed = stamps.of(text), True
                    break
                except ValueError:
                    continue  # a text field of that name that is no instant is only data
        for name, value in data.items():
            if wrong := fault_in_id(name):
                raise self._misnamed(name, "data", wrong)
            self.write(name, value, stamp, member="data")
        return timed

    def _misnamed(self, field: str, member: str, wrong: str) -> Malformed:
        return _invalid(_pointer(self.pointer, member, field), f"a field name {wrong}")

    def write_birth(self) -> None:
        """What an insert says besides its fields: the record is there. So it brings back what was deleted before it,
        whichever of the two arrives first."""
        if "deletedAt" not in self.log:
            sent = None if any(register.sent is None for register in self.log.values()) else UNSET
            self.write("deletedAt", NULL, self.newest, sent)

    def write_deletion(self, deleted_at: str | None, stamps: Stamps) -> bool:
        """A deletion's register. Says whether the device gave its stamp."""
        if "deletedAt" in self.log:
            return False
        given = None if deleted_at is None else stamps.written(deleted_at, self.pointer, "deletedAt")
        stamp, sent = (RECEIPT, None) if given is None else (given, UNSET)
        self.write("deletedAt", Raw(b'"%s"' % stamp.text.encode()), stamp, sent)
        return given is not None

    def seen(self, stamps: Stamps, *, inserts: bool, all_told: bool) -> dict[str, dict[str, str]] | list[str] | None:
        """What the writer had seen of others where it wrote, as functions/unseen.sql has it.

        `all_told`: a register without a `base` was written over none of another's.
        """
        if not self.bases and (not all_told or inserts):
            return [] if all_told else None  # what is new is mostly inserted, and nothing is compared there
        own = {"clientId": self.client}
        return {
            name: {"at": stamps.of(base).text} if isinstance(base := self.bases.get(name), str) else own
            for name in (self.log if all_told else self.bases)
        }


def normalize_change(
    change: IncomingChange, i: int, client: str, stamps: Stamps, limits: Limits, feed: tuple[str, str] = ("", ""),
    bases: bool = False,
) -> NormalizedChange:  # fmt: skip
    """One change in canonical form; `i` counts from 1, `feed` is (app, space). Raises Malformed with a pointer.

    A legacy update without fields has no registers: there is nothing to write.
    """
    pointer = f"/changes/{i - 1}"
    _checked(change.table, pointer, "table")
    _checked(change.id, pointer, "id")
    if change.changeId is not None:
        _checked(change.changeId, pointer, "changeId")
    registers = _Registers(client, pointer, limits.max_depth)
    timed = False
    if change.data and change.op == "insert":
        timed = registers.write_data(change.data, stamps)
    if change.fields:
        timed = registers.write_fields(change.fields, stamps) or timed
    if change.op == "delete":
        timed = registers.write_deletion(change.deletedAt, stamps) or timed
    if not registers.log and not stamps.legacy:
        raise _invalid(pointer, "a change needs at least one field", "empty_change")
    if change.op == "insert":
        registers.write_birth()
    actor = _actor(change.actor, pointer, limits.max_depth)
    change_id = change.changeId
    if change_id is None and registers.log:
        content = _content_id(change, registers.log, feed)
        change_id = content if timed else stamps.untimed(content)
    return NormalizedChange(
        i=i, r=change.id, o=OPS[change.op], f=registers.log, g=registers.state,
        lo=registers.low, hi=registers.newest.micros,
        c=change_id, v=version(change.schemaVersion, pointer), a=actor, n=change.origin,
        b=None if stamps.legacy else registers.seen(stamps, inserts=change.op == "insert", all_told=bases),
    )  # fmt: skip


def _actor(actor: Raw | UnsetType, pointer: str, max_depth: int) -> str | None:
    if isinstance(actor, UnsetType):
        return None
    try:
        check_value(bytes(actor), max_depth)
    except InvalidValue as wrong:
        raise _invalid(f"{pointer}/actor", str(wrong), "invalid_value") from None
    return bytes(actor).decode()


def version(given: int | None, pointer: str) -> int | None:
    """A schema version that the log can hold. `pointer`: where it stands. Raises Malformed."""
    if given is not None and not -(1 << 31) <= given < 1 << 31:
        code = "invalid_change" if pointer else "invalid_request"
        raise _invalid(f"{pointer}/schemaVersion", "must be a 32-bit integer", code)
    return given


def _content_id(change: IncomingChange, registers: dict[str, LogRegister], feed: tuple[str, str]) -> str:
    """What identifies a change whose device gave it no id but its own times."""
    content = [*feed, change.table, change.id, change.op]
    values = {name: [msgspec.json.decode(r.value), r.at] for name, r in registers.items()}
    return content_id([content, values])


def content_id(content: Any) -> str:
    """An id made of what JSON can say. No client can send such an id."""
    text = msgspec.json.encode(content, order="deterministic")
    return "\x01" + base64.urlsafe_b64encode(hashlib.sha256(text).digest()[:24]).decode()


class NormalizedPush(NamedTuple):
    """A push as the log takes it: distinct spaces and tables (sorted), the space of each change, the waves."""

    spaces: list[str]
    tables: list[str]
    space_of: list[int]
    waves: list[list[NormalizedChange]]


def batch(normalized: Sequence[tuple[NormalizedChange, str, str]], event_id: Callable[[int], str]) -> NormalizedPush:
    """Arranges (change, space, table) into waves in which no record occurs twice, places counted from 1 again."""
    spaces = sorted({space for _, space, _ in normalized}, key=str.encode)
    tables = sorted({table for _, _, table in normalized}, key=str.encode)
    space_no = {space: n for n, space in enumerate(spaces, 1)}
    table_no = {table: n for n, table in enumerate(tables, 1)}
    met: dict[tuple[int, int, str], int] = {}
    waves: list[list[NormalizedChange]] = []
    of: list[int] = []
    for i, (change, space, table) in enumerate(in_turns(normalized), 1):
        change.i, change.s, change.t, change.e = i, space_no[space], table_no[table], event_id(i)
        key = (change.s, change.t, change.r)
        wave = met[key] = met.get(key, -1) + 1
        if wave == len(waves):
            waves.append([])
        waves[wave].append(change)
        of.append(change.s)
    return NormalizedPush(spaces, tables, of, waves)
