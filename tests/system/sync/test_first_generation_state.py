"""G19: what a first-generation device is sent makes it hold what the server holds: its own rules are the judge."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Server
from tests.support.legacy_devices import FIRST, DexieEngine, LegacyDevice, LocalStore, TextEngine
from tests.support.socket_device import socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import Device, Json, at, edit, unique

Make = Callable[..., Device]
T10, T10_05, T10_10 = "2026-01-01T10:00:00.000Z", "2026-01-01T10:05:00.000Z", "2026-01-01T10:10:00.000Z"
ENGINES: list[type[LegacyDevice]] = [DexieEngine, LocalStore]


PAIRS = [*((a, b) for a in ENGINES for b in ENGINES), (TextEngine, TextEngine)]


@pytest.fixture(params=PAIRS, ids=lambda pair: "-".join(e.__name__ for e in pair))
def pair(request: pytest.FixtureRequest, device: Make) -> tuple[LegacyDevice, LegacyDevice]:
    """Two devices of one user, of every two engines."""
    user, (one, two) = unique("pair"), request.param
    return one(device(user, "d1", legacy=True)), two(device(user, "d2", legacy=True))


def new_device(of: LegacyDevice, engine: type[LegacyDevice]) -> LegacyDevice:
    """A further device of the same user."""
    wire = of.wire
    made = Device(wire.http, _NoServer(wire), wire.user, unique("new"), app=wire.app, legacy=True)  # type: ignore[arg-type]
    return engine(made)


class _NoServer:
    """Gives the token that a device has already."""

    def __init__(self, wire: Device) -> None:
        self._token = wire.headers["authorization"].removeprefix("Bearer ")

    def token(self, user: str) -> str:
        return self._token


def settle(*devices: LegacyDevice, table: str = "tasks") -> None:
    """Exchanges until all have heard of all."""
    for _ in range(3):
        for one in devices:
            one.sync(table)


def agree(*devices: LegacyDevice, table: str = "tasks") -> dict[str, Json]:
    """What all of them, and new ones of both engines, show; they must show the same."""
    settle(*devices, table=table)
    new = [new_device(devices[0], engine) for engine in (*ENGINES, TextEngine)]
    for one in new:
        one.pull(table)
    shown = devices[0].shown(table)
    assert [one.shown(table) for one in (*devices, *new)] == [shown] * (len(devices) + 3)
    assert all(not one.pending for one in devices)
    return shown


class TestTwoDevices:
    def test_inserts_and_edits_reach_the_other(self, pair: tuple[LegacyDevice, LegacyDevice]) -> None:
        one, two = pair
        one.insert("tasks", "a", title="one", done=False)
        settle(one, two)
        two.edit("tasks", "a", done=True)
        two.insert("tasks", "b", title="two")
        shown = agree(one, two)
        assert {record: values["title"] for record, values in shown.items()} == {"a": "one", "b": "two"}
        assert shown["a"]["done"] is True

    def test_edits_of_different_fields_while_apart_both_stand(self, pair: tuple[LegacyDevice, LegacyDevice]) -> None:
        one, two = pair
        one.insert("tasks", "a", title="", body="")
        settle(one, two)
        one.edit("tasks", "a", title="from one")
        two.edit("tasks", "a", body="from two")
        shown = agree(one, two)["a"]
        assert (shown["title"], shown["body"]) == ("from one", "from two")

    def test_of_two_edits_of_a_field_the_later_stands(self, pair: tuple[LegacyDevice, LegacyDevice]) -> None:
        one, two = pair
        one.insert("tasks", "a", title="")
        settle(one, two)
        one.edit("tasks", "a", title="earlier")
        two.edit("tasks", "a", title="later")
        two.push("tasks")
        assert agree(one, two)["a"]["title"] == "later"

    def test_a_deletion_reaches_the_other(self, pair: tuple[LegacyDevice, LegacyDevice]) -> None:
        one, two = pair
        one.insert("tasks", "a", title="")
        one.insert("tasks", "b", title="")
        settle(one, two)
        two.delete("tasks", "a")
        one.edit("tasks", "a", title="too late for nothing")
        assert set(agree(one, two)) == {"b"}

    def test_an_edit_made_before_a_pull_of_the_state_is_not_undone(
        self, pair: tuple[LegacyDevice, LegacyDevice]
    ) -> None:
        """The state says what the record is as a whole, and the device must see when each field of it was written."""
        one, two = pair
        one.insert("tasks", "a", title="one")
        one.sync("tasks")
        two.sync("tasks")
        two.edit("tasks", "a", title="two")
        two.sync("tasks")
        one.cursors.clear()  # from here on it reads the state
        assert agree(one, two)["a"]["title"] == "two"

    def test_a_nested_edit_is_one_of_the_member(self, pair: tuple[LegacyDevice, LegacyDevice]) -> None:
        one, two = pair
        one.insert("tasks", "a", cfg={"theme": "light", "size": 1})
        settle(one, two)
        two.edit("tasks", "a", **{"cfg.theme": "dark"})
        assert agree(one, two)["a"]["cfg"] == {"theme": "dark", "size": 1}
        one.edit("tasks", "a", cfg={"theme": "none"})
        assert agree(one, two)["a"]["cfg"] == {"theme": "none"}
        two.edit("tasks", "a", **{"cfg.size": 5})
        assert agree(one, two)["a"]["cfg"] == {"theme": "none", "size": 5}

    @pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
    def test_an_object_and_its_members_settle_by_their_stamps(
        self, pair: tuple[LegacyDevice, LegacyDevice], late: bool
    ) -> None:
        """Each of two devices has written one of them while they were apart; either may arrive last."""
        one, two = pair
        one.insert("tasks", "a", cfg={"theme": "light"})
        settle(one, two)
        for first, then, left in ((one, two, {"theme": "none", "n": 1}), (two, one, {"theme": "dark", "n": 2})):
            first.edit("tasks", "a", **{"cfg.theme": "dark"})
            then.edit("tasks", "a", cfg={"theme": "none", "n": left["n"]})
            if left["theme"] == "dark":
                first.edit("tasks", "a", **{"cfg.theme": "dark"})
            for device in (then, first) if late else (first, then):
                device.sync("tasks")
            assert agree(one, two)["a"]["cfg"] == left

    def test_a_record_that_has_no_time_of_its_last_edit_has_its_fields_times(
        self, pair: tuple[LegacyDevice, LegacyDevice]
    ) -> None:
        """Its `createdAt` says when it was made; each field of it may be later."""
        one, two = pair
        one.dates_edits = two.dates_edits = False
        one.insert("tasks", "a", title="one")
        one.push("tasks")
        cursor = one.cursors["tasks"]
        settle(one, two)
        two.edit("tasks", "a", title="two")
        settle(two)
        for since in (cursor, FIRST):
            one.cursors["tasks"] = since
            assert agree(one, two)["a"]["title"] == "two"

    def test_a_record_of_which_only_an_update_is_known_is_one(self, pair: tuple[LegacyDevice, LegacyDevice]) -> None:
        one, two = pair
        two.sync("tasks")
        one.edit("tasks", "a", title="nobody inserted it")
        one.insert("tasks", "b", title="after it")
        assert set(agree(one, two)) == {"a", "b"}
        assert all(device.cursors for device in (one, two))

    def test_what_a_client_of_ours_writes_reaches_them(
        self, pair: tuple[LegacyDevice, LegacyDevice], device: Make
    ) -> None:
        """Its inserts have a stamp for each field, and a `createdAt` that is a field like any other."""
        one, two = pair
        ours = device(one.wire.user, "ours")
        settle(one, two)
        for n, op in enumerate(("insert", "update")):
            fields = {"title": {"value": f"ours {n}", "at": one.now()}, "createdAt": {"value": T10, "at": one.now()}}
            ours.write({"table": "tasks", "id": "a", "op": op, "changeId": unique("c"), "fields": fields})
            assert agree(one, two)["a"]["title"] == f"ours {n}"
        one.edit("tasks", "a", title="theirs")
        agree(one, two)
        found = {c["id"]: c["fields"] for c in ours.drain()[0]}
        assert found["a"]["title"]["value"] == "theirs"


@pytest.mark.parametrize("engine", ENGINES)
class TestASpaceThatIsJoined:
    """The device has kept what it had of the space, and nothing tells it to forget: deletions must come too."""

    def test_who_comes_back_is_told_what_was_deleted_meanwhile(self, engine: type[LegacyDevice], device: Make) -> None:
        ann, bob = device(unique("ann")), engine(device(unique("bob"), legacy=True))
        space = ann.create(unique("garden"))
        ann.member(space, bob.wire.user)
        for record in ("a", "b"):
            ann.write({**edit(record, 1, title=record), "table": "tasks", "spaceId": space})
        bob.sync("tasks")
        assert set(bob.shown("tasks")) == {"a", "b"}
        ann.remove(space, bob.wire.user)
        bob.pull("tasks")
        gone = {"table": "tasks", "id": "a", "op": "delete", "deletedAt": at(2), "changeId": unique("c")}
        ann.write({**gone, "spaceId": space})
        ann.member(space, bob.wire.user)
        bob.pull("tasks")
        assert set(bob.shown("tasks")) == {"b"}

    def test_what_was_written_before_the_space_was_there_is_deleted_with_it(
        self, engine: type[LegacyDevice], device: Make
    ) -> None:
        ann, bob = device(unique("ann")), engine(device(unique("bob"), legacy=True))
        space, bob.space = unique("garden"), None
        bob.insert("tasks", "own", title="own")
        bob.sync("tasks")
        bob.space = space
        bob.insert("tasks", "a", title="a")
        bob.sync("tasks")  # it is held
        ann.create(space)
        ann.write({**edit("a", bob.now(), title="ann's", deletedAt=bob.now()), "table": "tasks", "spaceId": space})
        ann.member(space, bob.wire.user)
        bob.pull("tasks")
        assert set(bob.shown("tasks")) == {"own"}


class TestANestedEdit:
    """A device takes an object and its members for registers apart, and shows what it wrote itself."""

    @pytest.fixture
    def slow(self, pair: tuple[LegacyDevice, LegacyDevice]) -> LegacyDevice:
        """The first of the two, an hour behind, after the other one has written an object and a member."""
        one, two = pair
        two.insert("tasks", "a", cfg={"theme": "light", "size": 1}, other={"n": 1})
        two.edit("tasks", "a", **{"other.n": 2})
        settle(one, two)
        one._clock = lambda: time.time_ns() // 1000 - 3600 * 1_000_000
        one._last = 0
        return one

    @pytest.mark.parametrize("then", ["answered", "lost", "pulled before the retry", "held back"])
    @pytest.mark.parametrize("what", [{"cfg.theme": "dark"}, {"other": {"n": 3, "m": 1}}], ids=["member", "object"])
    def test_that_is_older_than_what_all_have_is_put_right_by_the_answer(
        self, pair: tuple[LegacyDevice, LegacyDevice], slow: LegacyDevice, what: Json, then: str
    ) -> None:
        other = pair[1]
        slow.edit("tasks", "a", **what)
        if then in ("lost", "pulled before the retry"):
            slow.wire.push(*slow.pending, since=slow.cursors["tasks"], pull=True)
        if then == "pulled before the retry":
            slow.pull("tasks")
        if then == "held back":
            other.edit("tasks", "a", cfg={"theme": "none"})
            other.push("tasks")
        slow.push("tasks")
        other.sync("tasks")
        assert slow.shown("tasks") == other.shown("tasks")
        agree(*pair)

    def test_that_lost_to_another_older_one_is_put_right(
        self, pair: tuple[LegacyDevice, LegacyDevice], slow: LegacyDevice
    ) -> None:
        third = new_device(slow, DexieEngine)
        third.pull("tasks")
        slow.edit("tasks", "a", **{"cfg.theme": "dark"})
        third._clock = lambda: time.time_ns() // 1000 - 1800 * 1_000_000
        third.edit("tasks", "a", **{"cfg.theme": "none"})
        third.push("tasks")
        slow.wire.push(*slow.pending, since=slow.cursors["tasks"], pull=True)
        agree(*pair, third)

    def test_that_waited_while_the_object_came_again_is_shown_after_its_push(
        self, pair: tuple[LegacyDevice, LegacyDevice]
    ) -> None:
        one, two = pair
        one.insert("tasks", "a", cfg={"theme": "light", "size": 1})
        settle(one, two)
        one.edit("tasks", "a", **{"cfg.theme": "dark"})
        one.cursors.clear()
        one.pull("tasks")
        one.push("tasks")
        assert one.shown("tasks")["a"]["cfg"] == {"theme": "dark", "size": 1}
        agree(one, two)


def of(fields: dict[str, Any], **more: Any) -> Json:
    """An update of record r."""
    registers = {name: {"value": value, "at": when} for name, (value, when) in fields.items()}
    return {"table": "tasks", "id": "r", "op": "update", "fields": registers, **more}


class TestTheForm:
    """A record as it is now: an update with each register's own stamp, and the whole record beside it."""

    @pytest.fixture
    def old(self, device: Make) -> Device:
        """A device whose user has a feed."""
        made = device(unique("old"), legacy=True)
        made.push({**of({"x": (1, T10)}), "table": "others"})
        return made

    def test_it_is_an_update_with_each_register_s_stamp_and_the_whole_record(self, old: Device) -> None:
        old.push({"table": "tasks", "id": "r", "op": "insert", "data": {"id": "r", "title": "one", "createdAt": T10}})
        old.push(of({"title": ("two", T10_05)}))
        for since in ("", "1970-01-01T00:00:00.000Z"):
            [change] = old.pull(since, collection="tasks")["serverChanges"]
            assert (change["op"], change["id"], change["seq"]) == ("update", "r", 3)
            assert change["fields"]["title"]["value"] == "two"
            assert change["fields"]["title"]["at"] == "2026-01-01T10:05:00.000Z"
            assert change["fields"]["createdAt"]["at"] == "2026-01-01T10:00:00.000Z"
            assert change["data"] == {"id": "r", "title": "two", "createdAt": T10, "deletedAt": None}

    def test_the_id_is_there_whoever_wrote_it(self, old: Device) -> None:
        old.push(of({"title": ("x", T10)}))
        [change] = old.pull(collection="tasks")["serverChanges"]
        assert change["data"] == {"id": "r", "title": "x"}
        assert set(change["fields"]) == {"title"}

    def test_members_that_are_newer_than_their_object_come_after_it(self, old: Device) -> None:
        old.push(of({"cfg": ({"theme": "light"}, T10_05), "title": ("x", T10)}))
        old.push(of({"cfg.theme": ("dark", T10_10), "cfg.old": (1, T10), "other.a": (2, T10), "cfg.a.b": (3, T10_10)}))
        whole, members = old.pull(collection="tasks")["serverChanges"]
        assert set(whole["fields"]) == {"cfg", "title"}
        assert whole["data"] == {"id": "r", "title": "x", "cfg": {"theme": "light"}}
        assert {name: register["value"] for name, register in members["fields"].items()} == {
            "cfg.theme": "dark", "other.a": 2, "cfg.a.b": 3,
        }  # fmt: skip
        assert (members["op"], members["id"], members["seq"]) == ("update", "r", whole["seq"])
        assert "data" not in members

    def test_actor_origin_and_schema_version_of_the_last_change_come_with_it(self, old: Device) -> None:
        old.push(of({"title": ("x", T10)}, actor={"by": "a"}, origin="agent", schemaVersion=3))
        old.push({**of({"title": ("x", T10)}, actor={"by": "b"}, origin="user", schemaVersion=2), "id": "gone"})
        gone = {"table": "tasks", "id": "gone", "op": "delete", "deletedAt": T10_05, "actor": None, "origin": "system"}
        old.push(gone)
        since = "1970-01-01T00:00:00.000Z"
        found = {change["id"]: change for change in old.pull(since, collection="tasks")["serverChanges"]}
        told = {"actor": {"by": "a"}, "origin": "agent", "schemaVersion": 3, "op": "update"}
        assert found["r"].items() >= told.items()
        assert found["gone"].items() >= {"actor": None, "origin": "system", "op": "delete"}.items()

    def test_an_insert_of_the_log_has_the_same_form(self, old: Device) -> None:
        _, cursor = old.drain()
        old.push(
            {"table": "tasks", "id": "r", "op": "insert", "data": {"title": "one", "createdAt": T10}}, since=cursor
        )
        old.push(of({"title": ("two", T10_05), "cfg.x": (1, T10_05)}), {**of({"title": ("q", T10)}), "id": "q"})
        insert, update, member, other = old.pull(cursor)["serverChanges"]
        assert insert["op"] == update["op"] == member["op"] == other["op"] == "update"
        assert (list(update["fields"]), list(member["fields"])) == (["title"], ["cfg.x"])
        assert insert["data"] == {"id": "r", "title": "one", "createdAt": T10, "deletedAt": None}
        assert insert["fields"]["title"]["at"] == "2026-01-01T10:00:00.000Z"
        assert "data" not in update
        assert other["data"] == {"id": "q", "title": "q"}

    def test_what_is_deleted_is_no_update_however_it_was_written(self, old: Device) -> None:
        _, cursor = old.drain()
        old.push(of({"title": ("x", T10), "deletedAt": (T10_05, T10_05)}))
        old.push(of({"title": ("y", T10_10)}))
        assert {(c["op"], c["deletedAt"]) for c in old.pull(cursor)["serverChanges"]} == {
            ("delete", "2026-01-01T10:05:00.000Z")
        }

    def test_the_log_itself_and_a_client_of_ours_get_what_they_got(self, old: Device, device: Make) -> None:
        old.push({"table": "tasks", "id": "r", "op": "insert", "data": {"title": "one", "createdAt": T10}})
        [logged] = old.pull(history=1, collection="tasks")["serverChanges"]
        assert (logged["op"], logged["data"]["title"]) == ("insert", "one")
        [ours] = device(old.user, "ours").pull(collection="tasks")["serverChanges"]
        assert (ours["op"], "data" in ours) == ("insert", False)


