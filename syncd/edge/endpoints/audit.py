"""`GET /spaces/{id}/audit`: what was done in a space, for its owners."""

from __future__ import annotations

from syncd.core.errors import Fault, Malformed, MethodNotAllowed
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import Request, checked_id
from syncd.edge.services import Services
from syncd.service.audit import listed

DEFAULT_LIMIT, MAX_LIMIT = 100, 1000
LAST = (1 << 63) - 1


class AuditEndpoint:
    """Oldest first, in pages: `after` is the `auditId` of the last one that is known."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, space: str, services: Services) -> Answer:
        """Answers /spaces/{space}/audit."""
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        caller = await self._authenticator.caller(request)
        if space != caller.personal:
            checked_id("space", space)
        query = request.query()
        limit = _number("limit", query.get("limit", [str(DEFAULT_LIMIT)])[-1], 1, MAX_LIMIT)
        after = _number("after", query.get("after", ["0"])[-1], 0, LAST)
        return Answer(await listed(services.audit, caller.user, space, after, limit))


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise Malformed(f"{name} must be {least} to {most:,}.", faults=(Fault(f"/{name}", "out of range"),))
    return int(text)
