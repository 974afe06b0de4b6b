"""How names of tables and fields are written in programs, and which names types get. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import NamedTuple

PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class TableTypeNames(NamedTuple):
    """The names of the types of a table."""

    table: str
    fields: str
    where: str
    order: str
    record: str


class TypeNames:
    """Names for types, none of them twice. `taken`: those that are other things' already."""

    def __init__(self, taken: Iterable[str]) -> None:
        self._taken = set(taken)

    def give(self, *words: str) -> str:
        """A name made of a table's or a field's: OrderLines of order_lines. With a number where it is taken."""
        parts = [part for word in words for part in re.findall(r"[A-Za-z0-9]+", word)]
        plain = "".join(part[0].upper() + part[1:] for part in parts)
        if not plain or plain[0].isdigit():
            plain = f"T{plain}"
        name, number = plain, 2
        while name in self._taken:
            name, number = f"{plain}{number}", number + 1
        self._taken.add(name)
        return name


def typescript_text(text: str) -> str:
    """A text as TypeScript and JSON write it."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def python_text(text: str) -> str:
    """A text as Python writes it."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else repr(text)
