"""What a device sends to have a part of its replica compared. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

BUCKETS = 256
# Of one bucket: a space in which an app has five million live records. What is sent is read, and compared, at once.
MAX_RECORDS, MAX_BODY = 20_000, 2 * 1024 * 1024

DigestText = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class CompareBody(msgspec.Struct, frozen=True):
    """All live records that a device has of a bucket: (table, id, digest). `spaceId` None is the personal space."""

    since: str
    bucket: Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]
    records: list[tuple[str, str, DigestText]]
    spaceId: str | None = None
    collections: list[str] | None = None
