"""Spaces, members, invitations and blocks, each call as its user, in one transaction."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Any

import msgspec

from syncd.core.clock import format_instant
from syncd.core.errors import Conflict, Fault, Forbidden, Malformed, NotFound, SyncdError
from syncd.core.ids import fault_in_name, fault_in_user
from syncd.core.principal import Principal
from syncd.core.sharing import UNBOUNDED, Sharing, told
from syncd.protocol.messages import LinkBody
from syncd.service.event_ids import EventIds
from syncd.store.pool import Pool, Refusal
from syncd.store.spaces import BlockRow, InvitationRow, LinkRow, MemberRow, SpaceRow

RESERVED = "_personal:"
# So that who finds the token of a link knows what it is. 32 bytes by chance follow.
LINK = "syncdl_"
# The statements after which somebody is in a space or invited who was not, or is no longer.
CHANGES = (
    "space_create", "space_delete", "member_put", "member_remove", "invitation_accept", "invitation_decline", "block",
    "link_join",
)  # fmt: skip


def refused(why: Refusal) -> SyncdError:
    """What a refusal by functions of spaces is told as."""
    match why.message:
        case "member_not_found":
            return NotFound("There is no such member.")
        case "conflict":
            return Conflict()
        case "limit_reached" | "too_many_requests" if why.said:
            met = msgspec.json.decode(why.said)
            return SyncdError(told(met["what"], met["most"]), code=why.message, retry_after=met.get("seconds"))
    return why.as_code()


def _space(row: SpaceRow) -> dict[str, str]:
    return {"id": row.id, "name": row.name, "role": row.role, "createdAt": format_instant(row.created_us)}


def _member(row: MemberRow) -> dict[str, str]:
    if row.joined_us is not None:
        return {"userId": row.user_id, "role": row.role, "joinedAt": format_instant(row.joined_us)}
    assert row.invited_by is not None
    assert row.invited_us is not None
    invited_at = format_instant(row.invited_us)
    return {"userId": row.user_id, "role": row.role, "invitedBy": row.invited_by, "invitedAt": invited_at}


def _invitation(row: InvitationRow) -> dict[str, str]:
    space = {"spaceId": row.space_id, "name": row.name, "role": row.role}
    return {**space, "invitedBy": row.invited_by, "invitedAt": format_instant(row.invited_us)}


def _link(row: LinkRow) -> dict[str, Any]:
    made, ends = format_instant(row.made_us), format_instant(row.expires_us)
    counts = {"id": row.link_id, "role": row.role, "uses": row.uses, "used": row.used}
    return {**counts, "createdBy": row.made_by, "createdAt": made, "expiresAt": ends}


def _digest(token: str) -> bytes:
    """What the database knows of a token: neither its tables nor its log have the token itself."""
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _checked_name(name: str) -> str:
    if wrong := fault_in_name(name):
        raise Malformed(f"name {wrong}.", faults=(Fault("/name", wrong),))
    return name


class SpaceService:
    """What the endpoints of spaces, invitations and blocks do. `managed_elsewhere`: memberships come from outside and
    cannot be changed here; `changed` is called when some have been; `sharing`: what users may do to each other."""

    def __init__(
        self, pool: Pool, managed_elsewhere: bool, changed: Callable[[], None], sharing: Sharing = UNBOUNDED
    ) -> None:
        self._pool = pool
        self._managed_elsewhere, self._changed, self._sharing = managed_elsewhere, changed, sharing
        self._bounds = msgspec.json.encode(sharing.bounds()).decode()

    def unbounded(self) -> SpaceService:
        """The same for the server's own doing, without bounds and without asking."""
        return SpaceService(self._pool, self._managed_elsewhere, self._changed)

    async def _do(self, caller: Principal, name: str, *arguments: Any, add: bool = False) -> list[Any]:
        try:
            rows = await self._pool.fetch_as(caller.user, caller.adopt, name, *arguments, add=add)
        except Refusal as why:
            raise refused(why) from None
        if name in CHANGES:
            self._changed()
        return rows

    def _changeable(self) -> None:
        if self._managed_elsewhere:
            raise Conflict(code="managed_elsewhere")

    async def create(self, caller: Principal, space: str | None, name: str) -> dict[str, str]:
        """A new space, whose owner the caller is. `space` None: its id is made. Raises Malformed, SyncdError."""
        self._changeable()
        space = EventIds(time.time_ns() // 1000)(0) if space is None else space
        if wrong := fault_in_user(space):
            raise Malformed(f"id {wrong}.", faults=(Fault("/id", wrong),))
        if space.startswith(RESERVED):
            raise Malformed(f"An id that starts with {RESERVED} is reserved.", faults=(Fault("/id", "reserved"),))
        given = (space, _checked_name(name), self._bounds)
        return _space(SpaceRow(*(await self._do(caller, "space_create", *given, add=True))[0]))

    async def spaces(self, caller: Principal) -> list[dict[str, str]]:
        return [_space(SpaceRow(*row)) for row in await self._do(caller, "space_list", None)]

    async def get(self, caller: Principal, space: str) -> dict[str, str]:
        """A space of the caller's. Raises NotFound."""
        rows = await self._do(caller, "space_list", space)
        if not rows:
            raise NotFound(code="space_not_found")
        return _space(SpaceRow(*rows[0]))

    async def rename(self, caller: Principal, space: str, name: str) -> dict[str, str]:
        """Another name for a space of an owner's; answers it. Raises Malformed, Forbidden, NotFound, SyncdError."""
        self._changeable()
        row = (await self._do(caller, "space_rename", space, _checked_name(name), self._bounds))[0]
        return _space(SpaceRow(*row))

    async def delete(self, caller: Principal, space: str) -> None:
        """Deletes a space of an owner's. Raises Forbidden, NotFound."""
        self._changeable()
        if space.startswith(RESERVED):
            raise Forbidden("A personal space stays.")
        await self._do(caller, "space_delete", space)

    async def members(self, caller: Principal, space: str) -> dict[str, list[dict[str, str]]]:
        """The answer to `GET …/members`: `members`, and for an owner `invited`, where somebody is."""
        rows = [MemberRow(*row) for row in await self._do(caller, "member_list", space)]
        members = {"members": [_member(row) for row in rows if row.joined_us is not None]}
        invited = [_member(row) for row in rows if row.joined_us is None]
        return {**members, "invited": invited} if invited else members

    async def put_member(self, caller: Principal, space: str, user: str, role: str) -> tuple[dict[str, str], bool]:
        """The member, or who was invited; and whether it is a member."""
        self._changeable()
        given = (space, user, role, self._sharing.ask, self._bounds)
        row = MemberRow(*(await self._do(caller, "member_put", *given))[0])
        return _member(row), row.joined_us is not None

    async def remove_member(self, caller: Principal, space: str, user: str) -> None:
        """Takes a member out, or the caller leaves. Raises Forbidden, NotFound, and SyncdError for the last owner."""
        self._changeable()
        await self._do(caller, "member_remove", space, user)

    async def leave(self, caller: Principal, space: str) -> None:
        """The caller leaves. Raises Forbidden for the personal space, NotFound, and SyncdError for the last owner."""
        await self.remove_member(caller, space, caller.user)

    async def make_link(self, caller: Principal, space: str, wanted: LinkBody) -> dict[str, Any]:
        """A link to a space of an owner's, with its token, shown this once. Raises Forbidden, NotFound, SyncdError."""
        self._changeable()
        token = f"{LINK}{secrets.token_urlsafe(32)}"
        given = (space, _digest(token), wanted.role, wanted.uses, wanted.expiresIn, self._bounds)
        return {"token": token, **_link(LinkRow(*(await self._do(caller, "link_make", *given))[0]))}

    async def links(self, caller: Principal, space: str) -> list[dict[str, Any]]:
        """The links in force in a space of an owner's. Raises Forbidden, NotFound."""
        return [_link(LinkRow(*row)) for row in await self._do(caller, "link_list", space)]

    async def withdraw_link(self, caller: Principal, space: str, link: str) -> None:
        """Ends a link, by its id. Raises Forbidden, NotFound."""
        self._changeable()
        await self._do(caller, "link_withdraw", space, link)

    async def join(self, caller: Principal, token: str) -> dict[str, str]:
        """The caller becomes a member by a link; answers the space. Raises NotFound, SyncdError."""
        self._changeable()
        return _space(SpaceRow(*(await self._do(caller, "link_join", _digest(token), self._bounds, add=True))[0]))

    async def invitations(self, caller: Principal) -> list[dict[str, str]]:
        return [_invitation(InvitationRow(*row)) for row in await self._do(caller, "invitation_list")]

    async def accept(self, caller: Principal, space: str) -> dict[str, str]:
        """The caller's invitation becomes a membership; answers the space. Raises NotFound, SyncdError."""
        self._changeable()
        return _space(SpaceRow(*(await self._do(caller, "invitation_accept", space, self._bounds))[0]))

    async def decline(self, caller: Principal, space: str) -> None:
        """The caller's invitation ends. Raises NotFound."""
        await self._do(caller, "invitation_decline", space)

    async def blocks(self, caller: Principal) -> list[dict[str, str]]:
        rows = [BlockRow(*row) for row in await self._do(caller, "block_list")]
        return [{"userId": row.user_id, "blockedAt": format_instant(row.blocked_us)} for row in rows]

    async def block(self, caller: Principal, user: str) -> None:
        if user == caller.user:
            raise Malformed("Nobody blocks themselves.")
        await self._do(caller, "block", user, self._bounds, add=True)

    async def unblock(self, caller: Principal, user: str) -> None:
        """The caller takes invitations of a user again."""
        await self._do(caller, "unblock", user)
