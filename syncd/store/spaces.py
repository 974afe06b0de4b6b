"""What the statements of schema/calls/spaces.sql return. Each runs as a user, by `Pool.fetch_as`."""

from __future__ import annotations

from typing import NamedTuple


class SpaceRow(NamedTuple):
    """A space and the role of the acting user in it; microseconds since 1970."""

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
    """An invitation of the acting user; microseconds since 1970."""

    space_id: str
    name: str
    role: str
    invited_by: str
    invited_us: int


class LinkRow(NamedTuple):
    """A link to a space: `used` of its `uses` are gone; microseconds since 1970."""

    link_id: str
    role: str
    uses: int
    used: int
    made_by: str
    made_us: int
    expires_us: int


class BlockRow(NamedTuple):
    """A user whose invitations the acting user does not take; microseconds since 1970."""

    user_id: str
    blocked_us: int
