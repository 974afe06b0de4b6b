"""`POST /sync/{app}` and `GET /sync/{app}/pull`; what lies below /sync/{app}."""

from __future__ import annotations

import time
from functools import lru_cache

from syncd.core.errors import Fault, Malformed, MethodNotAllowed, NotFound
from syncd.core.shared_text import SharedText
from syncd.edge.answers import JSON, WORDS, Answer
from syncd.edge.authenticator import Authenticator
from syncd.edge.bytes_held import BytesHeld, Holder
from syncd.edge.endpoints.digest import DigestEndpoint
from syncd.edge.endpoints.held import HeldEndpoint
from syncd.edge.endpoints.history import HistoryEndpoint
from syncd.edge.requests import (
    MAX_TABLES,
    Request,
    checked_client,
    checked_id,
    checked_tables,
    page_bytes,
    query_values,
)
from syncd.edge.services import Services
from syncd.protocol import live_messages
from syncd.protocol.first_generation import client_of, push_body
from syncd.protocol.large import push_in
from syncd.protocol.messages import PushBody, decode
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import MOST_PAGE_ROWS, PAGE_BYTES, PAGE_ROWS, PullPage, PullRequest
from syncd.service.aside import aside, is_large
from syncd.service.digest import Inquiry, digests
from syncd.service.event_ids import EventIds
from syncd.service.pull import check_history, pull
from syncd.service.push import PushRequest

MAX_PRIORITY = 8
REMEMBERED, MAX_REMEMBERED = 4096, 512
MOST_DIGITS = 16  # of microseconds since 1970, for three hundred years


class SyncEndpoint:
    """The two calls that clients live by."""

    def __init__(self, authenticator: Authenticator, limits: Limits, answers: BytesHeld) -> None:
        self._authenticator, self._limits, self._answers = authenticator, limits, answers
        self._held = HeldEndpoint(authenticator)
        self._history, self._digest = HistoryEndpoint(authenticator, limits), DigestEndpoint(authenticator)

    async def handle(self, request: Request, parts: tuple[str, ...], services: Services) -> Answer:
        """Answers an address below /sync."""
        app = checked_id("app", parts[1])
        if len(parts) == 2:
            if request.method != "POST":
                raise MethodNotAllowed("POST")
            return await self._push(request, app, services)
        if len(parts) == 3 and parts[2] == "pull":
            if request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed("GET")
            return await self._pull(request, app, services)
        if len(parts) == 3 and parts[2] == "digest":
            return await self._digest.handle(request, app, services)
        if parts[2] == "held":
            return await self._held.handle(request, app, parts[3:], services)
        if parts[2] in ("records", "spaces"):
            return await self._history.handle(request, app, parts[2:], services)
        raise NotFound

    async def _push(self, request: Request, app: str, services: Services) -> Answer:
        caller = await self._authenticator.caller(request)
        body = await request.body(text=request.legacy)
        if large := is_large(body, request.legacy):
            message = await aside(True, push_in, body, self._limits, request.legacy)
        else:
            message = push_body(body) if request.legacy else decode(body, PushBody)
        client = _client(request, message, caller.user)
        if message.pull:
            # Once it is done it has to be answered, with all that was missed.
            self._answers.check(self._answers.large, Holder(self._answers, request.address, caller.user))
        size = PAGE_BYTES if request.legacy else live_messages.page_bytes(message.bytes, PAGE_BYTES)
        pushed = live_messages.pushed_in(message.pushed or [])
        roles = None if request.legacy else message.roles
        wanted = PullRequest(app, message.since or "", plain=request.legacy, bytes=size, roles=roles)
        now = time.time_ns() // 1000
        answer = await services.pushes.push(PushRequest(caller, client, wanted, body, message, now, EventIds(now)))
        for space, seq in answer.written.items():
            services.wrote(space, app, seq)
        services.counts.pushed(answer)
        await check_history(services.log, caller, client, pushed)
        return Answer(await aside(large, answer.body))

    async def _pull(self, request: Request, app: str, services: Services) -> Answer:
        caller = await self._authenticator.caller(request)
        short = len(request.query_string) <= MAX_REMEMBERED
        wanted = (_pull_request if short else _pull_request.__wrapped__)(app, request.query_string, request.legacy)
        delta = await pull(services.log, services.key, caller, wanted)
        if wanted.pushed:
            client = checked_client(request.header(b"x-client-id") or request.query().get("clientId", [""])[-1])
            await check_history(services.log, caller, client, wanted.pushed)
        services.counts.pulls += 1
        if delta.more or b"digest=1" not in request.query_string.split(b"&"):
            return _page(delta, _media_type(wanted, delta))
        inquiry = Inquiry(app, delta.synced_until, wanted.tables)
        said = b'"digest":%b,' % await digests(services.digests, services.key, caller, inquiry)
        return Answer(delta.body(said), media_type=_media_type(wanted, delta))


