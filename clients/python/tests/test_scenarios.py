"""The scenarios of tests/vectors: what a device knows of its user's spaces, what it keeps, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from syncd_client import Replica, SyncdError

from tests.support.scripted import Script
from tests.support.vectors import vectors

SCENARIOS = [*vectors("roles")["scenarios"], *vectors("partial")["scenarios"]]
_WANTS = ("spaces", "collection", "knownSpaces", "knownCollection")
Open = Callable[..., Replica]


def asked(request: httpx2.Request) -> str | None:
    """Up to where a request says that its device was told."""
    text = json.loads(request.content)["roles"] if request.content else request.url.params.get("roles")
    return None if text is None else str(text)


def wanted(request: httpx2.Request) -> dict[str, Any]:
    """What a request says of what its device keeps and has."""
    if request.content:
        return {name: value for name, value in json.loads(request.content).items() if name == "pull"}
    return {name: sorted(request.url.params.get_list(name)) for name in _WANTS if name in request.url.params}


def since(request: httpx2.Request) -> str | None:
    """The cursor of a request, where it is a pull's."""
    return None if request.content else request.url.params.get("since")


def answer(wire: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(wire.get("status", 200), json=wire["body"])


def write(replica: Replica, writes: list[dict[str, Any]]) -> None:
    """All of them, as one batch."""
    batch = replica.new_batch()
    for one in writes:
        fields = () if one["fields"] is None else (one["fields"],)
        getattr(batch, one["op"])("t", one["id"], *fields, space=one["space"])
    replica.commit(batch)


class Player:
    """Plays one scenario, step by step."""

    def __init__(self, open_replica: Open, script: Script) -> None:
        self.open, self.script, self.replica = open_replica, script, open_replica()

    def play(self, step: dict[str, Any]) -> None:
        """Does what a step says, and compares what it says that is so then."""
        asks = [one["asks"] for one in step.get("answers", [])]
        self.script.asked.clear()
        self.script.answers = [answer(one) for one in step.get("answers", [])]
        code = None
        try:
            self.do(step)
        except SyncdError as error:
            code = error.code
        assert code == step.get("refused", step.get("fails"))
        assert [asked(request) for request in self.script.asked] == asks
        for request, one in zip(self.script.asked, step.get("answers", []), strict=True):
            if "wants" in one:
                assert wanted(request) == one["wants"]
                assert since(request) in (None, one["since"])
        found = self.found([(one["space"], one["id"]) for one in step.get("records", [])])
        assert found | step == step | found, step

    def do(self, step: dict[str, Any]) -> None:
        match step["do"]:
            case "sync" | "pull" as way:
                getattr(self.replica, way)()
            case "write":
                write(self.replica, step["writes"])
            case "requeue":
                [change] = [row.change_id for row in self.replica.rejected() if row.id == step["id"]]
                self.replica.requeue(change)
            case "reopen":
                self.replica.close()
                self.replica = self.open(**step.get("choice", {}))
            case other:
                assert other == "nothing"

    def found(self, records: list[tuple[str | None, str]]) -> dict[str, Any]:
        """What is so on the device, as steps say it."""
        held = self.replica
        queues = {"pending": held.pending(), "rejected": held.rejected(), "aside": held.kept_aside()}
        return {
            "spaces": [{"id": space.id, "name": space.name, "role": space.role} for space in held.spaces()],
            "records": [{"space": s, "id": id, "fields": held.get("t", id, space=s)} for s, id in records],
            **{state: [change.id for change in queue] for state, queue in queues.items()},
        }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario["name"])
def test_scenarios(open_replica: Open, script: Script, scenario: Any) -> None:
    player = Player(open_replica, script)
    for step in scenario["steps"]:
        player.play(step)
