"""`syncd import --from …`: rows of another store, checked, written, and compared."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import click

from syncd.cli.operator_database import BOUND, operator_database
from syncd.cli.options import progress
from syncd.cli.progress_bar import bar
from syncd.core.clock import format_instant, parse_instant
from syncd.core.errors import SyncdError
from syncd.postgres.sessions import OPERATOR, connect
from syncd.protocol.export_format import Space
from syncd.protocol.normalize import Limits
from syncd.settings import Settings
from syncd.store.backup import Backups, standing
from syncd.store.imports import Feeds
from syncd.store.pool import Pool
from syncd.transfer.foreign_changes import ImportChanges, ImportCounts, RefusedRow
from syncd.transfer.import_job import ImportJob, Writer, portions
from syncd.transfer.origin_comparison import Findings, verify
from syncd.transfer.sources.files import Csv, Ndjson, Sqlite
from syncd.transfer.sources.foreign import Source, UnreadableRow, instant
from syncd.transfer.sources.legacy_log import LegacyLog
from syncd.transfer.sources.tables import Columns
from syncd.transfer.space_members import SpaceMembers, read_members

# What was committed late has a created_at from before others that were read: increments begin this much earlier.
OVERLAP = 3_600_000_000
SHOWN = 20


class ImportRequest(NamedTuple):
    """What an operator asked for; `tables`: --table, `members`: authors, none, or a file."""

    kind: str
    source: str
    columns: Columns
    tables: tuple[str, ...]
    delimiter: str
    encoding: str
    members: str | None
    since: str | None
    state: Path | None
    refusals: Path | None
    dry_run: bool
    verify_only: bool
    strict: bool


class Told:
    """Refused rows and differences: the first are shown, a file gets every refusal."""

    def __init__(self, file: Any) -> None:
        self._file, self._told, self.refused, self.differences = file, 0, 0, 0

    def refuse(self, one: RefusedRow) -> None:
        """A row that cannot be imported."""
        held = one.kept is not None
        self.refused += not held
        self._told += 1
        if self._file is not None:
            said = {"where": one.where, "table": one.table, "code": one.code, "detail": one.detail, "held": held}
            self._file.write(json.dumps(said) + "\n")
        if self._told <= SHOWN:
            progress(f"{one.where}: {one.code}: {one.detail}{' Such a row is held.' if held else ''}")
        elif self._told == SHOWN + 1 and self._file is None:
            progress("more rows are refused than are shown: --refusals FILE keeps them all")

    def differ(self, sentence: str) -> None:
        """A row that the server does not hold as it was."""
        self.differences += 1
        if self.differences <= SHOWN:
            progress(f"different: {sentence}")


def bring(settings: Settings, request: ImportRequest, database_url: str | None) -> int:
    """Does it; the exit code. Raises ClickException with a sentence."""
    from syncd.cli.migrate import refusals

    try:
        if request.dry_run:
            return asyncio.run(Import(settings, request, None).run())
        with operator_database(settings, database_url, whole=True, create=not request.verify_only) as url:
            return asyncio.run(Import(settings, request, url).run())
    except (UnreadableRow, SyncdError) as why:
        raise click.ClickException(why.detail) from None
    except refusals() as why:
        raise click.ClickException(f"the import was cut short: {why}. Run it again to go on.") from None


def _unheard(one: RefusedRow) -> None:
    """For a row that is told of when it is read another time."""


class Import:
    """One run. `url`: the server's database, None for a dry run."""

    def __init__(self, settings: Settings, request: ImportRequest, url: str | None) -> None:
        self._request, self._url = request, url
        self._limits = Limits(max_change=settings.max_change, max_depth=settings.max_depth,
                              max_schema_version=settings.max_schema_version)  # fmt: skip
        self._latest = time.time_ns() // 1000 + int(settings.max_clock_skew * 1_000_000)
        self._most = settings.max_held, settings.max_held_bytes
        self._members = SpaceMembers()

    async def run(self) -> int:
        """Checks, writes, compares; the exit code."""
        request = self._request
        with _opened(request.refusals) as file:
            told = Told(file)
            async with self._origin() as origin:
                if request.dry_run:
                    counts, _ = await self._check(origin, told)
                    return self._conclude(counts, None, told)
                return await self._into(origin, told)

    async def _into(self, origin: Source, told: Told) -> int:
        assert self._url is not None
        pool = Pool(self._url, size=2)
        try:
            await _standing(self._url)
            feeds = Feeds(pool)
            if self._request.verify_only:
                counts, rows = await self._check(origin, told)
                writer = None
            else:
                counts, rows, writer = await self._write(origin, told, pool, feeds)
            passage = ImportJob(origin, self._arrivals(origin), ImportCounts(), _unheard)
            with bar("comparing", rows, "rows") as step:
                found = await verify(passage, feeds, writer.refused if writer else frozenset(), step, told.differ)
            return self._conclude(counts, found, told)
        finally:
            await pool.close()

    async def _write(self, origin: Source, told: Told, pool: Pool, feeds: Feeds) -> tuple[ImportCounts, int, Writer]:
        rows, newest = await self._survey(origin)
        backups = Backups(pool)
        if spaces := self._spaces():
            import msgspec

            source = await feeds.members_source()
            for member in (member for space in spaces for member in space.members):
                member.source = source
            made, _ = await backups.put_back(msgspec.json.encode(spaces).decode(), None, spaces[0].createdAt)
            progress(f"{made:,} shared spaces made, {len(spaces) - made:,} were there")
        counts = ImportCounts()
        passage = ImportJob(origin, self._arrivals(origin), counts, told.refuse)
        writer = Writer(backups, feeds, passage, self._most)
        with bar("importing", rows, "rows") as step:
            await writer.write(step, self._remember)
        if newest is not None:
            self._remember(newest)
        return counts, rows, writer

    async def _survey(self, origin: Source) -> tuple[int, str | None]:
        """How many rows there are, and who wrote in which space; a file is read for it."""
        if isinstance(origin, LegacyLog):
            extent = await origin.extent()
            for author in extent.authors:
                self._members.meet(*author)
            return extent.total, extent.newest
        if self._request.columns.space is None and self._request.columns.space_column is None:
            return await self._count(origin), None
        return (await self._check(origin, Told(None), quiet=True))[1], None

    async def _count(self, origin: Source) -> int:
        """How many rows there are, of which none is in a shared space: each is looked at when it is written."""
        rows = 0
        with bar("reading", None, "rows") as step:
            async for some in origin.rows():
                rows += len(some)
                step(len(some))
        return rows

    async def _check(self, origin: Source, told: Told, *, quiet: bool = False) -> tuple[ImportCounts, int]:
        """Reads everything and looks at every row."""
        counts, rows = ImportCounts(), 0
        tell = _unheard if quiet else told.refuse
        total = (await origin.extent()).total if isinstance(origin, LegacyLog) else None
        with bar("checking", total, "rows") as step:
            async for portion in portions(ImportJob(origin, self._arrivals(origin), counts, tell)):
                rows += portion.rows
                step(portion.rows)
                for arrival in portion.arrivals:
                    self._members.meet(arrival.line.spaceId, arrival.line.userId, arrival.line.createdAt)
        return counts, rows

    def _arrivals(self, origin: Source) -> ImportChanges:
        return ImportChanges(origin, self._limits, self._latest)

    def _spaces(self) -> list[Space]:
        members = self._request.members
        if not self._members.spaces:
            return []
        if members is None:
            raise UnreadableRow("no_members", (
                f"{len(self._members.spaces):,} shared spaces are in it, and nothing says who is in them: "
                "--members authors (who wrote there), --members none (tokens or a service say), or --members FILE.csv"
            ))  # fmt: skip
        if members == "authors":
            return self._members.by_authors()
        return self._members.by_nobody() if members == "none" else self._members.by_list(read_members(Path(members)))

    @asynccontextmanager
    async def _origin(self) -> AsyncIterator[Source]:
        request, path = self._request, Path(self._request.source)
        if request.kind == "mana":
            connection = await asyncpg.connect(request.source, timeout=10, statement_cache_size=0)
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    table = request.tables[0] if request.tables else "sync_changes"
                    yield await LegacyLog.begin(connection, table, self._since())
            finally:
                await connection.close()
            return
        table = request.tables[0] if request.tables else path.name.split(".")[0]
        if request.kind == "csv":
            yield Csv(path, request.columns, table, request.delimiter, request.encoding)
        elif request.kind == "ndjson":
            yield Ndjson(path, request.columns, table)
        else:
            yield Sqlite(path, request.columns, request.tables)

    def _since(self) -> str | None:
        if self._request.since is not None:
            return instant(self._request.since, "--since")
        if self._request.verify_only or self._request.state is None or not self._request.state.exists():
            return None
        try:
            upto = parse_instant(json.loads(self._request.state.read_text())["upto"])
        except (ValueError, KeyError, TypeError):
            raise UnreadableRow(
                "no_state", f"{self._request.state} is no state of an import: name another file"
            ) from None
        since = format_instant(max(upto - OVERLAP, 0))
        progress(f"going on from {since}")
        return since

    def _remember(self, upto: str) -> None:
        """Keeps how far it came, whole or not at all."""
        state = self._request.state
        if state is not None:
            part = state.with_name(f"{state.name}.part")
            part.write_text(json.dumps({"upto": upto}) + "\n")
            os.replace(part, state)

    def _conclude(self, counts: ImportCounts, found: Findings | None, told: Told) -> int:
        if found is not None:
            counts.held = counts.held - found.written + found.waiting
            counts.there += found.written
        report(counts, found)
        if found is not None and found.different:
            progress(f"{found.different.total():,} changes are not on the server as they are in the source.")
            return 1
        if told.refused and self._request.verify_only:
            progress(f"{told.refused:,} rows cannot be imported, so they are not on the server.")
        if told.refused and (self._request.strict or self._request.verify_only):
            return 1
        return 0


