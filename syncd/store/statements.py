"""The SQL that the server runs, read once from schema/queries: one statement a file, opening with why."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_ROOMS = (Path(__file__).parent.parent / "schema", Path(__file__).parent.parent.parent / "schema")


@cache
def statement(name: str) -> str:
    """The text of schema/queries/NAME.sql, from the installed package or the repository."""
    for room in _ROOMS:
        file = room / "queries" / f"{name}.sql"
        if file.is_file():
            return file.read_text(encoding="utf-8")
    raise FileNotFoundError(f"no statement {name}.sql beside the package")
