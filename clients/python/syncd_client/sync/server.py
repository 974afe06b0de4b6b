"""The server of a replica: its URL, the tokens for it, and the connections to it."""

from __future__ import annotations

import httpx

from ..errors import NotConnected
from .tokens import TokenSource
from .transport import TIMEOUT


class Server:
    """A replica's server, if it has one. `given`: the application's own client, else None."""

    def __init__(self, url: str | None, tokens: TokenSource | None, given: httpx.Client | None) -> None:
        self._url, self._tokens, self._http, self.given = url, tokens, given, given

    def url_and_tokens(self) -> tuple[str, TokenSource]:
        """Its URL, and the source of tokens for it. Raises NotConnected."""
        if self._url is None or self._tokens is None:
            raise NotConnected("the replica has no server.")
        return self._url.rstrip("/"), self._tokens

    def http(self) -> httpx.Client:
        """The connections, made when they are needed first."""
        if self._http is None:
            self._http = httpx.Client(timeout=TIMEOUT)
        return self._http

    def close(self) -> None:
        """Closes the connections, unless they are the application's own."""
        if self._http is not None and self.given is None:
            self._http.close()
