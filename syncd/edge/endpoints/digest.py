"""`/sync/{app}/digest`: what a device compares its replica with, and what it repairs it from."""

from __future__ import annotations

from syncd.core.errors import Fault, Malformed, MethodNotAllowed
from syncd.core.ids import fault_in_id
from syncd.core.principal import Principal
from syncd.core.values import InvalidValue, check_text
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import MAX_TABLES, Request, checked_tables
from syncd.edge.services import Services
from syncd.protocol.digest import MAX_BODY, MAX_RECORDS, CompareBody
from syncd.protocol.messages import decode
from syncd.service.aside import aside, is_large
from syncd.service.digest import DeviceBucket, Inquiry, differences, digests


class DigestEndpoint:
    """GET tells digests, POST compares a bucket."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def handle(self, request: Request, app: str, services: Services) -> Answer:
        match request.method:
            case "GET" | "HEAD":
                return await self._tell(request, app, services)
            case "POST":
                return await self._compare(request, app, services)
        raise MethodNotAllowed("GET, POST")

    async def _tell(self, request: Request, app: str, services: Services) -> Answer:
        caller = await self._authenticator.caller(request)
        query = request.query()
        space = query["spaceId"][-1] if "spaceId" in query else None
        since = query["since"][-1] if "since" in query else None
        tables = checked_tables("collection", query.get("collection", []), MAX_TABLES)
        inquiry = Inquiry(app, since, tables, None if space is None else _space(space, caller))
        return Answer(await digests(services.digests, services.key, caller, inquiry))

    async def _compare(self, request: Request, app: str, services: Services) -> Answer:
        caller = await self._authenticator.caller(request)
        body = await request.body(most=MAX_BODY)
        try:
            check_text(body)
        except InvalidValue as wrong:
            raise Malformed(f"{wrong}.", code="invalid_value", faults=(Fault("", str(wrong)),)) from None
        message = await aside(is_large(body), decode, body, CompareBody)
        if len(message.records) > MAX_RECORDS:
            raise Malformed(f"At most {MAX_RECORDS:,} records in records.", faults=(Fault("/records", "too many"),))
        space = caller.personal if message.spaceId is None else _space(message.spaceId, caller)
        tables = checked_tables("collections", message.collections or [], MAX_TABLES)
        inquiry = Inquiry(app, message.since, tables, space)
        held = DeviceBucket(message.bucket, message.records)
        return Answer(await differences(services.digests, services.key, caller, inquiry, held))


def _space(space: str, caller: Principal) -> str:
    # a personal space's id may be longer than an id: its user's may be as long as one
    if space != caller.personal and (wrong := fault_in_id(space)):
        raise Malformed(f"spaceId {wrong}.", faults=(Fault("/spaceId", wrong),))
    return space
