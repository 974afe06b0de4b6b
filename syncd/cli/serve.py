"""`syncd serve`: a database, the schema, a key, an address; then the supervisor and its workers."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from importlib.util import find_spec
from typing import Any

import click
import msgspec

from syncd.cli.checks import check_keys
from syncd.cli.options import TopicsCommand, load_settings, progress, settings_options
from syncd.cli.secret import check_secret, has_key, secret_file, with_secret
from syncd.cli.signals import Signals
from syncd.cli.token import token_command_line
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import Account, EmbeddedError, account_named
from syncd.settings import Settings

PATIENCE_SECONDS = 30.0
GOING_SECONDS = 2.0
# For migrations, the notification listeners, psql and pg_dump.
SPARE_CONNECTIONS = 60


@click.command("serve", cls=TopicsCommand)
@settings_options()
def serve_command(**options: Any) -> None:
    """Serve until SIGTERM or Ctrl-C, which finish what is in flight.

    Without --database-url it starts a PostgreSQL of its own in the data directory, makes the schema, and
    stops it again at the end. It prints one line when it is ready.
    """
    sys.exit(serve(load_settings(**options)))


class StoppedError(Exception):
    """It was asked to stop while it was starting."""


def serve(settings: Settings) -> int:
    """Run the server; the exit code of the program."""
    check_secret(settings)
    check_rules(settings)
    with Signals() as signals:
        try:
            with _bound(settings) as listener:
                return _serve(settings, listener, signals)
        except StoppedError:
            return 0
        except EmbeddedError as error:
            raise click.ClickException(str(error)) from None


def check_rules(settings: Settings) -> None:
    """A module that is not there stops the start. It is loaded by the workers alone, which are not root."""
    if settings.rules is None:
        return
    try:
        found = find_spec(settings.rules)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise click.ClickException(
            f"SYNCD_RULES={settings.rules}: there is no such module. Write it as `import` has it, and start syncd "
            "where Python finds it: in its folder, or with PYTHONPATH."
        )


def _serve(settings: Settings, listener: socket.socket, signals: Signals) -> int:
    """The fork server loads what the workers need while the database comes up."""
    from syncd.cli.supervisor import ForkServerHandle, Supervisor

    database = _embedded(settings) if settings.database_url is None else None
    account = _account(settings, database)
    forks = ForkServerHandle(listener, account)
    try:
        with _database(settings, database, forks.start, signals) as ready:
            return Supervisor(
                ready, listener, signals, forks, database=database, account=account, token=token_command_line(settings),
                say=progress,
            ).run()  # fmt: skip
    finally:
        forks.stop()


@contextlib.contextmanager
def _bound(settings: Settings) -> Iterator[socket.socket]:
    """The address, taken before anything is started: a taken port is the commonest mistake."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(found[0], found[1])
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(listener, found[4])
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}. Choose another --host or --port."
        ) from None
    with listener:
        yield listener


def _bind(listener: socket.socket, address: Any) -> None:
    """Workers of a supervisor that was killed a moment ago are given one to be gone, on a machine that is busy."""
    deadline = time.monotonic() + GOING_SECONDS
    while True:
        try:
            return listener.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _embedded(settings: Settings) -> EmbeddedPostgres:
    wanted = settings.workers * settings.pool_size + SPARE_CONNECTIONS
    return EmbeddedPostgres(settings.data_dir, settings={"max_connections": str(max(120, wanted))})


@contextlib.contextmanager
def _database(
    settings: Settings, database: EmbeddedPostgres | None, meanwhile: Callable[[], None], signals: Signals
) -> Iterator[Settings]:
    """A database with the schema, and the settings that the workers get; `meanwhile` is called while it comes up."""

    def load() -> None:
        meanwhile()
        import syncd.postgres.database_checks
        import syncd.postgres.migrate  # noqa: F401

    if database is None:
        load()
        yield _prepared(settings, settings.migrate_url, signals)
        return
    started = time.monotonic()
    progress(f"{'starting' if database.made else 'creating'} the database in {database.data_dir}")
    try:
        database.start(meanwhile=load)
        progress(f"the database is up ({time.monotonic() - started:.1f} s)")
        yield _prepared(
            msgspec.structs.replace(settings, database_url=database.runtime_dsn), database.owner_dsn, signals
        )
    finally:
        database.stop()


