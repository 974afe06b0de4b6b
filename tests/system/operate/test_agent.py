"""The agent of examples/agent: a member by a service's token, whose run people see and take back as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
from syncd_client import history

from examples.agent.tidy import tidied
from syncd.testing import Server
from tests.support.programs import REPOSITORY

SLOPPY = {"title": "  buy   tea #Shopping ", "tags": ["Shopping", "home "], "due": "3.12.2026"}
TIDY = {"title": "Buy tea", "tags": ["home", "shopping"], "due": "2026-12-03"}


@pytest.mark.parametrize(
    ("note", "fields"),
    [
        (SLOPPY, TIDY),
        (TIDY, {}),
        ({}, {}),
        ({"title": None, "tags": None, "due": None}, {}),
        ({"title": "Tea", "due": "31.2.2026"}, {}),
        ({"title": "Tea", "due": "soon", "tags": ["B", "a", "b"]}, {"tags": ["a", "b"]}),
        ({"title": "#only #tags"}, {"title": "", "tags": ["only", "tags"]}),
    ],
)
def test_what_is_tidy_stays_and_the_rest_becomes_it(note: dict[str, Any], fields: dict[str, Any]) -> None:
    assert tidied(note) == fields
    assert tidied({**note, **fields}) == {}


class Agent:
    """Processes of the example for a space."""

    def __init__(self, server: Server, space: str) -> None:
        self.space = space
        words = ["--service", "tidy", "--spaces", space, "--role", "writer", "--database-url", server.owner_url]
        made = subprocess.run(
            [sys.executable, "-m", "syncd", "token", *words], capture_output=True, text=True, timeout=120, check=True
        )
        self.environment = {
            **os.environ, "SYNCD_URL": server.url, "AGENT_TOKEN": made.stdout.strip(),
            "AGENT_FOLDER": str(server.folder / "agent"),
        }  # fmt: skip
        self.command = [sys.executable, "-m", "examples.agent", space]

    def run(self) -> dict[str, Any]:
        """One run, to its end; what it says."""
        done = subprocess.run(
            self.command, cwd=REPOSITORY, env=self.environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said


def plain(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if record is None else {name: value for name, value in record.items() if value is not None}


def test_a_run_is_seen_and_taken_back_and_what_a_person_wrote_after_it_stays(syncd_server: Server) -> None:
    garden = syncd_server.space(syncd_server.unique("garden"), {"ann": "owner", "ben": "writer"})
    ann, ben = (syncd_server.replica(user, app="notes", device=f"{user}-phone") for user in ("ann", "ben"))
    agent = Agent(syncd_server, garden)
    # Both write offline; ben's edit of the title comes only after the agent's run.
    ann.put("notes", "n1", SLOPPY, space=garden)
    ann.put("notes", "n2", {"title": "Ink #Office"}, space=garden)
    ann.put("notes", "n3", TIDY, space=garden)
    ann.sync()
    ben.sync()
    ben.patch("notes", "n2", {"title": "Blue ink #Office"}, space=garden)

    said = agent.run()
    assert said["notes"] == ["n1", "n2"]
    ben.sync()
    ann.sync()
    assert plain(ann.get("notes", "n1", space=garden)) == TIDY
    # The later stamp wins: the agent's.
    assert plain(ann.get("notes", "n2", space=garden)) == {"title": "Ink", "tags": ["office"]}
    assert ann.get("runs", said["run"], space=garden)["notes"] == ["n1", "n2"]

    trail = list(history.changes(ann, "notes", "n1", space=garden))
    actor = {"agent": "tidy", "run": said["run"], "service": "tidy"}
    assert [(c.user, c.origin, c.actor) for c in trail] == [
        ("_service:tidy", "agent", actor),
        ("ann", None, None),
    ]

    ben.patch("notes", "n1", {"title": "Buy green tea"}, space=garden)
    ben.sync()
    ann.sync()
    taken = history.revert(ann, {"agent": "tidy", "run": said["run"]}, space=garden)
    assert [(table, id) for table, id, _ in taken] == [("notes", "n1"), ("notes", "n2"), ("runs", said["run"])]
    ben.sync()
    for phone in (ann, ben):
        assert plain(phone.get("notes", "n1", space=garden)) == {**SLOPPY, "title": "Buy green tea"}
        assert plain(phone.get("notes", "n2", space=garden)) == {"title": "Blue ink #Office"}
        assert plain(phone.get("notes", "n3", space=garden)) == TIDY
        assert phone.get("runs", said["run"], space=garden) is None
    newest = next(history.changes(ann, "notes", "n1", space=garden))
    assert (newest.user, newest.origin) == ("ann", "revert")
    assert newest.actor == {"reverted": {"agent": "tidy", "run": said["run"]}}
    assert (ann.pending(), ben.pending()) == ([], [])

    # It does not insist, but for what was written anew: n1 by ben, n2 by what he had written offline.
    assert agent.run()["notes"] == ["n1", "n2"]
    ann.sync()
    again = next(history.changes(ann, "notes", "n1", space=garden)).actor["run"]
    history.revert(ann, {"agent": "tidy", "run": again}, space=garden)
    assert agent.run()["notes"] == []


def test_a_run_that_was_killed_is_one_run_all_the_same(syncd_server: Server) -> None:
    garden = syncd_server.space(syncd_server.unique("garden"), {"ann": "owner"})
    ann = syncd_server.replica("ann", app="notes")
    agent = Agent(syncd_server, garden)
    for n in range(200):
        ann.put("notes", f"n{n}", {"title": f" note {n} #t"}, space=garden)
    ann.sync()
    for turn in range(5):
        process = subprocess.Popen(agent.command, cwd=REPOSITORY, env=agent.environment, stdout=subprocess.DEVNULL)
        try:
            process.wait(0.3 + 0.25 * turn)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.wait()
    agent.run()
    ann.sync()
    assert all(tidied(note) == {} for note in ann.query("notes", space=garden))
    runs = [run.id for run in ann.query("runs", space=garden)]
    assert [len(ann.get("runs", run, space=garden)["notes"]) for run in runs] == [200]
    history.revert(ann, {"agent": "tidy", "run": runs[0]}, space=garden)
    assert {note["title"] for note in ann.query("notes", space=garden)} == {f" note {n} #t" for n in range(200)}


def test_it_is_a_member_where_it_was_made_one_and_nowhere_else(syncd_server: Server) -> None:
    garden = syncd_server.space(syncd_server.unique("garden"), {"ann": "owner"})
    other = syncd_server.space(syncd_server.unique("other"), {"ann": "owner"})
    agent = Agent(syncd_server, garden)
    device = syncd_server.replica("_service:tidy", app="notes", token=agent.environment["AGENT_TOKEN"])
    for space in (other, garden):
        device.put("notes", "n", {"title": " x "}, space=space)
    device.sync()
    assert [(change.space, change.code) for change in device.rejected()] == [(other, "space_not_found")]
    syncd_server.request("ann", "DELETE", f"/spaces/{garden}/members/_service:tidy")
    assert agent.run()["notes"] == []
    ann = syncd_server.replica("ann", app="notes")
    ann.sync()
    assert ann.get("notes", "n", space=garden)["title"] == " x "
