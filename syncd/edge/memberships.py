"""The service of the operator's that says who is in which space: what it is asked, and how its answer is read.

A module of its own, for an HTTP client is a sixth of what a worker has to load before it serves.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx2
import structlog

from syncd.core.errors import MembershipsUnavailable
from syncd.core.ids import fault_in_id
from syncd.core.unlogged import unlogged
from syncd.edge.tokens import ROLES, spaces_in
from syncd.service.http_client import SERVICE_TIMEOUT, http_client

log = structlog.get_logger("syncd.memberships")

# Between two calls for one user, seconds: what one user's requests can cost the service.
SPACING = 0.05
MOST_TOLD = 100


class MembershipSource(NamedTuple):
    """`url`: with `{user}` where the user's id goes, else it is a query's `userId`; `header`: `name: value`; `roles`:
    the service's roles that are not ours, and which of ours each is. With such a table other roles are passed over."""

    url: str
    header: str | None = None
    roles: Mapping[str, str] = {}

    def request(self, user: str) -> dict[str, Any]:
        """What is asked about a user, as an HTTP client's `get` takes it."""
        name, _, value = (self.header or "").partition(":")
        asked: dict[str, Any] = {"headers": {name.strip(): value.strip()}} if name else {}
        if "{user}" in self.url:
            return {**asked, "url": self.url.replace("{user}", quote(user, safe=""))}
        return {**asked, "url": self.url, "params": {"userId": user}}

    def spaces(self, given: Any, unknown: set[str], faults: set[str]) -> list[dict[str, str]] | None:
        """The list in an answer, as [{"id", "role"}]; None where there is none. Roles that are passed over go to
        `unknown`, and what is wrong with entries that are to `faults`.

        It is a list, or in the member `spaces` or `memberships` of an object; a space is `organizationId` or `id`. In
        `memberships`, the first generation's form, null is none, an entry without a role is passed over, and one that
        cannot be read too, unless none can; elsewhere these are faults, which must not look like no spaces.
        """
        theirs = isinstance(given, dict) and "memberships" in given and "spaces" not in given
        if theirs:
            given = [] if given["memberships"] is None else given["memberships"]
        elif isinstance(given, dict):
            given = given.get("spaces")
        if not isinstance(given, list) or not all(isinstance(entry, dict) for entry in given):
            return None
        named = [
            {"id": entry.get("organizationId", entry.get("id")), "role": entry.get("role")}
            for entry in given
            if not theirs or entry.get("role") is not None
        ]
        if theirs:
            found = [_fault_in(entry) for entry in named]
            faults.update(fault for fault in found if fault)
            if named and all(found):
                return None
            named = [entry for entry, fault in zip(named, found, strict=True) if not fault]
        return spaces_in(self._translated(named, unknown) if self.roles else named)

    def _translated(self, given: list[dict[str, Any]], unknown: set[str]) -> list[dict[str, Any]]:
        """The same with our roles, of several of one space the strongest."""
        found: dict[Any, dict[str, Any]] = {}
        for entry in given:
            theirs, space = entry["role"], entry["id"]
            ours = self.roles.get(theirs, theirs) if isinstance(theirs, str) else None
            if not isinstance(theirs, str) or not isinstance(space, str):
                return [entry]  # which is no list of ours either
            if ours not in ROLES:
                unknown.add(theirs)
            elif space not in found or ROLES.index(ours) < ROLES.index(found[space]["role"]):
                found[space] = {"id": space, "role": ours}
        return list(found.values())


def _fault_in(entry: dict[str, Any]) -> str | None:
    """What is wrong with a membership, None: nothing."""
    if not isinstance(entry["id"], str) or fault_in_id(entry["id"]):
        return "it has no organizationId that can be one"
    return None if isinstance(entry["role"], str) else "its role is no text"


