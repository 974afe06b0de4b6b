"""One connection to NATS. It is not the library that reconnects, but `HeartbeatBus`, which knows when it has to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from nats import errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from syncd.bus.link import CONNECT_WITHIN, LinkLost

CLOSING = 0.5


class _Client(Client):
    """nats-py goes on in clear text when a server offers no TLS, with the password of a tls:// URL."""

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        server = self._current_server
        if initial_connection and server and server.uri.scheme == "tls" and not info.get("tls_required"):
            raise errors.Error("nats: the URL says tls://, but the server offers no TLS")
        await super()._process_info(info, initial_connection)

    async def end(self) -> None:
        """Closed within CLOSING seconds, and what could not be sent by then is not sent."""
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSING):
                    await self.close()
        finally:
            # Also where this is cancelled itself, by a server that stops while it is giving a line up.
            self._drop()
        await asyncio.sleep(0)

    def _drop(self) -> None:
        # close() waits until all is written, which a frozen server never reads, and keeps the socket until then.
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()
        # A close that is cut short early has not ended these, and the library has no way to be asked again.
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not asyncio.current_task():
                task.cancel()


class _NatsLink:
    def __init__(self, client: _Client, subscription: Subscription) -> None:
        self._client, self._subscription = client, subscription

    @property
    def closed(self) -> bool:
        return self._client.is_closed

    async def send(self, payloads: list[str]) -> None:
        for payload in payloads:
            await self._client.publish(self._subscription.subject, payload.encode())

    async def close(self) -> None:
        try:
            await self._client.end()
        finally:
            # A close that is cut short forgets the task that waits for messages.
            self._subscription._stop_processing()


async def connect(servers: list[str], subject: str, receive: Callable[[str], None]) -> _NatsLink:
    """Connected and subscribed. Raises LinkLost with what the server said, or what the library raises."""

    async def on_message(message: Msg) -> None:
        receive(message.data.decode("ascii", "replace"))

    client = _Client()
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            await client.connect(
                list(servers),
                name="syncd",
                error_cb=_silent,
                allow_reconnect=False,
                # Tries of one server before it goes to the next; 0 would mean for ever.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
            )
            return _NatsLink(client, await client.subscribe(subject, cb=on_message))
    except errors.Error as why:
        await client.end()
        # What a server refuses is worth reading. The library puts no URL into its errors.
        raise LinkLost(str(why)) from None
    except BaseException:
        await client.end()
        raise


async def _silent(error: Exception) -> None:
    """Its own way is to log every one, with a trace."""
