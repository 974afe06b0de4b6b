"""What is added to the URL of a database, and what of it may be shown. Pure."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit


def for_writing(dsn: str) -> str:
    """The URL for a server that is written to, of those that it names, unless it says itself which it wants."""
    if "target_session_attrs" in dsn:
        return dsn
    return f"{dsn}{'&' if '?' in dsn else '?'}target_session_attrs=read-write"


def server_of(dsn: str) -> str:
    """The server and the port that a URL names, without who logs in: for the log and the metrics."""
    parts = urlsplit(dsn)
    named = parse_qs(parts.query)
    host = parts.netloc.rpartition("@")[2] or ",".join(named.get("host", ["localhost"]))
    port = "" if ":" in host or "port" not in named else f":{named['port'][-1]}"
    return host + port
