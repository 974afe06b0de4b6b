"""Performs the steps of a session over HTTP, once with threads and once with asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from math import inf
from urllib.parse import quote, urlencode

from ..data.conflict import Conflict
from ..errors import NotAllowed, Offline, SyncBusy
from ..store.lease import GiveBack, Lease
from .http import HttpRequest, HttpResponse, SendFailed, SendRequest, SendRequestAsync
from .pace import SLOWEST
from .session import Session
from .steps import Done, Renew, Send, Wait

Notify = Callable[[Conflict], object]
_STANDSTILL = 30.0
_CONNECT = 10.0
_POLL = 0.05


def app_path(app: str) -> str:
    """The path of an app's push; its pull is below it."""
    return f"/sync/{quote(app, safe='')}"


def _headers(client: str, token: str, body: bytes | None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}", **device_headers(client)}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return headers


def device_headers(client: str) -> dict[str, str]:
    """The headers of every request and every socket about this device."""
    return {"X-Sync-Protocol": "1"} | ({"X-Client-Id": client} if client.isascii() else {})


@contextmanager
def taken(lease: Lease, patience: float) -> Iterator[None]:
    """The right to sync, waited for up to `patience` seconds; a live sync of this replica lends it. Raises SyncBusy."""
    until = time.monotonic() + patience
    give_back: GiveBack | None = None
    while give_back is None:
        if lease.lender is not None:
            give_back = lease.lender.lend(max(0.0, until - time.monotonic()))
        elif lease.take():
            give_back = lease.release
        if give_back is None:
            _check_patience(until)
            time.sleep(_POLL)
    try:
        yield
    finally:
        give_back()


@asynccontextmanager
async def taken_async(lease: Lease, patience: float) -> AsyncIterator[None]:
    """The same, without stopping the loop."""
    until = time.monotonic() + patience
    give_back: GiveBack | None = None
    while give_back is None:
        if lease.lender is not None:
            give_back = await lease.lender.lend_async(max(0.0, until - time.monotonic()))
        elif lease.take():
            give_back = lease.release
        if give_back is None:
            _check_patience(until)
            await asyncio.sleep(_POLL)
    try:
        yield
    finally:
        give_back()


def _check_patience(until: float) -> None:
    if time.monotonic() >= until:
        raise SyncBusy("another sync of this file is under way.")


def request_of(url: str, step: Send, headers: Mapping[str, str], left: float | None = None) -> HttpRequest:
    """The request of a step, no part of which may stand still for ever. `left`: seconds that there are for all of it. A
    body may be on its way for long after it was sent."""
    most = inf if left is None else max(left, 0.001)
    query = f"?{urlencode(step.params, doseq=True, quote_via=quote)}" if step.params else ""
    return HttpRequest(
        step.method, url + step.path + query, headers, step.body,
        connect_within=min(_CONNECT, most), idle=min(_STANDSTILL + len(step.body or b"") / SLOWEST, most),
    )  # fmt: skip


def _answer(send: SendRequest, request: HttpRequest) -> HttpResponse | Exception:
    """The answer, or why there is none: not raised, so that no error of ours drags another along."""
    try:
        return send(request)
    except (SendFailed, OSError) as error:
        return error


async def _answer_async(send: SendRequestAsync, request: HttpRequest) -> HttpResponse | Exception:
    try:
        return await send(request)
    except (SendFailed, OSError) as error:
        return error


def _fresh(session: Session, fresh: Callable[[], str]) -> str:
    try:
        return fresh()
    except (NotAllowed, Offline) as error:
        session.no_token(error)


async def _fresh_async(session: Session, fresh: Callable[[], Awaitable[str]]) -> str:
    try:
        return await fresh()
    except (NotAllowed, Offline) as error:
        failure = error
    await asyncio.to_thread(session.no_token, failure)
    raise failure


def perform(session: Session, send: SendRequest, url: str, fresh: Callable[[], str], notify: Notify) -> None:
    """Runs a session to its end. Raises what it raises."""
    token = _fresh(session, fresh)
    while not isinstance(step := session.next(), Done):
        match step:
            case Wait():
                time.sleep(step.seconds)
            case Renew():
                token = _fresh(session, fresh)
            case Send():
                began = time.monotonic()
                headers = _headers(session.client, token, step.body)
                reply = _answer(send, request_of(url, step, headers, session.left))
                if isinstance(reply, HttpResponse):
                    for conflict in session.receive(step, *reply, time.monotonic() - began):
                        notify(conflict)
                else:
                    session.failed(step, reply)


async def perform_async(
    session: Session,
    send: SendRequestAsync,
    url: str,
    fresh: Callable[[], Awaitable[str]],
    notify: Callable[[Conflict], Awaitable[object]],
) -> None:
    """The same with asyncio; the file is touched in a thread, so the loop never waits for the disk."""
    token = await _fresh_async(session, fresh)
    while not isinstance(step := await asyncio.to_thread(session.next), Done):
        match step:
            case Wait():
                await asyncio.sleep(step.seconds)
            case Renew():
                token = await _fresh_async(session, fresh)
            case Send():
                began = time.monotonic()
                headers = _headers(session.client, token, step.body)
                reply = await _answer_async(send, request_of(url, step, headers, session.left))
                if isinstance(reply, HttpResponse):
                    took = time.monotonic() - began
                    for conflict in await asyncio.to_thread(session.receive, step, *reply, took):
                        await notify(conflict)
                else:
                    await asyncio.to_thread(session.failed, step, reply)
