"""The server of a replica: its URL, the tokens for it, and the way to it."""

from __future__ import annotations

from ..errors import NotConnected
from .http import HttpRequest, HttpResponse, HttpSender, SendRequest
from .tokens import TokenSource


class Server:
    """A replica's server, if it has one. `given`: the application's own way to send, else None."""

    def __init__(self, url: str | None, tokens: TokenSource | None, given: SendRequest | None) -> None:
        self._url, self._tokens, self.given, self._own = url, tokens, given, HttpSender()

    def url_and_tokens(self) -> tuple[str, TokenSource]:
        """Its URL, and the source of tokens for it. Raises NotConnected."""
        if self._url is None or self._tokens is None:
            raise NotConnected("the replica has no server.")
        return self._url.rstrip("/"), self._tokens

    def send(self, request: HttpRequest) -> HttpResponse:
        """See SendRequest."""
        return (self.given or self._own)(request)

    def close(self) -> None:
        """Closes the connections of its own."""
        self._own.close()