async def test_a_socket_and_a_stream_bring_the_same_form(server: Server, device: Make) -> None:
    user = unique("live")
    old = device(user, legacy=True, app="notes")
    old.push(of({"title": ("x", T10)}, actor=1))
    insert = {"table": "tasks", "id": "s", "op": "insert", "data": {"title": "s", "createdAt": T10}}
    nested = {**of({"cfg": ({}, T10), "cfg.theme": ("dark", T10_05)}), "id": "n"}
    async with socket_of(server, user) as socket, stream_of(server, user, protocol=False) as stream:
        await socket.subscribe()
        await stream.brings("r")
        old.push(insert, nested)
        for outlet in (socket, stream):
            await outlet.brings("n")
            changes = outlet.changes()
            assert [(c["id"], c["op"], c.get("data")) for c in changes] == [
                ("r", "update", {"id": "r", "title": "x"}),
                ("s", "update", {"id": "s", "title": "s", "createdAt": T10, "deletedAt": None}),
                ("n", "update", {"id": "n", "cfg": {}}),
                ("n", "update", None),
            ]
            assert changes[0]["actor"] == 1
            assert list(changes[3]["fields"]) == ["cfg.theme"]


async def test_a_socket_brings_its_own_nested_edit_as_the_record_is(server: Server) -> None:
    """As the answer over HTTP does: a device takes an object that comes for news of its members."""
    async with socket_of(server, unique("own")) as socket:
        await socket.subscribe()
        await socket.push({**of({"cfg": ({}, T10), "cfg.theme": ("dark", T10_05)}), "changeId": "c"})
        await socket.push(edit("other", at(1), x=1))
        await socket.fence()
        assert [(c["id"], c["op"], c.get("data"), list(c["fields"])) for c in socket.changes()] == [
            ("r", "update", {"id": "r", "cfg": {}}, ["cfg"]),
            ("r", "update", None, ["cfg.theme"]),
        ]
