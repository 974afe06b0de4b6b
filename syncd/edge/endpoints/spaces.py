"""`/spaces` and what lies below it."""

from __future__ import annotations

import msgspec

from syncd.core.errors import Fault, Malformed, MethodNotAllowed, NotFound
from syncd.core.ids import fault_in_user
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import MAX_SMALL_BODY, Request, checked_id
from syncd.protocol.messages import MemberBody, SpaceBody, SpaceName, decode
from syncd.service.spaces import SpaceService

NO_CONTENT = Answer(b"", 204)
# What is answered at an address, by how much of it is there.
ALLOWED = ("GET, POST", "GET, PATCH, DELETE", "GET", "PUT, DELETE")


def _json(value: object, status: int = 200) -> Answer:
    return Answer(msgspec.json.encode(value), status)


class SpacesEndpoint:
    """Spaces and their members."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, parts: tuple[str, ...], spaces: SpaceService) -> Answer:
        """Answers an address below /spaces."""
        names = ("space", "members", "userId")
        for name, part in zip(names, parts[1:], strict=False):
            checked_id(name, part)
        if parts[2:] == ("membership",):
            if request.method != "DELETE":
                raise MethodNotAllowed("DELETE")
            await spaces.leave(await self._authenticator.caller(request), parts[1])
            return NO_CONTENT
        if len(parts) > 4 or parts[2:3] not in ((), ("members",)):
            raise NotFound
        match request.method, parts[1:]:
            case "GET" | "HEAD", []:
                return _json({"spaces": await spaces.spaces(await self._authenticator.caller(request))})
            case "POST", []:
                caller = await self._authenticator.caller(request)
                body = decode(await request.body(most=MAX_SMALL_BODY), SpaceBody)
                return _json(await spaces.create(caller, body.id, body.name), 201)
            case "GET" | "HEAD", [space]:
                return _json(await spaces.get(await self._authenticator.caller(request), space))
            case "PATCH", [space]:
                caller = await self._authenticator.caller(request)
                renamed = decode(await request.body(most=MAX_SMALL_BODY), SpaceName)
                return _json(await spaces.rename(caller, space, renamed.name))
            case "DELETE", [space]:
                await spaces.delete(await self._authenticator.caller(request), space)
                return NO_CONTENT
            case "GET" | "HEAD", [space, _]:
                return _json(await spaces.members(await self._authenticator.caller(request), space))
            case "PUT", [space, _, user]:
                return await self._put_member(request, space, user, spaces)
            case "DELETE", [space, _, user]:
                await spaces.remove_member(await self._authenticator.caller(request), space, user)
                return NO_CONTENT
        raise MethodNotAllowed(ALLOWED[len(parts) - 1])

    async def _put_member(self, request: Request, space: str, user: str, spaces: SpaceService) -> Answer:
        caller = await self._authenticator.caller(request)
        if wrong := fault_in_user(user):
            raise Malformed(f"userId {wrong}.", faults=(Fault("/userId", wrong),))
        body = decode(await request.body(most=MAX_SMALL_BODY), MemberBody)
        member, there = await spaces.put_member(caller, space, user, body.role)
        return _json(member, 200 if there else 202)
