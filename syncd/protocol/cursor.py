"""The cursor: a position in every feed of one user in one app, opaque to clients. Pure.

Text: 27 characters of RFC 3339 instant, a dot, base64url of the payload and its signature. The instant
makes cursors of one client comparable as text; the signature binds payload, instant, user and app to this
server's key, so a cursor that comes back is one that was given to this very user.
Payload, all varints: version, database start (us), filter (number from the tables' names, WHOLE, LONE), then for every
space: gap to the previous space number, seq * 2 (+ 1 and a base while the state is being read). Version 2 is for
cursors of which a feed is being swept: before the spaces come the tables that are swept first (how many, and of each
its length and characters), and a base is twice its value, or where it is negative 1 more than twice -1 minus it.
Version 3 is for cursors of many feeds, whose positions are kept in a row: before those tables come the row's name and
whether state is being read, and of the spaces only those that have moved since; a gap may be negative and is written as
such a base is, and a seq is written 1 greater, 0 being a space that is none of them any more.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from syncd.core.clock import format_instant, parse_instant
from syncd.core.errors import Malformed

VERSION, SWEEPING, KEPT = 1, 2, 3
SIGNATURE = 9
INSTANT = 27
WHOLE, LONE = 1 << 32, 1 << 33
# Of more feeds the positions are kept in a row, and a cursor lists so many of those that have moved since.
MOST_LISTED, MOST_MOVED = 500, 250
# A sweep that has come to the tables that do not come first, less three times the head that it began at.
REST = -3
# Characters of a cursor that remembers known tables, with room for spaces that are joined meanwhile: 8 KiB is its most.
MOST_KNOWN = 7680
# Servers of before listed any number of feeds: so a cursor of theirs may be as long as one of 25,000.
MAX_LENGTH = 512 * 1024


class Position(NamedTuple):
    """How far a feed was read; `base` is -1 in the log, else says how the state is being read (sync_pull_acting)."""

    space: int
    seq: int
    base: int = -1


class Cursor(NamedTuple):
    """`instant`: when it was made, microseconds; `boot`: when its database was started; `tables`: the narrowing.

    `priority`: the tables that a sweep began with; they count until no feed is being swept any more. `whole`: it is for
    some tables, of which everything before its positions has been sent. `lone`: so it is, but nothing is known of the
    other tables. `row`: the name of the row that keeps its positions, 0 for none; then `positions` are those that have
    moved since, with a seq of -1 where a space is gone, and `unread` says whether there is state still to be read.
    """

    instant: int
    boot: int
    tables: tuple[str, ...]
    positions: tuple[Position, ...]
    priority: tuple[str, ...] = ()
    whole: bool = False
    lone: bool = False
    row: int = 0
    unread: bool = False

    @property
    def sweeping(self) -> bool:
        """Whether some feed's state is being read from its newest record down; or may be, where they are kept."""
        return self.unread if self.row else any(base < -1 for _, _, base in self.positions)

    @property
    def long(self) -> bool:
        """Whether it lists more feeds than a cursor should: the positions are to be kept."""
        return len(self.positions) > (MOST_MOVED if self.row else MOST_LISTED)

    def since(self) -> dict[str, Any]:
        """The position, as the functions of the schema take it."""
        spaces, seqs, bases = zip(*self.positions, strict=True) if self.positions else ((), (), ())
        since: dict[str, Any] = {"s": spaces, "q": seqs, "b": bases, "boot": self.boot}
        return {**since, "row": self.row} if self.row else since


class BadCursor(Malformed):
    """A cursor that this server did not give to this user for this app."""

    code = "bad_cursor"


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _varints(payload: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in payload:
        number |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            yield number
            number = shift = 0


def _filter(tables: tuple[str, ...]) -> int:
    """A number for a set of tables, 0 for all: a cursor made for one set is not taken for another."""
    if not tables:
        return 0
    text = "\x00".join(sorted(set(tables))).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest()) or 1


def _sign(key: bytes, user: str, app: str, head: str, payload: bytes) -> bytes:
    mac = hashlib.blake2b(key=key, digest_size=SIGNATURE)
    for part in (user.encode(), app.encode(), head.encode(), payload):
        mac.update(len(part).to_bytes(4) + part)
    return mac.digest()


def encode(cursor: Cursor, key: bytes, user: str, app: str) -> str:
    """The cursor as text: about 28 + 1.34 * (7 to 8) * spaces characters."""
    sweeping = cursor.sweeping
    narrowing = _filter(cursor.tables) | (WHOLE if cursor.whole else 0) | (LONE if cursor.lone else 0)
    if cursor.row:
        return _signed(_head_of_kept(cursor, narrowing) + _moved(cursor.positions, 0), cursor.instant, key, user, app)
    numbers = [SWEEPING if sweeping else VERSION, cursor.boot, narrowing]
    if sweeping:
        numbers += _names(cursor.priority)
    last = 0
    for space, seq, base in sorted(cursor.positions):
        written = _folded(base) if sweeping else base
        numbers += (space - last, seq << 1) if base == -1 else (space - last, seq << 1 | 1, written)
        last = space
    return _signed(b"".join(map(_varint, numbers)), cursor.instant, key, user, app)


