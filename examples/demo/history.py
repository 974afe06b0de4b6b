"""A git repository's history as a workload: commits, and what each did to which file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

MOST_COMMITS, MOST_EDITS = 2000, 5000  # edits of one commit; what is more is left out
LONGEST_ID, LONGEST_AUTHOR = 255, 200
_STATUS = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "modified"}
_FORMAT = "%x01%H%x00%aN%x00%at%x00%s%x00"


class NoHistory(Exception):
    """There is nothing to replay; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What a commit did to one file. `old` is the file's earlier name where it was renamed."""

    path: str
    status: str
    added: int
    removed: int
    old: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit; `at` is the author's time in microseconds since 1970."""

    hash: str
    author: str
    at: int
    subject: str
    edits: tuple[Edit, ...]


def read_history(repository: Path, most: int = MOST_COMMITS) -> list[Commit]:
    """The latest commits that are no merges, oldest first. Raises NoHistory."""
    commits = [commit for commit in parse(_git_log(repository, most)) if commit.edits]
    if len(commits) < 2:
        raise NoHistory(
            f"{repository} has {len(commits)} commits with changes: too few to replay. "
            f"{_remedy()} (a shallow clone: git fetch --unshallow)"
        )
    return commits


def _remedy() -> str:
    return "Name a repository with a history: make demo REPO=/path/to/a/clone"


def _git_log(repository: Path, most: int) -> str:
    command = ["git", "-c", "safe.directory=*", "-C", str(repository), "log", f"--max-count={most}", "--no-merges"]
    command += ["--reverse", "--raw", "--numstat", "-M", "-z", "--no-color", "--no-ext-diff", f"--format={_FORMAT}"]
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(command, capture_output=True, check=False, env=environment)
    except FileNotFoundError:
        raise NoHistory("git is needed to read a history: apt-get install git") from None
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NoHistory(f"{repository} has no git history ({said[-1] if said else 'git failed'}). {_remedy()}")
    return done.stdout.decode(errors="replace")


def parse(log: str) -> Iterator[Commit]:
    """Commits out of `git log --raw --numstat -z` in the format above."""
    for chunk in log.split("\x01")[1:]:
        parts = chunk.split("\x00")
        if len(parts) < 4:  # a \x01 in a name or subject: not ours
            continue
        digest, author, at, subject = parts[:4]
        edits = tuple(islice(_edits([part.lstrip("\n") for part in parts[4:]]), MOST_EDITS))
        yield Commit(digest, _user_id(author), max(int(at or 0), 0) * 1_000_000, subject, edits)


def _edits(parts: list[str]) -> Iterator[Edit]:
    """First the raw entries (status, names), then the numstat ones (lines, names) in the same order."""
    entries: list[tuple[str, str, str | None]] = []
    counts: dict[str, tuple[int, int]] = {}
    place = iter(parts)
    for part in place:
        if part.startswith(":"):
            status = part.rsplit(" ", 1)[-1][:1]
            name = next(place, "")
            old = name if status in "RC" else None
            entries.append((status, next(place, "") if status in "RC" else name, old))
        elif part.count("\t") >= 2:
            added, removed, name = part.split("\t", 2)
            if not name:
                next(place, None)
                name = next(place, "")
            counts[name] = (_lines(added), _lines(removed))
    for status, name, old in entries:
        if name and status in _STATUS:
            yield Edit(name, _STATUS[status], *counts.get(name, (0, 0)), old if status == "R" else None)


def _lines(text: str) -> int:
    return int(text) if text.isdigit() else 0  # "-" for a binary file


def record_id(path: str) -> str:
    """The path as a record's id; a hash where it is too long for one, or has a line break in it."""
    if len(path) <= LONGEST_ID and _without_controls(path) == path:
        return path
    return hashlib.sha256(path.encode()).hexdigest()


def _user_id(name: str) -> str:
    return _without_controls(name)[:LONGEST_AUTHOR] or "unknown"


def _without_controls(text: str) -> str:
    return "".join(letter for letter in text if unicodedata.category(letter) not in ("Cc", "Cs"))
