"""The client in Perl, written from the protocol's page and the vectors alone, agrees with them and with ours."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import EVERY_SPACE, Replica

from tests.support.harness import Server
from tests.support.programs import REPOSITORY, need
from tests.support.wire import Device, unique

PERL = REPOSITORY / "examples/perl"
AHEAD = "no warnings; *Syncd::Replica::wall = sub { int((Time::HiRes::time() + 4e7) * 1e6) }; "


class PerlStore:
    """A store of the Perl client; every call is a process of its own."""

    def __init__(self, file: Path, server: Server, user: str, app: str) -> None:
        self.file, self.user = file, user
        self.arguments = [str(file), server.url, app]
        self.environment = {**os.environ, "SYNCD_TOKEN": server.token(user)}

    def run(self, *command: str, before: str = "") -> str:
        """What it prints; `before` is Perl that runs first."""
        program = f'{before}do "{PERL}/syncd.pl"; die $@ if $@'
        perl = ["perl", f"-I{PERL}", "-MSyncd::Replica", "-e", program] if before else ["perl", str(PERL / "syncd.pl")]
        done = subprocess.run(
            [*perl, *self.arguments, *command], env=self.environment, capture_output=True, text=True, timeout=500
        )
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return done.stdout

    def records(self) -> list[Any]:
        """Every live record that it shows: space, table, id and fields."""
        shown = [json.loads(line, parse_int=number) for line in self.run("show").splitlines()]
        return sorted(([s["space"], s["table"], s["id"], s["fields"]] for s in shown), key=lambda shown: shown[:3])

    def refused(self) -> list[str]:
        """The codes of what was refused or set aside."""
        return [line.split(" ", 1)[0] for line in self.run("refused").splitlines()]


def number(digits: str) -> int | float:
    """A double may come back in digits without a point (P235)."""
    return float(digits) if len(digits) > 30 else int(digits)


def records(replica: Replica, *tables: str) -> list[Any]:
    """The same of a replica of ours."""
    found = [record for table in tables for record in replica.query(table, space=EVERY_SPACE)]
    return sorted(([r.space or "", r.table, r.id, dict(r)] for r in found), key=lambda shown: shown[:3])


@pytest.fixture
def perl() -> None:
    need("perl")


@pytest.fixture
def ours(server: Server, folder: Path) -> Iterator[Replica]:
    """A device of a user and an app that no other test has."""
    user, file = unique("ann"), folder / "ours.db"
    with Replica(file, app=unique("todo"), url=server.url, token=server.token(user), user=user) as replica:
        yield replica


@pytest.fixture
def theirs(perl: None, ours: Replica, server: Server, folder: Path) -> PerlStore:
    """Another device of the same user."""
    return PerlStore(folder / "theirs.json", server, str(ours.user), ours.app)


def test_it_computes_what_the_vectors_say(perl: None) -> None:
    done = subprocess.run(["perl", str(PERL / "vectors.pl")], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" checks, 0 failed\n")


def test_it_converges_with_ours(ours: Replica, theirs: PerlStore, http: httpx.Client, server: Server) -> None:
    space, device = unique("team"), Device(http, server, theirs.user)
    assert device.request("POST", "/spaces", json={"name": "Team", "id": space}).status_code == 201
    ours.put("tasks", "milk", {"title": "Milk", "n": 2**64 + 1, "x": 0.1 + 0.2, "far": 1e300})
    ours.put("tasks", "gone", {"title": "ü€😀"})
    ours.sync()
    theirs.run("sync")
    theirs.run("update", "tasks", "milk", '{"title": "Oat milk", "least": 5e-324}')
    theirs.run("delete", "tasks", "gone")
    theirs.run("insert", "lists", "home", '{"of": {"a": [1, {}, null]}}', space)
    theirs.run("insert", "tasks", "nowhere", '{"a": 1}', "no such space")
    theirs.run("update", "tasks", "empty", "{}")
    ours.patch("tasks", "milk", {"done": True, "title": "Soy milk"})
    ours.patch("tasks", "gone", {"n": 1})
    for sync in (lambda: theirs.run("sync"), ours.sync) * 2:
        sync()
    assert theirs.refused() == ["space_not_found", "empty_change"]
    assert [shown for shown in theirs.records() if shown[0] != "no such space"] == records(ours, "tasks", "lists")
    assert [shown[2] for shown in records(ours, "tasks", "lists")] == ["milk", "home"]
    assert theirs.run("verify") == ""
    assert ours.verify().differences == 0


def test_a_wrong_clock_a_lost_answer_and_a_lost_cursor_are_no_harm(ours: Replica, theirs: PerlStore) -> None:
    theirs.run("insert", "tasks", "r", '{"a": 1}', before=AHEAD)
    theirs.run("insert", "tasks", "gone", '{"a": 1}', before=AHEAD)
    theirs.run("delete", "tasks", "gone", before=AHEAD)
    theirs.run("sync", before=AHEAD)
    theirs.run("update", "tasks", "r", '{"a": 2}')
    unsent = theirs.file.read_text()
    theirs.run("sync")
    theirs.file.write_text(unsent)
    theirs.run("sync")
    assert theirs.run("verify") == ""
    theirs.file.write_text(json.dumps({**json.loads(theirs.file.read_text()), "cursor": "2026"}))
    theirs.run("update", "tasks", "r", '{"b": 3}')
    theirs.run("sync")
    ours.sync()
    assert theirs.records() == records(ours, "tasks") == [["", "tasks", "r", {"a": 2, "b": 3}]]
    assert theirs.run("verify") == ""
    assert json.loads(theirs.file.read_text())["outbox"] == []


def test_a_space_that_is_left_goes_with_what_was_unsent(
    ours: Replica, theirs: PerlStore, http: httpx.Client, server: Server
) -> None:
    space, owner = unique("team"), Device(http, server, unique("owner"))
    members = f"/spaces/{space}/members/{theirs.user}"
    assert owner.request("POST", "/spaces", json={"name": "Team", "id": space}).status_code == 201
    assert owner.request("PUT", members, json={"role": "writer"}).status_code == 200
    theirs.run("insert", "tasks", "r", '{"a": 1}', space)
    theirs.run("sync")
    theirs.run("update", "tasks", "r", '{"a": 2}', space)
    assert owner.request("DELETE", members).status_code == 204
    theirs.run("sync")
    assert theirs.refused() == ["space_not_found"]
    assert theirs.records() == []