def _account(settings: Settings, database: EmbeddedPostgres | None) -> Account | None:
    """The user that the workers become, where this is root; None where they stay what this is, and a line says why."""
    if os.geteuid() != 0 and settings.user is None:
        return None
    if database is None and settings.user is None:
        progress("the workers run as root: set SYNCD_USER to a user of the system that they should become")
        return None
    account = database.account if database is not None else account_named(str(settings.user))
    if not account.drops:
        return None
    if not account.can_serve():
        progress(f"the workers run as root: {account.name} cannot run {sys.executable}, or read syncd's files")
        return None
    return account


def _prepared(settings: Settings, owner: str | None, signals: Signals) -> Settings:
    import asyncio

    from syncd.cli.migrate import refusals
    from syncd.postgres.schema_files import MigrationError

    try:
        asyncio.run(_unless_stopped(_prepare(settings, owner), signals))
    except MigrationError as error:
        raise click.ClickException(str(error)) from None
    except refusals() as error:
        raise click.ClickException(f"the database cannot be used: {error}. `syncd doctor` says more.") from None
    _check_bus(settings)
    unusable = [f for f in check_keys(settings) if f.status == "FAIL" and settings.jwt_public_key]
    if unusable:
        raise click.ClickException(f"SYNCD_JWT_PUBLIC_KEY: {unusable[0].detail}. See: {unusable[0].remedy}")
    if not has_key(settings) and not os.path.exists(secret_file(settings)):
        progress(f"made a secret for tokens: {secret_file(settings)}")
    return with_secret(settings)


def _check_bus(settings: Settings) -> None:
    """Workers would each say it, and not start."""
    if settings.bus != "postgres":
        from syncd.bus.hints import BusError
        from syncd.bus.nats import NatsBus

        try:
            NatsBus(settings.bus, "check")
        except BusError as error:
            raise click.ClickException(str(error)) from None


async def _unless_stopped(work: Coroutine[Any, Any, None], signals: Signals) -> None:
    """Do it, but for no longer than until a signal to stop: a database that is waited for may never come."""
    import asyncio

    task = asyncio.create_task(work)
    while not task.done() and not signals.stops:
        await asyncio.wait([task], timeout=0.05)
    if signals.stops:
        task.cancel()
        await asyncio.wait([task])
        raise StoppedError
    task.result()


async def _prepare(settings: Settings, owner: str | None) -> None:
    """Migrate as the owner, then see as the runtime role that everything is as it must be."""
    from syncd.postgres import database_checks
    from syncd.postgres.migrate import MembershipsFrom, migrate

    assert settings.database_url is not None
    conn = await _connected(settings.database_url if owner is None else owner)
    await conn.close()
    if owner is not None:
        memberships: MembershipsFrom = "table" if settings.memberships == "table" else "external"
        # Others may serve from a database of the operator's: when they all sign is for the operator to say.
        context_key = None if settings.migrate_url == owner else settings.context_key or ""
        await migrate(owner, say=progress, memberships=memberships, context_key=context_key)
    conn = await _connected(settings.database_url)
    try:
        async with conn.transaction(readonly=True):
            problems = await database_checks.serving_problems(conn, settings.memberships, settings.context_key)
    finally:
        await conn.close()
    if problems:
        raise click.ClickException("syncd does not serve like this. " + "\n".join(problems))


async def _connected(url: str) -> Any:
    """A connection; a database that is still coming up is waited for."""
    import asyncio

    import asyncpg

    from syncd.postgres.sessions import connect

    deadline = time.monotonic() + PATIENCE_SECONDS
    told = False
    while True:
        try:
            return await connect(url, statement_cache_size=0, timeout=10)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if time.monotonic() > deadline:
                raise
            if not told:
                progress(f"waiting for the database: {error}")
                told = True
            await asyncio.sleep(0.2)
