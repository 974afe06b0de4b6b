"""Requests as typed messages, and what is wrong with one that is not. Pure."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar, get_args

import msgspec
from msgspec import UNSET, Raw, UnsetType

from syncd.core.errors import Fault, Malformed
from syncd.core.pieces import PIECE, in_turns, more_than, rest
from syncd.core.values import HALF, without_halves

T = TypeVar("T")
Op = Literal["insert", "update", "delete"]
Role = Literal["owner", "writer", "reader"]


class IncomingRegister(msgspec.Struct, gc=False):
    """A field of a change: any JSON value, and when its device wrote it (`updatedAt` is the legacy name).

    `base`: the instant of the register that its writer had seen there, null for none.
    """

    value: Raw
    at: str | None = None
    updatedAt: str | None = None
    base: str | UnsetType | None = UNSET


class IncomingChange(msgspec.Struct, gc=False):
    """A change as any generation of clients sends it."""

    table: str
    id: str
    op: Op
    changeId: str | None = None
    fields: dict[str, IncomingRegister] | None = None
    data: dict[str, Raw] | None = None
    deletedAt: str | None = None
    spaceId: str | None = None
    schemaVersion: int | None = None
    actor: Raw | UnsetType = UNSET
    origin: str | None = None


class PushBody(msgspec.Struct):
    """`POST /sync/{app}`. `pull: false` asks for no delta; `bytes`: about how large it may be; `incarnations`: which
    copy of a device's store pushes; `pushed`: changes of its own that were acknowledged; `bases`: a register without a
    `base` was written by a device that had seen none of another's there; `roles`: up to where it was told of spaces."""

    changes: list[IncomingChange] = []
    clientId: str | None = None
    since: str | None = None
    schemaVersion: int | None = None
    atomic: bool = False
    pull: bool = True
    bytes: int | None = None
    incarnations: list[str] | None = None
    pushed: list[str] | None = None
    bases: bool = False
    roles: str | None = None


class SpaceBody(msgspec.Struct):
    """`POST /spaces`."""

    name: str
    id: str | None = None


class SpaceName(msgspec.Struct):
    """`PATCH /spaces/{id}`."""

    name: str


class LinkBody(msgspec.Struct):
    """`POST /spaces/{id}/invitations`: a link for so many `uses`, which ends after `expiresIn` seconds."""

    role: Literal["writer", "reader"]
    uses: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    expiresIn: Annotated[int, msgspec.Meta(ge=1, le=30 * 86400)] = 7 * 86400


