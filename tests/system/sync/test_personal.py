"""A personal space is its user's: under another user's name it is no space of mine, and never taken for my own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.wire import Device, Json, edit, unique

Make = Callable[..., Device]


@pytest.fixture
def bob(device: Make) -> Device:
    """Somebody who has a personal space with something in it."""
    made = device(unique("bob"))
    made.write(edit("his", x=1))
    return made


def named(change: Json, space: str, place: str) -> Json:
    """The change with a space named where the wire lets it be."""
    if place == "spaceId":
        return {**change, "spaceId": space}
    if place == "data":
        return {"table": "t", "id": change["id"], "op": "insert", "data": {"x": 1, "spaceId": space}}
    fields = {**change["fields"], "spaceId": {"value": space, "at": change["fields"]["x"]["at"]}}
    return {**change, "fields": fields}


@pytest.mark.parametrize("there", [True, False], ids=["who is there", "who never came"])
@pytest.mark.parametrize("place", ["spaceId", "data", "fields"])
def test_a_push_into_somebody_elses_is_rejected_alone(device: Make, bob: Device, place: str, there: bool) -> None:
    ann = device(unique("ann"))
    space = f"_personal:{bob.user if there else unique('nobody')}"
    results = ann.push(edit("good", x=1), named(edit("bad", x=2), space, place))["results"]
    assert [(result["status"], result.get("code")) for result in results] == [
        ("applied", None), ("rejected", "space_not_found"),
    ]  # fmt: skip
    assert {change["id"] for change in ann.drain(history=1)[0]} == {"good"}
    assert {change["id"] for change in bob.drain(history=1)[0]} == {"his"}
    answer = ann.send(named(edit("bad", x=2), space, place), atomic=True)
    assert (answer.status_code, answer.json()["code"]) == (422, "atomic_rejected")


async def test_a_push_over_a_socket_is_rejected_alike(server: Server, device: Make, bob: Device) -> None:
    ann = unique("ann")
    async with socket_of(server, ann) as socket:
        change = {**edit("bad", x=2), "spaceId": f"_personal:{bob.user}"}
        (result,) = (await socket.push(change))["results"]
        assert (result["status"], result["code"]) == ("rejected", "space_not_found")
        answer = await socket.ask({"type": "presence", "spaceId": f"_personal:{bob.user}", "state": 1}, "error")
        assert answer["code"] == "space_not_found"
    assert device(ann).drain()[0] == []


def test_nothing_else_takes_it_for_ones_own(device: Make, bob: Device) -> None:
    ann, space = device(unique("ann")), f"_personal:{bob.user}"
    ann.write(edit("his", x=7))
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"/spaces/{space}", {}),
        ("DELETE", f"/spaces/{space}", {}),
        ("GET", f"/spaces/{space}/members", {}),
        ("PUT", f"/spaces/{space}/members/{ann.user}", {"json": {"role": "owner"}}),
        ("DELETE", f"/spaces/{space}/members/{ann.user}", {}),
        ("GET", "/sync/app/records/t/his", {"params": {"spaceId": space}}),
        ("GET", "/sync/app/records/t/his/history", {"params": {"spaceId": space}}),
        ("POST", "/sync/app/records/t/his/restore", {"params": {"spaceId": space}, "json": {"seq": 1}}),
        ("GET", f"/sync/app/spaces/{space}/at", {}),
        ("POST", f"/sync/app/spaces/{space}/restore", {"json": {"seq": 1}}),
        ("GET", "/sync/app/digest", {"params": {"spaceId": space}}),
        ("POST", "/sync/app/digest", {"json": {"since": ann.pull()["syncedUntil"], "spaceId": space, "bucket": 0,
                                               "records": []}}),
    ]  # fmt: skip
    for method, path, more in asked:
        answer = ann.request(method, path, **more)
        found = (answer.status_code, answer.json()["code"])
        # That a personal space stays, with its one member, is said of every one, also of nobody's.
        assert found in ((404, "space_not_found"), (403, "forbidden")), (method, path, answer.text)
        if found[0] == 403:
            nobodys = path.replace(bob.user, unique("nobody"))
            assert ann.request(method, nobodys, **more).text == answer.text
    assert bob.request("GET", f"/spaces/{space}").status_code == 200


def test_ones_own_under_its_name_is_ones_own(device: Make) -> None:
    ann = device(unique("ann"))
    ann.write({**edit("r", x=1), "spaceId": f"_personal:{ann.user}"})
    assert [change["spaceId"] for change in ann.drain()[0]] == [f"_personal:{ann.user}"]
