"""A device's store that was copied: the server takes pushes of one copy under a client id, and tells the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.compacting import compact_now
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.socket_device import socket_of
from tests.support.wire import Device, edit, unique, values

Make = Callable[..., Device]
FIRST, SECOND, THIRD = "1.firstfirst", "2.secondsecond", "3.thirdthird"


def refused(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def test_of_two_copies_the_one_that_comes_second_is_told_and_nothing_of_its_push_is_written(device: Make) -> None:
    phone = device(unique("copied"), "phone")
    phone.push(edit("r", 1, x=1), incarnations=[FIRST])
    phone.push(edit("r", 2, x=2), incarnations=[FIRST, SECOND])
    answer = phone.send(edit("r", 3, x="copy"), incarnations=[FIRST, "2.anothercopy"])
    assert refused(answer) == (409, "device_copied")
    assert refused(phone.send(edit("r", 3, x="copy"), incarnations=[FIRST])) == (409, "device_copied")
    phone.push(edit("r", 4, x=4), incarnations=[SECOND])
    assert [change["fields"]["x"]["value"] for change in phone.drain(history=1)[0]] == [1, 2, 4]
    copy = device(phone.user, "fresh")
    copy.push(edit("r", 5, x="copy"), incarnations=["1.freshfresh"])


def test_a_device_that_heard_no_answer_stays_the_device(device: Make) -> None:
    phone = device(unique("copied"), "phone")
    change = edit("r", 1, x=1)
    for said in ([FIRST], [FIRST], [FIRST, SECOND], [FIRST, SECOND], [FIRST, SECOND, THIRD], [THIRD]):
        phone.push(change, incarnations=said)


def test_a_database_that_was_restored_from_before_knows_less_than_the_device_and_takes_it(device: Make) -> None:
    phone = device(unique("copied"), "phone")
    phone.push(edit("r", 1, x=1), incarnations=[SECOND])
    phone.push(edit("r", 2, x=2), incarnations=["7.seventhseventh", "8.eightheighth"])
    assert refused(phone.send(edit("r", 3, x=3), incarnations=[SECOND, THIRD])) == (409, "device_copied")


def test_who_names_none_and_another_user_s_device_of_that_name_are_as_they_were(device: Make) -> None:
    phone, other = device(unique("copied"), "phone"), device(unique("copied"), "phone")
    phone.push(edit("r", 1, x=1), incarnations=[FIRST, SECOND])
    phone.push(edit("r", 2, x=2))
    other.push(edit("r", 1, x=1), incarnations=[FIRST])
    device(phone.user, "tablet").push(edit("r", 3, x=3), incarnations=[FIRST])
    old = device(phone.user, "phone", legacy=True)
    old.push(edit("r", 4, x=4), incarnations=["anything", 7])
    assert values(phone.drain()[0])["r"]["x"] == 4


@pytest.mark.parametrize(
    "said", [[], ["1"], ["0.firstfirst"], ["1.short"], [f"{10**15}.firstfirst"], ["1.first first"], [FIRST] * 65]
)
def test_what_cannot_be_one_is_refused_with_its_place(device: Make, said: list[str]) -> None:
    answer = device(unique("copied")).send(edit("r", 1, x=1), incarnations=said)
    assert refused(answer) == (400, "invalid_request")
    assert answer.json()["errors"][0]["pointer"] == "/incarnations"


async def test_on_a_socket_the_push_is_answered_by_an_error_and_the_connection_stays(
    server: Server, device: Make
) -> None:
    user = unique("copied")
    device(user, "phone").push(edit("r", 1, x=1), incarnations=[FIRST, SECOND])
    async with socket_of(server, user, "phone", protocol=1) as socket:
        push = {"type": "push", "appId": "app", "changes": [edit("r", 2, x=2)]}
        answer = await socket.ask({**push, "requestId": "one", "incarnations": [FIRST]}, "error", requestId="one")
        assert answer["code"] == "device_copied"
        answer = await socket.push(edit("r", 2, x=2), app="app", incarnations=[SECOND])
        assert answer["results"][0]["status"] == "applied"


def test_one_that_did_not_push_for_long_is_forgotten_and_comes_back_as_a_new_one(server: Server, device: Make) -> None:
    phone, tablet, away = (device(unique("copied"), name) for name in ("phone", "tablet", "away"))
    for one in (phone, tablet, away):
        one.push(edit("r", 1, x=1), incarnations=[FIRST, SECOND])
    of = (
        " FROM syncd.sync_names n WHERE n.name_no = d.user_no AND n.name = '{}'"
        " AND d.used_at > now() - interval '1 minute' RETURNING d.used_at"
    )
    age = "UPDATE syncd.sync_devices d SET used_at = now() - interval '366 days'" + of
    for one in (phone, tablet):
        assert len(asyncio.run(run(server.owner_dsn, age.format(one.user)))) == 1
    # One that pushes again, also as what it was, is there again from that day on.
    pushing = f"SELECT syncd.sync_device('{tablet.user}', 'tablet', ARRAY['{SECOND}'])"
    assert asyncio.run(run(server.runtime_dsn, pushing)) == [("same",)]
    left = (
        "SELECT count(*) FROM syncd.sync_devices d JOIN syncd.sync_names n ON n.name_no = d.user_no WHERE n.name = '{}'"
    )
    for kept in (None, timedelta(days=367)):
        compact_now(server.owner_dsn, history=timedelta(days=10_000), devices=kept)
        assert asyncio.run(run(server.owner_dsn, left.format(phone.user))) == [(1,)]
    compact_now(server.owner_dsn, history=timedelta(days=10_000), devices=timedelta(days=365))
    found = {one: asyncio.run(run(server.owner_dsn, left.format(one.user)))[0][0] for one in (phone, tablet, away)}
    assert [found[one] for one in (phone, tablet, away)] == [0, 1, 1]
    phone.push(edit("r", 2, x=2), incarnations=["9.ninthninth", "10.tenthtenth"])
    assert asyncio.run(run(server.owner_dsn, left.format(phone.user))) == [(1,)]
    assert refused(phone.send(edit("r", 3, x=3), incarnations=[THIRD])) == (409, "device_copied")
    assert values(phone.drain()[0])["r"]["x"] == 2
