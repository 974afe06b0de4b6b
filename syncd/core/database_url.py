"""What is added to the URL of a database. Pure."""

from __future__ import annotations


def for_writing(dsn: str) -> str:
    """The URL for a server that is written to, of those that it names, unless it says itself which it wants."""
    if "target_session_attrs" in dsn:
        return dsn
    return f"{dsn}{'&' if '?' in dsn else '?'}target_session_attrs=read-write"
