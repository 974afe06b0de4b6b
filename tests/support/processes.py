"""The processes of a server. Any of them may end while it is looked at, and is then not among those found."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psutil

from syncd.postgres.launch import WORKER
from tests.support.harness import Server


def family(server: Server) -> list[psutil.Process]:
    """Everything that a server started. Raises LookupError where it does not run."""
    return _supervisor(server).children(recursive=True)


def children(server: Server) -> list[psutil.Process]:
    """What it started itself. Raises LookupError where it does not run."""
    return _supervisor(server).children()


def those(processes: Iterable[psutil.Process], wanted: Callable[[psutil.Process], bool]) -> list[psutil.Process]:
    """The wanted ones, in the order of their ids."""
    found = []
    for process in processes:
        try:
            if wanted(process):
                found.append(process)
        except psutil.Error:
            continue
    return sorted(found, key=lambda process: process.pid)


def runs(process: psutil.Process) -> bool:
    """Whether it has not ended. One that nobody has waited for yet has: where a container's first process does not wait
    for those that others left, it stays in the list."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(processes: Iterable[psutil.Process], name: str) -> list[psutil.Process]:
    return those(processes, lambda process: process.name() == name)


def running(processes: Iterable[psutil.Process], words: str) -> list[psutil.Process]:
    """Those with these words in their command line."""
    return those(processes, lambda process: words in " ".join(process.cmdline()))


def workers_of(server: Server) -> list[psutil.Process]:
    """Its worker processes."""
    return named(family(server), WORKER)


def fork_server_of(server: Server) -> psutil.Process:
    """What its workers are forked from. Raises LookupError while there is none."""
    return _first(running(children(server), "syncd.cli.fork_server"))


def postmaster_of(server: Server) -> psutil.Process:
    """Its database. Raises LookupError while there is none."""
    return _first(named(children(server), "postgres"))


def backends_of(server: Server) -> list[psutil.Process]:
    """The database's processes that work for the server."""
    return running(postmaster_of(server).children(), "syncd_runtime")


def _supervisor(server: Server) -> psutil.Process:
    if server.process is None:
        raise LookupError("it does not run")
    return psutil.Process(server.process.pid)


def _first(found: list[psutil.Process]) -> psutil.Process:
    if not found:
        raise LookupError("it is being started")
    return found[0]
