"""Digests of records' stamps, by which a replica and the server compare what they hold. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256

from .clock import format_instant

Stamps = Iterable[tuple[str, int, str]]


class Sum:
    """The digest of a set of records, with their number."""

    __slots__ = ("digest", "records")

    def __init__(self, records: int = 0, digest: int = 0) -> None:
        self.records, self.digest = records, digest

    def add(self, digest: int) -> None:
        """Takes one record's digest in."""
        self.records += 1
        self.digest ^= digest

    def is_(self, records: int, digest: str) -> bool:
        """Whether it is what the server says."""
        return self.records == records and f"{self.digest:016x}" == digest


Sums = dict[int, Sum]  # by bucket


def bucket_of(table: str, record: str) -> int:
    """In which of the 256 parts of its space a record is compared."""
    return sha256(f"{table}\n{record}".encode()).digest()[0]


def digest_of(table: str, record: str, stamps: Stamps) -> int:
    """A record's digest, from (field, at in microseconds, client) of its registers, in any order."""
    lines = [table, record]
    for name, at, client in sorted(stamps):  # by code points, which is the order of the UTF-8 bytes
        lines += (name, _instant(at), client)
    return int.from_bytes(sha256("\n".join(lines).encode()).digest()[:8], "big")


@lru_cache(maxsize=1024)
def _instant(at: int) -> str:
    return format_instant(at)
