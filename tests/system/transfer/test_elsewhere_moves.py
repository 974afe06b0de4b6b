"""`syncd import --from mana`: records that their authors moved out of their personal spaces."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.support.first_generation import Log, first_generation
from tests.support.harness import Server
from tests.support.wire import Device, ahead, at, unique, values
from tests.system.transfer.test_elsewhere import bring, counted

Make = Callable[..., Device]


@pytest.fixture
async def meta(server: Server) -> AsyncIterator[Log]:
    async with first_generation(server.owner_dsn) as made:
        yield made


@pytest.mark.parametrize("later", ["delete", "update"])
async def test_a_record_that_moved_between_two_runs_is_one(
    server: Server, device: Make, meta: Log, folder: Path, later: str
) -> None:
    user, space, state = unique("ada"), unique("hq"), folder / "state.json"
    options = ("--members", "authors", "--state", state)
    await meta.add("mv", "insert", {"title": "one"}, user_id=user, created_at=at(0))
    await meta.add("x", "insert", {"title": "x"}, user_id=user, space_id=space, created_at=at(1))
    bring(server, meta, *options)
    between = device(user, "tablet", legacy=True)
    _, cursor = between.drain()
    await meta.add("mv", later, {"note": "n"} if later == "update" else None, user_id=user, space_id=space,
                   created_at=at(600_000_000))  # fmt: skip
    counts = counted(bring(server, meta, *options))
    assert (counts["imported"], counts["there"], counts["different"]) == (1, 2, 0)
    bring(server, meta, "--verify-only")
    assert counted(bring(server, meta, *options))["imported"] == 0
    for legacy in (False, True):
        changes = device(user, legacy=legacy).drain()[0]
        assert {(c["id"], c["spaceId"]) for c in changes if c["id"] in values(changes)} == (
            {("x", space), ("mv", space)} if later == "update" else {("x", space)}
        )
    news = [c for c in between.pull(cursor)["serverChanges"] if c["id"] == "mv"]
    assert {c["spaceId"] for c in news} == {space}
    assert news[-1]["op"] == later


async def test_a_device_that_has_not_heard_of_an_imported_move_writes_where_the_record_is(
    server: Server, device: Make, meta: Log
) -> None:
    user, space = unique("ada"), unique("home")
    await meta.add("mv", "insert", {"title": "one"}, user_id=user, created_at=at(1))
    await meta.add("mv", "update", {"title": "two"}, user_id=user, space_id=space, created_at=at(2))
    await meta.add("own", "insert", {"title": "own"}, user_id=user, created_at=at(3))
    assert counted(bring(server, meta, "--members", "authors"))["different"] == 0
    change = {"table": "t", "id": "mv", "op": "update", "fields": {"title": {"value": "three", "at": at(9)}}}
    assert device(user, "phone", legacy=True).push(change)["results"][0]["status"] == "applied"
    for legacy in (False, True):
        changes = device(user, legacy=legacy).drain()[0]
        found = {(c["id"], c["spaceId"], c["fields"]["title"]["value"]) for c in changes if c["op"] != "delete"}
        assert found == {("mv", space, "three"), ("own", f"_personal:{user}", "own")}
    past = device(user).request("GET", "/sync/app/records/t/own/history").json()["changes"]
    assert past[0]["createdAt"] == at(3)  # a moved record takes no other one's time


async def test_what_comes_late_to_the_old_server_follows_a_record_that_moved_here(
    server: Server, device: Make, meta: Log
) -> None:
    user, space = unique("ada"), unique("hq")
    device(user).request("POST", "/spaces", json={"id": space, "name": space})
    await meta.add("mv", "insert", {"title": "one"}, user_id=user, created_at=at(1))
    bring(server, meta)
    change = {
        "table": "t",
        "id": "mv",
        "op": "update",
        "spaceId": space,
        "fields": {"note": {"value": "n", "at": at(2)}},
    }
    device(user, "phone", legacy=True).push(change)
    await meta.add("mv", "update", {"title": "two"}, user_id=user, created_at=at(3))
    assert counted(bring(server, meta))["different"] == 0
    (record,) = device(user, legacy=True).drain()[0]
    assert (record["spaceId"], record["fields"]["title"]["value"]) == (space, "two")


async def test_a_record_that_is_in_two_spaces_is_no_good_import(server: Server, device: Make, meta: Log) -> None:
    user, space = unique("ada"), unique("hq")
    for record, where in (("mv", None), ("mv", space)):
        await meta.add(record, "insert", {"title": "one"}, user_id=user, space_id=where, created_at=at(1))
    bring(server, meta, "--members", "authors")
    insert = {
        "table": "t",
        "id": "mv",
        "op": "insert",
        "changeId": "back",
        "fields": {"title": {"value": "x", "at": ahead(0)}},
    }
    device(user).push(insert)
    await meta.connection.execute(
        """UPDATE syncd.sync_records SET deleted = false, registers = registers - 'deletedAt'
           WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = $1)""", f"_personal:{user}"
    )  # fmt: skip
    assert "mv is in the personal space, too" in bring(server, meta, "--verify-only", ok=False)


async def test_what_was_written_in_a_space_first_stays_there_and_what_is_one_s_own_too(
    server: Server, device: Make, meta: Log
) -> None:
    """As with pushes: an app may use one id in every space, and what one wrote for no one else is shown to no one."""
    user, space = unique("ada"), unique("hq")
    await meta.add("set", "insert", {"title": "all"}, user_id=user, space_id=space, created_at=at(1))
    await meta.add("set", "update", {"title": "mine"}, user_id=user, created_at=at(2))
    for turn in range(2):
        counts = counted(bring(server, meta, "--members", "authors"))
        assert (counts["imported"], counts["different"]) == (0 if turn else 2, 0)
        found = {(c["spaceId"], c["fields"]["title"]["value"]) for c in device(user).drain()[0]}
        assert found == {(space, "all"), (f"_personal:{user}", "mine")}
    await meta.add("set", "update", {"note": "n"}, user_id=user, space_id=space, created_at=at(3))
    assert counted(bring(server, meta, "--members", "authors"))["different"] == 0
    living = [c for c in device(user).drain()[0] if c["op"] != "delete"]
    assert [(c["spaceId"], c["fields"]["title"]["value"]) for c in living] == [(space, "mine")]


async def test_what_comes_after_a_move_follows_it_to_the_first_space(server: Server, device: Make, meta: Log) -> None:
    user, first, second = unique("ada"), unique("hq"), unique("lab")
    for n, where in enumerate((None, first, None, second, None)):
        await meta.add("mv", "update", {f"f{n}": n}, user_id=user, space_id=where, created_at=at(n))
    assert counted(bring(server, meta, "--members", "authors"))["different"] == 0
    living = [c for c in device(user).drain()[0] if c["op"] != "delete"]
    assert {c["spaceId"]: set(c["fields"]) for c in living} == {first: {"f0", "f1", "f2", "f4"}, second: {"f3"}}
