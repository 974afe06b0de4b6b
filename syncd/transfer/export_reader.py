"""An export that came in: found whole before anything of it is used."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any

import msgspec

from syncd.core.errors import Malformed, TooLarge
from syncd.core.pieces import more_than
from syncd.protocol.export_format import Manifest, decode_manifest
from syncd.protocol.push_decision import LARGEST_RECORD
from syncd.transfer.export import EVENTS, MANIFEST, Format

CHUNK = 1 << 20
LONGEST_LINE = 2 * LARGEST_RECORD
LONGEST_MANIFEST = 64 << 20
# Of a user's own, which a server reads beside everything else: a parser lets nobody else work meanwhile. It is enough
# for some hundred thousand members of spaces.
LONGEST_OWN, MOST_OWN_COMMAS = 16 << 20, 300_000
# What zipfile makes of an archive that is none.
DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, RuntimeError, ValueError, OverflowError)
# Of two entries it has some two hundred bytes; it is read whole.
LARGEST_DIRECTORY = 64 * 1024
CUT_SHORT = "The export has no manifest at its end: it was cut short."


class _Wrapped(msgspec.Struct):
    manifest: msgspec.Raw


class ExportReader:
    """An export in a file that can be read again and again. `most`: bytes it may have when unpacked; `own`: it is a
    user's own, whose manifest has bounds."""

    def __init__(self, file: IO[bytes], form: Format, most: int, *, own: bool = False) -> None:
        self._file, self._most, self._own = file, most, own
        self._zip: zipfile.ZipFile | None = None
        if form == "zip":
            self._zip = _archive(file)
        self._end = 0
        self.manifest: Manifest

    def verify(self) -> Manifest:
        """Reads it all once. Raises Malformed with `export_cut_short`, `export_damaged`, `export_too_new`,
        `invalid_export`, and TooLarge."""
        try:
            words = self._last_words()
            if self._own:
                _check_own(words)
            manifest = self.manifest = decode_manifest(_unwrapped(words) if self._zip is None else words)
            digest, events = hashlib.sha256(), 0
            with self._events() as lines:
                while data := lines.read(CHUNK):
                    digest.update(data)
                    events += data.count(b"\n")
        except DAMAGED:
            raise Malformed("The archive is damaged.", code="export_damaged") from None
        if digest.hexdigest() != manifest.eventsSha256 or events != manifest.eventCount:
            raise Malformed("The changes are not those that the manifest counted and hashed.", code="export_damaged")
        spaces = manifest.spacesSha256
        if spaces is not None and hashlib.sha256(bytes(manifest.spaces)).hexdigest() != spaces:
            raise Malformed("The spaces are not those that the manifest hashed.", code="export_damaged")
        return manifest

    def lines(self) -> Iterator[bytes]:
        """The changes, a line each. Raises Malformed for a line that is longer than any change."""
        with self._events() as raw, io.BufferedReader(raw, CHUNK) as lines:
            while line := lines.readline(LONGEST_LINE + 1):
                if len(line) > LONGEST_LINE:
                    raise Malformed("A line is longer than any change.", code="invalid_export")
                yield line

    def _events(self) -> Any:
        if self._zip is not None:
            return self._zip.open(EVENTS)
        self._file.seek(0)
        return _Part(self._file, self._end)

    def _last_words(self) -> bytes:
        """The manifest as JSON text; in a stream of lines it is the last, which has it as a member."""
        if self._zip is None:
            return self._last_line()
        sizes = {info.filename: info.file_size for info in self._zip.infolist()}
        if MANIFEST not in sizes or EVENTS not in sizes:
            raise Malformed(f"The archive has no {EVENTS} and {MANIFEST}.", code="invalid_export")
        if sizes[MANIFEST] > LONGEST_MANIFEST or sum(sizes.values()) > self._most:
            raise TooLarge(f"Unpacked it is larger than {self._most} bytes.")
        return self._zip.read(MANIFEST)

    def _last_line(self) -> bytes:
        size = self._file.seek(0, os.SEEK_END)
        tail, start = b"", size
        while start > 0 and len(tail) <= LONGEST_MANIFEST:
            step = min(CHUNK, start)
            start -= step
            self._file.seek(start)
            tail = self._file.read(step) + tail
            at = tail.rstrip(b"\r\n").rfind(b"\n")
            if at >= 0 or start == 0:
                self._end = start + at + 1
                return tail[at + 1 :]
        raise Malformed(CUT_SHORT, code="export_cut_short")


def _check_own(words: bytes) -> None:
    if len(words) > LONGEST_OWN or more_than(words, b",", MOST_OWN_COMMAS):
        raise TooLarge("The manifest names more spaces and members than is taken over HTTP. An operator can import it.")


def _unwrapped(line: bytes) -> bytes:
    try:
        return bytes(msgspec.json.decode(line, type=_Wrapped).manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Malformed(CUT_SHORT, code="export_cut_short") from None


def _archive(file: IO[bytes]) -> zipfile.ZipFile:
    """A zip, unless its list of entries is so long that reading it would take the memory of others."""
    try:
        record = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if record is not None and record[5] <= LARGEST_DIRECTORY:
            return zipfile.ZipFile(file)
    except DAMAGED:
        pass
    raise Malformed("This is no archive, or one that was cut short.", code="export_cut_short")


class _Part(io.RawIOBase):
    """A file up to a place in it."""

    def __init__(self, file: IO[bytes], end: int) -> None:
        self._file, self._left = file, end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)
