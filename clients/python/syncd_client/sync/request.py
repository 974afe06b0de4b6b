"""One question of a replica to the server, repeated while the failure passes by itself."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from ..data.change import check_asked
from ..data.values import dump, parse
from ..errors import BadReply, InvalidQuery, NotAllowed, Offline, Refused, ServerBusy, shape
from ..store.identity import Identity
from . import transport
from .failures import describe
from .http import HttpResponse, SendFailed
from .reply import read_problem
from .retry import RetryPolicy, parse_retry_after, passes
from .server import Server
from .steps import Send

T = TypeVar("T")


class Asker(Protocol):
    """A replica, as far as its questions to the server need it."""

    identity: Identity
    retry: RetryPolicy
    server: Server


def ask(replica: Asker, method: str, path: str, params: dict[str, str] | None = None, body: Any = None) -> Any:
    """The answer; None for one without content. What is asked must be safe to repeat: say, it carries a changeId.

    `body` is JSON, None for none. Raises InvalidQuery for text that cannot be sent, Offline, ServerBusy, NotAllowed,
    Refused, BadReply.
    """
    content = _encode(params, body)
    url, tokens = replica.server.url_and_tokens()
    attempt, renewed = 0, False
    while True:
        attempt += 1
        headers = {"Authorization": f"Bearer {tokens.ask()}", "Content-Type": "application/json"}
        headers |= transport.device_headers(replica.identity.client_id)
        try:
            reply = replica.server.send(
                transport.request_of(url, Send(method, path, params or {}, content, ()), headers)
            )
        except (SendFailed, OSError) as cause:
            failure: Offline | ServerBusy = Offline(f"{describe(cause)}.")
        else:
            if reply.status == 204:
                return None
            if 200 <= reply.status < 300:
                return read_answer(partial(parse, reply.body))
            if reply.status == 401 and not renewed:
                renewed = True
                continue
            failure = _failure(reply)
        wanted = failure.retry_after if isinstance(failure, ServerBusy) else None
        pause = replica.retry.delay(attempt, wanted, random.random())
        if pause is None:
            raise failure
        time.sleep(pause)


def _encode(params: dict[str, str] | None, body: Any) -> bytes | None:
    try:
        "".join((params or {}).values()).encode()
        return None if body is None else dump(body).encode()
    except UnicodeEncodeError:
        raise InvalidQuery("half a surrogate pair is no text that can be sent.") from None


def _failure(reply: HttpResponse) -> ServerBusy:
    """The failure that passes by itself. Raises NotAllowed and Refused, which do not."""
    problem = read_problem(reply.status, reply.body)
    if problem.status in (401, 403):
        raise NotAllowed(problem.detail, code=problem.code)
    if not passes(problem.status):
        raise Refused(problem.detail, code=problem.code, status=problem.status, errors=problem.errors)
    wanted = parse_retry_after(reply.headers, time.time())
    return ServerBusy(f"{problem.detail} ({problem.status} {problem.code})", code=problem.code, retry_after=wanted)


def read_answer(make: Callable[[], T]) -> T:
    """An answer, read by `make`. Raises BadReply where it cannot."""
    try:
        return make()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadReply(f"the answer cannot be read: {shape(error)}.") from None


def segment(name: str, id: str) -> str:
    """An id in an address, which would lose `.` and `..` on its way. Raises InvalidQuery."""
    return quote(check_asked(name, id), safe="")
