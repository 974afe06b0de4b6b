"""What a push wrote over without its writer having seen it: the database's part."""

from __future__ import annotations

import json
from typing import Any

import asyncpg
import msgspec
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from syncd.protocol.messages import IncomingChange
from syncd.protocol.normalize import Limits, Stamps, normalize_change
from tests.support.vectors import vectors

VECTORS = vectors("overwrites")["unseen"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
async def test_what_was_not_seen(database: EmbeddedPostgres, vector: Any) -> None:
    change = msgspec.json.decode(json.dumps({"table": "t", "id": "r", **vector["change"]}), type=IncomingChange)
    bases = vector.get("bases", False)
    row = json.loads(msgspec.json.encode(normalize_change(change, 1, "me", Stamps(), Limits(), bases=bases)))
    told, seen = [item["field"] for item in vector["overwrote"]], row.get("b")
    conn = await asyncpg.connect(database.owner_dsn)
    try:
        said = await conn.fetchval(
            "SELECT syncd.sync_unseen($1, $2, $3)", *map(json.dumps, (vector["held"], row["g"], seen))
        )
        assert json.loads(said or "[]") == vector["overwrote"]
        marked = await conn.fetchval(
            "SELECT syncd.sync_marked($1, $2, $3)", json.dumps(row["f"]), said, json.dumps(seen)
        )
        assert [name for name, register in json.loads(marked).items() if "base" in register] == [
            name for name in row["f"] if name in told
        ]
    finally:
        await conn.close()
