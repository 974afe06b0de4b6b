"""`/invitations`, `/blocks`: what others want to do to the caller, and who may not; and links to spaces."""

from __future__ import annotations

import msgspec

from syncd.core.errors import MethodNotAllowed, NotFound
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import MAX_SMALL_BODY, Request, checked_id
from syncd.protocol.messages import LinkBody, TokenBody, decode
from syncd.service.spaces import SpaceService

NO_CONTENT = Answer(b"", 204)


class InvitationsEndpoint:
    """Invitations and blocks of the caller, and links to spaces."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def invitations(self, request: Request, parts: tuple[str, ...], spaces: SpaceService) -> Answer:
        """Answers an address below /invitations."""
        match request.method, [*(checked_id("space", part) for part in parts[1:2]), *parts[2:]]:
            case "GET" | "HEAD", []:
                found = await spaces.invitations(await self._authenticator.caller(request))
                return Answer(msgspec.json.encode({"invitations": found}))
            case "POST", []:
                caller = await self._authenticator.caller(request)
                body = decode(await request.body(most=MAX_SMALL_BODY), TokenBody)
                return Answer(msgspec.json.encode(await spaces.join(caller, body.token)))
            case "DELETE", [space]:
                await spaces.decline(await self._authenticator.caller(request), space)
                return NO_CONTENT
            case "POST", [space, "accept"]:
                return Answer(
                    msgspec.json.encode(await spaces.accept(await self._authenticator.caller(request), space))
                )
            case _, []:
                raise MethodNotAllowed("GET, POST")
            case _, [_]:
                raise MethodNotAllowed("DELETE")
            case _, [_, "accept"]:
                raise MethodNotAllowed("POST")
        raise NotFound

    async def links(self, request: Request, parts: tuple[str, ...], spaces: SpaceService) -> Answer:
        """Answers an address at or below /spaces/{space}/invitations."""
        space = checked_id("space", parts[1])
        match request.method, [checked_id("link", part) for part in parts[3:]]:
            case "GET" | "HEAD", []:
                found = await spaces.links(await self._authenticator.caller(request), space)
                return Answer(msgspec.json.encode({"invitations": found}))
            case "POST", []:
                caller = await self._authenticator.caller(request)
                wanted = decode(await request.body(most=MAX_SMALL_BODY), LinkBody)
                return Answer(msgspec.json.encode(await spaces.make_link(caller, space, wanted)), 201)
            case "DELETE", [link]:
                await spaces.withdraw_link(await self._authenticator.caller(request), space, link)
                return NO_CONTENT
            case _, []:
                raise MethodNotAllowed("GET, POST")
            case _, [_]:
                raise MethodNotAllowed("DELETE")
        raise NotFound

    async def blocks(self, request: Request, parts: tuple[str, ...], spaces: SpaceService) -> Answer:
        """Answers an address below /blocks."""
        match request.method, [checked_id("userId", part) for part in parts[1:]]:
            case "GET" | "HEAD", []:
                found = await spaces.blocks(await self._authenticator.caller(request))
                return Answer(msgspec.json.encode({"blocks": found}))
            case "PUT", [user]:
                await spaces.block(await self._authenticator.caller(request), user)
                return NO_CONTENT
            case "DELETE", [user]:
                await spaces.unblock(await self._authenticator.caller(request), user)
                return NO_CONTENT
            case _, []:
                raise MethodNotAllowed("GET")
            case _, [_]:
                raise MethodNotAllowed("PUT, DELETE")
        raise NotFound