def _signed(payload: bytes, instant: int, key: bytes, user: str, app: str) -> str:
    head = format_instant(instant)
    return f"{head}.{_text(payload + _sign(key, user, app, head, payload))}"


def _names(names: tuple[str, ...]) -> list[int]:
    return [len(names), *(number for name in names for number in (len(name), *map(ord, name)))]


def _folded(number: int) -> int:
    """A number that may be negative as one that is not."""
    return number << 1 if number >= 0 else -1 - number << 1 | 1


def _unfolded(number: int) -> int:
    return -1 - (number >> 1) if number & 1 else number >> 1


def _head_of_kept(cursor: Cursor, narrowing: int) -> bytes:
    numbers = (KEPT, cursor.boot, narrowing, cursor.row, int(cursor.unread), *_names(cursor.priority))
    return b"".join(map(_varint, numbers))


def _moved(positions: Iterable[Position], last: int) -> bytes:
    """Positions of a kept cursor, after one of the space `last`."""
    parts: list[bytes] = []
    for space, seq, base in positions:
        numbers = (_folded(space - last), seq + 1 << 1 | (base != -1), *(() if base == -1 else (_folded(base),)))
        parts += map(_varint, numbers)
        last = space
    return b"".join(parts)


class Bookmark:
    """A cursor that moves with a live subscription: what stays the same in it is made once. `text` is its text.

    `kept`: all positions of a cursor that lists only those that have moved.
    """

    def __init__(self, cursor: Cursor, key: bytes, user: str, app: str, kept: Iterable[Position] | None = None) -> None:
        mac = hashlib.blake2b(key=key, digest_size=SIGNATURE)
        for part in (user.encode(), app.encode()):
            mac.update(len(part).to_bytes(4) + part)
        self._mac = mac
        self.boot, self._instant = cursor.boot, cursor.instant
        self.seqs: dict[int, int] = {}
        # The payload's varints one by one, and where in it a space's seq is.
        self._parts = list(map(_varint, (VERSION, cursor.boot, _filter(cursor.tables))))
        self._places: dict[int, int] = {}
        self._kept = kept is not None
        if kept is not None:
            self._parts, self._last = [_head_of_kept(cursor, _filter(cursor.tables))], 0
            self.seqs = {space: seq for space, seq, _ in kept}
            for position in cursor.positions:
                self._add(position)
            return
        last, sweeping = 0, cursor.sweeping
        if sweeping:
            self._parts = list(map(_varint, (SWEEPING, cursor.boot, _filter(cursor.tables), *_names(cursor.priority))))
        for space, seq, base in sorted(cursor.positions):
            self.seqs[space] = seq
            self._places[space] = len(self._parts) + 1
            read = b"" if base == -1 else _varint(_folded(base) if sweeping else base)  # a feed that cannot be read now
            self._parts += (_varint(space - last), _varint(seq << 1 | (base != -1)) + read)
            last = space

    def move(self, space: int, seq: int, instant: int) -> bytes:
        """The cursor's text after a feed was read up to `seq`; `instant` in microseconds never goes back."""
        self.seqs[space] = seq
        if not self._kept:
            self._parts[self._places[space]] = _seq_varint(seq)
        elif space in self._places:
            self._parts[self._places[space]] = _varint(seq + 1 << 1)
        else:
            self._add(Position(space, seq))
        if instant > self._instant:
            self._instant = instant
        return self.text()

    def _add(self, position: Position) -> None:
        """One more that has moved: its gap stays, and the rest is replaced when it moves again."""
        self._parts.append(_varint(_folded(position.space - self._last)))
        self._places[position.space] = len(self._parts)
        self._parts.append(_moved((position,), position.space)[1:])
        self._last = position.space

    @property
    def full(self) -> bool:
        """Whether so many have moved that a new row is to keep their positions."""
        return self._kept and len(self._places) > MOST_MOVED

    def text(self) -> bytes:
        """The cursor as text."""
        payload = b"".join(self._parts)
        head, signed = _heads(self._instant)
        mac = self._mac.copy()
        mac.update(signed + len(payload).to_bytes(4) + payload)
        return head + binascii.b2a_base64(payload + mac.digest(), newline=False).translate(_URL_SAFE, b"=")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


@lru_cache(maxsize=64)
def _heads(micros: int) -> tuple[bytes, bytes]:
    """A cursor's beginning, and the same as it is signed: many cursors are made at one instant."""
    text = format_instant(micros).encode()
    return text + b".", INSTANT.to_bytes(4) + text


@lru_cache(maxsize=1024)
def _seq_varint(seq: int) -> bytes:
    return _varint(seq << 1)


def _text(signed: bytes) -> str:
    return base64.urlsafe_b64encode(signed).rstrip(b"=").decode()


