"""G10 over HTTP: every operation by every kind of caller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.roles import ROLES, House, furnished
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]


@pytest.fixture
def house(device: Make) -> House:
    return furnished(device)


@pytest.mark.parametrize("role", ROLES)
def test_who_reads_a_space(house: House, role: str) -> None:
    reader, inside = house.callers[role], role in ("owner", "writer", "reader")
    for answer in (
        reader.ask(),
        reader.ask(history=1),
        reader.ask(collection="t"),
        reader.ask("1970-01-01T00:00:00Z"),
        reader.send(pull=True),
        reader.send(edit("mine", x=1), pull=True),
    ):
        assert answer.status_code == 200
        assert (house.canary in answer.text) == inside
        assert (house.space in answer.text) == inside
    listed = {space["id"]: space["role"] for space in reader.request("GET", "/spaces").json()["spaces"]}
    assert listed.get(house.space) == (role if inside else None)


@pytest.mark.parametrize("role", ROLES)
def test_who_writes_in_a_space(house: House, role: str) -> None:
    writer = house.callers[role]
    ways = [{"spaceId": house.space}, {"data": {"spaceId": house.space}}]
    changes = [{**edit(f"w{i}", by=role), **way} for i, way in enumerate(ways)]
    changes.append(edit("w2", spaceId=house.space))
    results = writer.push(*changes)["results"]
    expected = {"owner": None, "writer": None, "reader": "not_a_writer"}.get(role, "space_not_found")
    assert [r.get("code") for r in results] == [expected] * 3
    atomic = writer.send(edit("mine", x=1), {**edit("w3", by=role), "spaceId": house.space}, atomic=True)
    assert atomic.status_code == (200 if expected is None else 422)
    log = [c for c in house.callers["owner"].drain(history=1)[0] if c["spaceId"] == house.space]
    assert len(log) == (5 if expected is None else 1)
    assert [c["seq"] for c in log] == list(range(1, len(log) + 1))
    if expected is not None:
        assert "mine" not in writer.ask(history=1).text


@pytest.mark.parametrize("role", ROLES)
def test_who_manages_a_space(house: House, role: str) -> None:
    caller, space, member = house.callers[role], f"/spaces/{house.space}", house.callers["writer"].user
    refusal = (403, "forbidden") if role in ("writer", "reader") else (404, "space_not_found")
    reads = caller.request("GET", space), caller.request("GET", f"{space}/members")
    inside = role in ("owner", "writer", "reader")
    assert [a.status_code for a in reads] == [200 if inside else 404] * 2
    changing: list[tuple[str, str, Any, int]] = [
        ("PUT", f"{space}/members/{caller.user}-friend", {"role": "reader"}, 200),
        ("PUT", f"{space}/members/{house.callers['reader'].user}", {"role": "owner"}, 200),
        ("DELETE", f"{space}/members/{caller.user}-friend", None, 204),
        ("DELETE", space, None, 204),
    ]
    if role != "writer":
        changing.insert(2, ("DELETE", f"{space}/members/{member}", None, 204))
    for method, path, body, status in changing:
        answer = caller.request(method, path, **({} if body is None else {"json": body}))
        if role == "owner":
            assert answer.status_code == status, answer.text
        else:
            assert (answer.status_code, answer.json()["code"]) == refusal, (method, path)
    if role != "owner":
        members = {
            m["userId"]: m["role"] for m in house.callers["owner"].request("GET", f"{space}/members").json()["members"]
        }
        assert members == {house.callers[r].user: r for r in ("owner", "writer", "reader")}


PAST = [
    ("GET", "/sync/app/records/t/r?seq=1&spaceId="),
    ("GET", "/sync/app/records/t/r?spaceId="),
    ("GET", "/sync/app/records/t/r/history?spaceId="),
    ("GET", "/sync/app/spaces/{}/at"),
    ("POST", "/sync/app/records/t/r/restore?spaceId="),
    ("POST", "/sync/app/spaces/{}/restore"),
]


@pytest.mark.parametrize("role", ROLES)
def test_who_sees_the_past_and_goes_back_to_it(house: House, role: str) -> None:
    caller, owner = house.callers[role], house.callers["owner"]
    before = owner.drain(history=1)[0]
    for method, path in PAST:
        answer, not_there = (
            caller.request(
                method,
                path.format(space) if "{}" in path else path + space,
                **({"json": {"seq": 1}} if method == "POST" else {}),
            )
            for space in (house.space, "not-there")
        )
        assert (not_there.status_code, not_there.json()["code"]) == (404, "space_not_found")
        if role in ("former", "stranger", "nobody"):
            assert (answer.status_code, answer.json()) == (404, not_there.json())
        elif role == "reader" and method == "POST":
            assert (answer.status_code, answer.json()["code"]) == (403, "not_a_writer")
        else:
            assert answer.status_code == 200
            assert (house.canary in answer.text) == (method == "GET")
    assert len(owner.drain(history=1)[0]) == len(before) + (role in ("owner", "writer"))


@pytest.mark.parametrize("role", ["former", "stranger", "nobody"])
def test_a_space_that_is_not_mine_is_answered_as_one_that_is_not_there(house: House, role: str) -> None:
    caller = house.callers[role]
    for method, below, body in (
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/members", None),
        ("PUT", "/members/x", {"role": "reader"}),
        ("DELETE", "/members/x", None),
    ):
        answers = [
            caller.request(method, f"/spaces/{space}{below}", **({"json": body} if body else {}))
            for space in (house.space, "not-there")
        ]
        assert answers[0].status_code == answers[1].status_code == 404
        assert answers[0].json() == answers[1].json()
    there, not_there = (
        caller.push({**edit("r", x=1), "spaceId": space})["results"][0] for space in (house.space, "not-there")
    )
    assert {k: v for k, v in there.items() if k != "changeId"} == {
        k: v for k, v in not_there.items() if k != "changeId"
    }


def test_a_role_counts_from_the_very_next_request(house: House) -> None:
    owner, former = house.callers["owner"], house.callers["former"]
    for turn in range(3):
        for role, code in (("reader", "not_a_writer"), ("writer", None), ("owner", None)):
            owner.member(house.space, former.user, role)
            assert house.canary in former.ask().text
            assert former.push({**edit(f"{turn}{role}", x=1), "spaceId": house.space})["results"][0].get("code") == code
        owner.remove(house.space, former.user)
        assert house.canary not in former.ask().text
        assert former.push({**edit("x", x=1), "spaceId": house.space})["results"][0]["code"] == "space_not_found"


def test_anyone_may_leave_but_the_last_owner(house: House) -> None:
    for role in ("writer", "reader"):
        house.callers[role].remove(house.space, house.callers[role].user)
    owner = house.callers["owner"]
    for method, body in (("DELETE", None), ("PUT", {"role": "writer"})):
        answer = owner.request(
            method, f"/spaces/{house.space}/members/{owner.user}", **({"json": body} if body else {})
        )
        assert (answer.status_code, answer.json()["code"]) == (409, "last_owner")
    owner.member(house.space, house.callers["writer"].user, "owner")
    owner.remove(house.space, owner.user)
    assert owner.request("GET", f"/spaces/{house.space}").status_code == 404


def test_a_comma_or_a_bracket_in_an_id_opens_no_other_space(device: Make, house: House) -> None:
    thief = device(unique("thief"))
    for name in (
        f"x,{house.space}",
        f"{{{house.space}}}",
        f"{house.space},",
        f"'{house.space}'",
        f"{house.space}%",
        f"{house.space} x",
    ):
        thief.create(f"{name}")
        thief.write({**edit("r", x=1), "spaceId": name})
    thief.create(unique("%"))
    assert house.canary not in thief.ask().text
    assert thief.push({**edit("r", x=1), "spaceId": house.space})["results"][0]["code"] == "space_not_found"


def test_a_personal_space_is_its_user_s_alone(device: Make) -> None:
    alice, bob = device(unique("alice")), device(unique("bob"))
    hers, his = f"_personal:{alice.user}", f"_personal:{bob.user}"
    for _ in range(2):  # before it exists, and after
        assert bob.push({**edit("r", x=1), "spaceId": hers})["results"][0]["code"] == "space_not_found"
        assert bob.request("POST", "/spaces", json={"id": hers, "name": "x"}).status_code == 400
        assert bob.request("GET", f"/spaces/{hers}").status_code == 404
        assert bob.request("PUT", f"/spaces/{hers}/members/{bob.user}", json={"role": "owner"}).status_code == 404
        assert bob.request("DELETE", f"/spaces/{hers}").status_code in (403, 404)
        alice.push(edit("mine", x="hers"))
    assert "hers" not in bob.ask().text
    assert alice.request("PUT", f"/spaces/{hers}/members/{bob.user}", json={"role": "reader"}).status_code == 403
    assert alice.request("DELETE", f"/spaces/{hers}/members/{alice.user}").status_code == 403
    assert bob.push(edit("r", spaceId=his), edit("s", spaceId=hers))["results"][1]["code"] == "space_not_found"


def test_nobody_writes_in_another_s_name(device: Make, house: House) -> None:
    writer, owner = house.callers["writer"], house.callers["owner"]
    forged = {
        **edit("forged", x=1, change_id="k"),
        "spaceId": house.space,
        "userId": owner.user,
        "clientId": owner.client,
        "eventId": "e",
        "seq": 1,
    }
    writer.push(forged, clientId=owner.client)
    stored = next(c for c in owner.drain(history=1)[0] if c["id"] == "forged")
    assert stored["clientId"] == writer.client
    assert stored["seq"] == 2
    assert owner.push({**edit("own", x=1, change_id="k"), "spaceId": house.space})["results"][0]["status"] == "applied"