def _media_type(wanted: PullRequest, delta: PullPage) -> bytes:
    return WORDS if wanted.words and delta.in_words else JSON


def _page(delta: PullPage, media_type: bytes) -> Answer:
    """A page as an answer; one that others are sent too is packed once."""
    head, tail = delta.around()
    shared = (head, delta.changes, tail) if isinstance(delta.changes, SharedText) else None
    return Answer(b"".join((head, delta.changes, tail)), media_type=media_type, shared=shared)


@lru_cache(maxsize=REMEMBERED)
def _pull_request(app: str, query_string: bytes, plain: bool) -> PullRequest:
    """What a pull asks for; a device that has missed nothing asks in the same words again."""
    query = query_values(query_string, legacy=plain)
    return PullRequest(
        app,
        query.get("since", [""])[-1],
        checked_tables("collection", query.get("collection", []), MAX_TABLES),
        _limit(query.get("limit", [str(PAGE_ROWS)])[-1]),
        query.get("history", ["0"])[-1] in ("1", "true"),
        plain,
        bytes=page_bytes(query.get("bytes", [str(PAGE_BYTES)])[-1], PAGE_BYTES),
        priority=checked_tables("first", query.get("first", []), MAX_PRIORITY),
        pushed=() if plain else live_messages.pushed_in(query.get("pushed", [])),
        words=query.get("words", ["0"])[-1] in ("1", "true"),
        roles=None if plain else query.get("roles", [None])[-1],
        until=None if plain else _until(query.get("until", [None])[-1]),
        spaces=() if plain else live_messages.spaces_in(query.get("spaces"), "spaces"),
        known_tables=() if plain else _known_tables(query.get("knownCollection")),
        known_spaces=() if plain else live_messages.spaces_in(query.get("knownSpaces"), "knownSpaces"),
    )


def _known_tables(given: list[str] | None) -> tuple[str, ...]:
    return live_messages.some(given, checked_tables("knownCollection", given or [], MAX_TABLES), "knownCollection")


def _client(request: Request, message: PushBody, user: str) -> str:
    """The device that pushes. Raises Malformed."""
    if request.legacy:
        return client_of(request.headers.get(b"x-client-id", b"").decode(errors="replace") or message.clientId, user)
    client = request.header(b"x-client-id") or message.clientId
    if client is None:
        fault = Fault("/clientId", "name the device here or in the header X-Client-Id")
        raise Malformed("The push does not say which device it is from.", faults=(fault,))
    return checked_client(client)


def _until(text: str | None) -> int | None:
    if not text:
        return None if text is None else 0
    if not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        raise Malformed(
            "until must be empty, or what an answer gave.", faults=(Fault("/until", "is none that was given"),)
        )
    return int(text)


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_PAGE_ROWS and len(text) < 9):
        raise Malformed("limit must be 1 to 10,000.", faults=(Fault("/limit", "must be 1 to 10,000"),))
    return int(text)
