"""Changes of every generation in, and what comes out: tests/vectors/messages.json through the real server."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.vectors import vectors
from tests.support.wire import Device, unique

VECTORS = vectors("messages")
Make = Callable[..., Device]


def of(user: str, message: Any) -> Any:
    """The vector's user under a name of this test's own."""
    return json.loads(json.dumps(message).replace("_personal:alice", f"_personal:{user}"))


def as_read(vector: Any) -> list[Any]:
    """The state as the first generation reads it: an update with the record, `id` included, beside its registers, whose
    instants are spelt as JavaScript does."""
    state = vector["snapshot"]
    if not state:
        return []
    last = {name: vector["log"][name] for name in ("actor", "origin") if name in vector["log"]}
    whole = {**state, **last, "op": "update", "data": {**state["data"], "id": state["id"]}}
    whole["fields"] = {name: {**register, **spelt(register["at"])} for name, register in state["fields"].items()}
    return [whole]


def spelt(instant: str) -> dict[str, str]:
    short = f"{instant[:23]}Z" if instant.endswith("000Z") else instant
    return {"at": short, "updatedAt": short}


def received(changes: list[Any], *, legacy: bool) -> list[Any]:
    return [
        {k: v for k, v in change.items() if k not in ("eventId", "seq") and (legacy or k != "data")}
        for change in changes
    ]


@pytest.mark.parametrize("legacy", [True, False], ids=["first generation", "protocol 1"])
@pytest.mark.parametrize("vector", VECTORS["accepted"], ids=lambda v: v["name"])
def test_what_goes_in_comes_out_in_one_form(device: Make, vector: Any, legacy: bool) -> None:
    user = unique("alice")
    writer = device(user, "phone")
    assert writer.push(of(user, vector["in"]), **vector.get("push", {}))["results"][0]["status"] == "applied"
    reader = device(user, "tablet", legacy=legacy)
    log = reader.pull(history=1)["serverChanges"]
    assert received(log, legacy=True) == received([of(user, vector["log"])], legacy=legacy)
    assert log[0]["seq"] == 1
    snapshot = reader.pull()["serverChanges"]
    wanted = as_read(vector) if legacy else [vector["snapshot"]] if vector["snapshot"] else []
    assert received(snapshot, legacy=True) == received(of(user, wanted), legacy=legacy)


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["name"])
def test_what_is_malformed_is_refused_with_its_place(device: Make, vector: Any) -> None:
    writer = device(unique("alice"), "phone")
    answer = writer.send(vector["in"])
    assert (answer.status_code, answer.json()["code"]) == (400, vector["code"])
    assert [error["pointer"] for error in answer.json()["errors"]] == [vector["pointer"]]
    assert writer.pull()["serverChanges"] == []
