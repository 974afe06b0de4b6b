"""A space with a user of each kind, to whom it says what each may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
ROLES = ["owner", "writer", "reader", "former", "stranger", "nobody"]


class House(NamedTuple):
    """A space with a canary in it, its callers by role, and a second space to be confused with."""

    space: str
    canary: str
    callers: dict[str, Device]
    other: str


def furnished(device: Make) -> House:
    """`former` was a member; `stranger` has a space of their own; `nobody` was never heard of."""
    space, canary = unique("house"), unique("canary")
    callers = {role: device(unique(role), role) for role in ROLES}
    owner = callers["owner"]
    owner.create(space)
    for role in ("writer", "reader", "former"):
        owner.member(space, callers[role].user, "writer" if role == "former" else role)
    owner.write({**edit("r", secret=canary), "spaceId": space})
    assert canary in callers["former"].ask().text
    owner.remove(space, callers["former"].user)
    other = callers["stranger"].create(unique("other"))
    callers["stranger"].write({**edit("r", secret="other"), "spaceId": other})
    return House(space, canary, callers, other)
