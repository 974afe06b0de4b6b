"""`GET /sync/{app}/held` and `DELETE /sync/{app}/held/{heldId}`: what of the caller's waits until it may be written."""

from __future__ import annotations

from syncd.core.errors import Fault, Malformed, MethodNotAllowed, NotFound
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import Request
from syncd.edge.services import Services
from syncd.service.held import shown

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
LAST = (1 << 63) - 1


class HeldEndpoint:
    """Held changes, for their author."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, app: str, parts: tuple[str, ...], services: Services) -> Answer:
        """Answers an address below /sync/{app}/held."""
        if len(parts) > 1:
            raise NotFound
        caller = await self._authenticator.caller(request)
        if parts:
            if request.method != "DELETE":
                raise MethodNotAllowed("DELETE")
            if not await services.held.drop(caller.user, app, _number("heldId", parts[0], LAST)):
                raise NotFound("There is no such held change of yours.")
            return Answer(b"", 204)
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        query = request.query()
        limit = _number("limit", query.get("limit", [str(DEFAULT_LIMIT)])[-1], MAX_LIMIT)
        after = _number("after", query.get("after", ["0"])[-1], LAST, least=0)
        rows = await services.held.list(caller.user, app, after, limit + 1)
        more = len(rows) > limit
        if rows and not more:  # large changes end a page before its limit
            more = bool(await services.held.list(caller.user, app, rows[-1].held_no, 1))
        return Answer(shown(rows[:limit], more))


def _number(name: str, text: str, most: int, *, least: int = 1) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Malformed(f"{name} must be {least} to {most:,}.", faults=(Fault(f"/{name}", "out of range"),))
    return int(text)
