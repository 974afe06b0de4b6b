"""Open sockets and streams."""
