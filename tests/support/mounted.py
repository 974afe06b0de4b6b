"""The second form of the tests' servers: syncd in a FastAPI application, below a path, served by TEST_SERVER.

It takes the settings of `syncd serve` from the environment, or as options, and prints the same line, with its path.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import msgspec
import uvicorn
from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from syncd.asgi import create_app
from syncd.cli.secret import with_secret
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import PR_SET_PDEATHSIG, WORKER, set_process_name
from syncd.postgres.migrate import migrate
from syncd.settings import Settings
from tests.support.harness import MOUNT as PATH

SPARE_CONNECTIONS = 60


def application() -> FastAPI:
    """The host, with what it has to set up for its pages."""
    if multiprocessing.parent_process() is not None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        set_process_name(WORKER)
    settings = Settings.load(os.environ)
    sync = create_app(settings)

    @contextlib.asynccontextmanager
    async def lifespan(host: FastAPI) -> AsyncIterator[None]:
        async with sync.lifespan():
            yield

    host = FastAPI(lifespan=lifespan)
    host.mount(PATH, sync)
    if settings.allowed_origins:
        host.add_middleware(
            CORSMiddleware, allow_origins=settings.allowed_origins, allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["*"], expose_headers=["Retry-After"], max_age=600,
        )  # fmt: skip
    return host


@contextlib.contextmanager
def database(settings: Settings) -> Iterator[Settings]:
    """The database of the settings, or one in the data directory, migrated; a secret for tokens."""
    settings = with_secret(settings)
    if settings.database_url is not None:
        yield settings
        return
    wanted = {"max_connections": str(max(120, settings.workers * settings.pool_size + SPARE_CONNECTIONS))}
    with EmbeddedPostgres(settings.data_dir, settings=wanted) as postgres:
        external = "table" if settings.memberships == "table" else "external"
        key = settings.context_key or ""
        asyncio.run(migrate(postgres.owner_dsn, say=lambda step: None, memberships=external, context_key=key))
        yield msgspec.structs.replace(settings, database_url=postgres.runtime_dsn)


def ready(listener: socket.socket) -> None:
    """Prints the line when it serves."""
    address = f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}"
    while True:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"{address}/healthz", timeout=5)
            break
        time.sleep(0.05)
    print(f"syncd is ready at {address}", flush=True)


def by_uvicorn(settings: Settings, listener: socket.socket) -> None:
    """By its own protocols, in as many processes as there are to be workers."""
    how: dict[str, Any] = {
        "factory": True, "ws": "websockets-sansio", "log_config": None, "access_log": False, "proxy_headers": False,
        "ws_max_size": settings.max_body + 1024, "ws_ping_interval": settings.ping_interval,
        "timeout_keep_alive": math.ceil(settings.idle_timeout),
        "timeout_graceful_shutdown": math.ceil(settings.shutdown_timeout),
    }  # fmt: skip
    if settings.workers == 1:
        uvicorn.Server(uvicorn.Config(application, **how)).run(sockets=[listener])
        return
    config = uvicorn.Config(
        "tests.support.mounted:application", workers=settings.workers, timeout_worker_healthcheck=60, **how
    )
    uvicorn.supervisors.Multiprocess(config, [listener]).run()


def by_hypercorn(settings: Settings, listener: socket.socket) -> None:
    """By its own protocols, in as many processes as there are to be workers."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from hypercorn.run import run as run_processes

    config = Config.from_mapping(
        bind=[f"fd://{listener.fileno()}"], graceful_timeout=settings.shutdown_timeout,
        websocket_max_message_size=settings.max_body + 1024, websocket_ping_interval=settings.ping_interval,
    )  # fmt: skip

    if settings.workers > 1:
        config.workers, config.application_path = settings.workers, "tests.support.mounted:application()"
        run_processes(config)
        return

    async def run() -> None:
        stop = asyncio.Event()
        for sign in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(sign, stop.set)
        await serve(application(), config, shutdown_trigger=stop.wait)  # type: ignore[arg-type]

    asyncio.run(run())


def main(options: list[str]) -> int:
    """Serves until SIGTERM. `options`: `--name value`, as `syncd serve` takes them."""
    given = zip(options[::2], options[1::2], strict=True)
    os.environ |= {f"SYNCD_{name[2:].replace('-', '_').upper()}": value for name, value in given}
    settings = Settings.load(os.environ)
    die = signal.getsignal(signal.SIGTERM)
    listener = socket.create_server((settings.host, settings.port), backlog=2048)
    with database(settings) as found:
        os.environ |= found.environment()
        # Uvicorn raises the signal again when it is done.
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, lambda number, frame: None)
        threading.Thread(target=ready, args=[listener], daemon=True).start()
        (by_hypercorn if os.environ["TEST_SERVER"] == "hypercorn" else by_uvicorn)(found, listener)
        signal.signal(signal.SIGTERM, die)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
