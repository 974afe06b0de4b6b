"""G3: a change has one effect and one place in the log, however often and in whatever company it is sent."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from syncd.core.error_codes import ERROR_CODES
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


def outcome(results: list[Json]) -> list[tuple[Any, ...]]:
    return [(r["status"], r.get("eventId"), r.get("seq"), r.get("code")) for r in results]


def log(device: Device) -> list[Json]:
    return device.drain(history=1)[0]


def test_a_retry_is_answered_with_the_first_answer(device: Make) -> None:
    writer = device(unique("once"))
    changes = [edit(f"r{i % 2}", i + 1, n=i) for i in range(5)]
    first = writer.push(*changes)["results"]
    before = log(writer)
    for _ in range(3):
        again = writer.push(*changes)["results"]
        assert outcome(again) == [("duplicate", r["eventId"], r["seq"], None) for r in first]
    assert log(writer) == before
    assert len({r["eventId"] for r in first}) == 5


def test_a_retry_in_another_order_and_split_changes_nothing(device: Make) -> None:
    writer, chance = device(unique("order")), random.Random(3)
    changes = [edit(f"r{i % 3}", i + 1, n=i) for i in range(12)]
    places = {r["changeId"]: (r["eventId"], r["seq"]) for r in writer.push(*changes)["results"]}
    before = log(writer)
    for _ in range(5):
        chance.shuffle(changes)
        cut = chance.randint(1, 11)
        for part in (changes[:cut], changes[cut:]):
            assert [(r["eventId"], r["seq"]) for r in writer.push(*part)["results"]] == [
                places[c["changeId"]] for c in part
            ]
    assert log(writer) == before


def test_old_and_new_changes_in_one_push_have_no_gap(device: Make) -> None:
    writer = device(unique("mixed"))
    old = [edit(f"r{i}", i + 1, n=i) for i in range(3)]
    writer.write(*old)
    new = [edit(f"q{i}", i + 1, n=i) for i in range(3)]
    results = writer.push(new[0], old[2], new[1], old[0], old[1], new[2])["results"]
    assert [(r["status"], r["seq"]) for r in results] == [
        ("applied", 4),
        ("duplicate", 3),
        ("applied", 5),
        ("duplicate", 1),
        ("duplicate", 2),
        ("applied", 6),
    ]
    assert [c["seq"] for c in log(writer)] == [1, 2, 3, 4, 5, 6]
    writer.write(edit("z", 9, n=9))
    assert log(writer)[-1]["seq"] == 7
    assert [len(p["serverChanges"]) for p in writer.pages(limit=1, history=1)] == [3, 3, 1]


def test_a_change_id_with_another_content_is_refused_alone(device: Make) -> None:
    writer = device(unique("reused"))
    space = writer.create(unique("s"))
    first = edit("r", 1, n=1, change_id="k")
    writer.write(first)
    before = log(writer)
    others: list[Json] = [
        edit("r", 1, n=2, change_id="k"),
        edit("r", 2, n=1, change_id="k"),
        edit("q", 1, n=1, change_id="k"),
        edit("r", 1, m=1, change_id="k"),
        {**first, "table": "u"},
        {**first, "op": "insert"},
        {**first, "spaceId": space},
        {"table": "t", "id": "r", "op": "delete", "changeId": "k", "deletedAt": "2026-01-01T00:00:00Z"},
    ]
    for other in others:
        assert outcome(writer.push(other)["results"]) == [("rejected", None, None, "change_id_reused")], other
    assert outcome(device(writer.user, app="other").push(first)["results"])[0][3] == "change_id_reused"
    assert log(writer) == before
    mixed = writer.push(edit("a", 1, n=1), first, edit("b", 1, n=1), others[0])["results"]
    assert [r["status"] for r in mixed] == ["applied", "duplicate", "applied", "rejected"]


def test_the_same_content_in_another_spelling_is_the_same_change(device: Make) -> None:
    writer = device(unique("spelling"))
    writer.write(edit("r", "2026-01-01T12:00:00+02:00", v={"a": 1.0, "b": [1]}, change_id="k"))
    same = edit("r", "2026-01-01T10:00:00.000Z", v={"b": [1], "a": 1}, change_id="k")
    assert writer.push(same)["results"][0]["status"] == "duplicate"


def test_one_change_twice_in_one_push_is_applied_once(device: Make) -> None:
    writer = device(unique("twice"))
    change, legacy = edit("r", 1, n=1), edit("s", 1, n=1, change_id=None)
    results = writer.push(change, change, legacy, legacy, {**change, "id": "other"})["results"]
    assert [(r["status"], r.get("seq")) for r in results] == [
        ("applied", 1),
        ("duplicate", 1),
        ("applied", 2),
        ("duplicate", 2),
        ("rejected", None),
    ]
    assert results[0]["eventId"] == results[1]["eventId"]
    assert results[4]["code"] == "change_id_reused"
    assert [c["seq"] for c in log(writer)] == [1, 2]


def test_a_change_id_is_scoped_to_user_and_device(device: Make) -> None:
    owner, other = device(unique("owner"), "c1"), device(unique("squatter"), "c1")
    space = owner.create(unique("s"))
    owner.member(space, other.user)
    change = {**edit("r", 1, n=1, change_id="k"), "spaceId": space}
    other.write({**change, "id": "squatted"})
    owner.write(change)
    device(owner.user, "c2").write({**change, "id": "second device"})
    assert {c["id"] for c in log(owner)} == {"r", "squatted", "second device"}
    assert owner.push(change)["results"][0]["status"] == "duplicate"


def test_a_member_under_another_s_client_id_is_named_and_takes_nothing_of_theirs(device: Make) -> None:
    owner, member = device(unique("owner"), "c1"), device(unique("member"), "c1")
    space = owner.create(unique("s"))
    owner.member(space, member.user)
    change = {**edit("r", 5, n=1, change_id="k"), "spaceId": space}
    member.push({**change, **edit("r", 5, n=2, change_id="k")}, incarnations=["1.firstfirst"])
    # Neither its id, nor its stamp, nor its device is taken: the later of the two writes stands, a microsecond on.
    mine = owner.push(change, incarnations=["1.ownersfirst"])["results"][0]
    assert (mine["status"], mine["at"]) == ("applied", {"n": at(6)})
    assert owner.push(change, incarnations=["1.ownersfirst"])["results"][0]["status"] == "duplicate"
    assert values(log(member))["r"] == {"n": 1}
    history = owner.request("GET", "/sync/app/records/t/r/history", params={"spaceId": space}).json()["changes"]
    assert [(one["userId"], one["clientId"]) for one in history] == [(owner.user, "c1"), (member.user, "c1")]


def test_legacy_changes_are_recognised_by_their_content(device: Make) -> None:
    writer = device(unique("legacy"), legacy=True)
    stamp = "2026-01-01T10:00:00.000Z"
    changes: list[Json] = [
        {"table": "t", "id": "a", "op": "insert", "data": {"n": 1, "updatedAt": stamp}},
        {"table": "t", "id": "b", "op": "insert", "data": {"n": 1, "createdAt": stamp}},
        {
            "table": "t",
            "id": "a",
            "op": "update",
            "fields": {"n": {"value": 2, "updatedAt": "2026-01-01T11:00:00.000Z"}},
        },
        {"table": "t", "id": "b", "op": "delete", "deletedAt": "2026-01-01T11:00:00.000Z"},
    ]
    first = writer.push(*changes)["results"]
    assert [r["status"] for r in first] == ["applied"] * 4
    before = log(writer)
    for change, answer in zip(changes, first, strict=True):
        assert outcome(writer.push(change)["results"]) == [("duplicate", answer["eventId"], answer["seq"], None)]
    assert outcome(writer.push(*reversed(changes))["results"])[0][0] == "duplicate"
    assert log(writer) == before
    assert all("changeId" not in change for change in before)


def test_the_same_legacy_change_in_two_apps_and_two_spaces_is_four_changes(device: Make) -> None:
    user = unique("legacy")
    one, two = device(user, app="one"), device(user, app="two")
    space = one.create(unique("s"))
    plain = edit("r", 1, change_id=None, n=1)
    hinted = {**plain, "data": {"spaceId": space}}
    for writer in (one, two):
        assert [r["status"] for r in writer.push(plain, hinted)["results"]] == ["applied", "applied"]
        assert [r["status"] for r in writer.push(plain, hinted)["results"]] == ["duplicate", "duplicate"]
        assert {c["spaceId"] for c in log(writer)} == {space, f"_personal:{user}"}


def test_five_retries_at_once_have_one_effect(device: Make) -> None:
    writer = device(unique("parallel"))
    for turn in range(6):
        changes = [edit(f"r{turn}-{i}", turn + 1, n=i) for i in range(1 if turn % 2 else 20)]
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda _, sent=changes: writer.push(*sent)["results"], range(5)))
        assert sorted(a[0]["status"] for a in answers) == ["applied"] + ["duplicate"] * 4
        assert len({tuple((r["eventId"], r["seq"]) for r in a) for a in answers}) == 1
    assert [c["seq"] for c in log(writer)] == list(range(1, 64))


def test_all_or_nothing_when_a_push_says_so(device: Make) -> None:
    writer, owner = device(unique("atomic")), device(unique("owner"))
    space, secret = owner.create(unique("s")), owner.create(unique("secret"))
    owner.member(space, writer.user, "reader")
    writer.write(edit("r", 1, n=1, change_id="used"))
    before = log(writer)
    for bad, code in (
        ({**edit("x", n=1), "spaceId": space}, "not_a_writer"),
        ({**edit("x", n=1), "spaceId": secret}, "space_not_found"),
        (edit("x", n=2, change_id="used"), "change_id_reused"),
        (edit("x", big="x" * (1 << 20)), "change_too_large"),
    ):
        for place in range(3):
            changes = [edit(f"g{place}-{i}", n=i) for i in range(2)]
            changes.insert(place, bad)
            answer = writer.send(*changes, atomic=True)
            assert (answer.status_code, answer.json()["code"]) == (422, "atomic_rejected"), answer.text
            wanted = {"pointer": f"/changes/{place}", "detail": ERROR_CODES[code].text, "code": code}
            assert answer.json()["errors"] == [wanted]
            assert log(writer) == before
            results = writer.push(*changes[:1], bad, atomic=False)["results"] if place == 2 else []
            if results:
                assert [r["status"] for r in results] == ["applied", "rejected"]
                before = log(writer)
    good = [edit("g", n=1), edit("h", n=1)]
    assert [r["status"] for r in writer.push(*good, atomic=True)["results"]] == ["applied"] * 2
    assert [r["status"] for r in writer.push(*good, atomic=True)["results"]] == ["duplicate"] * 2


def test_a_poisoned_change_at_any_place_of_a_push_harms_no_other(device: Make) -> None:
    writer = device(unique("poison"))
    expected: dict[str, Json] = {}
    for place in range(5):
        changes = [edit(f"r{place}-{i}", n=i) for i in range(4)]
        changes.insert(place, {**edit("bad", n=0), "spaceId": "nobody-s"})
        results = writer.push(*changes)["results"]
        assert [r["status"] for r in results] == ["rejected" if i == place else "applied" for i in range(5)]
        assert results[place]["detail"]
        expected |= {f"r{place}-{i}": {"n": i} for i in range(4)}
        malformed = [*changes[:place], {**changes[place], "op": "upsert"}, *changes[place + 1 :]]
        answer = writer.send(*malformed)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, f"/changes/{place}/op")
        assert values(writer.drain()[0]) == expected


@pytest.mark.parametrize("then", ["reader", "removed", "deleted"])
@pytest.mark.parametrize("atomic", [False, True])
def test_a_retry_of_who_may_write_no_more_gets_the_first_answer(device: Make, then: str, atomic: bool) -> None:
    """The answer to the first push was lost; meanwhile its author became a reader, was removed, or the space went."""
    owner, writer = device(unique("owner")), device(unique("writer"))
    space = owner.create(unique("s"))
    owner.member(space, writer.user)
    changes = [{**edit(f"r{i}", i + 1, n=i), "spaceId": space} for i in range(2)]
    first = writer.push(*changes, atomic=atomic)["results"]
    if then == "reader":
        owner.member(space, writer.user, "reader")
    elif then == "removed":
        owner.remove(space, writer.user)
    else:
        assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
    _, cursor = writer.drain()
    again = writer.push(*changes, atomic=atomic, pull=True, since=cursor)
    assert outcome(again["results"]) == [("duplicate", r["eventId"], r["seq"], None) for r in first]
    assert (again["serverChanges"], again["conflicts"]) == ([], [])
    assert outcome(writer.push(changes[0])["results"]) == [("duplicate", first[0]["eventId"], first[0]["seq"], None)]
    code = "not_a_writer" if then == "reader" else "space_not_found"
    other = {**changes[0], "fields": {"n": {**changes[0]["fields"]["n"], "value": "another"}}}
    new = {**edit("r0", 9, n=9), "spaceId": space}
    results = writer.push(other, changes[1], new)["results"]
    assert [(r["status"], r.get("code")) for r in results] == [
        ("rejected", "change_id_reused"), ("duplicate", None), ("rejected", code),
    ]  # fmt: skip


def test_a_space_that_its_maker_makes_again_is_answered_as_made(device: Make) -> None:
    owner, other = device(unique("owner")), device(unique("other"))
    body = {"id": unique("s"), "name": "Garden"}
    made = [owner.request("POST", "/spaces", json=body) for _ in range(2)]
    assert [answer.status_code for answer in made] == [201, 201]
    assert made[0].json() == made[1].json()
    owner.member(body["id"], other.user, "owner")
    for asking, what in ((other, body), (owner, {**body, "name": "Park"}), (device(unique("third")), body)):
        answer = asking.request("POST", "/spaces", json=what)
        assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    owner.remove(body["id"], owner.user)
    other.member(body["id"], owner.user, "owner")
    assert owner.request("POST", "/spaces", json=body).status_code == 409


def test_what_is_deleted_again_is_not_there_as_for_a_stranger(device: Make) -> None:
    owner, writer, stranger = (device(unique(name)) for name in ("owner", "writer", "stranger"))
    space = owner.create(unique("s"))
    owner.member(space, writer.user)
    for asking, path in ((writer, f"/spaces/{space}/members/{writer.user}"), (owner, f"/spaces/{space}")):
        assert asking.request("DELETE", path).status_code == 204
        again, never = asking.request("DELETE", path), stranger.request("DELETE", "/spaces/never")
        assert (again.status_code, again.json()) == (404, never.json())


BROKEN = """UPDATE syncd.sync_changes c SET fields = '{{"x": {{"value": [{} 1e999999]}}}}'
FROM syncd.sync_names n WHERE n.name = '{}' AND n.name_no = c.user_no"""


async def test_whether_an_id_was_used_is_asked_without_a_look_at_what_it_wrote(server: Server, device: Make) -> None:
    """Of a change that could not be read again: it is not read."""
    ada = device(unique("ada"))
    ada.write({**edit("r", 1, x=1), "changeId": "mine"})
    await run(server.owner_dsn, BROKEN.format("", ada.user))
    asked = f"SELECT syncd.sync_pushed_before('{ada.user}', 'c1', ARRAY['mine', 'another'])"
    assert await run(server.runtime_dsn, asked) == [(["mine"],)]
    ada.write({**edit("r", 2, x=2), "changeId": "another", "table": unique("new")})


@pytest.mark.parametrize("varied", [False, True])
async def test_what_was_written_is_not_read_for_a_much_smaller_change_of_its_id(
    server: Server, device: Make, varied: bool
) -> None:
    """Whether its text or what it is compressed to says so."""
    ada = device(unique("ada"))
    ada.write({**edit("r", 1, x=1), "changeId": "mine"})
    values = random.Random(1)
    more = "".join(f"{values.randrange(10**9) if varied else 1}," for _ in range(5000))
    await run(server.owner_dsn, BROKEN.format(more, ada.user))
    [result] = ada.push({**edit("r", 1, x=2), "changeId": "mine"})["results"]
    assert (result["status"], result["code"]) == ("rejected", "change_id_reused")


def test_a_large_change_that_comes_again_is_known(device: Make) -> None:
    ada = device(unique("ada"))
    change = {**edit("r", 1, x=[1] * 20_000), "changeId": "mine"}
    assert [ada.push(change)["results"][0]["status"] for _ in range(2)] == ["applied", "duplicate"]
