"""The database that servers of tests begin with, kept from one run of the tests to the next in the user's cache."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from syncd import __version__
from syncd.postgres.binaries import find_binaries
from syncd.postgres.launch import EmbeddedError, account_for
from syncd.postgres.schema_files import PACKAGE, schema_directory
from syncd.testing.template import DatabaseTemplate

# An application's backend: it writes and reads synced records, follows them, and makes tables of its own.
ROLE = "application"
STATEMENTS = (
    f"CREATE ROLE {ROLE} LOGIN IN ROLE syncd_writer, syncd_consumer",
    f"GRANT CREATE ON SCHEMA public TO {ROLE}",
)
# How long one stays that no test begins with any more.
UNUSED_SECONDS = 30 * 24 * 3600.0


@functools.cache
def kept_template() -> DatabaseTemplate:
    """The template of this syncd and this PostgreSQL. Where nothing can be kept it is this process's own."""
    folder = _cache()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="syncd-template-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    place = folder / f"template-{_key()}"
    with contextlib.suppress(OSError):
        if place.exists():
            os.utime(place)
        _remove_unused(folder)
    return DatabaseTemplate(place, STATEMENTS)


def _cache() -> Path | None:
    """A folder of this user's, None where there is none that can be written to."""
    with contextlib.suppress(OSError, RuntimeError):
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "syncd"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid() and os.access(folder, os.W_OK):
            return folder
    return None


def _key() -> str:
    """Of all that a template is made of: it is another one when any of that is."""
    try:
        found = find_binaries(account_for(Path("/")))
    except EmbeddedError:
        found = None  # the start says why
    digest = hashlib.sha256(repr((__version__, found, STATEMENTS)).encode())
    for file in sorted([*schema_directory().rglob("*.sql"), *(PACKAGE / "postgres").glob("*.py")]):
        digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _remove_unused(folder: Path) -> None:
    for path in folder.glob("template-*"):
        if time.time() - path.stat().st_mtime > UNUSED_SECONDS:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
