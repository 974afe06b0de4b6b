"""Rows that were read become changes as the log takes them, in the canonical form that a push has. Pure."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from syncd.core.clock import parse_instant
from syncd.core.errors import Malformed
from syncd.core.ids import fault_in_client, fault_in_id
from syncd.core.values import InvalidValue, check_value
from syncd.protocol.export_format import Line
from syncd.protocol.import_lines import ImportLine, ImportRow
from syncd.protocol.normalize import Limits, NormalizedChange, Stamps, normalize_change
from syncd.protocol.plain_inserts import PlainInserts
from syncd.protocol.restamp import lower_stamps
from syncd.transfer.keeping import Kept, kept, kept_row
from syncd.transfer.sources.foreign import ForeignChange, Source, UnreadableRow
from syncd.transfer.sources.foreign import ForeignRow as FoundRow

# Event ids are made in it, from what a change is: never from where it was read.
NAMESPACE = uuid.UUID("6d1f0f4e-6b0a-5a0e-9c58-1f3bb7a5c0de")
fault, fault_of_client = lru_cache(4096)(fault_in_id), lru_cache(4096)(fault_in_client)


@lru_cache(1024)
def checked_actor(raw: bytes, max_depth: int) -> str:
    """An actor as the log keeps it. Raises Unreadable."""
    try:
        check_value(raw, max_depth)
    except InvalidValue as why:
        raise UnreadableRow("invalid_value", f"the actor: {why}") from None
    return raw.decode()


class ImportChange(NamedTuple):
    """A change that can be written. `where` names its row to people, `found` is what was read; `size`: bytes of its
    values and their names."""

    where: str
    line: Line
    row: ImportRow
    found: ForeignChange
    size: int

    @property
    def personal(self) -> bool:
        """Whether it was written in the author's personal space, wherever its record is now."""
        return (self.found.space or "_personal:").startswith("_personal:")

    @property
    def feed(self) -> tuple[str, str]:
        """Its space and app."""
        return self.line.spaceId, self.line.appId

    @property
    def owned(self) -> tuple[str, str, str, str]:
        """Its author, app, table and record, which is one to a device of the first generation."""
        return self.line.userId, self.line.appId, self.line.table, self.line.id

    @property
    def strayed(self) -> bool:
        """Whether its record left the personal space that it was written in."""
        return self.personal and not self.line.spaceId.startswith("_personal:")

    @property
    def identity(self) -> tuple[str, str, str]:
        """What no change has twice: author, device, and the id by its content."""
        return self.line.userId, self.line.clientId, self.row.c


class RefusedRow(NamedTuple):
    """A row that cannot be written, and why. `kept`: what of it is held, None where nothing can be."""

    where: str
    table: str
    code: str
    detail: str
    kept: Kept | None = None


class ImportCounts(msgspec.Struct):
    """By table: rows read; changes that cannot be written, held or refused; those made of the rows, stamps lowered;
    then what came of them."""

    rows: Counter[str] = msgspec.field(default_factory=Counter)
    held: Counter[str] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    changes: Counter[str] = msgspec.field(default_factory=Counter)
    lowered: Counter[str] = msgspec.field(default_factory=Counter)
    imported: Counter[str] = msgspec.field(default_factory=Counter)
    there: Counter[str] = msgspec.field(default_factory=Counter)


