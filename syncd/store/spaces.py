"""What the statements of schema/calls/spaces.sql return. Each runs as a user, by `Pool.fetch_as`."""

from __future__ import annotations

from typing import NamedTuple


class SpaceRow(NamedTuple):
    id: str
    name: str
    role: str
    created_us: int


class MemberRow(NamedTuple):
    """A member, or who was invited: then `joined_us` is None and the others are not."""

    user_id: str
    role: str
    joined_us: int | None
    invited_by: str | None
    invited_us: int | None


class InvitationRow(NamedTuple):
    space_id: str
    name: str
    role: str
    invited_by: str
    invited_us: int


class BlockRow(NamedTuple):
    user_id: str
    blocked_us: int
