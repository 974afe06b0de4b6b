"""The digests of records and of sets are those of the vectors."""

from __future__ import annotations

from typing import Any

import pytest
from syncd_client.data.clock import parse_instant
from syncd_client.data.digest import Sum, bucket_of, digest_of

from tests.support.vectors import vectors

VECTORS = vectors("digest")


def digest_of_wire(table: str, record: str, registers: dict[str, Any]) -> str:
    stamps = [(name, parse_instant(r["at"]), r["clientId"]) for name, r in registers.items()]
    return f"{digest_of(table, record, stamps):016x}"


@pytest.mark.parametrize("record", VECTORS["records"], ids=lambda record: record["name"])
def test_a_record_has_the_digest_and_the_bucket_of_the_vectors(record: dict[str, Any]) -> None:
    found = digest_of_wire(record["table"], record["id"], record["registers"])
    assert (found, bucket_of(record["table"], record["id"])) == (record["digest"], record["bucket"])


def generated(count: int) -> list[dict[str, Any]]:
    """The records of the vectors that are too many to be written down."""
    stamps = [f"2026-01-01T00:00:{k % 60:02}.{k:06}Z" for k in range(count)]
    registers = [{"n": {"value": k, "at": at, "clientId": "phone"}} for k, at in enumerate(stamps)]
    return [{"table": "tasks", "id": f"t{k}", "registers": one} for k, one in enumerate(registers)]


@pytest.mark.parametrize("members", VECTORS["sets"], ids=lambda members: members["name"][:40])
def test_a_set_has_the_digest_and_the_buckets_of_the_vectors(members: dict[str, Any]) -> None:
    records = members.get("members") if "members" in members else generated(members["generated"])
    whole, buckets = Sum(), dict[int, Sum]()
    for record in records or []:
        if record["registers"].get("deletedAt", {"value": None})["value"] is None:
            digest = int(digest_of_wire(record["table"], record["id"], record["registers"]), 16)
            whole.add(digest)
            buckets.setdefault(bucket_of(record["table"], record["id"]), Sum()).add(digest)
    found = [[bucket, one.records, f"{one.digest:016x}"] for bucket, one in sorted(buckets.items())]
    assert whole.is_(members["records"], members["digest"])
    assert found == members["buckets"] if "buckets" in members else found[0] == members["firstBucket"]
    assert len(found) == members.get("bucketCount", len(found))


@pytest.mark.parametrize(("records", "digest", "same"), [
    (2, "000000000000000c", True), (3, "000000000000000c", False), (2, "000000000000000d", False), (2, "c", False),
])  # fmt: skip
def test_a_set_is_another_s_where_number_and_digest_are(records: int, digest: str, same: bool) -> None:
    found = Sum()
    found.add(10)
    found.add(6)
    assert found.is_(records, digest) == same
