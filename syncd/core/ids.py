"""Ids: apps, tables, records, spaces, users, clients, fields, change ids. Pure."""

from __future__ import annotations

import re

MAX_ID = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def fault_in_id(text: str) -> str | None:
    """What is wrong with an id, or None: 1 to 255 characters, none of them a control character."""
    if not text:
        return "must not be empty"
    if len(text) > MAX_ID:
        return f"must not be longer than {MAX_ID} characters"
    if not text.isprintable() and _CONTROL.search(text):
        return "must not contain control characters"
    return None
