"""The least HTTP server that could answer a pull: uvicorn as syncd sets it up, and a body that is always the same.

python -m bench.bare SIZE    prints its port, and serves until it is stopped
"""

from __future__ import annotations

import socket
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from syncd.cli.worker import configuration
from syncd.edge.answers import Receive, Scope, Send
from syncd.settings import Settings


class Bare:
    """Answers every request with `size` bytes of JSON."""

    def __init__(self, size: int) -> None:
        self._body = b'{"text":"%s"}' % (b"x" * (size - 11))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(receive, send)
            return
        length = str(len(self._body)).encode()
        headers: list[Any] = [(b"content-type", b"application/json"), (b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self._body})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        for stage in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{stage}.complete"})


def main(size: int) -> None:
    """Serve on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(configuration(Settings(), Bare(size), HttpToolsProtocol)).run(sockets=[listener])


if __name__ == "__main__":
    main(int(sys.argv[1]))
