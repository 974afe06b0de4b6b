"""What a device sends to have a part of its replica compared. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec

BUCKETS = 256

DigestText = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{16}$")]


class CompareBody(msgspec.Struct, frozen=True):
    """All live records that a device has of a bucket: (table, id, digest). `spaceId` None is the personal space."""

    since: str
    bucket: Annotated[int, msgspec.Meta(ge=0, lt=BUCKETS)]
    records: list[tuple[str, str, DigestText]]
    spaceId: str | None = None
    collections: list[str] | None = None
