"""Performs the steps of a session over HTTP, once with threads and once with asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from math import inf
from typing import Any
from urllib.parse import quote

import httpx

from ..data.conflict import Conflict
from ..errors import NotAllowed, Offline, SyncBusy
from ..store.lease import GiveBack, Lease
from .pace import SLOWEST
from .session import Session
from .steps import Done, Renew, Send, Wait

Notify = Callable[[Conflict], object]
_STANDSTILL = 30.0
TIMEOUT = httpx.Timeout(_STANDSTILL, connect=10.0)
_POLL = 0.05


def app_path(app: str) -> str:
    """The path of an app's push; its pull is below it."""
    return f"/sync/{quote(app, safe='')}"


def _headers(client: str, token: str, body: bytes | None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", **device_headers(client)}
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


def _patience(given: httpx.Timeout, body: bytes | None, left: float | None) -> httpx.Timeout:
    """The client's own times, of which none is for ever. A body may be on its way for long after it was sent."""
    travel = len(body or b"") / SLOWEST
    most = inf if left is None else max(left, 0.001)
    return httpx.Timeout(
        connect=min(given.connect or _STANDSTILL, most),
        read=min((given.read or _STANDSTILL) + travel, most),
        write=min((given.write or _STANDSTILL) + travel, most),
        pool=min(given.pool or _STANDSTILL, most),
    )


def _request(
    http: httpx.Client, url: str, send: Send, headers: Mapping[str, str], left: float | None
) -> httpx.Response | httpx.RequestError:
    """The answer, or why there is none: not raised, so that no error of ours drags the library's along."""
    try:
        return http.request(**_arguments(http.timeout, url, send, headers, left))
    except httpx.RequestError as error:
        return error


async def _request_async(
    http: httpx.AsyncClient, url: str, send: Send, headers: Mapping[str, str], left: float | None
) -> httpx.Response | httpx.RequestError:
    try:
        return await http.request(**_arguments(http.timeout, url, send, headers, left))
    except httpx.RequestError as error:
        return error


def _arguments(
    given: httpx.Timeout, url: str, send: Send, headers: Mapping[str, str], left: float | None
) -> dict[str, Any]:
    return {
        "method": send.method,
        "url": url + send.path,
        "params": send.params or None,
        "content": send.body,
        "headers": headers,
        "timeout": _patience(given, send.body, left),
    }


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


def perform(session: Session, http: httpx.Client, url: str, fresh: Callable[[], str], notify: Notify) -> None:
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
                reply = _request(http, url, step, _headers(session.client, token, step.body), session.left)
                if isinstance(reply, httpx.Response):
                    took = time.monotonic() - began
                    for conflict in session.receive(step, reply.status_code, reply.headers, reply.content, took):
                        notify(conflict)
                else:
                    session.failed(step, reply)


async def perform_async(
    session: Session,
    http: httpx.AsyncClient,
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
                reply = await _request_async(http, url, step, _headers(session.client, token, step.body), session.left)
                if isinstance(reply, httpx.Response):
                    answer = (reply.status_code, reply.headers, reply.content, time.monotonic() - began)
                    for conflict in await asyncio.to_thread(session.receive, step, *answer):
                        await notify(conflict)
                else:
                    await asyncio.to_thread(session.failed, step, reply)
