"""The application's face: a database in one SQLite file that syncs when it can."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .batch import Batch, beside
from .data.change import Key, Write, check_id, name_space
from .data.conflict import Conflict
from .data.events import Changes, Event, LiveState, Verified
from .data.record import Record
from .data.undo import Image
from .data.values import take
from .errors import NoSuchRecord
from .in_space import InSpace
from .live.endpoint import LiveOptions, for_thread
from .live.hub import Bulletin
from .live.live import Live, choose_handlers
from .reading import Reading
from .status import Status, explain
from .store import conflicts, outbox, records, requeue
from .store.declared import Indexes, Search, declare
from .store.enqueue import Plan, enqueue, way_back
from .store.identity import Identity, check_owner
from .store.ids import new_id, read_wall_clock
from .store.lease import Lease, destroy_files
from .store.outbox import Queued
from .store.store import Durability, Store
from .sync import callbacks, transport, verification
from .sync.http import SendRequest
from .sync.partial import All, choose
from .sync.report import Limits, Report
from .sync.retry import LivePolicy, RetryPolicy
from .sync.server import Server
from .sync.session import Device, Session
from .sync.steps import Scope
from .sync.tokens import Token, TokenSource, subject


class Replica(Reading):
    """One device's copy of an app's data, in the SQLite file `path`.

    Every write is durable, visible and queued when the method returns; `sync()` exchanges it with the
    server. A replica may be shared by threads, and a file by processes. Without `url` it works offline.

    `app`: the app's name on the server. `token`: a JWT, or a callable that returns one and is asked again after a 401;
    None where the user has to sign in. `user`: whose file it is; known from the token where that is text. `client_id`:
    this device's id, made up and kept in the file by default; one that is given must be no other file's, of whatever
    user: two that write one field at once could end apart, and nothing would tell. `schema_version`, `actor`, `origin`:
    sent with every change. `durability`: "full" survives a power cut, "normal" the process's death only. `on_conflict`
    is called for each `Conflict`. It and `token` are called in threads of their own and have `callback_timeout` seconds
    to return. `send`: how requests go, where your application has a way of its own (see `SendRequest`). `wall`:
    microseconds since 1970. `verify_every`: how many seconds apart a sync that found nothing new verifies the replica
    by itself (see `verify`); None: never. `indexes`: the fields by which records of a table are found and sorted
    without looking through all of it, `{"tasks": ["owner", ("done", "due")]}`. `search`: the fields whose words
    `search` finds, the weightiest first, `{"tasks": ["title", "notes"]}`. Of both, those not named any more are
    removed, and None leaves them as they are. `spaces` (None in it: the personal one) and `tables`: what is kept here,
    "all" at first; None leaves what was chosen. What is not chosen any more goes at once, but for what is unsent.

    A file that was copied, say with a phone's backup, is another device: it gets a client id of its own (`copied_from`
    has the one before) and keeps what it has not sent, when it is opened at another place, or when the server has had
    a push of the other copy.

    Raises WrongReplica when the file is another app's, device's or user's; InvalidQuery for what cannot be declared.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        app: str,
        url: str | None = None,
        token: Token | None = None,
        user: str | None = None,
        client_id: str | None = None,
        schema_version: int | None = None,
        actor: Any = None,
        origin: str | None = None,
        durability: Durability = "full",
        limits: Limits | None = None,
        retry: RetryPolicy | None = None,
        on_conflict: transport.Notify | None = None,
        send: SendRequest | None = None,
        wall: Callable[[], int] = read_wall_clock,
        verify_every: float | None = verification.EVERY,
        callback_timeout: float = 30.0,
        indexes: Indexes | None = None,
        search: Search | None = None,
        spaces: Sequence[str | None] | All | None = None,
        tables: Sequence[str] | All | None = None,
    ) -> None:
        self.path, self.app, self.schema_version, self.wall = path, check_id("the app", app), schema_version, wall
        self.limits, self.retry, self._on_conflict = limits or Limits(), retry or RetryPolicy(), on_conflict
        self.paces, self.callback_timeout, self.verify_every = self.limits.paces(), callback_timeout, verify_every
        self._extra = beside(schemaVersion=schema_version, actor=take(actor, "actor"), origin=origin)
        users = check_owner(client_id, (user, subject(token.strip()) if isinstance(token, str) else None))
        self.store, self.lease, self.bulletin, self._image = Store(path, durability), Lease(path), Bulletin(), Image()
        try:
            self.identity = Identity(self.store, app, client_id, wall, users)
            declare(self.store, indexes, search)
            choose(self.store, spaces, tables, self.identity.user)
        except BaseException:
            self.store.close()
            raise
        tokens = None if token is None else TokenSource(token, callback_timeout, self.identity.claim_user)
        self.server = Server(url, tokens, send)

    @property
    def client_id(self) -> str:
        """This device's id."""
        return self.identity.client_id

    @property
    def copied_from(self) -> str | None:
        """The id that the file had before it was found to be a copy; else None."""
        return self.identity.copied_from

    @property
    def user(self) -> str | None:
        """The user whose file it is; None before that is known."""
        return self.identity.user

    # -- writing -----------------------------------------------------------------------------------

    def put(self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None) -> str:
        """Writes a record: creates it, or brings it back if deleted. Fields not named stay.

        `space` None is the personal space. Returns the changeId. Raises InvalidWrite, naming the field, and, as every
        write does, NotReplicated, and NotAllowed (`not_a_writer`) in a space whose reader the user is known to be.
        """
        with self.batch() as batch:
            batch.put(table, id, fields, space=space)
        return batch.change_ids[0]

    def patch(
        self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None, upsert: bool = False
    ) -> str:
        """Writes some fields of a record. A deleted record stays deleted. Returns the changeId.

        Raises NoSuchRecord where there is none here, unless `upsert`; so do `delete` and `undelete`.
        """
        with self.batch() as batch:
            batch.patch(table, id, fields, space=space, upsert=upsert)
        return batch.change_ids[0]

    def update(
        self, table: str, id: str, change: Callable[[Record], Mapping[str, Any]], *, space: str | None = None
    ) -> str:
        """Patches a record with the fields that `change` makes of it, and no other write of this device comes between.

        Returns the changeId. Raises NoSuchRecord.
        """
        with self.batch() as batch:
            found = batch.get(table, id, space=space)
            if found is None:
                raise NoSuchRecord(f"there is no {table} {id!r} here.")
            batch.patch(table, id, change(found), space=space)
        return batch.change_ids[0]

    def in_(self, space: str | None) -> InSpace:
        """The records of one space (None: the personal one), so that none of its writes forgets to name it."""
        return InSpace(self, space if space is None else check_id("the space", space))

    def delete(self, table: str, id: str, *, space: str | None = None, upsert: bool = False) -> str:
        """Deletes a record; `undelete` brings it back as it was. Returns the changeId."""
        with self.batch() as batch:
            batch.delete(table, id, space=space, upsert=upsert)
        return batch.change_ids[0]

    def undelete(self, table: str, id: str, *, space: str | None = None, upsert: bool = False) -> str:
        """Brings a deleted record back. Returns the changeId."""
        with self.batch() as batch:
            batch.undelete(table, id, space=space, upsert=upsert)
        return batch.change_ids[0]

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Several writes as one: `with replica.batch() as b: b.put(…); b.delete(…)`.

        They are one transaction here and one push, never split, all or nothing on the server.
        Raises BatchTooLarge at the end of the block when they do not fit one push, and NoSuchRecord (see Batch).
        """
        with ExitStack() as stack:
            open_: list[sqlite3.Connection] = []

            def read(key: Key) -> Record | None:
                if not open_:
                    open_.append(stack.enter_context(self.store.write()))
                return records.find_record(open_[0], key, deleted=False)

            batch = Batch(self._extra, self.identity.user, read)
            yield batch
            if not open_:
                batch.change_ids = self.commit(batch)
                return
            image = Image()
            batch.change_ids = self._queue(open_[0], batch.writes, image)
        self._queued(batch.change_ids, batch.writes, image)

    def new_batch(self) -> Batch:
        """An empty batch, to be committed by hand."""
        return Batch(self._extra, self.identity.user)

    def commit(self, batch: Batch) -> list[str]:
        """Writes and queues what a batch collected. `batch()` calls it; returns the changeIds."""
        return self._commit(lambda db: batch.writes) if batch.writes else []

    def _commit(self, plan: Plan) -> list[str]:
        image = Image()
        with self.store.write() as db:
            writes = plan(db)
            change_ids = self._queue(db, writes, image)
        self._queued(change_ids, writes, image)
        return change_ids

    def _queue(self, db: sqlite3.Connection, writes: Sequence[Write], image: Image) -> list[str]:
        return enqueue(db, writes, self.wall(), self.limits.written, image)

    def _queued(self, change_ids: Sequence[str], writes: Sequence[Write], image: Image) -> None:
        if change_ids:
            self._image = image
            self.bulletin.committed([(write.table, write.space, write.record) for write in writes])

    def undo(self) -> list[str]:
        """Takes back the last write or batch since the replica was opened, as a new batch: twice is a redo.

        Works offline. What somebody else has written since stays. Returns the changeIds, none where nothing is left.
        """
        return self._commit(way_back(self._image, self._extra))

    def new_id(self) -> str:
        """A fresh record id (UUIDv7): unique everywhere, and kind to the server's indexes."""
        return new_id(self.wall())

    # -- the outbox --------------------------------------------------------------------------------

    def pending(self) -> list[Queued]:
        """The changes that wait to be sent, in the order written."""
        with self.store.read() as db:
            return outbox.listed(db, "pending")

    def rejected(self) -> list[Queued]:
        """The changes that the server refused, with its reason; visible in the records until fixed or dropped."""
        with self.store.read() as db:
            return outbox.listed(db, "rejected")

    def kept_aside(self) -> list[Queued]:
        """Unsent writes to spaces that were left. Each one's `change` is plain JSON, ready to export."""
        with self.store.read() as db:
            return outbox.listed(db, "aside")

    def fix(self, change_id: str, fields: Mapping[str, Any]) -> str:
        """Edits a refused change and queues it, and its batch, again, under a new changeId. Raises InvalidWrite too."""
        return self._requeue(change_id, fields, None)

    def requeue(self, change_id: str) -> str:
        """Queues a refused or set-aside change again as it is, with the rest of its batch."""
        return self._requeue(change_id, {}, None)

    def move(self, change_id: str, space: str | None) -> str:
        """Queues a refused or set-aside change again, for another space (None: the personal one)."""
        named = None if space is None else check_id("the space", space)
        return self._requeue(change_id, {}, name_space(named, self.identity.user), alone=True)

    def _requeue(self, change_id: str, fields: Mapping[str, Any], space: str | None, alone: bool = False) -> str:
        with self.store.write() as db:
            fresh, keys = requeue.requeue_stopped(db, change_id, self.wall(), fields, space, alone)
        self.bulletin.committed(keys)
        return fresh

    def drop(self, change_id: str, *, alone: bool = False) -> None:
        """Gives a refused or set-aside change up, and its batch unless `alone`: its record falls back to what the
        server has. Raises NoSuchChange."""
        with self.store.write() as db:
            keys = requeue.drop(db, change_id, alone)
        self.bulletin.committed(keys)

    def conflicts(self) -> list[Conflict]:
        """Values of this device and of others that stand against each other, oldest first, until `clear_conflicts`."""
        with self.store.read() as db:
            return conflicts.listed(db)

    def clear_conflicts(self, *dismissed: Conflict) -> None:
        """Forgets these conflicts, or all of them where none is named."""
        with self.store.write() as db:
            conflicts.clear(db, dismissed)
        self.bulletin.committed(())

    def why(self, table: str, id: str, *, space: str | None = None) -> Status:
        """Why a record is not synced, or that it is."""
        return explain(self.store, self._key(table, id, space))

    # -- syncing -----------------------------------------------------------------------------------

    def sync(self, *, patience: float = 30.0, timeout: float | None = None) -> Report:
        """Sends what is pending and fetches what is new, with retries. What others write meanwhile may be left.

        Waits up to `patience` seconds for another sync of the file, and has `timeout` seconds for the whole (None: as
        long as it goes on): then Offline `no_answer` is raised, and what was exchanged stays. A live sync of this
        replica steps aside for it. Raises Offline, ServerBusy, NotAllowed, Refused, BadReply, SyncBusy, StoreFailed,
        NotConnected; nothing is lost by any of them, and the next sync goes on.
        """
        return self._run("both", patience, timeout)

    def push(self, *, patience: float = 30.0, timeout: float | None = None) -> Report:
        """Only sends (each answer still brings some of what is new). Raises what `sync` raises."""
        return self._run("push", patience, timeout)

    def pull(self, *, patience: float = 30.0, timeout: float | None = None) -> Report:
        """Only fetches. Raises what `sync` raises."""
        return self._run("pull", patience, timeout)

    def verify(self, *, everything: bool = False, patience: float = 30.0) -> Verified:
        """Fetches what is new, compares this replica with the server, and repairs what differs.

        It compares the stamps of what the server has confirmed, and costs some hundred bytes where all is well.
        Unsent writes stay. It cannot see a value that was changed in the file beside its stamp: `everything`
        first fetches all records again. Raises what `sync` raises; Refused `not_found` when the server is too old.
        """
        return self._run("renew" if everything else "verify", patience).verified or Verified()

    def _run(self, scope: Scope, patience: float, timeout: float | None = None) -> Report:
        url, tokens = self.server.url_and_tokens()
        lost: list[Conflict] = []
        try:
            with transport.taken(self.lease, patience if timeout is None else min(patience, timeout)):
                session = self.session(scope)
                session.limit(timeout)
                transport.perform(session, self.server.send, url, tokens.ask, lost.append)
        finally:
            if self._on_conflict is not None:
                callbacks.deliver(self._on_conflict, lost, self.callback_timeout)
        return session.report

    def session(self, scope: Scope = "both", retry: RetryPolicy | None = None) -> Session:
        """A sync to be performed by the caller, who holds the lease. For other transports than HTTP."""
        device = Device(transport.app_path(self.app), self.identity, self.schema_version)
        policy, publish = retry or self.retry, self.bulletin.publish_answer
        every, paces = self.verify_every, self.paces
        return Session(self.store, device, self.limits, policy, self.wall, scope, publish, every, paces)

    # -- live --------------------------------------------------------------------------------------

    def live(
        self,
        *,
        on_change: Callable[[Changes], object] | None = None,
        on_state: Callable[[LiveState], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
        policy: LivePolicy | None = None,
        socket: Mapping[str, Any] | None = None,
    ) -> Live:
        """Keeps the replica current from now on, in the background, until the answer is closed.

        What others write is here at once, and what is written here is sent at once; see `LiveState` for where it
        stands. `on_change` is told which records read differently, `on_state` where it stands, `on_event` both and more
        (`Answered`, `Conflict`, `Presence`); they are called one after the other in a thread of their own. `socket`:
        passed on to `websockets.connect` (`ssl`, `proxy`, …).

        One process a file is live, the others follow. Raises NotConnected, and SyncBusy when this replica
        is live already.
        """
        self.server.url_and_tokens()
        options = LiveOptions(policy or LivePolicy(), socket or {})
        handlers = choose_handlers(on_change, on_state, on_event, self._on_conflict)
        return Live(lambda hub: for_thread(self, self.server.given, options, hub), self.lease, self.bulletin, handlers)

    def sign_out(self, *, wipe: bool = False) -> list[Queued]:
        """Closes the replica, as when its user signs out. Returns what was never sent: pending, refused and set aside.
        `wipe`: deletes the file as well. Raises SyncBusy while another process syncs it, StoreFailed."""
        with self.store.read() as db:
            unsent = [change for change in outbox.listed(db) if change.state != "acked"]
        self.close()
        if wipe:
            self.destroy(self.path)
        return unsent

    @staticmethod
    def destroy(path: str | Path) -> None:
        """Deletes a replica that is closed, or not there. Raises SyncBusy while a process syncs it, StoreFailed."""
        destroy_files(path)

    def close(self) -> None:
        """Ends a live sync and closes the file. Everything written is in it."""
        if isinstance(self.bulletin.listener, Live):
            self.bulletin.listener.close()
        self.server.close()
        self.store.close()

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
