"""Compares a replica with the server by digests, and repairs the differences.

A digest is of stamps: a stamp names its write. See "Digests" in docs/reference/protocol.md.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ..data.change import Key, read_change, space_key
from ..data.digest import Sum, Sums, bucket_of, digest_of
from ..data.events import Verified
from ..data.merge import TOMBSTONE
from ..data.values import dump, parse
from ..errors import BadReply, shape
from ..store.choice import Choice, chosen, revision
from ..store.records import load, purge, save, settle
from ..store.store import Store, get_meta, set_meta
from .report import Applied

EVERY = 6 * 3600.0  # seconds
AGAIN = 600.0  # when to try again, in seconds, after one that did not come to its end
MANY = 64  # of the 256 buckets: from then on it is cheaper to begin again
_PULLS, _WAITS = 3, 60
_CHUNK = 2000
_UNREADABLE = 0
_SCAN = """SELECT tbl, space, id, deleted, stamps, base FROM records WHERE (tbl, space, id) > (?, ?, ?)
ORDER BY tbl, space, id LIMIT ?"""


class DigestRequest(NamedTuple):
    """A request to the digest's path: about all spaces, one (by the server's name), or a bucket of that."""

    method: str
    params: Mapping[str, str | list[str]]
    body: bytes | None = None
    space: str | None = None
    bucket: int | None = None


class DigestAction(NamedTuple):
    """The next thing to do before another request: pull, begin again, or wait so many seconds."""

    what: str
    seconds: float = 0.0


class Entry(NamedTuple):
    """A live record that the server has confirmed; `digest` is 0 where the file cannot be read."""

    table: str
    space: str
    id: str
    bucket: int
    digest: int


def entries(store: Store, spaces: Container[str]) -> Iterator[Entry]:
    """The live records of `spaces` that are kept, as the server confirmed them, without own unsent writes.

    The application may write meanwhile, as that changes nothing of it; whoever syncs must not.
    """
    after: Key = ("", "", "")
    while True:
        with store.read() as db:
            rows, choice = db.execute(_SCAN, (*after, _CHUNK)).fetchall(), chosen(db)
        for row in rows:
            if row[1] in spaces and choice.has(row[0], row[1]) and (entry := _entry(*row)) is not None:
                yield entry
        if len(rows) < _CHUNK:
            return
        after = rows[-1][:3]


def _entry(table: str, space: str, record: str, deleted: int, stamps: str, base: str | None) -> Entry | None:
    try:
        if base is None:
            held = [(name, stamp[0], stamp[1]) for name, stamp in json.loads(stamps).items()]
        else:
            registers = json.loads(base)
            held = [(name, register[1], register[2]) for name, register in registers.items()]
            deleted = not registers or registers.get(TOMBSTONE, [None])[0] is not None
        digest = _UNREADABLE if deleted else digest_of(table, record, held)
    except (ValueError, TypeError, IndexError, AttributeError, OverflowError):
        digest, deleted = _UNREADABLE, 0
    return None if deleted else Entry(table, space, record, bucket_of(table, record), digest)


def due(store: Store, every: float | None, wall: int) -> bool:
    """Whether it is time to verify; `every` is seconds, None for never, `wall` microseconds.

    The first time is as long after it was asked for the first time. A last time that is still to come was noted by a
    clock that was ahead: who waited for it would not verify for years.
    """
    if every is None:
        return False
    with store.read() as db:
        last = get_meta(db, "verified")
    if last is None:
        note(store, wall)
        return False
    return bool(last > wall or wall - last >= every * 1_000_000)


def note(store: Store, wall: int) -> None:
    """Takes note of a verification."""
    with store.write() as db:
        set_meta(db, "verified", wall)


class Verification:
    """One verification, decided step by step and performed elsewhere, by whoever holds the lease.

    `next(cursor)` says what to ask or to do next, None at the end; answers go to `receive`, or to `moved`
    where the server says that the cursor is not at the end of the log any more. `patient`: waits for a server
    that is not ready. `result` is what was found.
    """

    def __init__(
        self, store: Store, wall: Callable[[], int], publish: Callable[[Applied], None], *, patient: bool
    ) -> None:
        self._store, self._wall, self._publish = store, wall, publish
        self._pulls, self._waits = _PULLS, _WAITS if patient else 0
        self._since: str | None = None
        self._left: set[str] | None = None  # the spaces, by the server's names, not compared yet; None: all
        self._server_records: dict[str, int] = {}  # how many records the server has of those that are being compared
        self._held: dict[tuple[str, int], dict[tuple[str, str], int]] = {}  # {(space, bucket): {(table, id): digest}}
        self._requests: list[DigestRequest] = []
        self._action: DigestAction | None = None
        self._repaired: set[Key] = set()
        self._choice, self._chosen_at = Choice(), (0, 0)
        self.result = Verified()

    def next(self, cursor: str) -> DigestRequest | DigestAction | None:
        """The next request or action, for a replica that stands at `cursor`."""
        if self._action is not None:
            action, self._action = self._action, None
            return action
        if self._requests and self._since != cursor:
            self._requests = []
        if not self._requests:
            if self._left == set():
                return None
            with self._store.read() as db:
                self._choice, self._chosen_at = chosen(db), revision(db)
            self._since, self._held = cursor, {}
            self._requests = [DigestRequest("GET", self._params())]
        return self._requests[-1]

    def _params(self) -> dict[str, str | list[str]]:
        tables = {} if self._choice.tables is None else {"collection": list(self._choice.tables)}
        return {"since": self._since or "", **tables}

    def receive(self, body: bytes) -> None:
        """The answer to the request that came last. Raises BadReply."""
        with self._store.read() as db:
            if revision(db) != self._chosen_at:  # another process has chosen meanwhile
                self.moved()
                return
        request = self._requests.pop()
        try:
            wire = parse(body)
            if request.bucket is not None:
                self._repair(request, wire)
            elif request.space is not None:
                self._receive_buckets(request.space, wire)
            else:
                self._receive_spaces(wire)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadReply(f"the answer cannot be read: {shape(error)}.") from None

    def moved(self) -> None:
        """Somebody wrote: what is not compared yet is, after a pull."""
        self._requests = []
        self._try_later(pull=True)

    def _receive_spaces(self, wire: Any) -> None:
        answered = {space["spaceId"]: space for space in wire["spaces"]}
        named = {*filter(self._choice.names, (*answered, *wire["behind"], *wire["unready"]))}
        self._left = left = named if self._left is None else self._left & named
        self._server_records = {name: space["records"] for name, space in answered.items() if name in left}
        sums = self._sums(self._server_records)
        for name in self._server_records:
            if _whole(sums.get(space_key(name), {})).is_(answered[name]["records"], answered[name]["digest"]):
                self._compared(name)
            else:
                self._requests.append(DigestRequest("GET", self._params() | {"spaceId": name}, space=name))
        if left and not self._requests:
            self._try_later(pull=bool(left & {*wire["behind"]}))

    def _receive_buckets(self, name: str, wire: Any) -> None:
        if not wire["spaces"]:
            self._requests = []
            self._try_later(pull=bool(wire["behind"]))
            return
        theirs = {bucket: (records, digest) for bucket, records, digest in wire["spaces"][0]["buckets"]}
        ours = self._sums([name]).get(space_key(name), {})
        buckets = [
            bucket for bucket in {*ours, *theirs} if not ours.get(bucket, Sum()).is_(*theirs.get(bucket, (0, "0" * 16)))
        ]
        if len(buckets) >= MANY and not self.result.restarted:
            self._begin_again(len(buckets))
            return
        self._collect(name, buckets)
        self._requests += [self._comparison(name, bucket) for bucket in buckets]
        if not buckets:
            self._compared(name)

    def _begin_again(self, differences: int) -> None:
        self.result = Verified(0, 0, differences, differences, restarted=True)
        self._left, self._requests, self._action = None, [], DigestAction("restart")

    def _collect(self, name: str, buckets: Iterable[int]) -> None:
        self._held |= {(name, bucket): {} for bucket in buckets}
        for entry in entries(self._store, {space_key(name)}):
            held = self._held.get((name, entry.bucket))
            if held is not None:
                held[entry.table, entry.id] = entry.digest

    def _comparison(self, name: str, bucket: int) -> DigestRequest:
        records = [(*key, f"{digest:016x}") for key, digest in self._held[name, bucket].items()]
        body: dict[str, Any] = {"since": self._since, "spaceId": name, "bucket": bucket, "records": records}
        if self._choice.tables is not None:
            body["collections"] = list(self._choice.tables)
        return DigestRequest("POST", {}, dump(body).encode(), name, bucket)

    def _repair(self, request: DigestRequest, wire: Any) -> None:
        """Puts what the server has in the place of what was confirmed, under own unsent writes."""
        name, bucket = request.space or "", request.bucket or 0
        changes = {(c.table, c.space, c.record): c for c in map(read_change, wire["changes"])}
        gone: list[Key] = [(table, space_key(name), record) for table, record in wire["gone"]]
        with self._store.write() as db:
            if get_meta(db, "cursor", "") != self._since or revision(db) != self._chosen_at:
                self.moved()
                return
            changed = _replace(db, changes, gone)
        fresh = {*changed} - self._repaired
        self._repaired |= fresh
        self.result.differences += len(fresh)
        self.result.repaired += len(fresh)
        self._publish(Applied(changed=changed))
        if wire["hasMore"] and fresh:
            self._collect(name, [bucket])
            self._requests.append(self._comparison(name, bucket))
        if all(other.space != name for other in self._requests):
            self._compared(name)

    def _sums(self, names: Iterable[str]) -> dict[str, Sums]:
        sums: dict[str, Sums] = {}
        for entry in entries(self._store, {space_key(name) for name in names}):
            sums.setdefault(entry.space, {}).setdefault(entry.bucket, Sum()).add(entry.digest)
        return sums

    def _compared(self, name: str) -> None:
        self.result.spaces += 1
        self.result.records += self._server_records[name]
        if self._left is not None:
            self._left.discard(name)

    def _try_later(self, *, pull: bool) -> None:
        """Goes on with what is left, if there is still patience for it."""
        if pull and self._pulls:
            self._pulls -= 1
            self._action = DigestAction("pull")
        elif not pull and self._waits:
            self._waits -= 1
            self._action = DigestAction("wait", 1.0)
        else:
            self.result.skipped = sorted((space_key(name) or None for name in self._left or ()), key=str)
            self._left = set()


def _whole(sums: Sums) -> Sum:
    whole = Sum()
    for one in sums.values():
        whole.records += one.records
        whole.digest ^= one.digest
    return whole


def _replace(db: sqlite3.Connection, changes: dict[Key, Any], gone: list[Key]) -> list[Key]:
    """Forgets what was confirmed of these records, and takes the changes for it. Returns the records to show again."""
    keys, round_ = [*changes, *gone], get_meta(db, "round", 0)
    purge(db, keys)
    rows = load(db, keys, round_)
    for key, row in rows.items():
        row.write({})  # what is unsent is laid on top again, if there is any
        if key in changes:
            row.confirm(changes[key].registers, round_)
    settle(db, rows)
    save(db, rows)
    return keys
