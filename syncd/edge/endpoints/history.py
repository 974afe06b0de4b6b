"""`/sync/{app}/records/…` and `/sync/{app}/spaces/…`: what was, and the way back."""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec
from msgspec import UnsetType

from syncd.core.clock import parse_instant
from syncd.core.errors import Fault, Malformed, MethodNotAllowed, NotFound, QuotaExceeded, TooLarge
from syncd.core.ids import fault_in_id
from syncd.core.principal import Principal, actor_of
from syncd.core.values import InvalidValue, check_text, check_value
from syncd.edge.answers import Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.requests import Request, checked_client, checked_id
from syncd.edge.services import Services
from syncd.protocol.messages import RestoreBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.page_token import PageToken, read_bookmark
from syncd.protocol.whose_changes import whose_changes
from syncd.service import history
from syncd.service.history import DEFAULT_LIMIT, MAX_LIMIT, Moment, RecordPlace, Wish

# It is written into every change of a restore.
MAX_BODY = 16 * 1024
# What goes back: a record, a space, or what an actor wrote in a space.
Back = Literal["record", "space", "actor"]


class HistoryEndpoint:
    """History, states of the past and restores."""

    def __init__(self, authenticator: Authenticator, limits: Limits) -> None:
        self._authenticator, self._limits = authenticator, limits

    async def handle(self, request: Request, app: str, parts: tuple[str, ...], services: Services) -> Answer:
        """Answers an address below /sync/{app}: `parts` are (records, table, id[, what]) or (spaces, space, what)."""
        match parts:
            case ("records", table, id_):
                return await self._record(request, RecordPlace(app, "", table, id_), services)
            case ("records", table, id_, "history"):
                return await self._changes(request, RecordPlace(app, "", table, id_), services)
            case ("records", table, id_, "restore"):
                return await self._restore(request, RecordPlace(app, "", table, id_), services, "record")
            case ("spaces", space, "at"):
                return await self._space(request, RecordPlace(app, space), services)
            case ("spaces", space, "restore"):
                return await self._restore(request, RecordPlace(app, space), services, "space")
            case ("spaces", space, "revert"):
                return await self._restore(request, RecordPlace(app, space), services, "actor")
        raise NotFound

    async def _record(self, request: Request, place: RecordPlace, services: Services) -> Answer:
        caller, place = await self._read(request, place)
        query = Query(request)
        return Answer(await history.record(services.history, caller, place, query.moment("at")))

    async def _changes(self, request: Request, place: RecordPlace, services: Services) -> Answer:
        caller, place = await self._read(request, place)
        query = Query(request)
        limit, before = query.number("limit", 1, MAX_LIMIT) or DEFAULT_LIMIT, query.number("before", 1)
        return Answer(await history.changes(services.history, caller, place, limit, before, _bookmark(query)))

    async def _space(self, request: Request, place: RecordPlace, services: Services) -> Answer:
        caller, place = await self._read(request, place)
        query = Query(request)
        limit, bookmark = query.number("limit", 1, MAX_LIMIT), _bookmark(query)
        moment = query.moment("instant")
        return Answer(
            await history.space(
                services.history,
                caller,
                place,
                moment if bookmark is None else Moment(),
                limit or DEFAULT_LIMIT,
                bookmark,
            )
        )

    async def _read(self, request: Request, place: RecordPlace) -> tuple[Principal, RecordPlace]:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("GET")
        caller = await self._authenticator.caller(request)
        return caller, _checked(place, caller, Query(request))

    async def _restore(self, request: Request, place: RecordPlace, services: Services, back: Back) -> Answer:
        if request.method != "POST":
            raise MethodNotAllowed("POST")
        caller = await self._authenticator.caller(request)
        place = _checked(place, caller, Query(request))
        wish = self._wish(caller, request, await request.body(), back)
        if over := services.log.full.get(place.space):
            services.log.on_hit(over.quota, over.space_id)
            raise QuotaExceeded(over.quota)
        ruled, now = services.rules.tables(place.app), time.time_ns() // 1000
        answer = await history.restore(services.history, caller, place, wish, now, ruled)
        for space, seq in answer.written.items():
            services.wrote(space, place.app, seq)
            noted = {"app": place.app, "changes": len(answer.results), **caller.noted}
            await services.audit.say(caller.user, "restore", space, noted)
        services.counts.pushed(answer)
        return Answer(answer.body())

    def _wish(self, caller: Principal, request: Request, body: bytes, back: Back) -> Wish:
        if len(body) > MAX_BODY:
            raise TooLarge(f"The body of a restore has at most {MAX_BODY} bytes.")
        try:
            check_text(body)
        except InvalidValue as wrong:
            raise Malformed(f"{wrong}.", code="invalid_value", faults=(Fault("", str(wrong)),)) from None
        message = decode(body, RestoreBody)
        client = request.header(b"x-client-id") or message.clientId
        if client is None:
            fault = Fault("/clientId", "name the device here or in the header X-Client-Id")
            raise Malformed("The restore does not say which device it is from.", faults=(fault,))
        checked_client(client)
        if message.changeId is not None:
            checked_id("changeId", message.changeId)
        revert, actor = None, self._actor(message)
        if back == "actor":
            revert, actor = _reverted(actor)
        acting = actor_of(caller.service, actor)
        return Wish(client, _goal(message, back), message.changeId, acting, message.origin, revert)

    def _actor(self, message: RestoreBody) -> str | None:
        if isinstance(message.actor, UnsetType):
            return None
        try:
            check_value(bytes(message.actor), self._limits.max_depth)
        except InvalidValue as wrong:
            raise _fault("actor", str(wrong), "invalid_value") from None
        return bytes(message.actor).decode()


