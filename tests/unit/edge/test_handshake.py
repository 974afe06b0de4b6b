"""The headers of an opening handshake, as the rest of the server reads headers."""

from __future__ import annotations

import pytest
from websockets.datastructures import Headers
from websockets.http11 import Request

from syncd.edge.handshake import headers_of


@pytest.mark.parametrize("coding", ["latin-1", "ascii"])
def test_a_header_that_is_not_ascii_is_read(coding: str) -> None:
    """Versions of the library decode a value in one way or the other."""
    sent = "José".encode()
    request = Request("/ws", Headers({"X-User": sent.decode(coding, "surrogateescape")}))
    assert headers_of(request) == [(b"x-user", sent)]
