"""An archive of changes that leave the log: zstd-compressed lines of JSON, and beside them what the file must hold.

A file grows by whole zstd frames, each flushed to the disk before the changes in it leave the log, so whatever happens
nothing is in neither place. What was archived and then not dropped, because somebody pulled the plug in between, is
archived again: the same change has the same eventId. `zstd -dc FILE` or `zstdcat` reads it.
"""

from __future__ import annotations

import hashlib
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OPTIONS = {int(zstd.CompressionParameter.compression_level): 9, int(zstd.CompressionParameter.checksum_flag): 1}


class ArchiveError(Exception):
    """The archive cannot be written; the sentence says why. Nothing leaves the log."""


class LogArchive:
    """One run's archive in a folder. Made when the first lines come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: Any = None
        self._sum = hashlib.sha256()
        self.path: Path | None = None
        self.lines = self.bytes = 0

    def write(self, lines: str) -> None:
        """Keeps lines, separated by U+001E. Raises ArchiveError."""
        texts = lines.split("\x1e")
        frame = zstd.compress(("\n".join(texts) + "\n").encode(), options=OPTIONS)
        try:
            if self._file is None:
                self._open()
            self._file.write(frame)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._sum.update(frame)
            self.lines += len(texts)
            self.bytes += len(frame)
            self._note()
        except OSError as why:
            raise ArchiveError(f"the archive cannot be written: {why.strerror} ({self._folder})") from None

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        made = datetime.now(UTC)
        self.path = self._folder / f"syncd-log-{made:%Y%m%dT%H%M%S.%fZ}.ndjson.zst"
        self._file = self.path.open("xb")
        self._made = made.isoformat()

    def _note(self) -> None:
        """What the file holds so far: its first `bytes` bytes have this hash. Replaced whole."""
        assert self.path is not None
        said = {
            "formatVersion": 1, "createdAt": self._made, "file": self.path.name, "bytes": self.bytes,
            "changes": self.lines, "sha256": self._sum.hexdigest(),
        }  # fmt: skip
        target = self.path.with_suffix(".json")
        fresh = target.with_suffix(".json.new")
        with fresh.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(said)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(target)
