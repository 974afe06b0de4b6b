"""What the servers of a run of tests are forked from: `python -m syncd.testing.host FOLDER`, as `hosting` starts it.

It has loaded what `syncd serve` runs and keeps one PostgreSQL, so that a server is a copy of a database and a fork. A
line of JSON on standard input asks for something, a line on standard output answers. At the end of its input, also
where the tests were killed, it takes all servers along and removes the folder.

Like the process that `syncd serve` forks its workers from it starts no thread, and has no event loop when it forks.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import click

from syncd.postgres.cluster import DATABASE, OWNER, RUNTIME
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.launch import EmbeddedError, die_with_parent

# A test may have some servers at once.
CONNECTIONS = "400"
READY_SECONDS, GOING_SECONDS, STOP_SECONDS = 60.0, 2.0, 40.0


class HostError(Exception):
    """What was asked for could not be done; the text says why."""


class ServerHost:
    """The database, and the servers that it has forked."""

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(folder / "data", settings={"max_connections": CONNECTIONS}, thrown_away=True)
        self._servers: set[int] = set()

    def database(self, name: str, memberships: str, context_key: str) -> dict[str, Any]:
        """Makes a database of this name, a copy of the one that was migrated; for external memberships, and with a
        key, it is migrated to them."""
        asyncio.run(self._copy(name))
        if memberships != "table" or context_key:
            from syncd.postgres.migrate import migrate

            external: Any = "table" if memberships == "table" else "external"
            asyncio.run(
                migrate(self.postgres.dsn(OWNER, name), say=_say, memberships=external, context_key=context_key)
            )
        return {}

    def drop(self, name: str) -> dict[str, Any]:
        """Drops the database, whoever is connected to it."""
        asyncio.run(self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))
        return {}

    def serve(self, settings: dict[str, str], environment: dict[str, str], path: list[str], port: int, log: str) -> Any:
        """Forks a server with these settings, and waits until it is ready. `port`: 0 for one that is free. `path`:
        where it imports rules from. Answers with its number as a process, and the port."""
        with _bound(port) as listener:
            reports, report = os.pipe()
            arrange = die_with_parent(signal.SIGKILL)
            pid = os.fork()
            if pid == 0:
                os.close(reports)
                _be_server(arrange, listener.fileno(), report, settings, environment, path, log)
            os.close(report)
            self._servers.add(pid)
            port = listener.getsockname()[1]
        try:
            if not select.select([reports], [], [], READY_SECONDS)[0] or os.read(reports, 1) != b"1":
                self.end(pid, signal.SIGKILL)
                raise HostError("syncd did not become ready")
        finally:
            os.close(reports)
        return {"pid": pid, "port": port}

    def end(self, pid: int, sign: int) -> dict[str, Any]:
        """Sends a server a signal and waits for its end, for `STOP_SECONDS`; then it is killed."""
        if pid not in self._servers:
            return {}
        self._servers.discard(pid)
        os.kill(pid, sign)
        deadline = time.monotonic() + STOP_SECONDS
        while os.waitpid(pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.002)
        return {}

    def close(self) -> None:
        """Kills the servers and the database."""
        for pid in list(self._servers):
            self.end(pid, signal.SIGKILL)
        if self.postgres.pid is not None:
            os.kill(self.postgres.pid, signal.SIGQUIT)
        self.postgres.stop()

    async def _copy(self, name: str) -> None:
        # Rights in a database are copied with it, rights to it are not.
        await self._execute(
            f'CREATE DATABASE "{name}" TEMPLATE "{DATABASE}" OWNER syncd_owner STRATEGY file_copy',
            f'REVOKE CREATE, TEMPORARY ON DATABASE "{name}" FROM PUBLIC',
        )

    async def _execute(self, *statements: str) -> None:
        from syncd.postgres.sessions import connect

        connection = await connect(self.postgres.dsn(OWNER, "postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


def _be_server(
    arrange: Any, listener: int, report: int, settings: dict[str, str], environment: dict[str, str], path: list[str],
    log: str,
) -> NoReturn:  # fmt: skip
    """What the child does: the part of `syncd serve` that keeps workers."""
    from syncd.cli.fork_server import ForkServer
    from syncd.cli.orders import Orders
    from syncd.cli.serve import check_rules
    from syncd.cli.signals import Signals
    from syncd.settings import Settings

    status = 1
    try:
        arrange()
        os.setsid()
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for descriptor, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, said), (2, said)):
            os.dup2(source, descriptor)
        for number in {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2, listener, report}:
            with contextlib.suppress(OSError):
                os.close(number)
        os.environ.update(environment)
        sys.path[:] = path
        check_rules(Settings.load(settings))
        with Signals() as signals:
            status = ForkServer(listener, Orders(settings, ""), report, signals).run()
    except click.ClickException as why:
        print(why.format_message(), file=sys.stderr, flush=True)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


@contextlib.contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    """A listener. Workers of a server that was killed a moment ago are given one to be gone."""
    deadline = time.monotonic() + GOING_SECONDS
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                listener.bind(("127.0.0.1", port))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)
        listener.listen(2048)
        yield listener


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _load() -> None:
    """What servers run: loaded while the database comes up, once for all of them."""
    import syncd.cli.fork_server
    import syncd.cli.serve
    import syncd.postgres.sessions  # noqa: F401


def _answers(host: ServerHost) -> Iterator[dict[str, Any]]:
    """One for each line of standard input, beginning with where the database is."""
    postgres = host.postgres
    yield {role: postgres.dsn(role, "{}") for role in (OWNER, RUNTIME)} | {"socket_dir": str(postgres.socket_dir)}
    while line := sys.stdin.readline():
        asked = json.loads(line)
        try:
            yield getattr(host, asked.pop("do"))(**asked)
        except Exception as error:
            yield {"error": f"{type(error).__name__}: {error}"}


def main(folder: str) -> int:
    """Serves until the end of standard input; the exit code."""
    # What is printed by somebody else is no answer.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        host = ServerHost(Path(folder))
        try:
            host.postgres.start(meanwhile=_load)
            for answer in _answers(host):
                print(json.dumps(answer), file=out, flush=True)
        except EmbeddedError as error:
            print(json.dumps({"error": str(error)}), file=out, flush=True)
            return 1
        except BrokenPipeError:
            pass
        finally:
            host.close()
            shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