class _Line:
    """The calls about one user: when the last began, whether it is still under way, and the one that has not begun."""

    __slots__ = ("began", "next", "under_way")

    def __init__(self) -> None:
        self.began = -math.inf
        self.next: asyncio.Task[list[dict[str, str]]] | None = None
        self.under_way = asyncio.Lock()


class MembershipService:
    """Asks the service for every request: nothing is kept past a removal.

    A question about a user while a call about that user is under way waits for the next one, together with the others,
    and between the beginnings of two calls is a pause: however much a user sends, there are never more than
    1 / SPACING a second.
    """

    def __init__(self, source: MembershipSource) -> None:
        self._source = source
        self._client = http_client()
        self._lines: dict[str, _Line] = {}
        self._waiting = Counter[asyncio.Task[list[dict[str, str]]]]()
        self._told, self._faults = set[str](), set[str]()

    async def spaces(self, user: str) -> list[dict[str, str]]:
        """The user's spaces. Raises MembershipsUnavailable for anything that is not a list of them."""
        line = self._lines.get(user)
        if line is None:
            line = self._lines[user] = _Line()
        if line.next is None:
            line.next = asyncio.create_task(self._in_turn(user, line))
            line.next.add_done_callback(lambda done: done.cancelled() or done.exception())  # who asked may be gone
        call = line.next
        self._waiting[call] += 1
        try:
            # For the whole wait: the client's own limit is for each piece of an answer.
            async with asyncio.timeout(SERVICE_TIMEOUT):
                return await asyncio.shield(call)
        except TimeoutError:
            log.warning("memberships unavailable", error="TimeoutError")
            raise MembershipsUnavailable from None
        finally:
            self._waiting[call] -= 1
            if not self._waiting[call]:  # nobody hears it: whoever asks next is not to wait for it
                del self._waiting[call]
                line.next = None if line.next is call else line.next
                call.cancel()

    async def _in_turn(self, user: str, line: _Line) -> list[dict[str, str]]:
        try:
            async with line.under_way:
                await asyncio.sleep(max(0.0, line.began + SPACING - time.monotonic()))
                line.next, line.began = None, time.monotonic()  # who comes from now on must hear what is said later
                async with asyncio.timeout(SERVICE_TIMEOUT):
                    return await self._call(user)
        except TimeoutError:
            raise MembershipsUnavailable from None
        finally:
            asyncio.get_running_loop().call_later(SPACING, self._forget, user, line)

    def _forget(self, user: str, line: _Line) -> None:
        if line.next is None and not line.under_way.locked() and self._lines.get(user) is line:
            del self._lines[user]

    async def _call(self, user: str) -> list[dict[str, str]]:
        began = time.monotonic()
        try:
            with unlogged():
                answer = await self._client.get(**self._source.request(user))
            answer.raise_for_status()
            given = answer.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, RecursionError, ValueError) as why:
            log.warning("memberships unavailable", error=type(why).__name__)
            raise MembershipsUnavailable from None
        unknown, faults = set[str](), set[str]()
        spaces = self._source.spaces(given, unknown, faults)
        if spaces is None:
            log.warning("memberships unavailable", error="not a list of spaces")
            raise MembershipsUnavailable
        self._tell(unknown, faults)
        log.debug("memberships asked", spaces=len(spaces), ms=round((time.monotonic() - began) * 1000, 1))
        return spaces

    def _tell(self, unknown: set[str], faults: set[str]) -> None:
        """Says once of each role, and of each fault of an entry, that it is passed over."""
        for fault in sorted(faults - self._faults):
            self._faults.add(fault)
            log.warning("a membership is passed over", fault=fault, remedy="see what the membership service answers")
        for role in sorted(unknown - self._told)[: MOST_TOLD - len(self._told)]:
            self._told.add(role)
            log.warning("a role is passed over", role=role[:40], remedy="name it in SYNCD_MEMBERSHIPS_ROLES")

    async def close(self) -> None:
        """Ends the connections."""
        await self._client.aclose()
