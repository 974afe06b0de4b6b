"""A set in a record, with a field for each member. A list in one field is one value, of which the later write wins.
Here devices that add and remove different members while apart all have their way. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .data.change import check_id
from .errors import InvalidWrite


def adding(name: str, *members: str) -> dict[str, bool]:
    """The fields that add members to the set `name`, for a put or patch. Raises InvalidWrite for what is no name."""
    return dict.fromkeys(_fields(name, members), True)


def removing(name: str, *members: str) -> dict[str, None]:
    """The fields that take members out of the set `name`. Raises InvalidWrite as `adding` does."""
    return dict.fromkeys(_fields(name, members))


def members(fields: Mapping[str, Any], name: str) -> list[str]:
    """The members of the set `name` in a record, by code point. Raises InvalidWrite for what is no name of a set."""
    prefix = f"{_check_set(name)}:"
    return sorted(
        field.removeprefix(prefix) for field, value in fields.items() if value is True and field.startswith(prefix)
    )


def _fields(name: str, members: tuple[str, ...]) -> list[str]:
    _check_set(name)
    return [_field(name, member) for member in members]


def _field(name: str, member: str) -> str:
    if not isinstance(member, str) or not member:
        raise InvalidWrite(f"a member of {name} must be text that is not empty.", field=name)
    return check_id(f"a member of {name}, as the field {name}:…,", f"{name}:{member}")


def _check_set(name: str) -> str:
    """What is before the first colon is the set's name, so it has none itself."""
    if ":" in check_id("the name of a set", name):
        raise InvalidWrite(f"the name of a set has no colon, as {name} has.", field=name)
    return name
