"""G7, G19: a device of the first generation that shows what has lost is told what stands, also where it pushed over a
socket, and where its change was held and written later."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Server
from tests.support.holding import outcomes, until_written
from tests.support.legacy_devices import FIRST, DexieEngine, LegacyDevice, LocalStore, TextEngine
from tests.support.socket_device import Socket, opened, socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import Device, Json, at, edit, unique

Make = Callable[..., Device]
ENGINES: list[type[LegacyDevice]] = [DexieEngine, LocalStore, TextEngine]


def wrote(record: str, when: int, **values: Any) -> Json:
    """An update as these devices write it: its instants are in milliseconds, twice."""
    stamp = f"{at(when)[:23]}Z"
    fields = {name: {"value": value, "at": stamp, "updatedAt": stamp} for name, value in values.items()}
    return {"table": "t", "id": record, "op": "update", "fields": fields}


class Garden:
    """A shared space with a record that its owner wrote later than what the author writes; the author only reads."""

    def __init__(self, device: Make, engine: type[LegacyDevice] = DexieEngine) -> None:
        self.owner, wire = device(unique("owner")), device(unique("author"), "old", legacy=True)
        self.space, self.author = self.owner.create(unique("garden")), wire.user
        self.owner.member(self.space, self.author, "reader")
        self.old, self.other = engine(wire), engine(device(self.author, "other", legacy=True))
        self.owner.write({**edit("r", 2000, title="later", body="text"), "spaceId": self.space})
        for each in (self.old, self.other):
            each.pull("t")

    def write(self, *changes: Json) -> None:
        """What the author's device shows and pushes, and what is held of it."""
        for one in changes:
            self.old._stamps.clear()
            self.old._apply({**one, "spaceId": self.space})
            self.old.pending.append({**one, "spaceId": self.space})
        self.old.push("t")
        assert not self.old.pending

    def let_write(self) -> None:
        self.owner.member(self.space, self.author, "writer")
        until_written(self.old.wire)

    def agree(self) -> Json:
        """What all show."""
        for each in (self.old, self.other):
            each.pull("t")
        new = type(self.old)(self.old.wire)
        new.pull("t")
        assert self.old.shown("t") == self.other.shown("t") == new.shown("t")
        return new.shown("t")


