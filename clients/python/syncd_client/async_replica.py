"""The same replica for asyncio: every method of Replica, awaited."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from .batch import Batch
from .condition import Where
from .data.conflict import Conflict
from .data.events import Changes, Event, JoinedSpace, LiveState, Verified
from .data.merge import Registers
from .data.record import Record
from .in_space import AsyncInSpace
from .live.endpoint import LiveOptions, for_loop
from .live.live import AsyncLive, choose_handlers
from .query import QueryPlan
from .replica import Replica
from .status import Status
from .store.outbox import Queued
from .sync import transport
from .sync.http import AsyncHttpSender, SendRequestAsync
from .sync.report import Report
from .sync.retry import LivePolicy
from .sync.steps import Scope

log = logging.getLogger("syncd_client")


class AsyncReplica:
    """A Replica whose methods are coroutines. The file is touched in threads, so the loop never waits.

    Takes what Replica takes, but `send` is async, and `token` and `on_conflict` may be
    async callables. Use it as `async with AsyncReplica(…) as replica:`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        app: str,
        send: SendRequestAsync | None = None,
        on_conflict: Callable[[Conflict], object] | Callable[[Conflict], Awaitable[object]] | None = None,
        **options: Any,
    ) -> None:
        self.local = Replica(path, app=app, **options)
        self.app = self.local.app
        self._own, self._on_conflict = AsyncHttpSender(), on_conflict
        self._send: SendRequestAsync = send or self._own

    @property
    def client_id(self) -> str:
        """See Replica.client_id."""
        return self.local.client_id

    @property
    def copied_from(self) -> str | None:
        """See Replica.copied_from."""
        return self.local.copied_from

    async def put(self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None) -> str:
        """See Replica.put."""
        batch = self.local.new_batch()  # which copies the fields before anybody else has a turn
        batch.put(table, id, fields, space=space)
        return (await asyncio.to_thread(self.local.commit, batch))[0]

    async def patch(
        self, table: str, id: str, fields: Mapping[str, Any], *, space: str | None = None, upsert: bool = False
    ) -> str:
        """See Replica.patch."""
        batch = self.local.new_batch()
        batch.patch(table, id, fields, space=space, upsert=upsert)
        return (await asyncio.to_thread(self.local.commit, batch))[0]

    async def update(
        self, table: str, id: str, change: Callable[[Record], Mapping[str, Any]], *, space: str | None = None
    ) -> str:
        """See Replica.update; `change` is called in another thread."""
        return await asyncio.to_thread(self.local.update, table, id, change, space=space)

    def in_(self, space: str | None) -> AsyncInSpace:
        """See Replica.in_; not a coroutine, the methods of what it returns are."""
        return AsyncInSpace(self, self.local.in_(space).space)

    async def delete(self, table: str, id: str, *, space: str | None = None, upsert: bool = False) -> str:
        """See Replica.delete."""
        return await asyncio.to_thread(self.local.delete, table, id, space=space, upsert=upsert)

    async def undelete(self, table: str, id: str, *, space: str | None = None, upsert: bool = False) -> str:
        """See Replica.undelete."""
        return await asyncio.to_thread(self.local.undelete, table, id, space=space, upsert=upsert)

    @asynccontextmanager
    async def batch(self) -> AsyncIterator[Batch]:
        """See Replica.batch; the batch's own methods are not awaited."""
        batch = self.local.new_batch()
        yield batch
        batch.change_ids = await asyncio.to_thread(self.local.commit, batch)

    async def undo(self) -> list[str]:
        """See Replica.undo."""
        return await asyncio.to_thread(self.local.undo)

    async def get(self, table: str, id: str, *, space: str | None = None, deleted: bool = False) -> Record | None:
        """See Replica.get."""
        return await asyncio.to_thread(self.local.get, table, id, space=space, deleted=deleted)

    async def query(
        self,
        table: str,
        where: Where = (),
        *,
        order: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        after: Record | None = None,
        space: str | None = None,
        deleted: bool = False,
    ) -> list[Record]:
        """See Replica.query."""
        return await asyncio.to_thread(
            self.local.query,
            table,
            deepcopy(where),
            order=order,
            limit=limit,
            offset=offset,
            after=after,
            space=space,
            deleted=deleted,
        )

    async def search(self, table: str, text: str, *, space: str | None = None, limit: int | None = 50) -> list[Record]:
        """See Replica.search."""
        return await asyncio.to_thread(self.local.search, table, text, space=space, limit=limit)

    async def explain(
        self,
        table: str,
        where: Where = (),
        *,
        order: str | Sequence[str] = (),
        space: str | None = None,
        deleted: bool = False,
    ) -> QueryPlan:
        """See Replica.explain."""
        more: dict[str, Any] = {"order": order, "space": space, "deleted": deleted}
        return await asyncio.to_thread(self.local.explain, table, deepcopy(where), **more)

    async def registers(self, table: str, id: str, *, space: str | None = None) -> Registers:
        """See Replica.registers."""
        return await asyncio.to_thread(self.local.registers, table, id, space=space)

    async def all_registers(self) -> dict[tuple[str | None, str, str], Registers]:
        """See Replica.all_registers."""
        return await asyncio.to_thread(self.local.all_registers)

    async def spaces(self) -> list[JoinedSpace]:
        """See Replica.spaces."""
        return await asyncio.to_thread(self.local.spaces)

    async def pending(self) -> list[Queued]:
        """See Replica.pending."""
        return await asyncio.to_thread(self.local.pending)

    async def rejected(self) -> list[Queued]:
        """See Replica.rejected."""
        return await asyncio.to_thread(self.local.rejected)

    async def kept_aside(self) -> list[Queued]:
        """See Replica.kept_aside."""
        return await asyncio.to_thread(self.local.kept_aside)

    async def fix(self, change_id: str, fields: Mapping[str, Any]) -> str:
        """See Replica.fix."""
        return await asyncio.to_thread(self.local.fix, change_id, deepcopy(fields))

    async def requeue(self, change_id: str) -> str:
        """See Replica.requeue."""
        return await asyncio.to_thread(self.local.requeue, change_id)

    async def move(self, change_id: str, space: str | None) -> str:
        """See Replica.move."""
        return await asyncio.to_thread(self.local.move, change_id, space)

    async def drop(self, change_id: str, *, alone: bool = False) -> None:
        """See Replica.drop."""
        await asyncio.to_thread(self.local.drop, change_id, alone=alone)

    async def conflicts(self) -> list[Conflict]:
        """See Replica.conflicts."""
        return await asyncio.to_thread(self.local.conflicts)

    async def clear_conflicts(self, *dismissed: Conflict) -> None:
        """See Replica.clear_conflicts."""
        await asyncio.to_thread(self.local.clear_conflicts, *dismissed)

    async def why(self, table: str, id: str, *, space: str | None = None) -> Status:
        """See Replica.why."""
        return await asyncio.to_thread(self.local.why, table, id, space=space)

    @property
    def user(self) -> str | None:
        """See Replica.user."""
        return self.local.user

    def new_id(self) -> str:
        """See Replica.new_id; not a coroutine."""
        return self.local.new_id()

    async def sync(self, *, patience: float = 30.0, timeout: float | None = None) -> Report:  # noqa: ASYNC109
        """See Replica.sync."""
        return await self._run("both", patience, timeout)

    async def push(self, *, patience: float = 30.0, timeout: float | None = None) -> Report:  # noqa: ASYNC109
        """See Replica.push."""
        return await self._run("push", patience, timeout)

    async def pull(self, *, patience: float = 30.0, timeout: float | None = None) -> Report:  # noqa: ASYNC109
        """See Replica.pull."""
        return await self._run("pull", patience, timeout)

    async def verify(self, *, everything: bool = False, patience: float = 30.0) -> Verified:
        """See Replica.verify."""
        return (await self._run("renew" if everything else "verify", patience)).verified or Verified()

    async def _run(self, scope: Scope, patience: float, limit: float | None = None) -> Report:
        url, tokens = self.local.server.url_and_tokens()
        async with transport.taken_async(self.local.lease, patience if limit is None else min(patience, limit)):
            session = await asyncio.to_thread(self.local.session, scope)
            session.limit(limit)
            await transport.perform_async(session, self._send, url, tokens.ask_async, self._notify_in_time)
            return session.report

    def live(
        self,
        *,
        on_change: Callable[[Changes], object] | None = None,
        on_state: Callable[[LiveState], object] | None = None,
        on_event: Callable[[Event], object] | None = None,
        policy: LivePolicy | None = None,
        socket: Mapping[str, Any] | None = None,
    ) -> AsyncLive:
        """See Replica.live. Begins with `async with replica.live() as live:`; callbacks may be async.

        `live.events()` and `live.changes()` are async iterators of what happens.
        """
        options = LiveOptions(policy or LivePolicy(), socket or {})
        handlers = choose_handlers(on_change, on_state, on_event, self._notify)

        return AsyncLive(
            lambda hub: for_loop(self.local, self._send, options, hub),
            self.local.lease,
            self.local.bulletin,
            handlers,
        )

    async def _notify(self, conflict: Conflict) -> None:
        if self._on_conflict is not None:
            answer = self._on_conflict(conflict)
            if inspect.isawaitable(answer):
                await answer

    async def _notify_in_time(self, conflict: Conflict) -> None:
        """Inside a sync, where a callback that fails or never returns must not keep the file."""
        try:
            async with asyncio.timeout(self.local.callback_timeout):
                await self._notify(conflict)
        except Exception:
            log.exception("a callback failed")

    async def sign_out(self, *, wipe: bool = False) -> list[Queued]:
        """See Replica.sign_out."""
        await self._end()
        return await asyncio.to_thread(self.local.sign_out, wipe=wipe)

    @staticmethod
    async def destroy(path: str | Path) -> None:
        """See Replica.destroy."""
        await asyncio.to_thread(Replica.destroy, path)

    async def _end(self) -> None:
        if isinstance(self.local.bulletin.listener, AsyncLive):
            await self.local.bulletin.listener.close()
        await self._own.close()

    async def close(self) -> None:
        """Ends a live sync, and closes the connections and the file."""
        await self._end()
        await asyncio.to_thread(self.local.close)

    async def __aenter__(self) -> AsyncReplica:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
