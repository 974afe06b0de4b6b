"""The SQLite file: its schema, its one connection, its transactions, and the few values kept in `meta`."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, Protocol

from ..errors import StoreFailed, WrongReplica

FORMAT = 2
_LITTLE = 65_536  # bytes: less room than this is none
_MACHINE = Path("/etc/machine-id")
UNSCRUBBED = "unscrubbed"  # in `meta`: something is to leave the file
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Durability = Literal["full", "normal"]

_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- What the application sees. doc: {field: value}, stamps: {field: [at, client, sent?]}, base: the server's
-- registers {field: [value, at, client, sent?]} where unsent writes lie on top of them, else null.
-- round: the restart from an empty cursor in which the server confirmed the record last.
CREATE TABLE records (tbl TEXT NOT NULL, space TEXT NOT NULL, id TEXT NOT NULL, deleted INTEGER NOT NULL,
    round INTEGER NOT NULL, doc TEXT NOT NULL, stamps TEXT NOT NULL, base TEXT, PRIMARY KEY (tbl, space, id));
-- What the server does not have yet. state: pending, acked (the server has it, but
-- not all of its news are here), rejected, or aside (its space was left). `batch` is
-- shared by changes that go together or not at all. body: the bytes that are sent, and sent again.
CREATE TABLE outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, change_id TEXT NOT NULL UNIQUE,
    batch TEXT NOT NULL, tbl TEXT NOT NULL, space TEXT NOT NULL, id TEXT NOT NULL,
    state TEXT NOT NULL, body TEXT NOT NULL, code TEXT, detail TEXT, field TEXT);
CREATE INDEX outbox_record ON outbox (tbl, space, id);
CREATE INDEX outbox_state ON outbox (state, position);
CREATE INDEX outbox_batch ON outbox (batch);
CREATE TABLE conflicts (number INTEGER PRIMARY KEY AUTOINCREMENT, tbl TEXT NOT NULL, space TEXT NOT NULL,
    id TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE spaces (id TEXT PRIMARY KEY) WITHOUT ROWID;
"""
# A file of before has no such table; a package of before takes no notice of it.
_ROLES = """CREATE TABLE IF NOT EXISTS roles (space TEXT PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL)
    WITHOUT ROWID"""


class BesideRecords(Protocol):
    """What is kept of the records beside them, and is never behind them."""

    def settle(self, db: sqlite3.Connection) -> None:
        """A transaction is about to end."""

    def scrub(self, db: sqlite3.Connection) -> bool:
        """What was deleted is to leave the file. False: it is to be asked again, in another transaction."""


