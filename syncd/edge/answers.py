"""Answers: bytes with a status, compressed as the client accepts it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, NamedTuple

from syncd.core.shared_text import SharedText
from syncd.edge.pace import ClientWait
from syncd.edge.splicing import is_made, spliced

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = b"application/json"
WORDS = b"application/vnd.syncd.words"  # JSON of which words are to be put back: no parser of JSON takes it as it is
COMPRESS_FROM = 1024
# That a client names; there are some ten.
MOST_CODINGS = 32
DROP_FOR = 5.0
# Compressing this much takes a few milliseconds, in which nobody else would be served.
IN_A_THREAD_FROM = 256 * 1024
# Copying and summing this much does.
COPIED_IN_A_THREAD_FROM = 4 * 1024 * 1024
# What is handed to a connection at a time, which then waits until its client has taken most of it.
PIECE = 256 * 1024


class Answer(NamedTuple):
    """A whole answer: `body` in the bytes of `media_type`, and further `headers`. `shared`: the text in it that others
    are sent too, with what stands before and behind it."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON
    headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012  never changed, only copied
    shared: tuple[bytes, SharedText, bytes] | None = None


NO_STORE = (b"cache-control", b"private, no-store")
ONLY_NO_STORE = [NO_STORE]


def of_a_user(what: Answer) -> Answer:
    """An answer that no cache may keep: where a cookie says who asks, its address is everybody's."""
    body, status, media_type, headers, shared = what
    if not headers:
        return Answer(body, status, media_type, ONLY_NO_STORE, shared)
    if any(name == b"cache-control" for name, _ in headers):
        return what
    return Answer(body, status, media_type, [*headers, NO_STORE], shared)


def accepted_coding(accept_encoding: bytes) -> bytes | None:
    """zstd when the client takes it, else gzip, else nothing; a coding with q=0 is refused by it."""
    if not accept_encoding:
        return None
    offers = {}
    for part in accept_encoding.lower().split(b",", MOST_CODINGS)[:MOST_CODINGS]:
        name, _, quality = part.partition(b";")
        offers[name.strip()] = quality.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return next((coding for coding in (b"zstd", b"gzip") if offers.get(coding)), None)


def _compress(body: bytes, coding: bytes) -> bytes:
    return zstd.compress(body, 3) if coding == b"zstd" else gzip.compress(body, 6, mtime=0)


async def answer_unread(send: Send, receive: Receive, what: Answer, most: int) -> None:
    """Sends an answer to a request whose body is still coming, and ends the connection. What comes meanwhile, up to
    `most` bytes and for some seconds, is read and dropped: a connection that is closed before would be reset, and many
    a client would see that instead of the answer."""
    headers = [(b"content-type", what.media_type), *what.headers, (b"connection", b"close")]
    headers.append((b"content-length", str(len(what.body)).encode()))
    await send({"type": "http.response.start", "status": what.status, "headers": headers})
    await send({"type": "http.response.body", "body": what.body, "more_body": True})
    await drop(receive, most)
    await send({"type": "http.response.body", "body": b""})


async def drop(receive: Receive, most: int) -> None:
    """Reads and drops what comes of a body, up to `most` bytes and for some seconds."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DROP_FOR):
            more = True
            while more and most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                more = bool(message.get("more_body"))


async def answer(send: Send, what: Answer, accept_encoding: bytes = b"") -> int:
    """Compresses an answer and sends it whole. Returns the bytes of its body as they travelled."""
    return await send_whole(send, await packed(what, accept_encoding))


async def packed(what: Answer, accept_encoding: bytes) -> Answer:
    """An answer as it travels. A caller that lets go of `what` keeps a large one only while it is compressed."""
    if len(what.body) < COMPRESS_FROM:
        return what
    body, headers = what.body, [*what.headers, (b"vary", b"accept-encoding")]
    if coding := accepted_coding(accept_encoding):
        body = await _packed_body(what, coding)
        headers.append((b"content-encoding", coding))
    return what._replace(body=body, headers=headers, shared=None)


async def _packed_body(what: Answer, coding: bytes) -> bytes:
    large, shared = len(what.body) >= IN_A_THREAD_FROM, what.shared
    if shared is None:
        return await asyncio.to_thread(_compress, what.body, coding) if large else _compress(what.body, coding)
    if len(what.body) >= COPIED_IN_A_THREAD_FROM or (large and not is_made(shared[1], coding)):
        return await asyncio.to_thread(spliced, *shared, coding)
    return spliced(*shared, coding)


async def send_whole(send: Send, what: Answer, wait: ClientWait | None = None) -> int:
    """Sends an answer that is packed: a large one in pieces, each when most of those before it have been taken, so that
    the connection holds no copy of all of it. `wait` is told of each. Returns the bytes of its body."""
    size = len(what.body)
    headers = [(b"content-type", what.media_type), *what.headers, (b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": what.status, "headers": headers})
    sent = 0
    while size - sent > PIECE:
        if wait is not None:
            wait.begin(time.monotonic())
        await send({"type": "http.response.body", "body": what.body[sent : sent + PIECE], "more_body": True})
        sent += PIECE
        if wait is not None:
            wait.end(PIECE, time.monotonic())
    await send({"type": "http.response.body", "body": what.body[sent:] if sent else what.body})
    return size
