"""The SQL that the server runs, read once from schema/calls: blocks that open with a name, why, and what comes back."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from syncd.postgres.schema_files import schema_directory

_BLOCK = re.compile(r"^-- name: (\w+)\n((?:-- .*\n)+?)-- returns: (.+)\n((?:(?!-- name: ).*\n)+)", re.MULTILINE)


class Statement(NamedTuple):
    """One call. `returns`: the class under syncd/ whose fields are its columns, "one value", or "nothing"."""

    name: str
    why: str
    returns: str
    sql: str


@cache
def statements() -> dict[str, Statement]:
    """All calls by name, from the installed package or the repository. Raises ValueError for a name used twice."""
    found: dict[str, Statement] = {}
    for file in sorted((schema_directory() / "calls").glob("*.sql")):
        for call in _blocks(file):
            if call.name in found:
                raise ValueError(f"{file} has a second call with the name {call.name}")
            found[call.name] = call
    return found


def statement(name: str) -> str:
    """The SQL of a call."""
    return statements()[name].sql


def _blocks(file: Path) -> list[Statement]:
    text = file.read_text(encoding="utf-8")
    blocks = [Statement(name, why, returns, sql.strip()) for name, why, returns, sql in _BLOCK.findall(text)]
    if len(blocks) != text.count("-- name: "):
        raise ValueError(f"{file} has a block that is not a name, why, what comes back (-- returns: …) and a statement")
    return blocks
