"""G19: instants come to a first-generation device as it would write them, for one engine compares them as text."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.harness import Server
from tests.support.legacy_devices import FIRST
from tests.support.socket_device import socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import Device, Json, unique

Make = Callable[..., Device]
T10, T10_05 = "2026-01-01T10:00:00.000Z", "2026-01-01T10:05:00.000Z"


def inserted(**data: object) -> Json:
    return {"table": "t", "id": "r", "op": "insert", "data": {"id": "r", **data, "createdAt": T10}}


def edited(when: str, **values: object) -> Json:
    return {"table": "t", "id": "r", "op": "update", "fields": {n: {"value": v, "at": when} for n, v in values.items()}}


def instants(changes: list[Json]) -> set[str]:
    """All that registers have for an instant, under both names."""
    registers = [register for change in changes for register in change["fields"].values()]
    assert registers
    assert all(register["at"] == register["updatedAt"] for register in registers)
    return {register["at"] for register in registers}


def test_an_object_that_comes_with_its_member_is_not_older_than_itself(device: Make) -> None:
    """What was written at 10:00:00.000 must not be less than that, or the member takes its object's time for news."""
    user = unique("ann")
    one, two = device(user, "d1", legacy=True), device(user, "d2", legacy=True)
    two.push(inserted(cfg={"theme": "light"}))
    cursor = one.pull(FIRST, collection="t")["syncedUntil"]
    answer = one.push(edited(T10_05, **{"cfg.theme": "dark"}), since=cursor, pull=True)
    changes = answer["serverChanges"]
    assert [set(change["fields"]) >= {"cfg"} for change in changes] == [True, False]
    assert instants(changes) == {T10, T10_05}


def test_state_log_answers_and_deletions_are_in_milliseconds(device: Make) -> None:
    """Also what was written in microseconds: of `T10` and `fine` the latter is later, to every engine not earlier."""
    user, fine, milli = unique("ann"), "2026-01-01T10:00:00.000001Z", "2026-01-01T10:00:00.000Z"
    old, ours = device(user, "old", legacy=True), device(user, "ours")
    _, start = old.drain()
    old.push(inserted(title="one", **{"cfg.size": 1}))
    ours.write({**edited(fine, fine=1, **{"cfg.size": 2}), "changeId": unique("c")})
    other = device(user, "other", legacy=True)
    answer = other.push({**edited(T10_05, other=1), "id": "s"}, since=start, pull=True)["serverChanges"]
    for changes in (old.pull(FIRST)["serverChanges"], old.pull(start)["serverChanges"], answer):
        assert {c["fields"]["fine"]["value"] for c in changes if "fine" in c["fields"]} == {1}
        assert instants([c for c in changes if c["id"] == "r"]) == {milli}
    ours.write({**edited(f"{T10_05[:-1]}999Z", deletedAt=f"{T10_05[:-1]}999Z"), "changeId": unique("c"), "op": "delete",
                "deletedAt": f"{T10_05[:-1]}999Z"})  # fmt: skip
    for since in (FIRST, start):
        deletion = next(c for c in old.pull(since)["serverChanges"] if c["op"] == "delete")
        assert deletion["deletedAt"] == T10_05
        register = deletion["fields"]["deletedAt"]
        assert (register["value"], register["at"], register["updatedAt"]) == (T10_05,) * 3


def test_a_client_of_ours_gets_what_it_got(device: Make) -> None:
    user = unique("ann")
    device(user, "old", legacy=True).push(inserted(title="one"))
    for changes in (
        device(user, "ours").pull()["serverChanges"],
        device(user, "ours").pull(history=1)["serverChanges"],
    ):
        assert {register["at"] for register in changes[0]["fields"].values()} == {"2026-01-01T10:00:00.000000Z"}
        assert all("updatedAt" not in register for register in changes[0]["fields"].values())


async def test_a_socket_and_a_stream_spell_them_so_too(server: Server, device: Make) -> None:
    user = unique("ann")
    old = device(user, "writer", legacy=True, app="notes")
    old.push({**inserted(title="one"), "id": "state"})
    ours = device(user, "ours", app="notes")
    async with socket_of(server, user, client="d1") as socket, stream_of(server, user, protocol=False) as stream:
        await socket.subscribe()
        await stream.brings("state")
        old.push(inserted(title="one"))
        ours.write({**edited("2026-01-01T10:00:00.000001Z", title="two"), "changeId": unique("c")})
        for outlet in (socket, stream):
            await outlet.until(
                lambda outlet=outlet: [c for c in outlet.changes() if c["fields"]["title"]["value"] == "two"]
            )
            assert {change["id"] for change in outlet.changes()} == {"state", "r"}
            assert instants(outlet.changes()) == {T10}
