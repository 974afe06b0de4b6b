"""`GET /quota`: what the caller has and may have."""

from __future__ import annotations

from syncd.core.errors import MethodNotAllowed
from syncd.edge.admission import Admission
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import Request, checked_id
from syncd.edge.services import Services
from syncd.service.quotas import Quotas, use


class QuotaEndpoint:
    """The caller's quotas, and with `spaceId` those of a space."""

    def __init__(self, authenticator: Authenticator, admission: Admission, quotas: Quotas) -> None:
        self._authenticator, self._admission, self._quotas = authenticator, admission, quotas

    async def handle(self, request: Request, services: Services) -> Answer:
        """Answers /quota."""
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        caller = await self._authenticator.caller(request)
        given = request.query().get("spaceId")
        space = None if given is None else checked_id("spaceId", given[-1])
        sockets = self._admission.connections_of(caller.user)
        return Answer(await use(services.totals, self._quotas, caller.user, space, sockets))
