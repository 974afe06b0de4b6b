"""Whose a request is, as the application says in which syncd is mounted: its own sessions, in place of tokens."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

import structlog

from syncd.core.errors import KeysUnavailable, SyncdError, Unauthorized
from syncd.core.failures import log_failure
from syncd.core.ids import SERVICES, fault_in_user
from syncd.core.principal import Principal
from syncd.edge.admission import Admission
from syncd.edge.answers import Scope
from syncd.edge.handshake import check_page
from syncd.edge.tokens import Identity, spaces_in

log = structlog.get_logger("syncd.host")

Authenticate = Callable[[Scope], Principal | Awaitable[Principal | None] | None]

# How long the application may take to say it.
ANSWER_WITHIN = 10.0
SAFE = ("GET", "HEAD", "OPTIONS")
# "has expired" is how a client tells that its user has to sign in. It has room in a close frame.
UNKNOWN = "Nobody is signed in to the application: the session has expired, or there is none. Sign in, and try again."
SILENT = "The application could not say whose request this is."


class HostIdentity:
    """Asks the application for each request. `authenticate` gets the scope of a request or a WebSocket, with the token
    of an `auth` frame as its `authorization` header where it has none; a function that is not async runs in a thread.

    `lists`: whether the application also says which spaces a user is in. `recheck`: seconds after which it is asked
    again about a live connection.
    """

    def __init__(self, authenticate: Authenticate, admission: Admission, *, lists: bool, recheck: float) -> None:
        self._ask, self._admission, self._lists, self.recheck = authenticate, admission, lists, recheck
        call = getattr(authenticate, "__call__", None)  # noqa: B004  an object's, which may be async
        self._async = inspect.iscoroutinefunction(authenticate) or inspect.iscoroutinefunction(call)

    async def identity(self, authorization: bytes, scope: Scope | None) -> Identity:
        """Raises Unauthorized, Forbidden, KeysUnavailable, SyncdError, and any SyncdError that the application does."""
        if scope is None:
            raise Unauthorized
        if scope["type"] == "http" and scope["method"] not in SAFE:
            # A browser adds a session's cookie to what pages of others send.
            check_page(self._admission, scope["headers"])
        principal = await self._principal(_with_token(scope, authorization))
        if principal is None:
            raise Unauthorized(UNKNOWN)
        return self._checked(principal)

    async def _principal(self, scope: Scope) -> Principal | None:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                if self._async:
                    return await cast(Awaitable[Principal | None], self._ask(scope))
                found = await asyncio.to_thread(self._ask, scope)
                return await found if inspect.isawaitable(found) else found
        except SyncdError:
            raise
        except TimeoutError:
            log.error("authenticate does not answer", seconds=ANSWER_WITHIN)
        except Exception as why:
            log_failure(log, "authenticate failed", why)
        # Nobody was signed out: it is worth trying again.
        raise KeysUnavailable(SILENT)

    def _checked(self, principal: Any) -> Identity:
        """What the application said, where it can be used. Raises SyncdError."""
        wrong = self._fault(principal)
        if wrong:
            log.error("what authenticate returned cannot be used", why=wrong)
            raise SyncdError
        if principal.external is None:
            return Identity(principal.user, math.inf, 0.0, None)
        spaces = spaces_in(principal.external.spaces)
        return Identity(principal.user, math.inf, principal.external.as_of / 1_000_000, spaces)

    def _fault(self, principal: Any) -> str:
        if not isinstance(principal, Principal):
            return "it is no Principal, and not None"
        if not isinstance(principal.user, str) or (wrong := fault_in_user(principal.user)):
            return f"the user {wrong}" if isinstance(principal.user, str) else "the user is no text"
        if principal.service is not None:
            return "service= is syncd's own: a service shows a token"
        if principal.user.startswith(SERVICES):
            return f"a user that begins with {SERVICES} is a service's"
        if (principal.external is not None) != self._lists:
            return "external= is for SYNCD_MEMBERSHIPS=token, and needed there"
        if principal.external is not None and spaces_in(principal.external.spaces) is None:
            return "external= has no list of spaces"
        return ""


def _with_token(scope: Scope, authorization: bytes) -> Scope:
    """A WebSocket's scope with what its `auth` frame said: a browser can send no header with a WebSocket."""
    if scope["type"] == "http" or authorization == b"Bearer ":
        return scope
    headers = list(scope["headers"])
    if any(name == b"authorization" for name, _ in headers):
        return scope
    return {**scope, "headers": [*headers, (b"authorization", authorization)]}
