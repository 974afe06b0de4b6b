"""What a device says was acknowledged is in the log, or its cursor is of another history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


def ask(device: Device, since: str, how: str, pushed: list[str]) -> Any:
    """A pull or a push that names acknowledged changes: its code, or what it brings."""
    answer = (
        device.ask(since, pushed=pushed, clientId=device.client)
        if how == "pull"
        else device.send(edit(unique("r"), x=1), since=since, pushed=pushed)
    )
    return answer.json().get("code", "fine")


@pytest.mark.parametrize("how", ["pull", "push"])
def test_a_change_that_is_not_there_makes_the_cursor_lost(device: Make, how: str) -> None:
    user = unique("ann")
    phone, pad = device(user, "phone"), device(user, "pad")
    first, second = edit("r", x=1), edit("r", 2, x=2)
    phone.push(first)
    since = phone.pull()["syncedUntil"]
    phone.push(second)
    known = [first["changeId"], second["changeId"]]
    assert ask(phone, since, how, known) == ask(phone, since, how, []) == "fine"
    assert ask(phone, since, how, [*known, "never"]) == ask(pad, since, how, known) == "cursor_lost"
    assert ask(phone, since, how, ["x\x00"]) == ask(phone, since, how, ["x"] * 65) == "invalid_request"
    assert ask(device(unique("bob"), "phone"), "", how, known) == "cursor_lost", "a device of somebody else"


def test_who_pulls_has_to_say_whose_they_are(device: Make) -> None:
    phone = device(unique("ann"), "phone")
    phone.push(change := edit("r", x=1))
    del phone.headers["x-client-id"]
    assert phone.ask(pushed=change["changeId"]).status_code == 400
    assert phone.ask(pushed=change["changeId"], clientId="phone").status_code == 200


async def test_a_subscription_names_them_too(server: Server) -> None:
    async with socket_of(server, unique("ann"), protocol=1) as socket:
        change = edit("r", x=1)
        await socket.push(change)
        await socket.subscribe(since="", pushed=[change["changeId"]])
        await socket.send({"type": "subscribe", "appId": "notes", "since": "", "pushed": ["never"]})
        assert (await socket.next("error", appId="notes"))["code"] == "cursor_lost"
        await socket.send({"type": "subscribe", "appId": "notes", "since": "", "pushed": ["never"] * 65})
        assert (await socket.next("error", code="invalid_request"))["code"] == "invalid_request"