class TokenBody(msgspec.Struct):
    """`POST /invitations`: the token of a link."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class DemoBody(msgspec.Struct):
    """`POST /demo/token`."""

    name: str


class MemberBody(msgspec.Struct):
    """`PUT /spaces/{id}/members/{userId}`."""

    role: Role


class RestoreBody(msgspec.Struct):
    """`POST …/restore`: to after a seq, or (a space only) to an instant. `changeId` is the idempotency key.

    `POST …/revert`: `actor` says whose changes are taken back, and the moment after which they are looked for.
    """

    seq: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)] | None = None
    instant: str | None = None
    changeId: str | None = None
    clientId: str | None = None
    actor: Raw | UnsetType = UNSET
    origin: str | None = None


class RawChanges(msgspec.Struct):
    """A push of which the changes stay the JSON text that they are."""

    changes: list[Raw] | None = None


class _Again(msgspec.Struct):
    changes: Raw | UnsetType = UNSET


# What may stand where a choice is: the decoder names what was sent, and not what could have been.
_CHOICES = {"op": get_args(Op), "role": get_args(Role)}
_DECODERS: dict[type, msgspec.json.Decoder[Any]] = {}
_RAW_CHANGES = msgspec.json.Decoder(RawChanges)
_AGAIN = msgspec.json.Decoder(_Again)
# Nobody's push is so deep, or has so much between its changes.
DEEPEST, MOST_SCRAPS = 10_000, 1000
# Of what names its table, its id and its operation.
SHORTEST = len(b'{"table":"","id":"","op":"delete"}')
# A text goes on to the end where nothing ends it: what is looked for in vain is looked for again at each next quote.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)
# What may be the end of a change and the beginning of the next one.
_BETWEEN = re.compile(rb"\}\s*,\s*(?=\{)")
# Where the changes of a push begin: nobody writes so much before them.
FURTHEST = 64 * 1024
# What a parser may be given at once by the commas in it: it takes up to 50 ms. A change of a megabyte cannot have more.
MOST_COMMAS = 525_000
_TEXTS = msgspec.json.Decoder(list[Raw])
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_QUOTED = re.compile(r" (['\"]).*\1", re.DOTALL)
_PATH = re.compile(r"(.*?)(?: - at `(.*)`)?", re.DOTALL)


def decode(body: bytes, kind: type[T]) -> T:
    """The message in `body`. Raises Malformed with the place that is at fault."""
    try:
        body.decode()
    except UnicodeDecodeError as wrong:
        raise Malformed(f"The body is not UTF-8: byte {wrong.start}.", code="malformed_json") from None
    decoder = _DECODERS.get(kind) or _DECODERS.setdefault(kind, msgspec.json.Decoder(kind))
    try:
        message: T = decoder.decode(body)
    except msgspec.ValidationError as wrong:
        raise malformed(wrong) from None
    except msgspec.DecodeError as wrong:
        refused = lone_surrogate(body) if b"\\u" in body else None
        raise refused or Malformed(f"The body is not JSON: {wrong}.", code="malformed_json") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.", code="invalid_value") from None
    return message


def raw_changes(body: bytes) -> list[bytes]:
    """The JSON text of every change of a push."""
    others, texts = first_texts(body)
    try:
        texts += _RAW_CHANGES.decode(others).changes or ()
    except (msgspec.DecodeError, RecursionError):
        return split_changes(body)[1]
    return [bytes(raw) for raw in in_turns(texts)]


def first_texts(body: bytes) -> tuple[bytes, list[Raw]]:
    """A push without the first of its changes, and the texts of those, found a piece at a time: a parser goes through
    what it is given at once. All that it takes for a change is one; where it finds no more, the rest is left.

    It is left whole where more of them are too short for a change than may be, where a piece has too many commas, and
    where the push has changes twice: the last ones count.
    """
    begin = at = _changes_begin(body) if len(body) > 2 * PIECE else 0
    texts, reach, scraps = list[Raw](), PIECE, 0
    while begin and at + reach < len(body):
        rest()
        cut = _BETWEEN.search(body, at + reach, at + 2 * reach)
        piece = body[at : cut.start() + 1] if cut else b""
        if more_than(piece, b",", MOST_COMMAS):
            return body, []
        found = _texts_in(piece)
        if cut is None or found is None:
            reach *= 2
            continue
        texts += found
        at, reach = cut.end(), PIECE
        scraps += sum(len(bytes(text)) < SHORTEST for text in found)
        if scraps > MOST_SCRAPS:
            return body, []
    if not texts or _has_changes_again(body[at:]):
        return body, []
    return body[:begin] + body[at:], texts


def _has_changes_again(rest_of_list: bytes) -> bool:
    """Whether a push has changes a second time, after the list that this is the rest of."""
    try:
        return _AGAIN.decode(b'{"":[' + rest_of_list).changes is not UNSET
    except _UNREADABLE:
        return False


def _texts_in(piece: bytes) -> list[Raw] | None:
    """The texts of whole changes with commas between them, None where it does not end with one."""
    try:
        piece.decode()
        return _TEXTS.decode(b"[%b]" % piece)
    except _UNREADABLE:
        return None


def _changes_begin(body: bytes) -> int:
    """Where the first change of a push begins; 0 where that cannot be told from its beginning."""
    depth, name, text = 0, b"", b""
    for token in _TOKEN.finditer(body, 0, FURTHEST):
        kind = token[0][:1]
        if kind in b"[{":
            depth += 1
            if depth == 2 and kind == b"[" and name == b'"changes"':
                return token.end()
        elif kind in b"]}":
            depth -= 1
        elif depth == 1:
            name = text if kind == b":" else name
            text = token[0]
    return 0


def split_changes(body: bytes) -> tuple[bytes, list[bytes]]:
    """A push without its changes, and the text of each, by the brackets alone: also where one cannot be decoded.

    Raises Malformed where that is no push of anybody's, so that little is spent on it.
    """
    depth, name, start, found = 0, b"", -1, list[bytes]()
    first, last, text, scraps = 0, 0, b"", 0
    for token in in_turns(_TOKEN.finditer(body)):
        kind = token[0][:1]
        inside = start >= 0 and depth == 2
        if inside and kind in b",]":
            found.append(body[start : token.start()].strip())
            start = token.end()
            scraps += len(found[-1]) < SHORTEST
            if scraps > MOST_SCRAPS:
                raise Malformed("The body holds what are no changes.", code="invalid_request")
        if kind in b"[{":
            depth += 1
            if depth > DEEPEST:
                raise Malformed("The body is nested too deeply.", code="invalid_value")
            if depth == 2 and kind == b"[" and name == b'"changes"':
                first = start = token.end()
                found = []
        elif kind in b"]}":
            depth -= 1
            if inside:
                last, start = token.start(), -1
        elif depth == 1:
            name = text if kind == b":" else name
            text = token[0]
    return body[:first] + body[last:] if last else body, [raw for raw in found if raw]


def lone_surrogate(body: bytes) -> Malformed | None:
    """Where the half of a surrogate pair is. Our parser stops there without a place."""
    wrong = "a lone surrogate is not text"
    try:
        raws = _RAW_CHANGES.decode(without_halves(body)).changes or ()
    except (msgspec.MsgspecError, RecursionError):
        return None
    pointer = next((f"/changes/{i}" for i, raw in enumerate(raws) if HALF in bytes(raw)), None)
    if pointer is None:
        return None
    return Malformed(f"{wrong} ({pointer})", code="invalid_value", faults=(Fault(pointer, wrong),))


def without_value(wrong: Exception) -> str:
    """What a decoder says, without the value it quotes: what a client sent may be a token in the wrong place."""
    said = _QUOTED.sub("", str(wrong))
    name = next((name for name in _CHOICES if said.endswith(f".{name}`")), None)
    if name is None:
        return said
    return said.replace("Invalid enum value", f"{name} has to be one of {', '.join(_CHOICES[name])}")


def read_change(i: int, raw: bytes | Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """A change of a push that was taken apart. Raises what `decode` raises for it."""
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as wrong:
        raise malformed(wrong, f"/changes/{i}") from None
    except msgspec.DecodeError as wrong:
        raise Malformed(f"The body is not JSON: {wrong} (/changes/{i}).", code="malformed_json") from None
    except RecursionError:
        raise Malformed("The body is nested too deeply.", code="invalid_value") from None


def malformed(wrong: msgspec.ValidationError, within: str = "") -> Malformed:
    """A validation error of the decoder's, with its place as a pointer; `within`: that of what was decoded."""
    message = without_value(wrong)
    found = _PATH.fullmatch(message)
    detail, path = (found[1], found[2] or "$") if found else (message, "$")
    pointer = within + "".join(f"/{part}" for part in re.findall(r"[^.\[\]$`]+", path.replace("[...]", "")))
    code = "invalid_change" if pointer.startswith("/changes/") else "invalid_request"
    return Malformed(f"{detail}.", code=code, faults=(Fault(pointer, detail),))
