"""Spaces and members, each call as its user, in one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import msgspec

from syncd.core.clock import format_instant
from syncd.core.errors import Conflict, Fault, Forbidden, Malformed, NotFound, SyncdError
from syncd.core.ids import fault_in_id, fault_in_name
from syncd.service.caller import Caller
from syncd.store.pool import Pool, Refusal
from syncd.store.spaces import MemberRow, SpaceRow, Spaces

RESERVED = "_personal:"
# The statements after which somebody is in a space who was not, or is no longer.
CHANGES = ("space_create", "space_delete", "member_put", "member_remove")


def _refused(why: Refusal) -> SyncdError:
    match why.message:
        case "member_not_found":
            return NotFound("There is no such member.")
        case "conflict":
            return Conflict()
    return why.as_code()


def _space(row: SpaceRow) -> dict[str, str]:
    return {"id": row.id, "name": row.name, "role": row.role, "createdAt": format_instant(row.created_us)}


def _member(row: MemberRow) -> dict[str, str]:
    return {"userId": row.user_id, "role": row.role, "joinedAt": format_instant(row.joined_us)}


class SpaceService:
    """What the space endpoints do. `managed_elsewhere`: memberships come from outside and cannot be changed here;
    `changed` is called when some have been."""

    def __init__(self, pool: Pool, managed_elsewhere: bool, changed: Callable[[], None]) -> None:
        self._spaces, self._managed_elsewhere, self._changed = Spaces(pool), managed_elsewhere, changed

    async def _do(self, caller: Caller, name: str, *arguments: Any, add: bool = False) -> list[Any]:
        external = caller.external
        adopt = (msgspec.json.encode(external.spaces).decode(), external.as_of) if external else None
        try:
            rows = await self._spaces.call(caller.user, adopt, name, *arguments, add=add)
        except Refusal as why:
            raise _refused(why) from None
        if name in CHANGES:
            self._changed()
        return rows

    def _changeable(self) -> None:
        if self._managed_elsewhere:
            raise Conflict(code="managed_elsewhere")

    async def create(self, caller: Caller, space: str | None, name: str) -> dict[str, str]:
        self._changeable()
        space = f"sp_{secrets.token_hex(12)}" if space is None else space
        if wrong := fault_in_id(space):
            raise Malformed(f"id {wrong}.", faults=(Fault("/id", wrong),))
        if space.startswith(RESERVED):
            raise Malformed(f"An id that starts with {RESERVED} is reserved.", faults=(Fault("/id", "reserved"),))
        if wrong := fault_in_name(name):
            raise Malformed(f"name {wrong}.", faults=(Fault("/name", wrong),))
        return _space(SpaceRow(*(await self._do(caller, "space_create", space, name, add=True))[0]))

    async def spaces(self, caller: Caller) -> list[dict[str, str]]:
        return [_space(SpaceRow(*row)) for row in await self._do(caller, "space_list", None)]

    async def get(self, caller: Caller, space: str) -> dict[str, str]:
        rows = await self._do(caller, "space_list", space)
        if not rows:
            raise NotFound(code="space_not_found")
        return _space(SpaceRow(*rows[0]))

    async def delete(self, caller: Caller, space: str) -> None:
        self._changeable()
        if space.startswith(RESERVED):
            raise Forbidden("A personal space stays.")
        await self._do(caller, "space_delete", space)

    async def members(self, caller: Caller, space: str) -> list[dict[str, str]]:
        return [_member(MemberRow(*row)) for row in await self._do(caller, "member_list", space)]

    async def put_member(self, caller: Caller, space: str, user: str, role: str) -> dict[str, str]:
        self._changeable()
        return _member(MemberRow(*(await self._do(caller, "member_put", space, user, role))[0]))

    async def remove_member(self, caller: Caller, space: str, user: str) -> None:
        self._changeable()
        await self._do(caller, "member_remove", space, user)