class Store:
    """One connection, shared by the threads of a process under a lock; other processes have their own.

    `durability`: "full" flushes every write to the disk, so it survives a power cut; "normal" survives
    the death of the process only, and is many times faster for single writes.
    """

    def __init__(self, path: str | Path, durability: Durability = "full", timeout: float = 30.0) -> None:
        self._lock, self._path = threading.RLock(), path
        self.failure: StoreFailed | None = None
        self.beside: BesideRecords | None = None
        self._writing = False
        with self._explained():
            self._db = sqlite3.connect(
                str(path), timeout=timeout, isolation_level=None, check_same_thread=False, cached_statements=256
            )
        try:
            with self._explained():
                self._db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'full' else 'NORMAL'}")
                # What is deleted or overwritten is not left in the file: it may have been erased for good.
                self._db.execute("PRAGMA secure_delete = ON")
                self._use_wal(timeout)
            with self.write() as db:
                self._create(db)
        except BaseException:
            self._db.close()
            raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns errors of SQLite into StoreFailed, which says whether there is room."""
        try:
            yield
        except sqlite3.Error as error:
            self.failure = explain_failure(error, self._path)
            raise self.failure from error

    def _use_wal(self, timeout: float) -> None:
        """Turning the file into WAL mode needs it alone, and SQLite does not wait for that by itself."""
        until = time.monotonic() + timeout
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                if time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @staticmethod
    def _create(db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise WrongReplica(f"the file has format {version}, this package reads {FORMAT}.", remedy="Upgrade it.")
        if version == 0:
            for statement in _SCHEMA.split(";"):
                if statement.strip():
                    db.execute(statement)
        if version == 1:
            db.execute("ALTER TABLE outbox ADD COLUMN field TEXT")
        if version < FORMAT:
            db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute(_ROLES)

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, alone among threads and processes. It commits at the end or leaves no trace.

        Raises StoreFailed, also where this thread has begun one that is not over.
        """
        with self._explained(), self._lock:
            if self._writing:
                raise StoreFailed("a transaction is under way.", remedy="Write in it, or when it is over.")
            self._end()
            self._db.execute("BEGIN IMMEDIATE")
            self._writing = True
            try:
                yield self._db
                if self.beside is not None:
                    self.beside.settle(self._db)
                self._db.execute("COMMIT")
            except BaseException:
                self._end()
                raise
            finally:
                self._writing = False
        self.failure = None

    def _end(self) -> None:
        """Nothing is left of a transaction that failed; SQLite has ended some by itself."""
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the file. Raises StoreFailed."""
        with self._explained(), self._lock:
            if self._db.in_transaction:
                yield self._db
                return
            self._db.execute("BEGIN")
            try:
                yield self._db
            finally:
                self._end()

    @contextmanager
    def joined(self) -> Iterator[sqlite3.Connection | None]:
        """The transaction that this thread has begun to write in; None: there is none. Raises StoreFailed."""
        with self._explained(), self._lock:
            yield self._db if self._writing else None

    def check_room(self) -> None:
        """Writes some 64 KiB and takes them back. Raises StoreFailed."""
        with self.write() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('room', zeroblob(65536))")
        with self.write() as db:
            db.execute("DELETE FROM meta WHERE key = 'room'")

    def scrub(self) -> None:
        """What was deleted leaves the write-ahead log as well, unless another process is reading there: then later."""
        over = self.beside is None
        with suppress(StoreFailed):
            while self.beside is not None and not over:
                with self.write() as db:
                    over = self.beside.scrub(db)
        with self._lock, suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with suppress(StoreFailed):
            if over and self.is_unscrubbed():
                with self.write() as db:
                    db.execute("DELETE FROM meta WHERE key = ?", (UNSCRUBBED,))

    def is_unscrubbed(self) -> bool:
        """Whether something was to leave the file, and may not have. Raises StoreFailed."""
        with self.read() as db:
            return bool(get_meta(db, UNSCRUBBED))

    def place(self) -> str | None:
        """The place of the file, as a hash that no copy of it has: of the machine and of the file's own number there.

        None for a replica in memory, or where it cannot be told.
        """
        try:
            number = os.stat(self._path).st_ino
        except OSError:
            return None
        machine = ""
        with suppress(OSError, UnicodeDecodeError):
            machine = _MACHINE.read_text().strip()
        return sha256(f"{machine}\n{number}".encode()).hexdigest() if number else None

    def version(self) -> int:
        """A number that changes when another connection, of this process or of another, has written to the file."""
        with self._explained(), self._lock:
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Closes the connection. Every write that returned is in the file already."""
        with self._lock:
            self._db.close()


def explain_failure(error: Exception, path: str | Path) -> StoreFailed:
    """An error of SQLite or of the system about the file, as one of ours."""
    if isinstance(error, sqlite3.ProgrammingError):
        return StoreFailed("the replica is closed.", code="closed", remedy="Open it again.")
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if primary == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in _NO_ROOM or _is_full(path):
        return StoreFailed("there is no room for the file.", code="storage_full")
    match primary:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            detail = "another process keeps the file locked."
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            detail = "the file is damaged, or no replica."
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_CANTOPEN:
            detail = "the file cannot be opened, or not be written to."
        case _:
            detail = f"the file cannot be used ({getattr(error, 'sqlite_errorname', type(error).__name__)})."
    return StoreFailed(detail)


def _is_full(path: str | Path) -> bool:
    """Tries it: a full disk, a quota or a limit shows in many ways, as a journal that cannot be made, or mapped."""
    trial = f"{path}-room"
    try:
        with open(trial, "wb", buffering=0) as file:
            return file.write(bytes(_LITTLE)) < _LITTLE
    except OSError as error:
        return error.errno in _NO_ROOM
    finally:
        with suppress(OSError):
            os.unlink(trial)


def get_meta(db: sqlite3.Connection, key: str, default: Any = None) -> Any:
    """A value of `meta`: clock, cursor, acknowledged, roles, client, app, user, round, restarting, trouble, and whether
    something is to leave the file."""
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return default if row is None else row[0]


def set_meta(db: sqlite3.Connection, key: str, value: Any) -> None:
    """Keeps a value of `meta`."""
    db.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value", (key, value))


def claim_meta(db: sqlite3.Connection, key: str, value: str, what: str) -> None:
    """Keeps a value that never changes in a file. Raises WrongReplica when it was another."""
    held = get_meta(db, key)
    if held is None:
        set_meta(db, key, value)
    elif held != value:
        raise WrongReplica(f"the file belongs to {what} {held!r}, not {value!r}.")
