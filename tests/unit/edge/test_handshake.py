"""The headers of an opening handshake, as the rest of the server reads headers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from syncd.edge.handshake import headers_of

SENT = "José".encode()


class Decoded(Headers):
    """One header, decoded as a version of the library does it."""

    def __init__(self, coding: str) -> None:
        super().__init__()
        self._coding = coding

    def raw_items(self) -> Iterator[tuple[str, str]]:
        yield "X-User", SENT.decode(self._coding, "surrogateescape")


@pytest.mark.parametrize("coding", ["latin-1", "ascii"])
def test_a_header_that_is_not_ascii_is_read(coding: str) -> None:
    assert headers_of(Request("/ws", Decoded(coding))) == [(b"x-user", SENT)]
