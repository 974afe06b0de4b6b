"""What an export's lines and manifest hold; the manifest is read strictly, as a line is (import_lines). Pure.

A line is a change as the server sends it, with what only another server needs: `appId`, `userId`, `createdAt`,
`pushEnd` (where a page may end), `contentId` (what a legacy change is recognised by), and
`superseded`, the registers that lost on arrival; and, of a log that was folded, `folded`, where changes of its
record before it are missing, and `husk`, the registers without values of a deleted record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd.core.clock import LAST, parse_instant
from syncd.core.errors import Malformed
from syncd.core.ids import fault_in_id, fault_in_name, fault_in_user
from syncd.core.values import check_text
from syncd.protocol.messages import Op, Role, without_value
from syncd.protocol.normalize import LogRegister

FORMAT = 1
# Beyond this JavaScript's integers are not exact.
GREATEST_SEQ = 1 << 53


class LineRegister(LogRegister, gc=False):
    """A register on a line of an export, which without `clientId` is of the change's device."""

    clientId: str | None = None


class Line(msgspec.Struct):
    """One change of an export."""

    appId: str
    userId: str
    createdAt: str
    eventId: str
    seq: int
    table: str
    id: str
    op: Op
    spaceId: str
    clientId: str
    fields: dict[str, LineRegister]
    superseded: dict[str, LineRegister] = {}
    pushEnd: int | None = None
    changeId: str | None = None
    contentId: str | None = None
    schemaVersion: int | None = None
    actor: Raw | UnsetType = UNSET
    origin: str | None = None
    folded: bool = False
    husk: dict[str, LineRegister] = {}


class Folded(msgspec.Struct, rename="camel"):
    """A feed of an export that compaction folded: how far, out of how far it had come; `forgotten_us` microseconds."""

    space_id: str
    app_id: str
    head: int
    horizon: int
    forgotten: int
    forgotten_us: int


class Block(msgspec.Struct):
    """Whom a user blocks."""

    userId: str
    blocked: str
    blockedAt: str


class Manifest(msgspec.Struct):
    """The end mark. `spaces` is the JSON text whose hash is `spacesSha256`; `cursorKey` comes with all of them."""

    formatVersion: int
    createdAt: str
    eventCount: int
    eventsSha256: str
    userId: str | None = None
    scope: Literal["user", "space", "all"] = "user"
    apps: list[str] = []
    spaces: Raw = Raw(b"[]")
    spacesSha256: str | None = None
    cursorKey: str | None = None
    folded: list[Folded] = []
    blocks: list[Block] = []


class Invited(msgspec.Struct):
    """Somebody who has not accepted yet."""

    userId: str
    role: Role
    invitedBy: str
    invitedAt: str


class Removed(msgspec.Struct):
    """Whom an owner removed, and no link brings back."""

    userId: str
    removedAt: str


class Member(msgspec.Struct, omit_defaults=True):
    """A member of a space in an export; `joinedAt` is an instant."""

    userId: str
    role: Role
    joinedAt: str
    source: Literal["table", "external"] = "table"


class Space(msgspec.Struct, omit_defaults=True):
    """A space with its members; `number` is what cursors call it; `formerId`: of a deleted one whose id another has;
    `owners`: who may make a deleted one again."""

    id: str
    name: str
    createdAt: str
    members: list[Member]
    deletedAt: str | None = None
    number: int | None = None
    formerId: str | None = None
    invitations: list[Invited] = []
    removed: list[Removed] = []
    owners: list[str] = []

    def brought_back_by(self, owner: str) -> Space:
        """As its owner may bring it back: whom no owner could add (protocol P380) is no member."""
        members = [one for one in self.members if one.userId == owner or not fault_in_user(one.userId)]
        return msgspec.structs.replace(self, members=members)


_SPACES = msgspec.json.Decoder(list[Space])
_MANIFEST = msgspec.json.Decoder(Manifest)


def decode_manifest(text: bytes) -> Manifest:
    """The manifest. Raises Malformed: `export_cut_short`, `export_too_new`, `invalid_export`."""
    try:
        text.decode()
        manifest = _MANIFEST.decode(text)
        parse_instant(manifest.createdAt)
        for block in manifest.blocks:
            parse_instant(block.blockedAt)
            if wrong := fault_in_id(block.userId) or fault_in_id(block.blocked):
                raise msgspec.ValidationError(f"an id in its blocks {wrong}")
        for feed in manifest.folded:
            if (
                not 0 <= feed.forgotten <= feed.head < GREATEST_SEQ
                or not 0 < feed.horizon <= feed.head
                or not 0 <= feed.forgotten_us <= LAST
            ):
                raise msgspec.ValidationError("a folded feed's numbers are out of range")
    except msgspec.ValidationError as wrong:
        raise Malformed(f"The manifest is not one: {without_value(wrong)}.", code="invalid_export") from None
    except (ValueError, RecursionError):
        raise Malformed("The export has no manifest at its end: it was cut short.", code="export_cut_short") from None
    if manifest.formatVersion != FORMAT:
        detail = f"The export has format {manifest.formatVersion}, this server reads {FORMAT}."
        raise Malformed(detail, code="export_too_new")
    return manifest


def _users(members: Sequence[Member]) -> list[str]:
    return [member.userId for member in members]


def decode_spaces(manifest: Manifest) -> list[Space]:
    """The spaces that a manifest names. Raises Malformed (`invalid_export`)."""
    try:
        check_text(bytes(manifest.spaces))
        spaces = _SPACES.decode(manifest.spaces)
        if len({space.id for space in spaces}) != len(spaces):
            raise ValueError("a space is there twice")
        for space in spaces:
            former = () if space.formerId is None else (space.formerId,)
            asked = [name for one in space.invitations for name in (one.userId, one.invitedBy)]
            asked += [one.userId for one in space.removed]
            ids = (space.id.removeprefix("_personal:"), *former, *_users(space.members), *asked, *space.owners)
            if wrong := next(filter(None, map(fault_in_id, ids)), None) or fault_in_name(space.name):
                raise ValueError(f"an id or name {wrong}")
            times = [*(member.joinedAt for member in space.members), *(one.invitedAt for one in space.invitations)]
            times += [one.removedAt for one in space.removed]
            for instant in (space.createdAt, space.deletedAt, *times):
                if instant is not None:
                    parse_instant(instant)
            if space.number is not None and not 0 < space.number < 1 << 31:
                raise ValueError("a space's number is out of range")
    except (ValueError, msgspec.MsgspecError, RecursionError) as wrong:
        raise Malformed(f"The manifest's spaces: {without_value(wrong)}.", code="invalid_export") from None
    return spaces
