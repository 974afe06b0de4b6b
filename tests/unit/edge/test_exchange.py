"""A request through a host's server: its client is waited for, and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from syncd.core.errors import TooSlow
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.mounted import Exchange
from syncd.edge.requests import Disconnected, Request
from syncd.edge.wire import LEAVE

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b"", "http_version": "1.1"}


async def never(*_: Any) -> Any:
    await asyncio.Event().wait()


class Taker:
    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: Any) -> None:
        self.messages.append(message)


async def test_a_body_whose_client_gives_way_is_too_slow() -> None:
    exchange = Exchange(SCOPE, never, never, 60)
    request = Request({**SCOPE, LEAVE: exchange.end}, exchange.receive, BytesHeld(1 << 20))
    reading = asyncio.ensure_future(request.body())
    await asyncio.sleep(0)
    request.end()
    async with asyncio.timeout(20):
        with pytest.raises(TooSlow):
            await reading
        assert await exchange.receive() == {"type": "http.disconnect"}


async def test_an_answer_whose_client_gives_way_or_takes_nothing_ends() -> None:
    exchange = Exchange(SCOPE, never, never, 60)
    sending = asyncio.ensure_future(exchange.send({"type": "http.response.body", "body": b"x"}))
    await asyncio.sleep(0)
    exchange.end()
    async with asyncio.timeout(20):
        with pytest.raises(Disconnected):
            await sending
        with pytest.raises(Disconnected):
            await exchange.send({"type": "http.response.body", "body": b"x"})
        with pytest.raises(Disconnected):
            await Exchange(SCOPE, never, never, 0.01).send({"type": "http.response.body", "body": b""})


async def test_a_client_that_has_gone_is_no_error() -> None:
    async def gone(message: Any) -> None:
        raise OSError

    with pytest.raises(Disconnected):
        await Exchange(SCOPE, never, gone, 60).send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(("version", "kept"), [("1.1", 2), ("2", 1), ("3", 1)])
async def test_headers_of_a_connection_are_of_http_1(version: str, kept: int) -> None:
    taker = Taker()
    exchange = Exchange({**SCOPE, "http_version": version}, never, taker.send, 60)
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})
    assert len(taker.messages[0]["headers"]) == kept


async def test_a_head_is_answered_without_a_body() -> None:
    taker = Taker()
    exchange = Exchange({**SCOPE, "method": "HEAD"}, never, taker.send, 60)
    await exchange.send({"type": "http.response.body", "body": b"x"})
    assert taker.messages == [{"type": "http.response.body", "body": b""}]
