"""What clients of the first generation send, taken as it comes: they cannot be changed, and they send what is refused
again for ever. What they leave out or garble is filled in here. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd.core.clock import canonical_instant
from syncd.core.errors import Malformed
from syncd.core.ids import MAX_ID, fault_in_client
from syncd.core.values import without_halves
from syncd.protocol.messages import IncomingChange, IncomingRegister, Op, PushBody, decode, split_changes
from syncd.protocol.normalize import Stamp, Stamps, content_id, string_in

NULL = Raw(b"null")
# Where it stands for an instant of deletion, what JavaScript takes for false says that the record lives.
FALSE = (b"null", b'""', b"false", b"0")
_LOOSE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d)(:\d\d(?:\.\d+)?)?)?\s?(Z|z|[+-]\d\d(?::?\d\d)?)?", re.ASCII)


class LegacyRegister(msgspec.Struct, gc=False):
    """`{"at"}` alone is what JavaScript writes of a value that is undefined: null."""

    value: Raw = NULL
    at: Raw = NULL
    updatedAt: Raw = NULL


class LegacyChange(msgspec.Struct, gc=False):
    """A change, whatever its instants are."""

    table: str
    id: str
    op: Op
    changeId: str | None = None
    fields: dict[str, LegacyRegister] | None = None
    data: dict[str, Raw] | None = None
    deletedAt: Raw = NULL
    spaceId: str | None = None
    schemaVersion: int | None = None
    actor: Raw | UnsetType = UNSET
    origin: str | None = None

    def change(self) -> IncomingChange:
        """The same with texts for instants."""
        fields = {name: _register(register) for name, register in self._registers().items()}
        data = {name: deletion(value) if name == "deletedAt" else value for name, value in (self.data or {}).items()}
        deleted, space = string_in(self.deletedAt), self.spaceId or None
        return IncomingChange(
            self.table, self.id, self.op, self.changeId, fields, data, deleted, space, self.schemaVersion,
            self.actor, self.origin,
        )  # fmt: skip

    def _registers(self) -> dict[str, LegacyRegister]:
        """`fields`; of an update that has none its `data`, as of the time in it; and a deletion beside them, whatever
        the operation is called."""
        fields = self.fields or {}
        if self.op == "update" and not fields and self.data:
            at = next((self.data[name] for name in ("updatedAt", "createdAt") if string_in(self.data.get(name))), NULL)
            fields = {name: LegacyRegister(value, at) for name, value in self.data.items()}
        if "deletedAt" in fields:
            written = fields["deletedAt"]
            fields = {**fields, "deletedAt": LegacyRegister(deletion(written.value), written.at, written.updatedAt)}
        if self.op != "delete" and bytes(self.deletedAt) not in FALSE:
            fields = {**fields, "deletedAt": LegacyRegister(self.deletedAt, self.deletedAt)}
        return fields


def deletion(value: Raw) -> Raw:
    """What stands for an instant of deletion; null for what says that the record lives."""
    return NULL if bytes(value) in FALSE else value


class LegacyPush(msgspec.Struct):
    """`POST /sync/{app}`."""

    changes: list[LegacyChange] | None = None
    clientId: Raw = NULL
    since: Raw = NULL
    schemaVersion: int | None = None
    atomic: bool = False
    pull: bool = True

    def body(self) -> PushBody:
        """The same with texts for instants."""
        changes = [change.change() for change in self.changes or ()]
        client, since = string_in(self.clientId), string_in(self.since)
        return PushBody(changes, client, since, self.schemaVersion, self.atomic, self.pull)


class LegacyStamps(Stamps):
    """A date alone is its midnight, what has no zone is UTC; what is missing or no instant is the time of receipt.

    `since`: the cursor that the push came with, where it is one of this server's. The answer brings another one, so a
    change without times that comes with the same cursor again, in the same place among its like, is a retry. Without
    a cursor it is a new one each time: written twice is better than not at all.
    """

    legacy = True

    def __init__(self, since: str | None = None) -> None:
        super().__init__()
        self._since = since
        self._met: Counter[str] = Counter()

    def of(self, text: str) -> Stamp:
        stamp = self._known.get(text)
        if stamp is None:
            stamp = self._known[text] = Stamp(*canonical_instant(_zoned(text)))
        return stamp

    def written(self, text: str | None, at: str, *members: str) -> Stamp | None:
        try:
            return self.of(text) if text else None
        except ValueError:
            return None

    def untimed(self, content: str) -> str | None:
        self._met[content] += 1
        return None if self._since is None else content_id([content, self._since, self._met[content]])


# In place of a change that cannot be read; it has no canonical form either.
UNREADABLE = IncomingChange("", "", "update")
# Codes of what may be the fault of a single change.
OF_CHANGES = ("invalid_change", "invalid_value")
_CHANGE = msgspec.json.Decoder(LegacyChange)


def _read(raw: bytes | Raw) -> IncomingChange:
    return _CHANGE.decode(raw).change()


def push_body(body: bytes) -> PushBody:
    """The push in a request's body, with UNREADABLE for a change that cannot be read. Raises Malformed."""
    try:
        return decode(body, LegacyPush).body()
    except Malformed as why:
        envelope, changes = readable(body, why)
        return msgspec.structs.replace(decode(envelope, LegacyPush).body(), changes=changes)


def readable(body: bytes, why: Malformed) -> tuple[bytes, list[IncomingChange]]:
    """A push without its changes, and its changes one by one, so that one at fault does not keep the others.

    Raises `why` where it is no change that is at fault.
    """
    if why.code not in OF_CHANGES:
        raise why
    envelope, raws = split_changes(body)
    if not raws:
        raise why
    return envelope, [read_legacy(raw) for raw in raws]


def read_legacy(raw: bytes | Raw, read: Callable[[bytes | Raw], IncomingChange] = _read) -> IncomingChange:
    """A change, UNREADABLE where it cannot be read. Raises Malformed for what is not JSON."""
    try:
        return read(raw)
    except (msgspec.ValidationError, RecursionError):
        return UNREADABLE
    except msgspec.DecodeError as wrong:
        try:
            msgspec.json.decode(without_halves(bytes(raw)), type=Raw)  # half a surrogate pair is JSON
        except (msgspec.MsgspecError, RecursionError):
            raise Malformed(f"The body is not JSON: {wrong}.", code="malformed_json") from None
        return UNREADABLE


def client_of(given: str | None, user: str) -> str:
    """The device's id, or where it gave none that can be one, a name that stays for all such devices of the user."""
    if given and fault_in_client(given) is None:
        return given
    return f"legacy:{user}"[:MAX_ID]


def _register(register: LegacyRegister) -> IncomingRegister:
    return IncomingRegister(register.value, string_in(register.at) or string_in(register.updatedAt))


def _zoned(text: str) -> str:
    """A date or a time without a zone as an RFC 3339 instant, another text as it is."""
    found = _LOOSE.fullmatch(text.strip())
    if found is None:
        return text
    day, minute, second, zone = found.groups()
    if zone is not None and zone not in "Zz":
        hours, minutes = zone[:3], zone[3:].lstrip(":") or "00"
        zone = f"{hours}:{minutes}"
    return f"{day}T{minute or '00:00'}{second or ':00'}{zone or 'Z'}"
