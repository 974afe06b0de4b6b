"""What of a path is the host's, and what is syncd's address below it."""

from __future__ import annotations

from typing import Any

import pytest

from syncd.edge.mounted import after, placed


@pytest.mark.parametrize(
    ("scope", "prefix", "found"),
    [
        ({"raw_path": b"/ws"}, "", ("", b"/ws")),
        ({"raw_path": b"/sync/ws/a%2Fb", "root_path": "/sync"}, "", ("/sync", b"/ws/a%2Fb")),
        ({"raw_path": b"/sync", "root_path": "/sync"}, "", ("/sync", b"/")),
        ({"raw_path": b"/out/sync/ws", "root_path": "/out/sync", "app_root_path": "/out"}, "", ("/out/sync", b"/ws")),
        # A server that was told what its proxy takes out, and says so in no path.
        ({"raw_path": b"/sync/ws", "root_path": "/out/sync", "app_root_path": "/out"}, "", ("/out/sync", b"/ws")),
        ({"raw_path": b"/sync/ws"}, "/sync", ("/sync", b"/ws")),
        ({"raw_path": b"/out/sync/ws", "root_path": "/out"}, "/sync", ("/out/sync", b"/ws")),
        ({"raw_path": b"/other/ws"}, "/sync", None),
        ({"raw_path": b"/synchronous/ws"}, "/sync", None),
        ({"raw_path": b"/sy%6Ec/ws"}, "/sync", ("/sync", b"/ws")),
        # What a proxy keeps for operators is not reached past it by another spelling.
        ({"raw_path": b"/sync/metrics"}, "/sync", ("/sync", b"/metrics")),
        ({"raw_path": b"/s%79nc/metrics"}, "/sync", None),
        ({"raw_path": b"/s%79nc/readyz?x", "root_path": "/sync"}, "", None),
        ({"raw_path": b"/a%2fb/metrics", "root_path": "/a/b"}, "", None),
        ({"raw_path": b"/caf%C3%A9/metrics", "root_path": "/caf\u00e9"}, "", ("/caf%C3%A9", b"/metrics")),
        ({"raw_path": b"/caf%C3%A9/ws", "root_path": "/café"}, "", ("/caf%C3%A9", b"/ws")),
        # A tenant's name with a slash in it: one segment as it was sent.
        ({"raw_path": b"/a%2Fb/sync/ws", "root_path": "/a/b/sync"}, "", ("/a/b/sync", b"/ws")),
        ({"raw_path": b"/sync/pull?since=x", "root_path": "/sync"}, "", ("/sync", b"/pull")),
        ({"path": "/sync/a b"}, "/sync", ("/sync", b"/a%20b")),
        ({"raw_path": b""}, "", ("", b"/")),
    ],
)
def test_an_address_follows_what_stands_before_it(scope: dict[str, Any], prefix: str, found: Any) -> None:
    path = scope.get("raw_path", b"").decode("latin-1")
    assert placed({"path": path, **scope}, prefix) == found


@pytest.mark.parametrize(
    ("raw", "lead", "rest"),
    [(b"/a/b", "/a", b"/b"), (b"/a", "/a", b"/"), (b"/a/", "/a", b"/"), (b"/ab", "/a", None), (b"", "/a", None)],
)
def test_a_lead_ends_where_a_segment_does(raw: bytes, lead: str, rest: bytes | None) -> None:
    assert after(raw, lead) == rest
