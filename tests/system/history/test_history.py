"""History: a record's changes, a record or a space as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.past import address, ask, back, get, history, listing, restore, restored
from tests.support.wire import Device, ahead, at, edit, unique

Make = Callable[..., Device]


@pytest.fixture
def owner(device: Make) -> Device:
    return device(unique("owner"))


@pytest.fixture
def space(owner: Device) -> str:
    return owner.create(unique("space"))


def test_a_record_is_shown_with_every_register_and_stamp(owner: Device, space: str) -> None:
    owner.write(
        {**edit("r", 1, x=1, y={"a": [1]}), "spaceId": space, "schemaVersion": 3},
        {**edit("r", 2, x=2), "spaceId": space},
    )
    found = get(owner, address(space))
    assert found == {
        "table": "t", "id": "r", "seq": 2, "eventId": found["eventId"], "clientId": "c1",
        "deleted": False, "complete": True,
        "fields": {
            "x": {"value": 2, "at": at(2), "clientId": "c1"}, "y": {"value": {"a": [1]}, "at": at(1), "clientId": "c1"},
        },
    }  # fmt: skip
    earlier = get(owner, address(space), seq=1)
    assert (earlier["seq"], earlier["schemaVersion"], earlier["fields"]["x"]["value"]) == (1, 3, 1)


def test_a_deleted_record_is_shown_and_marked(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space})
    owner.write({"table": "t", "id": "r", "op": "delete", "deletedAt": at(2), "spaceId": space})
    found = get(owner, address(space))
    assert found["deleted"]
    assert found["fields"]["x"]["value"] == 1
    assert found["fields"]["deletedAt"]["value"] == at(2)
    assert not get(owner, address(space), seq=1)["deleted"]
    assert listing(owner, space)[0] == []
    assert len(listing(owner, space, seq=1)[0]) == 1


def test_without_a_space_it_is_the_personal_one(device: Make) -> None:
    user = device(unique("user"))
    for what in ("", "/history"):
        answer = ask(user, f"/sync/app/records/t/r{what}")
        assert (answer.status_code, answer.json()["code"]) == (404, "record_not_found")
    assert listing(user, f"_personal:{user.user}") == ([], 0)
    assert restored(user, back(f"_personal:{user.user}"), seq=0) == []
    user.write(edit("r", 1, x=1))
    assert get(user, "/sync/app/records/t/r")["fields"]["x"]["value"] == 1
    assert get(user, address(f"_personal:{user.user}"))["seq"] == 1
    assert restored(user, "/sync/app/records/t/r/restore", seq=0)[0]["status"] == "applied"
    assert get(user, "/sync/app/records/t/r")["deleted"]
    stranger = device(unique("stranger"))
    for owner in (user.user, unique("nobody")):
        answer = ask(stranger, address(f"_personal:{owner}"))
        assert (answer.status_code, answer.json()["code"]) == (404, "space_not_found")


def test_a_change_is_shown_with_who_when_and_why(device: Make, owner: Device, space: str) -> None:
    other = device(unique("writer"), "phone")
    owner.member(space, other.user)
    owner.write({**edit("r", 5, x=1, change_id="first"), "spaceId": space, "op": "insert"})
    change = {**edit("r", 7, y=[None], change_id="second"), "spaceId": space, "schemaVersion": 2}
    other.write({**change, "actor": {"agent": "a", "of": [1]}, "origin": "agent"})
    newest, oldest = history(owner, space)
    assert newest == {
        "seq": 2, "eventId": newest["eventId"], "op": "update", "userId": other.user, "clientId": "phone",
        "changeId": "second", "createdAt": newest["createdAt"], "schemaVersion": 2,
        "actor": {"agent": "a", "of": [1]}, "origin": "agent",
        "status": "applied", "fields": {"y": {"value": [None], "at": at(7)}}, "superseded": {},
    }  # fmt: skip
    assert newest["createdAt"] >= oldest["createdAt"]
    assert oldest["op"] == "insert"
    assert set(oldest["fields"]) == {"x", "deletedAt"}
    assert {"actor", "origin", "schemaVersion"} & set(oldest) == set()


def test_what_lost_is_marked(owner: Device, space: str) -> None:
    owner.write({**edit("r", 5, x=1), "spaceId": space})
    owner.push({**edit("r", 3, x=0, y=1), "spaceId": space}, {**edit("r", 2, x=-1), "spaceId": space})
    whole, part, first = history(owner, space)
    assert (whole["status"], whole["fields"], whole["superseded"]) == (
        "superseded",
        {},
        {"x": {"value": -1, "at": at(2)}},
    )
    assert (part["status"], set(part["fields"]), set(part["superseded"])) == ("applied", {"y"}, {"x"})
    assert (first["status"], set(first["fields"]), first["superseded"]) == ("applied", {"x"}, {})


def test_a_change_to_a_deleted_record_shows_what_it_wrote_itself(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1, y='"clientId"'), "spaceId": space})
    owner.write({"table": "t", "id": "r", "op": "delete", "deletedAt": at(2), "spaceId": space})
    owner.write({**edit("r", 3, x=3), "spaceId": space})
    newest, _, oldest = history(owner, space)
    assert set(newest["fields"]) == {"x"}
    assert set(oldest["fields"]) == {"x", "y"}


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_pages_of_a_history_follow_each_other(owner: Device, space: str, limit: int) -> None:
    for n in range(1, 12):
        owner.write(*({**edit(record, n, x=n), "spaceId": space} for record in ("other", "r")))
    found = history(owner, space, limit=limit)
    assert [change["fields"]["x"]["value"] for change in found] == list(range(11, 0, -1))
    between = get(owner, address(space, what="/history"), before=found[3]["seq"] - 1, limit=2)
    assert [change["seq"] for change in between["changes"]] == [change["seq"] for change in found[4:6]]
    assert get(owner, address(space, what="/history"), before=10**15)["changes"] == found
    assert get(owner, address(space, what="/history"), before=1) == {"changes": [], "hasMore": False, "complete": True}


def test_all_pages_of_a_space_are_of_one_moment(owner: Device, space: str) -> None:
    owner.write(*({**edit(f"r{n}", 1, x=n), "spaceId": space} for n in range(4)))
    path = f"/sync/app/spaces/{space}/at"
    page = get(owner, path, instant=ahead(3600), limit=2)
    owner.write(*({**edit(f"r{n}", 2, x=-n), "spaceId": space} for n in range(6)))
    found = page["records"] + get(owner, path, after=page["next"])["records"]
    assert [(record["id"], record["fields"]["x"]["value"]) for record in found] == [(f"r{n}", n) for n in range(4)]


def test_a_page_of_large_changes_ends_early(owner: Device, space: str) -> None:
    for n in range(8):
        owner.write({**edit("r", n, x="x" * 700_000), "spaceId": space})
    first = get(owner, address(space, what="/history"), limit=1000)
    assert 2 <= len(first["changes"]) <= 5
    assert first["hasMore"]
    assert len(history(owner, space)) == 8
    owner.write(*({**edit(f"r{n}", 1, x="x" * 500_000), "spaceId": space} for n in range(9)))
    page = get(owner, f"/sync/app/spaces/{space}/at", limit=1000)
    assert 2 <= len(page["records"]) <= 6
    assert page["hasMore"]
    assert len(listing(owner, space)[0]) == 10


@pytest.mark.parametrize(
    "id_", ["a/b", "a%2Fb", "...", "é\U0001f600", "a?b#c&d=e", " ", "_x:y", "x" * 255, '"', "'; --"]
)
def test_any_id_can_be_asked_for(owner: Device, id_: str) -> None:
    space = owner.create(f"{unique('')}{id_[:200]}x")
    owner.write({**edit(id_, 1, x=1), "table": f"{id_[:200]}t", "spaceId": space})
    path = address(space, id_, f"{id_[:200]}t")
    assert get(owner, path)["id"] == id_
    assert len(get(owner, path.replace("?", "/history?"))["changes"]) == 1
    assert restored(owner, path.replace("?", "/restore?"), seq=1)[0]["id"] == id_
    assert [record["id"] for record in listing(owner, space)[0]] == [id_]


@pytest.fixture
async def superuser(server: Server) -> Any:
    connection = await asyncpg.connect(server.owner_dsn)
    yield connection
    await connection.close()


FORGET = """
DELETE FROM syncd.sync_changes c USING syncd.sync_spaces s
WHERE s.space_no = c.space_no AND s.space_id = $1 AND c.seq = ANY ($2::bigint[])
"""


async def test_a_history_that_begins_later_says_so(owner: Device, space: str, superuser: asyncpg.Connection) -> None:
    for n in range(1, 7):
        owner.write({**edit("r", n, **{f"x{n}": n}), "spaceId": space}, {**edit("s", n, x=n), "spaceId": space})
    await superuser.execute(FORGET, space, list(range(1, 7)))
    path, changes = address(space), address(space, what="/history")
    page = get(owner, changes)
    assert ([c["seq"] for c in page["changes"]], page["hasMore"], page["complete"]) == ([11, 9, 7], False, False)
    page = get(owner, changes, limit=2)
    assert (page["hasMore"], page["complete"]) == (True, True)
    assert get(owner, changes, before=7) == {"changes": [], "hasMore": False, "complete": False}
    assert get(owner, path)["complete"]
    then = get(owner, path, seq=9)
    # what was not written since is known; what x6 was before is not
    assert (then["complete"], set(then["fields"])) == (False, {f"x{n}" for n in range(1, 6)})
    whole = get(owner, address(space, "s"), seq=10)
    assert (whole["complete"], whole["fields"]["x"]["value"]) == (True, 5)
    refused = [ask(owner, path, seq=3), ask(owner, path, at=at(1))]
    refused += [restore(owner, address(space, what="/restore"), seq=9), restore(owner, back(space), seq=9)]
    refused.append(restore(owner, back(space), instant=at(1)))
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(410, "history_gone")] * 5
    assert not get(owner, f"/sync/app/spaces/{space}/at", seq=9)["complete"]
    assert get(owner, f"/sync/app/spaces/{space}/at")["complete"]
    assert restored(owner, address(space, "s", what="/restore"), seq=10)[0]["status"] == "applied"


async def test_the_past_of_a_quiet_feed_whose_log_is_gone_is_its_state(
    owner: Device, space: str, superuser: asyncpg.Connection
) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space})
    await superuser.execute(FORGET, space, [1])
    assert get(owner, address(space), at=ahead(1))["complete"]
    assert get(owner, address(space, what="/history")) == {"changes": [], "hasMore": False, "complete": False}
    assert restored(owner, back(space), instant=ahead(1)) == []
