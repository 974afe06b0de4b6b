"""Files of a folder, for browsers: what a page of the server's own is made of."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from syncd.core.errors import MethodNotAllowed, NotFound
from syncd.edge.answers import Answer
from syncd.edge.requests import Request

HERE = Path(__file__).resolve().parent.parent
INDEX = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}


def built(*folders: Path) -> Path | None:
    """The first of these folders that has an index, resolved; None where none was built."""
    return next((folder.resolve() for folder in folders if (folder / INDEX).is_file()), None)


def only_read(request: Request) -> None:
    """Raises MethodNotAllowed for anything but GET and HEAD."""
    if request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed("GET")


def safe(policy: bytes) -> list[tuple[bytes, bytes]]:
    """The headers of a page with this content security policy."""
    return [
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    ]


class Files:
    """The files of `folder`, with `headers`. Those in a folder of `kept` have a hash in their names, and browsers keep
    them for ever."""

    def __init__(self, folder: Path, headers: list[tuple[bytes, bytes]], kept: Iterable[str] = ()) -> None:
        self._folder, self._headers, self._kept = folder, headers, frozenset(kept)

    def answer(self, request: Request, names: tuple[str, ...]) -> Answer:
        """The file of this path, or 304 where the browser has it. Raises NotFound, also for all that is outside."""
        file = self._file(names)
        content = file.read_bytes()
        # Weak: the same for each coding in which it travels.
        tag = f'W/"{blake2b(content, digest_size=12).hexdigest()}"'.encode()
        kept = b"public, max-age=31536000, immutable" if names[0] in self._kept else b"no-cache"
        headers = [(b"etag", tag), (b"cache-control", kept), *self._headers]
        if tag in request.headers.get(b"if-none-match", b"").replace(b" ", b"").split(b","):
            return Answer(b"", 304, headers=headers)
        return Answer(content, media_type=_media_type(file), headers=headers)

    def _file(self, names: tuple[str, ...]) -> Path:
        if any("/" in name or "\\" in name or "\0" in name for name in names):
            raise NotFound
        try:
            file = self._folder.joinpath(*names[:-1], names[-1] or INDEX).resolve()
            there = file.is_relative_to(self._folder) and file.is_file()
        except OSError:
            # A name or a path that is longer than the system's can be: there is no such file.
            raise NotFound from None
        if not there:
            raise NotFound
        return file


def _media_type(file: Path) -> bytes:
    return (TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream").encode()
