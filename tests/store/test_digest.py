"""The digest in SQL is that of the vectors, and what is kept incrementally is what is computed from scratch."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from syncd.store.embedded import EmbeddedPostgres

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "digest.json").read_text())


@pytest.fixture
async def owner(database: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection[Any]]:
    """The database as its superuser, who is not bound by row security."""
    connection = await asyncpg.connect(database.owner_dsn)
    yield connection
    await connection.close()


@pytest.mark.parametrize("record", VECTORS["records"], ids=lambda record: record["name"])
async def test_a_record_has_the_digest_and_the_bucket_of_the_vectors(owner: Any, record: dict[str, Any]) -> None:
    query = (
        """SELECT syncd.sync_digest_text(syncd.sync_digest_of($1, $2, $3::jsonb)), syncd.sync_digest_bucket($1, $2)"""
    )
    found = await owner.fetchrow(query, record["table"], record["id"], json.dumps(record["registers"]))
    assert tuple(found) == (record["digest"], record["bucket"])