def report(counts: ImportCounts, found: Findings | None) -> None:
    """The counts by table, on standard error; a dry run's without what nobody wrote."""
    columns = {
        "rows": counts.rows,
        "held": counts.held,
        "refused": counts.refused,
        "lowered": counts.lowered,
        "changes": counts.changes,
    }
    if found is not None:
        columns |= {"imported": counts.imported, "there": counts.there, "same": found.same, "newer": found.newer,
                    "different": found.different}  # fmt: skip
    width = max([5, *(len(table) for table in counts.rows)])
    progress(" ".join([f"{'table':{width}}", *(f"{name:>10}" for name in columns)]))
    for table in sorted(counts.rows):
        progress(" ".join([f"{table:{width}}", *(f"{column[table]:>10,}" for column in columns.values())]))
    progress(" ".join([f"{'':{width}}", *(f"{column.total():>10,}" for column in columns.values())]))


def _opened(path: Path | None) -> Any:
    import contextlib

    return contextlib.nullcontext() if path is None else path.open("w", encoding="utf-8")


async def _standing(url: str) -> None:
    from syncd.postgres import migrate
    from syncd.postgres.schema_files import MigrationError

    connection = await connect(url, settings=OPERATOR, timeout=10, statement_cache_size=0)
    try:
        if waiting := await migrate.pending(connection):
            raise click.ClickException(f"the database lacks {', '.join(waiting)}: run `syncd migrate` first.")
        if not (await standing(connection)).whole:
            raise click.ClickException(BOUND)
    except MigrationError as error:
        raise click.ClickException(str(error)) from None
    finally:
        await connection.close()
