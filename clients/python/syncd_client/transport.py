"""Performs the steps of a session over HTTP, once with threads and once with asyncio."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import quote

import httpx

from .errors import SyncBusy
from .lease import GiveBack, Lease
from .reply import Conflict
from .sync import Done, Renew, Send, Session, Wait

Token = str | Callable[[], str] | Callable[[], Awaitable[str]]
Notify = Callable[[Conflict], object]
TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_POLL = 0.05


def app_path(app: str) -> str:
    """The path of an app's push; its pull is below it."""
    return f"/sync/{quote(app, safe='')}"


def claim(token: str, name: str) -> Any:
    """A claim of a JWT, unverified; None where there is none, or no JWT."""
    try:
        part = token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))[name]
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def subject(token: str) -> str | None:
    """The user that a JWT speaks for, unverified: only to keep two users out of one file."""
    user = claim(token, "sub")
    return user if isinstance(user, str) else None


def _headers(client: str, token: str, body: bytes | None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json", **device_headers(client)}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return headers


def device_headers(client: str) -> dict[str, str]:
    """What every request and every socket says about this device."""
    return {"X-Sync-Protocol": "1"} | ({"X-Client-Id": client} if client.isascii() else {})


def ask(token: Token, checked: Callable[[str], None]) -> str:
    """The token now. `checked` refuses that of another user."""
    answer = token if isinstance(token, str) else token()
    if not isinstance(answer, str):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError("token= must be text, or a callable that returns text; use AsyncReplica for async ones")
    checked(answer)
    return answer


async def ask_async(token: Token, checked: Callable[[str], None]) -> str:
    """The token now, from text, a callable or an async callable."""
    answer = token if isinstance(token, str) else token()
    if not isinstance(answer, str):
        answer = await answer
    await asyncio.to_thread(checked, answer)
    return answer


@contextmanager
def taken(lease: Lease, patience: float) -> Iterator[None]:
    """The right to sync, waited for up to `patience` seconds; a live sync of this replica lends it. Raises SyncBusy."""
    until = time.monotonic() + patience
    give_back: GiveBack | None = None
    while give_back is None:
        if lease.lender is not None:
            give_back = lease.lender.borrow(max(0.0, until - time.monotonic()))
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
            give_back = await lease.lender.borrow_async(max(0.0, until - time.monotonic()))
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


def perform(
    session: Session, http: httpx.Client, url: str, client: str, fresh: Callable[[], str], notify: Notify
) -> None:
    """Runs a session to its end. Raises what it raises."""
    token = fresh()
    while not isinstance(step := session.next(), Done):
        match step:
            case Wait():
                time.sleep(step.seconds)
            case Renew():
                token = fresh()
            case Send():
                try:
                    reply = http.request(
                        step.method,
                        url + step.path,
                        params=step.params or None,
                        content=step.body,
                        headers=_headers(client, token, step.body),
                    )
                except httpx.RequestError as error:
                    session.failed(error)
                    continue
                for conflict in session.receive(step, reply.status_code, reply.headers, reply.content):
                    notify(conflict)


async def perform_async(
    session: Session,
    http: httpx.AsyncClient,
    url: str,
    client: str,
    fresh: Callable[[], Awaitable[str]],
    notify: Callable[[Conflict], Awaitable[object]],
) -> None:
    """The same with asyncio; the file is touched in a thread, so the loop never waits for the disk."""
    token = await fresh()
    while not isinstance(step := await asyncio.to_thread(session.next), Done):
        match step:
            case Wait():
                await asyncio.sleep(step.seconds)
            case Renew():
                token = await fresh()
            case Send():
                try:
                    reply = await http.request(
                        step.method,
                        url + step.path,
                        params=step.params or None,
                        content=step.body,
                        headers=_headers(client, token, step.body),
                    )
                except httpx.RequestError as error:
                    await asyncio.to_thread(session.failed, error)
                    continue
                received = asyncio.to_thread(session.receive, step, reply.status_code, reply.headers, reply.content)
                for conflict in await received:
                    await notify(conflict)
