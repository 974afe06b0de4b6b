"""`DELETE /me`: a user asks to be erased."""

from __future__ import annotations

import msgspec

from syncd.core.clock import format_instant
from syncd.core.errors import Forbidden, MethodNotAllowed
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import Request
from syncd.edge.services import Services
from syncd.store.pool import Refusal


class MeEndpoint:
    """The user itself, and nobody on its behalf. It is noted here, and done by an operator's `syncd erase asked`."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, services: Services) -> Answer:
        """Answers /me."""
        if request.method != "DELETE":
            raise MethodNotAllowed("DELETE")
        caller = await self._authenticator.caller(request)
        if caller.service is not None:
            raise Forbidden("A service cannot ask for that on behalf of a user.")
        try:
            asked = await services.erasures.ask(caller.user)
        except Refusal as why:
            raise why.as_code() from None
        return Answer(msgspec.json.encode({"askedAt": format_instant(round(asked * 1_000_000))}), 202)
