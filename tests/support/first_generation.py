"""A log of the first generation, as its server kept it: the table `sync_changes`, in a real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from tests.support.wire import unique

COLUMNS = (
    "app_id", "table_name", "record_id", "user_id", "space_id", "op", "data", "times", "client_id", "created_at",
    "schema_version", "actor", "origin",
)  # fmt: skip


class Log:
    """A table of its own. `times`: the column that has the fields' times."""

    def __init__(self, connection: Any, name: str, times: str) -> None:
        self.connection, self.name, self.times = connection, name, times

    async def add(self, record: str, op: str = "update", data: Any = None, **columns: Any) -> int:
        """A row; its id. `times` as JSON, or text that is written as it is."""
        row = {"app_id": "app", "table_name": "t", "record_id": record, "user_id": "ada", "space_id": None, "op": op,
               "data": data, "times": None, "client_id": "phone", "created_at": "2026-01-01T00:00:00Z",
               "schema_version": 1, "actor": None, "origin": None, **columns}  # fmt: skip
        for name in ("data", "times", "actor"):
            if row[name] is not None and not isinstance(row[name], str):
                row[name] = json.dumps(row[name])
        names = ", ".join(name if name != "times" else self.times for name in COLUMNS)
        query = f"""INSERT INTO {self.name} ({names}) VALUES ($1, $2, $3, $4, $5, $6, $7::text::json, $8::text::json,
                    $9, $10::text::timestamptz, $11, $12::text::json, $13) RETURNING id"""
        return int(await self.connection.fetchval(query, *(row[name] for name in COLUMNS)))


@asynccontextmanager
async def first_generation(dsn: str, times: str = "field_meta") -> AsyncIterator[Log]:
    """An empty log beside the server's own tables, until the block ends."""
    connection = await asyncpg.connect(dsn)
    name = f'public."{unique("sync_changes")}"'
    await connection.execute(f"""
        CREATE TABLE {name} (id bigserial PRIMARY KEY, app_id text NOT NULL, table_name text NOT NULL,
            record_id text NOT NULL, user_id text, space_id text, op text NOT NULL, data json, {times} json,
            client_id text, created_at timestamptz DEFAULT now(), schema_version integer, actor json, origin text)""")
    try:
        yield Log(connection, name, times)
    finally:
        await connection.execute(f"DROP TABLE {name}")
        await connection.close()
