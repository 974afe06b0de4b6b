"""A sync ends, however fast others write: it has what was there when it began. The next one has the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syncd_client import HttpSender, Limits, Replica
from syncd_client.sync.http import HttpRequest, HttpResponse

from tests.support.agreeing import check_same
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

# A writer that goes on for so long is one that goes on for ever, for who reads one change a page.
PUSHES = 60
THERE = [f"there-{n}" for n in range(9)]


class Busy:
    """A line to a server where another device writes before each answer that is read. `pushes`: how often it did;
    `loses`: how many answers to pushes are lost."""

    def __init__(self, writer: Device) -> None:
        self.writer, self.pushes, self.loses, self.http = writer, PUSHES, 0, HttpSender()

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.method == "GET" and self.pushes < PUSHES:
            self.pushes += 1
            self.writer.write(edit("busy", self.pushes, n=self.pushes), edit(f"late-{self.pushes}", n=1))
        answer = self.http(request)
        if request.method == "POST" and self.loses:
            self.loses -= 1
            raise OSError("the line broke")
        return answer


@pytest.fixture
def busy(device: Callable[..., Device]) -> Iterator[Busy]:
    line = Busy(device(unique("busy"), "writer"))
    yield line
    line.http.close()


@pytest.fixture
def opened(server: Server, tmp_path: Path, busy: Busy) -> Iterator[Callable[..., Replica]]:
    """Opens devices of the same user over that line, which read a change a page."""
    replicas: list[Replica] = []

    def open_one() -> Replica:
        user = busy.writer.user
        replica = Replica(
            tmp_path / f"{len(replicas)}.db", app="app", url=server.url, token=server.token(user), send=busy,
            durability="normal", limits=Limits(pull_limit=1),
        )  # fmt: skip
        replicas.append(replica)
        return replica

    yield open_one
    for replica in replicas:
        replica.close()


@pytest.fixture
def behind(opened: Callable[..., Replica], busy: Busy) -> Replica:
    """A device that has synced before, and has missed something since; from now on the other one writes."""
    replica = opened()
    busy.writer.write(edit("first", n=1))
    replica.sync()
    for name in THERE:
        busy.writer.write(edit(name, n=1))
    busy.pushes = 0
    return replica


def has_what_was_there(replica: Replica, busy: Busy) -> None:
    assert 0 < busy.pushes < PUSHES, "it read for as long as the other wrote"
    assert {record.id for record in replica.query("t")} >= {*THERE}


def test_a_sync_ends_with_what_was_there_when_it_began(
    behind: Replica, busy: Busy, opened: Callable[..., Replica]
) -> None:
    behind.sync()
    has_what_was_there(behind, busy)
    busy.pushes = PUSHES
    behind.sync()
    fresh = opened()
    fresh.sync()
    check_same(behind, fresh)


def test_a_first_sync_ends_too(behind: Replica, busy: Busy, opened: Callable[..., Replica]) -> None:
    fresh = opened()
    fresh.sync()
    has_what_was_there(fresh, busy)


def test_reading_all_again_ends_too(behind: Replica, busy: Busy) -> None:
    behind.verify(everything=True)
    has_what_was_there(behind, busy)


def test_a_repeated_change_is_settled_by_what_was_there(behind: Replica, busy: Busy) -> None:
    """The answer that repeats it brings a page, and what comes after that says how the server holds it."""
    busy.writer.write(*(edit(f"many-{n}", n=n) for n in range(1000)))
    for n in range(3):
        busy.writer.write(edit(f"more-{n}", n=n))
    busy.loses = 1
    behind.put("t", "own", {"n": 1})
    report = behind.sync()
    has_what_was_there(behind, busy)
    assert report.duplicates == 1
    assert behind.pending() == []
    assert behind.get("t", "own") == {"n": 1}
