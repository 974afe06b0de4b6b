"""What a tidy note is. Nothing here knows of a network: put your own program, or a model's answer, in its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

TAG = re.compile(r"(?<!\w)#(\w+)")
DAY = re.compile(r"(?P<day>\d{1,2})\.\s?(?P<month>\d{1,2})\.\s?(?P<year>\d{4})")


def tidied(note: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that should be otherwise, with their values; none where the note is tidy."""
    title = str(note.get("title") or "")
    tags = {str(tag).strip().lower() for tag in note.get("tags") or []} | {tag.lower() for tag in TAG.findall(title)}
    plain = " ".join(TAG.sub("", title).split())
    wanted = {"title": plain[:1].upper() + plain[1:], "tags": sorted(tags - {""}), "due": _day(note.get("due"))}
    return {name: value for name, value in wanted.items() if value != note.get(name) and (value or note.get(name))}


def _day(said: Any) -> Any:
    """A day as ISO 8601 says it; whatever is no day stays as it is."""
    found = DAY.fullmatch(said.strip()) if isinstance(said, str) else None
    try:
        return date(int(found["year"]), int(found["month"]), int(found["day"])).isoformat() if found else said
    except ValueError:
        return said