class TestAHeldChangeThatLoses:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_its_device_is_told_what_stands(self, device: Make, engine: type[LegacyDevice]) -> None:
        garden = Garden(device, engine)
        garden.write(wrote("r", 1000, title="earlier"))
        assert garden.old.shown("t")["r"]["title"] == "earlier"
        garden.let_write()
        assert garden.agree() == {"r": {"id": "r", "title": "later", "body": "text"}}

    def test_also_where_a_part_of_it_stands(self, device: Make) -> None:
        garden = Garden(device)
        part = wrote("r", 1000, title="earlier")
        part["fields"] |= wrote("r", 3000, body="newer")["fields"]
        garden.write(part)
        garden.let_write()
        assert garden.agree() == {"r": {"id": "r", "title": "later", "body": "newer"}}

    def test_also_of_several_to_one_record(self, device: Make) -> None:
        garden = Garden(device)
        garden.write(wrote("r", 1000, title="earlier"), wrote("s", 1000, n=1), wrote("r", 1000, body="e"))
        garden.let_write()
        assert garden.agree() == {"r": {"id": "r", "title": "later", "body": "text"}, "s": {"id": "s", "n": 1}}
        log = [row for row in garden.owner.drain(history=1)[0] if row["id"] == "r"]
        assert len(log) == 2, "once of all that lost"

    def test_a_deletion_that_lost_is_undone(self, device: Make) -> None:
        garden = Garden(device)
        garden.owner.write({**edit("r", 3000, deletedAt=None), "spaceId": garden.space})
        garden.old.pull("t")
        garden.write({"table": "t", "id": "r", "op": "delete", "deletedAt": "2026-01-01T00:00:00.001Z"})
        assert garden.old.shown("t") == {}
        garden.let_write()
        assert set(garden.agree()) == {"r"}

    def test_an_edit_that_lost_to_a_deletion_is_taken_back(self, device: Make) -> None:
        garden = Garden(device)
        garden.owner.write({"table": "t", "id": "r", "op": "delete", "deletedAt": "2026-01-01T00:00:03.000Z",
                            "changeId": unique("c"), "spaceId": garden.space})  # fmt: skip
        garden.write(wrote("r", 1000, title="earlier"))
        garden.let_write()
        assert garden.agree() == {}

    def test_what_stands_is_not_told_again(self, device: Make) -> None:
        garden = Garden(device)
        garden.write(wrote("r", 3000, title="newest"))
        garden.let_write()
        log = [row for row in garden.owner.drain(history=1)[0] if row["id"] == "r"]
        assert [set(row["fields"]) for row in log] == [{"title", "body"}, {"title"}]

    def test_its_retry_is_known_and_its_history_has_what_it_wrote(self, device: Make) -> None:
        garden = Garden(device)
        sent = {**wrote("r", 1000, title="earlier"), "spaceId": garden.space}
        assert outcomes(garden.old.wire.push(sent)) == ["not_a_writer"]
        garden.let_write()
        assert outcomes(garden.old.wire.push(sent)) == ["duplicate"]
        path = f"/sync/{garden.owner.app}/records/t/r/history"
        rows = garden.owner.request("GET", path, params={"spaceId": garden.space}).json()["changes"]
        assert [(list(row["superseded"]), row["clientId"]) for row in rows if row["superseded"]] == [(["title"], "old")]

    async def test_who_listens_is_told(self, device: Make, server: Server) -> None:
        garden, app = Garden(device), unique("app")
        for each in (garden.owner, garden.old.wire):
            each.app = app
        garden.owner.write({**edit("r", 2000, title="later"), "spaceId": garden.space})
        async with (
            socket_of(server, garden.author, "old") as socket,
            stream_of(server, garden.author, app=app, protocol=False) as stream,
        ):
            await socket.subscribe(app)
            await stream.next("heartbeat")
            before = len(socket.changes(app)), len(stream.changes())
            garden.old.wire.push({**wrote("r", 1000, title="earlier"), "spaceId": garden.space})
            garden.owner.member(garden.space, garden.author, "writer")
            [told] = await socket.until(lambda: socket.changes(app)[before[0] :])
            assert told["fields"]["title"]["value"] == "later"
            [told] = await stream.until(lambda: stream.changes()[before[1] :])
            assert told["fields"]["title"]["value"] == "later"


class OverASocket:
    """An engine's device that pushes over a socket, whose frames it reads."""

    def __init__(self, socket: Socket, device: LegacyDevice) -> None:
        self.socket, self.device, self._read = socket, device, 0

    def writes_earlier(self) -> None:
        """Its user writes what its server knows a later value of, and sees it."""
        self.device._stamps.clear()
        self.device._apply(wrote("r", 1000, title="earlier"))
        self.device.pending.append(wrote("r", 1000, title="earlier"))

    async def push(self) -> Any:
        said = await self.socket.push(*self.device.pending, app=self.device.wire.app)
        self.device.pending.clear()
        self.read()
        for one in said.get("serverChanges", ()):
            self.device._apply(one)
        return said

    def read(self) -> None:
        """The frames that have come: those of changes before a result are there with it."""
        for frame in self.socket.frames[self._read :]:
            for one in frame.get("changes", ()):
                self.device._apply(one)
        self._read = len(self.socket.frames)