def decode(text: str, key: bytes, user: str, app: str, tables: tuple[str, ...]) -> Cursor | int | None:
    """The cursor in `text`: None for nothing seen, an int (us) for a plain instant. Raises BadCursor.

    A cursor that was made for other tables means the instant 0: what it skipped must still come, deletions too.
    """
    if not text:
        return None
    if text[INSTANT : INSTANT + 1] != ".":
        try:
            return parse_instant(text)
        except ValueError:
            raise BadCursor from None
    cursor, narrowing = _opened(text, key, user, app)
    return cursor._replace(tables=tables) if narrowing == _filter(tables) else 0


def widened(
    text: str, key: bytes, user: str, app: str, tables: tuple[str, ...], known: tuple[str, ...]
) -> Cursor | int | None:
    """The same for a device that has the `known` ones of its cursor's tables alone, and wants `tables`. Raises
    BadCursor.

    Up to where the cursor stands all but the known ones are swept, and what was written since follows. That is a sweep
    that has begun with the known tables and come to the rest. Where a sweep is under way, or
    the cursor would be too long, it is the instant 0.
    """
    if not text or text[INSTANT : INSTANT + 1] != ".":
        return decode(text, key, user, app, tables)
    cursor, _ = _opened(text, key, user, app)
    cursor = cursor._replace(tables=tables)
    if tables and set(tables) <= set(known):
        return cursor
    listed = not cursor.row and all(base == -1 for _, _, base in cursor.positions)
    if not listed:
        return 0
    swept = tuple(Position(space, seq, REST - 3 * seq if seq else -1) for space, seq, _ in cursor.positions)
    cursor = cursor._replace(positions=swept, priority=known)
    return cursor if len(encode(cursor, key, user, app)) <= MOST_KNOWN else 0


def decode_legacy(text: str, key: bytes, user: str, app: str, tables: tuple[str, ...]) -> Cursor | int | None:
    """As `decode`, for a device of the first generation, which would send a cursor that is refused for ever.

    What cannot be used is the instant 0: the state and its deletions, for the device may hold records. A cursor for all
    tables serves some of them. One for other tables counts as it is if all of them before it was sent, else it is 0 as
    well: the device has a cursor of its own for every collection.
    """
    try:
        found = decode(text, key, user, app, tables)
        if found != 0 or text[INSTANT : INSTANT + 1] != ".":
            return found
        cursor, narrowing = _opened(text, key, user, app)
    except BadCursor:
        return 0
    return cursor._replace(tables=tables) if cursor.whole or not narrowing else 0


def named_instant(text: str) -> int:
    """The instant (us) that a text is or begins with, 0 where there is none."""
    try:
        return parse_instant(text[:INSTANT] if text[INSTANT : INSTANT + 1] == "." else text)
    except ValueError:
        return 0


def is_partial(text: str, key: bytes, user: str, app: str) -> bool:
    """Whether it is a cursor for some tables of which not everything before its positions has been sent."""
    if text[INSTANT : INSTANT + 1] != ".":
        return False
    try:
        cursor, narrowing = _opened(text, key, user, app)
    except BadCursor:
        return False
    return bool(narrowing) and not cursor.whole and not cursor.lone


def _opened(text: str, key: bytes, user: str, app: str) -> tuple[Cursor, int]:
    """The cursor, its tables left out, and the number of its tables. Raises BadCursor."""
    head, rest = text[:INSTANT], text[INSTANT + 1 :]
    if len(text) > MAX_LENGTH:
        raise BadCursor
    try:
        signed = base64.b64decode(rest + "=" * (-len(rest) % 4), altchars=b"-_", validate=True)
        instant = parse_instant(head)
    except (ValueError, binascii.Error):
        raise BadCursor from None
    if _text(signed) != rest:  # another spelling of the same bytes
        raise BadCursor
    payload, signature = signed[:-SIGNATURE], signed[-SIGNATURE:]
    if not hmac.compare_digest(_sign(key, user, app, head, payload), signature):
        raise BadCursor
    return _parse(instant, payload)


def _parse(instant: int, payload: bytes) -> tuple[Cursor, int]:
    numbers = _varints(payload)
    version, boot, narrowing = next(numbers), next(numbers), next(numbers)
    if version not in (VERSION, SWEEPING, KEPT):
        raise BadCursor
    row, unread = (next(numbers), bool(next(numbers))) if version == KEPT else (0, False)
    priority: tuple[str, ...] = ()
    if version != VERSION:
        priority = tuple("".join(chr(next(numbers)) for _ in range(next(numbers))) for _ in range(next(numbers)))
    positions: list[Position] = []
    space = 0
    for gap in numbers:
        space += _unfolded(gap) if row else gap
        seq = next(numbers)
        base = next(numbers) if seq & 1 else -1
        if version != VERSION and base >= 0:
            base = _unfolded(base)
        positions.append(Position(space, (seq >> 1) - (1 if row else 0), base))
    whole, lone = bool(narrowing & WHOLE), bool(narrowing & LONE)
    cursor = Cursor(instant, boot, (), tuple(positions), priority, whole, lone, row, unread)
    return cursor, narrowing & ~(WHOLE | LONE)
