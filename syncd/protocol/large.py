"""Large pushes, read change by change. A parser goes through what it is given at once, and nothing else runs
meanwhile: so a push is taken apart first, which costs little, and its changes are read one by one. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from syncd.core.errors import HeldFull, Malformed, TooLarge
from syncd.core.pieces import in_turns, more_than
from syncd.protocol import live_messages
from syncd.protocol.first_generation import OF_CHANGES, UNREADABLE, LegacyPush, read_legacy
from syncd.protocol.live_messages import LegacyPushFrame
from syncd.protocol.messages import (
    MOST_COMMAS,
    IncomingChange,
    IncomingRegister,
    Op,
    PushBody,
    decode,
    first_texts,
    read_change,
    split_changes,
)
from syncd.protocol.normalize import Limits

# What is written into records, and within what is written.
MOST_MEMBERS = 200_000

Texts = Sequence[Raw | bytes]
T = TypeVar("T")


class PushTexts(PushBody):
    """A push whose changes are texts."""

    changes: list[Raw] = []  # type: ignore[assignment]  # noqa: RUF012


class LegacyPushTexts(LegacyPush):
    """The same of the first generation."""

    changes: list[Raw] | None = None  # type: ignore[assignment]


class FrameTexts(live_messages.PushFrame, tag="push"):
    """A push in a frame, whose changes are texts."""

    changes: list[Raw]  # type: ignore[assignment]


class LegacyFrameTexts(LegacyPushFrame, tag="push"):
    """The same of the first generation."""

    changes: list[Raw] | None = None  # type: ignore[assignment]


class _Value(msgspec.Struct):
    value: Raw = Raw(b"null")


class _Fields(msgspec.Struct):
    spaceId: _Value | None = None


class _Data(msgspec.Struct):
    spaceId: Raw = Raw(b"null")


class Outline(msgspec.Struct):
    """Of a change that is too large what says which it is, and where it was to be written."""

    table: str
    id: str
    op: Op
    changeId: str | None = None
    fields: _Fields | None = None
    data: _Data | None = None
    spaceId: str | None = None
    schemaVersion: int | None = None


class _Operation(msgspec.Struct, gc=False):
    op: Op


class _Operations(msgspec.Struct):
    changes: list[_Operation] = []


_OUTLINE = msgspec.json.Decoder(Outline)
_CHANGE = msgspec.json.Decoder(IncomingChange)
_Others = live_messages.Auth | live_messages.Unsubscribe | live_messages.PresenceFrame | live_messages.Ping
_FRAME: msgspec.json.Decoder[live_messages.Incoming] = msgspec.json.Decoder(
    _Others | live_messages.Subscribe | FrameTexts
)
_LEGACY_FRAME: msgspec.json.Decoder[live_messages.Incoming | live_messages.LegacySubscribe | LegacyFrameTexts] = (
    msgspec.json.Decoder(_Others | live_messages.LegacySubscribe | LegacyFrameTexts)
)


def push_in(body: bytes, limits: Limits, legacy: bool) -> PushBody:
    """The push in a large body, as `decode` and `push_body` have it. Raises Malformed, TooLarge, HeldFull."""
    if legacy:
        envelope, texts = _legacy_apart(body, lambda text: decode(text, LegacyPushTexts))
        return msgspec.structs.replace(
            msgspec.structs.replace(envelope, changes=None).body(), changes=_legacy_changes(texts, limits)
        )
    _check(body)
    push, texts = _apart(body, lambda text: decode(text, PushTexts))
    return msgspec.structs.replace(push, changes=_changes(texts, limits))


def frame_in(text: bytes, limits: Limits, legacy: bool) -> live_messages.Incoming:
    """The message in a large frame, as `live.incoming` has it. Raises Malformed, TooLarge, HeldFull."""
    if not legacy:
        _check(text)
        message, texts = _apart(text, lambda text: live_messages.decoded(text, _FRAME))
        if isinstance(message, FrameTexts):
            return msgspec.structs.replace(message, changes=_changes(texts, limits))
        return message
    frame, texts = _legacy_apart(text, lambda text: live_messages.decoded(text, _LEGACY_FRAME))
    if isinstance(frame, live_messages.LegacySubscribe):
        return frame.message()
    if not isinstance(frame, LegacyFrameTexts):
        return frame
    changes = _legacy_changes(texts, limits)
    return live_messages.PushFrame(changes, frame.requestId, frame.appId, frame.schemaVersion, frame.atomic)


def _check(body: bytes) -> None:
    for what, most, mark in ("members of objects", MOST_MEMBERS, b'":'), ("commas", MOST_COMMAS, b","):
        if more_than(body, mark, most):
            raise TooLarge(f"A push holds at most {most:,} {what}; send it in parts.")


def _changes(texts: Texts, limits: Limits) -> list[IncomingChange]:
    if len(texts) > limits.max_changes:
        raise TooLarge(
            f"A push holds at most {limits.max_changes} changes; send them in parts.", code="too_many_changes"
        )
    found = list[IncomingChange]()
    for i, raw in enumerate(in_turns(texts)):
        if len(bytes(raw)) > limits.max_change:
            found.append(_named(read_change(i, raw, _OUTLINE)))
        else:
            found.append(read_change(i, raw, _CHANGE))
    return found


def _apart(body: bytes, decoded: Callable[[bytes], T]) -> tuple[T, Texts]:
    """A message, and the texts of its changes. Raises what `decoded` raises for all of it."""
    others, texts = first_texts(body)
    try:
        message = decoded(others)
    except Malformed:
        if not texts:
            raise
        # What is at fault, and where, is said of the whole.
        message, texts = decoded(body), []
    return message, [*texts, *(getattr(message, "changes", None) or ())]


def _legacy_apart(body: bytes, decoded: Callable[[bytes], T]) -> tuple[T, Texts]:
    """A message of the first generation, which takes no part of its push back, and the texts of its changes."""

    def checked(text: bytes) -> T:
        if more_than(text, b",", MOST_COMMAS):
            # A text a comma would be too many at once. Changes say what they do, so they are fewer.
            decode(text, _Operations)
        return decoded(text)

    try:
        return _apart(body, checked)
    except Malformed as why:
        if why.code not in OF_CHANGES:
            raise
        envelope, texts = split_changes(body)
        if not texts:
            raise
        return decoded(envelope), texts


def _legacy_changes(texts: Texts, limits: Limits) -> list[IncomingChange]:
    """Raises HeldFull where more cannot be read than may be held."""
    found, unreadable = list[IncomingChange](), 0
    for raw in in_turns(texts):
        large = len(bytes(raw)) > limits.max_change
        found.append(read_legacy(raw, _legacy_named) if large else read_legacy(raw))
        unreadable += found[-1] is UNREADABLE
        if unreadable > limits.held_changes:
            raise HeldFull
    return found


def _legacy_named(raw: bytes | Raw) -> IncomingChange:
    return _named(_OUTLINE.decode(raw))


def _named(outline: Outline) -> IncomingChange:
    register = outline.fields and outline.fields.spaceId
    fields = {"spaceId": IncomingRegister(register.value)} if register else None
    data = {"spaceId": outline.data.spaceId} if outline.data else None
    return IncomingChange(
        outline.table, outline.id, outline.op, outline.changeId, fields, data, spaceId=outline.spaceId or None,
        schemaVersion=outline.schemaVersion,
    )  # fmt: skip
