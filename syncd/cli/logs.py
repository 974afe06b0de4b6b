"""Where a process that serves or compacts logs to."""

from __future__ import annotations

import logging
import sys

# Structlog would load it for tracebacks in colour, which is a third of the time that a worker takes to start.
sys.modules["rich"] = None  # type: ignore[assignment]

import structlog

from syncd.settings import Settings

_TEXT = structlog.dev.ConsoleRenderer(colors=False)


def start_logging(settings: Settings) -> None:
    """To standard error. The application may set up its own; this is for what happens before that."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # That the database is away is said by the supervisor and by each refusal; not with a traceback a second as well.
    logging.getLogger("asyncpg.pool").setLevel(logging.CRITICAL)
    # A line for every request would have its address in it, which may be a secret: a webhook's, for one.
    for library in ("httpx2", "httpcore2"):
        logging.getLogger(library).setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, logging.getLogger().level))
    # Standard output is for the ready line; a reader who has gone after it must not hold up the worker.
    renderer = structlog.processors.JSONRenderer() if settings.log_format == "json" else _TEXT
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLogger().level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
