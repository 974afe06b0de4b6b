"""The JSON Schemas that a worker judges by: read when it starts, and again whenever they have changed."""

from __future__ import annotations

import asyncio

import msgspec
import structlog

from syncd.core.errors import Busy
from syncd.core.failures import log_failure
from syncd.protocol.import_lines import ImportLine
from syncd.service.schema_faults import told
from syncd.service.schema_limits import SchemaRefused
from syncd.service.table_schema import TableSchema, ValidatorMissing
from syncd.store.schemas import SchemaInForce, SchemaReads

log = structlog.get_logger("syncd.rules")

# Seconds between two looks at whether schemas have changed.
EVERY = 1.0
UNREAD = "A table's JSON Schema cannot be read by this server. Nothing was written. Try again."
Table = tuple[str, str]


class CurrentSchemas:
    """`current`: by app and table, each made ready. `unread`: why those cannot be judged by that are in force and not
    among them; nothing is written to their tables meanwhile."""

    def __init__(self, reads: SchemaReads) -> None:
        self._reads = reads
        self._mark = ""
        self._bodies: dict[Table, str] = {}
        self.current: dict[Table, TableSchema] = {}
        self.unread: dict[Table, str] = {}

    async def load(self) -> None:
        """Reads them where they have changed. Raises Busy, DatabaseUnavailable."""
        mark = await self._reads.mark()
        if mark != self._mark:
            # What changes while they are read has another mark, and is read the next time.
            rows = await self._reads.in_force()
            self._bodies, self.current, self.unread = await asyncio.to_thread(self._made_ready, rows)
            self._mark = mark

    async def follow(self) -> None:
        """Waits, and reads them where they have changed. Raises Busy, DatabaseUnavailable."""
        await asyncio.sleep(EVERY)
        await self.load()

    def fault_in_import(self, change: ImportLine) -> str | None:
        """What is wrong with the fields of a change that a user imports, each by itself: it need not be the newest, nor
        what came before it be there. Raises Busy, as a push does."""
        table = change.line.appId, change.line.table
        if table in self.unread:
            raise Busy(UNREAD)
        schema = self.current.get(table)
        if schema is None:
            return None
        fields = {
            name: msgspec.json.decode(register.value) for name, register in change.row.f.items() if name != "deletedAt"
        }
        faults = schema.faults_of_fields(fields)
        return told(faults) if faults else None

    def reasons(self) -> list[str]:
        """Why this worker is not ready."""
        return [f"the JSON Schema of {app}/{table} cannot be read: {why}" for (app, table), why in self.unread.items()]

    def _made_ready(
        self, rows: list[SchemaInForce]
    ) -> tuple[dict[Table, str], dict[Table, TableSchema], dict[Table, str]]:
        """Their texts, those that can be judged by, and why others cannot."""
        bodies = {(row.app, row.table_name): row.body for row in rows}
        current, unread = dict[Table, TableSchema](), dict[Table, str]()
        for table, body in bodies.items():
            if self._bodies.get(table) == body and table in self.current:
                current[table] = self.current[table]
                continue
            try:
                current[table] = TableSchema(msgspec.json.decode(body))
            except (SchemaRefused, ValidatorMissing, msgspec.DecodeError) as why:
                unread[table] = str(why)
                log.error("a JSON Schema cannot be read", app=table[0], table=table[1], why=str(why))
            except Exception as why:  # of a library of another version: nothing is written to the table unjudged
                unread[table] = type(why).__name__
                log_failure(log, "a JSON Schema cannot be read", why, app=table[0], table=table[1])
        return bodies, current, unread