@pytest.mark.parametrize("subscribed", [True, False], ids=["subscribed", "told that there is news"])
@pytest.mark.parametrize("engine", ENGINES)
class TestAPushOverASocket:
    @staticmethod
    async def begin(device: Make, server: Server, engine: type[LegacyDevice], subscribed: bool) -> OverASocket:
        """A device that has a record as another wrote it, and a socket of it."""
        user = unique("pair")
        other, old = device(user, "other"), engine(device(user, "old", legacy=True))
        other.write(edit("r", 2000, title="later", cfg={"theme": "light"}))
        old.pull("t")
        socket = await opened(server)
        await socket.auth(user, "old")
        if subscribed:
            await socket.subscribe(old.wire.app, old.cursors["t"])
        return OverASocket(socket, old)

    async def test_that_loses_is_put_right(
        self, device: Make, server: Server, engine: type[LegacyDevice], subscribed: bool
    ) -> None:
        one = await self.begin(device, server, engine, subscribed)
        async with one.socket:
            one.writes_earlier()
            said = await one.push()
            assert outcomes(said) == ["superseded"]
            assert one.device.shown("t")["r"]["title"] == "later"

    async def test_also_where_its_result_was_lost(
        self, device: Make, server: Server, engine: type[LegacyDevice], subscribed: bool
    ) -> None:
        one = await self.begin(device, server, engine, subscribed)
        async with one.socket:
            one.writes_earlier()
            one.device.wire.push(*one.device.pending)
            assert outcomes(await one.push()) == ["duplicate"]
            assert one.device.shown("t")["r"]["title"] == "later"

    async def test_that_stands_brings_nothing(
        self, device: Make, server: Server, engine: type[LegacyDevice], subscribed: bool
    ) -> None:
        one = await self.begin(device, server, engine, subscribed)
        async with one.socket:
            before = json.dumps(one.socket.changes(one.device.wire.app))
            one.device.pending.append(wrote("r", 3000, title="newest"))
            said = await one.push()
            assert outcomes(said) == ["applied"]
            assert said.get("serverChanges", []) == []
            assert json.dumps(one.socket.changes(one.device.wire.app)) == before
            new = one.device.wire.pull(FIRST)["serverChanges"]
            assert new[0]["fields"]["title"]["value"] == "newest"

    async def test_of_a_member_that_is_older_than_its_object_is_put_right(
        self, device: Make, server: Server, engine: type[LegacyDevice], subscribed: bool
    ) -> None:
        one = await self.begin(device, server, engine, subscribed)
        async with one.socket:
            older = wrote("r", 1000, **{"cfg.theme": "dark"})
            one.device._stamps.clear()
            one.device._apply(older)
            one.device.pending.append(older)
            assert outcomes(await one.push()) == ["applied"]
            assert one.device.shown("t")["r"]["cfg"] == {"theme": "light"}


async def test_a_push_over_a_socket_keeps_its_place(device: Make, server: Server) -> None:
    user = unique("pair")
    other = device(user, "other")
    other.write(edit("r", 2000, title="later"))
    async with socket_of(server, user, "old") as socket:
        [page] = await socket.subscribe(other.app)
        said = await socket.push(wrote("r", 1000, title="earlier"), app=other.app)
        frames = [one for one in socket.all("changes") if one != page]
        # The feed may have brought it further meanwhile, with the push's own change.
        assert said["syncedUntil"] in {one["syncedUntil"] for one in (page, *frames)}
        assert {(one["hasMore"], str(one["spaces"])) for one in frames} == {(False, str({"joined": [], "left": []}))}
        other.write(edit("s", 1, n=1))
        await socket.brings("s", other.app)


async def test_a_push_of_ours_over_a_socket_is_answered_as_before(device: Make, server: Server) -> None:
    user = unique("pair")
    device(user, "other").write(edit("r", 2000, title="later"))
    async with socket_of(server, user, "ours", protocol=1) as socket:
        await socket.subscribe("app")
        before = len(socket.changes("app"))
        said = await socket.push(edit("r", 1000, title="earlier"), app="app")
        assert outcomes(said) == ["superseded"]
        assert set(said) == {"type", "requestId", "appId", "results", "conflicts", "syncedUntil", "hasMore"}
        await socket.fence()
        assert len(socket.changes("app")) == before