def _bookmark(query: Query) -> PageToken | None:
    after = query.text("after")
    return None if after is None else read_bookmark(after)


def _fault(name: str, detail: str, code: str = "invalid_request") -> Malformed:
    return Malformed(f"{name} {detail}.", code=code, faults=(Fault(f"/{name}", detail),))


def _reverted(actor: str | None) -> tuple[dict[str, Any], str]:
    """Whose changes a revert takes back, and the actor of its own as JSON text, by which it is reverted itself."""
    if actor is None:
        raise _fault("actor", "is missing: whose changes are to be taken back")
    try:
        whose = whose_changes(actor)
    except ValueError as wrong:
        raise _fault("actor", str(wrong)) from None
    return whose, msgspec.json.encode({"reverted": whose}).decode()


def _goal(message: RestoreBody, back: Back) -> Moment:
    """When a restore goes back to: a record to a seq, a space to a seq or an instant. A revert is of what came after
    it, or of all."""
    if message.instant is not None and back == "record":
        raise _fault("instant", "is for spaces; a record goes back to a seq of its history")
    if message.instant is not None and message.seq is not None:
        raise _fault("seq", "and instant exclude each other")
    if message.instant is not None:
        return Moment(at=_instant("instant", message.instant))
    if message.seq is None and back == "actor":
        return Moment(seq=0)
    if message.seq is None:
        raise _fault("instant" if back == "space" else "seq", "is missing")
    return Moment(seq=message.seq)


def _instant(name: str, text: str) -> int:
    try:
        return parse_instant(text)
    except ValueError as wrong:
        raise _fault(name, f"is {wrong}") from None


def _checked(place: RecordPlace, caller: Principal, query: Query) -> RecordPlace:
    """The place with its ids checked, and for a record the space that the query names, else the personal one."""
    if place.table is None or place.id is None:
        space = place.space
    else:
        checked_id("table", place.table)
        checked_id("id", place.id)
        space = query.text("spaceId") or caller.personal
        if query.text("spaceId") == "":
            raise _fault("spaceId", "must not be empty")
    # a personal space's id may be longer than an id: its user's may be as long as one
    if space != caller.personal and (wrong := fault_in_id(space)):
        raise _fault("spaceId", wrong)
    return place._replace(space=space)


class Query:
    """The query of an address, each value checked as it is asked for. What is given twice counts as given last."""

    def __init__(self, request: Request) -> None:
        self._values = request.query()

    def text(self, name: str) -> str | None:
        """A value as it is."""
        return self._values[name][-1] if name in self._values else None

    def number(self, name: str, least: int, most: int = (1 << 63) - 1) -> int | None:
        """A whole number. Raises Malformed with its name."""
        text = self.text(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
            raise _fault(name, f"must be {least} to {most:,}")
        return int(text)

    def moment(self, name: str) -> Moment:
        """The moment that `seq`, or an instant called `name`, says."""
        seq, at = self.number("seq", 0), self.text(name)
        if seq is not None and at is not None:
            raise _fault("seq", f"and {name} exclude each other")
        return Moment(seq, None if at is None else _instant(name, at))