class ImportChanges:
    """Reads rows. `latest`: stamps beyond it (microseconds) are of a clock that was ahead, and are lowered to when
    their row was created."""

    def __init__(self, origin: Source, limits: Limits, latest: int) -> None:
        self._origin, self._limits, self._latest = origin, limits, latest
        self._stamps = Stamps()
        self._plain = PlainInserts(limits)
        self._known: str | None = None

    def read(self, rows: Sequence[FoundRow], counts: ImportCounts, refuse: list[RefusedRow]) -> list[ImportChange]:
        """The changes of some rows, in order; what is none goes to `refuse`."""
        self._stamps = Stamps()
        arrivals: list[ImportChange] = []
        for row in rows:
            counts.rows[row.table] += 1
            try:
                changes = self._origin.changes(row)
            except (UnreadableRow, Malformed) as why:
                refuse.append(self._refused(row, why, kept_row(row) if self._origin.legacy else None, counts))
                continue
            for found in changes:
                self._known = None
                try:
                    arrivals.append(self._arrival(row.where, found, counts))
                    counts.changes[row.table] += 1
                except (UnreadableRow, Malformed) as why:
                    keep = kept(found, self._known) if self._origin.legacy else None
                    refuse.append(self._refused(row, why, keep, counts))
        return arrivals

    def _refused(
        self, row: FoundRow, why: UnreadableRow | Malformed, keep: Kept | None, counts: ImportCounts
    ) -> RefusedRow:
        (counts.refused if keep is None else counts.held)[row.table] += 1
        code = why.code if keep is None or why.code != "invalid_row" else "invalid_change"
        detail = why.detail.replace(" (/changes/0)", "")
        return RefusedRow(row.where, row.table, code, detail, keep)

    def _arrival(self, where: str, found: ForeignChange, counts: ImportCounts) -> ImportChange:
        space = found.space or f"_personal:{found.user}"
        wrong_ids = ("app", fault(found.app)), ("user", fault(found.user)), ("client", fault_of_client(found.client))
        for name, wrong in wrong_ids:
            if wrong:
                raise UnreadableRow("invalid_id", f"the {name} {wrong}")
        if space.startswith("_personal:"):
            if space != f"_personal:{found.user}":
                raise UnreadableRow("space_not_found", "the personal space of another user")
        elif wrong := fault(space):
            raise UnreadableRow("invalid_id", f"the space {wrong}")
        change, actor = found.change, None
        if not isinstance(change.actor, UnsetType):
            # Few are different, so they are checked here, once each.
            actor = checked_actor(bytes(change.actor), self._limits.max_depth)
            change = msgspec.structs.replace(change, actor=UNSET)
        feed = (found.app, space)
        made = self._plain.read(change, found.client, self._stamps, feed) or normalize_change(
            change, 1, found.client, self._stamps, self._limits, feed
        )
        self._known = made.c
        size = self._bound(made)
        if made.hi > self._latest:
            lower_stamps([made], found.client, self._latest, min(parse_instant(found.created_at), self._latest))
            counts.lowered[change.table] += 1
        identity = str(made.c)
        event = event_id(found.user, found.client, identity)
        line = Line(found.app, found.user, found.created_at, event, 1, change.table, change.id, change.op,
                    found.went_to or space, found.client, {})  # fmt: skip
        row = ImportRow(
            made.r, made.o, identity, line.eventId, made.f, made.g, made.lo, made.hi, v=made.v, a=actor, n=made.n
        )
        return ImportChange(where, line, row, found, size)

    def _bound(self, made: NormalizedChange) -> int:
        size = sum(len(bytes(register.value)) + len(name) for name, register in made.f.items())
        if size > self._limits.max_change:
            raise UnreadableRow("change_too_large", f"larger than {self._limits.max_change:,} bytes")
        newest = self._limits.max_schema_version
        if newest is not None and (made.v or 0) > newest:
            raise UnreadableRow("schema_too_new", "a newer schema version than this server takes")
        return size


def event_id(user: str, client: str, identity: str) -> str:
    """The UUIDv5 of a change: uuid.uuid5, without the object."""
    data = bytearray(hashlib.sha1(NAMESPACE.bytes + f"{user}\0{client}\0{identity}".encode()).digest()[:16])
    data[6], data[8] = data[6] & 0x0F | 0x50, data[8] & 0x3F | 0x80
    text = data.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def follow(batch: Sequence[ImportChange], personal: dict[int, str | None]) -> None:
    """Brings what was written in a personal space to where its record went from there, by place from 0."""
    for place, arrival in enumerate(batch):
        arrival.line.spaceId = (personal.get(place) if arrival.personal else None) or arrival.line.spaceId


def moves_of(batch: Sequence[ImportChange], personal: dict[int, str | None]) -> list[dict[str, Any]]:
    """The records that a batch moves out of their authors' personal spaces, where `personal` says (by place from 0)
    that they are or have left: as sync_import_move takes them."""
    moves: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for place, arrival in enumerate(batch):
        line = arrival.line
        if line.spaceId.startswith("_personal:") or personal.get(place) is not None:
            continue
        if place in personal or arrival.personal:
            moves[arrival.owned] = {"u": line.userId, "a": line.appId, "t": line.table, "r": line.id, "s": line.spaceId,
                                    "c": line.clientId, "at": line.createdAt, "own": arrival.strayed}  # fmt: skip
    return list(moves.values())


def placed(batch: Sequence[ImportChange], heads: dict[tuple[str, str], int]) -> list[ImportLine]:
    """A batch with places in the log: after each feed's head, in order."""
    ends = dict(heads)
    found = []
    for number, arrival in enumerate(batch, 1):
        feed = arrival.feed
        arrival.line.seq = ends[feed] = ends.get(feed, 0) + 1
        found.append(ImportLine(number, arrival.line, arrival.row, heads.get(feed, 0)))
    return found


def once(batch: Sequence[ImportChange], again: Counter[str]) -> Iterator[ImportChange]:
    """A batch without those that are in it twice; these are counted by table."""
    met = set()
    for arrival in batch:
        if arrival.identity in met:
            again[arrival.line.table] += 1
            continue
        met.add(arrival.identity)
        yield arrival
