"""A replica here is one for asyncio, whose live sync talks to a script."""

from tests.support.live_replicas import open_async, replica

__all__ = ["open_async", "replica"]
