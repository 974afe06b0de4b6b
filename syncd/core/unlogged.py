"""Requests of syncd's own whose addresses are in no log.

The HTTP client logs the address of each request at the level of information, and an address may hold a secret or a
user's id. A level would be the whole process's, which may be somebody else's program with its own settings.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_own = ContextVar("own", default=False)


def _is_another_s(record: logging.LogRecord) -> bool:
    return not _own.get()


# A filter stays where a host's logging.config sets levels and handlers. The layer below logs hosts, and no path.
logging.getLogger("httpx2").addFilter(_is_another_s)


@contextmanager
def unlogged() -> Iterator[None]:
    """What the block requests is not logged by the HTTP client; what other tasks request meanwhile is."""
    before = _own.set(True)
    try:
        yield
    finally:
        _own.reset(before)
