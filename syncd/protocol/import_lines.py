"""Lines of an export, read strictly: what a file says is believed no more than what a device says. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd.core.clock import LAST
from syncd.core.errors import Malformed
from syncd.core.ids import SERVERS, fault_in_id
from syncd.core.pieces import more_than
from syncd.core.principal import actor_of
from syncd.core.values import InvalidValue, check_text, check_value
from syncd.protocol.export_format import GREATEST_SEQ, Line, LineRegister
from syncd.protocol.messages import without_value
from syncd.protocol.normalize import OPS, Limits, LogRegister, Stamps, StateRegister, version

# Of a line of a user's own, beside whose reading nobody else works; shorter lines are quick.
LONG, MOST_MEMBERS = 1 << 20, 150_000
# How much of what is good is remembered, and how a value begins that is so whatever follows.
MOST_GOOD, QUICK = 1024, b'"tfn'
PLACES = ("appId", "userId", "table", "spaceId", "clientId")
# A UUID, once its digits are zeros.
UUID, _AS_ZERO = "00000000-0000-0000-0000-000000000000", str.maketrans("123456789abcdef", "0" * 15)
# What the actor of a revert's changes says of it (sync_reverts in schema/functions/revert.sql).
REVERTS = frozenset(("reverted", "after"))
CONTENT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


# Registers for the log and for the state, and the least and the greatest stamp in microseconds.
Registers = tuple[Mapping[str, LogRegister], dict[str, StateRegister], int, int]


class ImportRow(msgspec.Struct, gc=False, omit_defaults=True):
    """What the log keeps of a change. i: place in the batch, k: feed, w, u, t: author, device, table (places in the
    batch's names), all from 1; p: changes before it are missing; else as in normalize.NormalizedChange."""

    r: str
    o: int
    c: str
    e: str
    f: Mapping[str, LogRegister]
    g: dict[str, StateRegister]
    lo: int
    hi: int
    i: int = 0
    k: int = 0
    w: int = 0
    u: int = 0
    t: int = 0
    v: int | None = None
    a: str | None = None
    n: str | None = None
    p: bool = False


class ImportLine(NamedTuple):
    """A line that can be imported. `after`: the seq of the line before it in its feed, 0 for the first."""

    number: int
    line: Line
    row: ImportRow
    after: int

    @property
    def push(self) -> tuple[str, str, int]:
        """What it was pushed with: such changes are imported together."""
        return self.line.spaceId, self.line.appId, self.line.pushEnd or self.line.seq


_LINE = msgspec.json.Decoder(Line)


class LineReader:
    """Reads lines one after the other. `author`: whose changes are read, None for everybody's; `latest`: stamps beyond
    it (microseconds) are of a clock that is ahead; `service`: which imports them in the author's name."""

    def __init__(self, limits: Limits, author: str | None, latest: int, service: str | None = None) -> None:
        self._limits, self._author, self._latest, self._service = limits, author, latest, service
        self._stamps = Stamps()
        self._number = 0
        self._feed = ("", "")
        self._seq = 0
        # What was found to be good, of what most lines share.
        self._places: set[tuple[str, ...]] = set()
        self._fields: set[str] = set()

    def read(self, text: bytes) -> ImportLine:
        """The change of the next line. Raises Malformed for one that cannot be imported; the next line can."""
        self._number += 1
        if self._number % 1000 == 0:
            self._stamps = Stamps()
        if self._author is not None and len(text) > LONG and more_than(text, b'":', MOST_MEMBERS):
            raise Malformed(f"more than {MOST_MEMBERS:,} members of objects", code="change_too_large")
        try:
            check_text(text)
            text.decode()
            line = _LINE.decode(text)
        except InvalidValue as wrong:
            raise Malformed(str(wrong), code="invalid_value") from None
        except (msgspec.MsgspecError, ValueError, RecursionError) as wrong:
            raise Malformed(f"not a change: {without_value(wrong)}", code="invalid_change") from None
        if self._author is not None and line.userId != self._author:
            raise Malformed("written by another user", code="foreign_author")
        row = self._row(line)
        feed = (line.spaceId, line.appId)
        after = self._seq if feed == self._feed else 0
        if feed < self._feed or line.seq <= after:
            raise Malformed("not in the order of an export: by space, app and seq", code="invalid_change")
        self._feed, self._seq = feed, line.seq
        return ImportLine(self._number, line, row, after)

    @property
    def number(self) -> int:
        """How many lines were read."""
        return self._number

    def _row(self, line: Line) -> ImportRow:
        self._check(line)
        log, state, low, high = self._plain(line) or self._registers(line)
        if high > self._latest:
            raise Malformed("a stamp is ahead of this server's clock", code="stamp_ahead")
        newest = self._limits.max_schema_version
        if newest is not None and (line.schemaVersion or 0) > newest:
            raise Malformed("a newer schema version than this server takes", code="schema_too_new")
        actor = None
        if not isinstance(line.actor, UnsetType):
            self._value(line.actor)
            actor = bytes(line.actor).decode()
            # That a change is a revert an operator's file says, and nobody else's: its values are its author's then.
            if self._author is not None and line.clientId.startswith(SERVERS):
                actor = _without(actor, REVERTS)
        if self._author is not None or self._service is not None:
            actor = actor_of(self._service, actor)
        return ImportRow(
            r=line.id, o=OPS[line.op], c=_identity(line), e=line.eventId, f=log, g=state, lo=low,
            hi=high, v=version(line.schemaVersion, "/line"), a=actor, n=line.origin,
            p=line.folded and self._author is None,
        )  # fmt: skip

    def _plain(self, line: Line) -> Registers | None:
        """The registers of a line that says nothing but its change's own values, as most do, as they were read; None
        where it says more, or something is wrong."""
        if line.superseded or line.husk or not line.fields:
            return None
        client, of, good, depth = line.clientId, self._stamps.of, self._fields, self._limits.max_depth
        state: dict[str, StateRegister] = {}
        low, high = LAST, 0
        try:
            for name, register in line.fields.items():
                at, value = register.at, register.value
                stamp = of(at)
                if (
                    name not in good or stamp.text != at or register.clientId is not None or register.sent is not UNSET
                    or register.base is not UNSET or register.movedTo is not UNSET or register.erased is not UNSET
                ):  # fmt: skip
                    return None
                if (raw := bytes(value))[0] not in QUICK:
                    check_value(raw, depth)
                state[name] = StateRegister(value, at, client)
                low, high = min(low, stamp.micros), max(high, stamp.micros)
        except ValueError:
            return None
        return line.fields, state, low, high

    def _registers(self, line: Line) -> Registers:
        """The registers of any line. Raises Malformed."""
        registers = {n: r for n, r in line.fields.items() if r.clientId is None} | line.superseded
        if not registers:
            raise Malformed("no register of its own", code="empty_change")
        log: dict[str, LogRegister] = {}
        state: dict[str, StateRegister] = {}
        micros = []
        for name, register in registers.items():
            value, at, sent = self._register(name, register)
            # That something was erased an operator's file says, and nobody else's.
            gone = register.erased if self._author is None else UNSET
            log[name] = LogRegister(register.value, at, sent, register.movedTo, gone, self._base(name, register))
            state[name] = StateRegister(register.value, at, line.clientId, sent, register.movedTo, gone)
            micros.append(value)
        for name, register in line.husk.items() if self._author is None else ():
            if bytes(register.value) != b"null" or (register.clientId is not None and fault_in_id(register.clientId)):
                raise Malformed("a husk's register has a value, or no device's id", code="invalid_change")
            value, at, sent = self._register(name, register)
            state.setdefault(name, StateRegister(register.value, at, register.clientId or line.clientId, sent))
            micros.append(value)
        return log, state, min(micros), max(micros)

    def _register(self, name: str, register: LineRegister) -> tuple[int, str, str | UnsetType | None]:
        if name not in self._fields:
            if wrong := fault_in_id(name):
                raise Malformed(f"a field name {wrong}", code="invalid_change")
            _keep(self._fields, name)
        self._value(register.value)
        try:
            stamp = self._stamps.of(register.at)
            sent = self._stamps.of(register.sent).text if isinstance(register.sent, str) else register.sent
        except ValueError as wrong:
            raise Malformed(f"{name}: {wrong}", code="invalid_change") from None
        return stamp.micros, stamp.text, sent

    def _base(self, name: str, register: LineRegister) -> str | UnsetType | None:
        try:
            return self._stamps.of(register.base).text if isinstance(register.base, str) else register.base
        except ValueError as wrong:
            raise Malformed(f"{name}: {wrong}", code="invalid_change") from None

    def _value(self, value: Raw) -> None:
        try:
            check_value(bytes(value), self._limits.max_depth)
        except InvalidValue as wrong:
            raise Malformed(str(wrong), code="invalid_value") from None

    def _check(self, line: Line) -> None:
        places = (line.appId, line.userId, line.table, line.spaceId, line.clientId)
        if places not in self._places:
            for name, text in zip(PLACES, places, strict=True):
                _check_id(name, text, line)
            _keep(self._places, places)
        _check_id("id", line.id, line)
        if line.changeId is not None:
            _check_id("changeId", line.changeId, line)
        if line.eventId.translate(_AS_ZERO) != UUID or (
            line.contentId is not None and not CONTENT_ID.fullmatch(line.contentId)
        ):
            raise Malformed("eventId or contentId is not one", code="invalid_change")
        if not 0 < line.seq <= (line.pushEnd or line.seq) < GREATEST_SEQ:
            raise Malformed("seq or pushEnd is out of range", code="invalid_change")
        try:
            self._stamps.of(line.createdAt)
        except ValueError as wrong:
            raise Malformed(f"createdAt: {wrong}", code="invalid_change") from None


def _without(actor: str, members: frozenset[str]) -> str | None:
    """An actor without some of its members; None: without any it is none."""
    whole = msgspec.json.decode(actor, type=Any)
    if not isinstance(whole, dict) or members.isdisjoint(whole):
        return actor
    left = {name: value for name, value in whole.items() if name not in members}
    return msgspec.json.encode(left).decode() if left else None


def _keep(good: set[Any], one: object) -> None:
    """Remembers what is good, within bounds."""
    if len(good) < MOST_GOOD:
        good.add(one)


def _check_id(name: str, text: str, line: Line) -> None:
    # A personal space's id is its user's with a word before it, and may be longer for that.
    if (wrong := fault_in_id(text)) and text != f"_personal:{line.userId}":
        raise Malformed(f"{name} {wrong}", code="invalid_change")


def _identity(line: Line) -> str:
    """Its device's id for it. One without is known by its event id; no client can send such an id."""
    if line.changeId is not None:
        return line.changeId
    return f"\x02{line.eventId}" if line.contentId is None else f"\x01{line.contentId}"
