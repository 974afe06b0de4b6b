"""A record's fields in SQL: the same text where they are asked for and where they are indexed. Pure."""

from __future__ import annotations


def quoted(text: str) -> str:
    """A text as SQL says it."""
    return "'" + text.replace("'", "''") + "'"


def path_of(field: str) -> str | None:
    """A JSON path in quotes, if the name can stand in one.

    A name with dots may be a path, or a field of that very name, which SQLite cannot tell.
    """
    return None if '"' in field or "\\" in field or "." in field else quoted(f'$."{field}"')


def kind_of(path: str) -> str:
    """The kind of what is at a path, as SQLite calls it."""
    return f"json_type(doc, {path})"


def value_of(path: str) -> str:
    """What is at a path, so that SQLite sorts it as all do: null, numbers and truth values, texts, lists, objects."""
    return f"CASE {kind_of(path)} WHEN 'array' THEN x'00' WHEN 'object' THEN x'01' ELSE json_extract(doc, {path}) END"
