"""Compaction in the database: one small transaction at a time, each of which first says that its holder is there.

All of it is done as the role `syncd_compactor`, which may do just this, whoever has logged in: what somebody managed to
put into the database is then called with no more power than that. The role that serves has none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import asyncpg
import msgspec

from syncd.postgres.statements import statement

LEASE = "compaction"
# A part takes some tenths of a second. A run that is not heard of for so long is gone, frozen or cut off.
STALE = timedelta(seconds=30)
ROLE = "syncd_compactor"
COUNTED_AT_ONCE = 20_000
# The database ends a transaction of a holder that was frozen in it, so that nobody waits for what it has locked.
SESSION = (
    "SET idle_in_transaction_session_timeout = '15s'; SET lock_timeout = '10s'; SET application_name = 'syncd compact';"
)


class NotAllowed(Exception):
    """The login may not act as the role that compacts, or there is none yet."""


class LeaseLost(Exception):
    """Somebody else compacts by now: this holder was not heard of for too long."""


class Stretch(NamedTuple):
    """What is to be done of a feed: from after seq `done` to seq `upto`."""

    space: int
    app: int
    done: int
    upto: int


class Part(NamedTuple):
    """What one transaction did. `upto`: how far; `changes` left the log; `tombstones` were stripped, or went.

    `looked`: changes that were gone through; `lines`: the changes that left, separated by U+001E, where asked for.
    """

    upto: int
    looked: int
    changes: int
    tombstones: int
    lines: str | None


class UsedNames(NamedTuple):
    """The names that a part of the log or the state has; where it ends (space, app, seq), empty at the very end."""

    upto: list[int]
    used: list[int] | None


class Lease(NamedTuple):
    """When the work was last finished, and when its holder was last heard of."""

    done_at: datetime | None
    beat_at: datetime


class Sizes(NamedTuple):
    """Bytes of the log and of the state, with their indexes."""

    log: int
    state: int


class Compactor:
    """One holder of the lease, with a connection of its own."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._holder: UUID = uuid4()
        self._prepared: dict[str, Any] = {}

    async def take(self) -> bool:
        """Takes the lease, if nobody else is at work. Raises NotAllowed."""
        await act_as_compactor(self._connection)
        await self._connection.execute(SESSION)
        return bool(await self._connection.fetchval(statement("lease_take"), LEASE, self._holder, STALE))

    async def give_back(self) -> None:
        """The end of the work."""
        await self._connection.execute(statement("lease_done"), LEASE, self._holder)

    async def foldable(self, space: str | None, before: datetime) -> list[Stretch]:
        """What was written before an instant and is not folded yet, feed by feed."""
        return [Stretch(*row) for row in await self._connection.fetch(statement("foldable"), space, before)]

    async def forgettable(self, space: str | None, before: datetime) -> list[Stretch]:
        """Where tombstones from before an instant were not looked for yet, feed by feed."""
        return [Stretch(*row) for row in await self._connection.fetch(statement("forgettable"), space, before)]

    async def raise_horizon(self, feed: Stretch) -> None:
        """From now on who is behind the end of the stretch gets the state. What there is is counted before any of it
        goes. Raises LeaseLost."""
        while (await self._in_turn("usage_count", feed.space, feed.app, COUNTED_AT_ONCE))[0]:
            pass
        await self._in_turn("raise_horizon", feed.space, feed.app, feed.upto)

    async def fold(self, feed: Stretch, rows: int, archive: Any) -> Part:
        """The next part of a stretch. `archive` is given the lines before they are committed. Raises LeaseLost."""
        row = await self._in_turn("fold", feed.space, feed.app, feed.upto, rows, archive is not None, archive=archive)
        return Part(*row)

    async def forget(self, feed: Stretch, tombstones: int, archive: Any) -> Part:
        """The next tombstones of a stretch. Raises LeaseLost."""
        values = (feed.space, feed.app, feed.upto, tombstones, archive is not None)
        row = await self._in_turn("forget", *values, archive=archive)
        return Part(*row)

    async def collect_cursors(self, before: datetime, most: int) -> int:
        """Takes away some of the kept cursors that were not used since an instant: how many. Raises LeaseLost."""
        return int((await self._in_turn("cursors_collect", before, most))[0])

    async def collect_devices(self, before: datetime, most: int) -> int:
        """Forgets some of the devices that did not push since an instant: how many. Raises LeaseLost."""
        return int((await self._in_turn("devices_collect", before, most))[0])

    async def names_idle(self, most: int) -> list[int]:
        """Names, by number, to which nothing refers but perhaps the log and the state."""
        return list(await self._connection.fetchval(statement("names_idle"), most))

    async def names_used(self, state: bool, after: list[int], rows: int) -> UsedNames:
        """The names in the next rows of the log, or of the state."""
        return UsedNames(*await self._connection.fetchrow(statement("names_used"), state, after, rows))

    async def names_leave(self, names: list[int], leaving: bool) -> None:
        """Marks names as about to be removed, or takes that back. Raises LeaseLost."""
        await self._in_turn("names_leave", names, leaving)

    async def names_readers(self, readers: list[str] | None = None) -> list[str]:
        """The transactions that may have found a name before it was marked; of `readers` those that are still there."""
        return list(await self._connection.fetchval(statement("names_readers"), readers))

    async def names_remove(self, names: list[int]) -> int:
        """Removes names that are still marked; how many. Raises LeaseLost."""
        return int((await self._in_turn("names_remove", names))[0])

    async def note(self, space: int, detail: Mapping[str, int]) -> None:
        """Says in the audit of a space what was done there. Raises LeaseLost."""
        await self._in_turn("audit_folded", space, msgspec.json.encode(detail).decode())

    async def prune_audit(self, before: datetime) -> None:
        """Removes what the audit has from before an instant. Raises LeaseLost."""
        while (await self._in_turn("audit_prune", before))[0]:
            pass

    async def sizes(self) -> Sizes:
        """How large the database is."""
        return Sizes(*await self._connection.fetchrow(statement("log_size")))

    async def vacuum(self) -> None:
        """Makes what was freed usable again now, where the login may. It holds up nobody."""
        await self._connection.execute("RESET ROLE")
        for table in ("sync_changes", "sync_records", "sync_feeds"):
            await self._connection.execute(f"VACUUM (ANALYZE, INDEX_CLEANUP ON) syncd.{table}")

    async def _in_turn(self, name: str, *values: Any, archive: Any = None) -> Any:
        try:
            beat, part = await self._statement("lease_beat"), await self._statement(name)
            async with self._connection.transaction():
                await beat.fetch(LEASE, self._holder)
                row = await part.fetchrow(*values)
                if archive is not None and row[-1]:
                    archive(row[-1])
                return row
        except asyncpg.PostgresError as why:
            if why.sqlstate in ("SY020", "25P03"):
                raise LeaseLost from None
            raise

    async def _statement(self, name: str) -> Any:
        """Prepared before the transaction begins: who is frozen between a statement's text and its values is not
        idle to the database, which would wait for it for ever."""
        if name not in self._prepared:
            self._prepared[name] = await self._connection.prepare(statement(name))
        return self._prepared[name]


async def act_as_compactor(connection: Any) -> None:
    """For the rest of the session. Raises NotAllowed."""
    try:
        await connection.execute(f"SET ROLE {ROLE}")
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError):
        raise NotAllowed from None


async def last_done(connection: Any) -> datetime | None:
    """When a compaction was last finished, by anybody."""
    row = await connection.fetchrow(statement("lease_state"), LEASE)
    return None if row is None else Lease(*row).done_at
