"""Sockets that did not subscribe, as the first generation's do not: they are told that there is news, and of what."""

from __future__ import annotations

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.socket_device import Socket, socket_of
from tests.support.wire import edit, unique


async def wrote(server: Server, user: str, *tables: str, app: str = "notes", space: str = "") -> None:
    """One push of another device, to these tables."""
    more = {"spaceId": space} if space else {}
    async with Device(server, user, "elsewhere", app=app) as device:
        body = await device.push([{**edit(unique("r"), x=1), "table": table, **more} for table in tables])
        assert {result["status"] for result in body["results"]} == {"applied"}


def told(socket: Socket) -> set[tuple[str, str]]:
    """The apps and tables that a socket was told of."""
    return {(f["appId"], table) for f in socket.all("sync-available") for table in f["tables"]}


async def test_it_is_told_the_app_and_the_tables(server: Server) -> None:
    user = unique("ann")
    await wrote(server, user, "old")
    async with socket_of(server, user, path="/ws/notes") as one, socket_of(server, user) as every:
        await wrote(server, user, "b", "a", "b")
        for socket in (one, every):
            await socket.until(lambda socket=socket: told(socket) >= {("notes", "a"), ("notes", "b")})  # type: ignore[misc]
            frame = socket.all("sync-available")[-1]
            assert frame == {"type": "sync-available", "appId": "notes", "tables": sorted(set(frame["tables"]))}
            assert socket.all("changes") == []


async def test_a_socket_of_one_app_hears_of_that_app_alone(server: Server) -> None:
    user = unique("ann")
    await wrote(server, user, "t", app="notes")
    await wrote(server, user, "t", app="todo")
    async with socket_of(server, user, path="/ws/notes") as one, socket_of(server, user) as every:
        await wrote(server, user, "first", app="todo")
        await wrote(server, user, "second", app="notes")
        await one.until(lambda: ("notes", "second") in told(one))
        await every.until(lambda: told(every) >= {("todo", "first"), ("notes", "second")})
        assert {app for app, _ in told(one)} == {"notes"}


async def test_an_app_that_is_written_to_for_the_first_time_is_news_too(server: Server) -> None:
    user, app = unique("ann"), unique("app")
    async with (
        socket_of(server, user) as every,
        socket_of(server, user, path=f"/ws/{app}") as its,
        socket_of(server, user, path="/ws/other") as other,
    ):
        await wrote(server, user, "t", app=app)
        for socket in (every, its):
            assert (await socket.next("sync-available"))["appId"] == app
        await wrote(server, user, "u", app=app)
        for socket in (every, its):
            await socket.until(lambda socket=socket: (app, "u") in told(socket))  # type: ignore[misc]
        assert other.all("sync-available") == []


async def test_every_member_is_told_and_no_stranger(server: Server) -> None:
    ann, bob, eve, space = unique("ann"), unique("bob"), unique("eve"), unique("space")
    async with (
        Device(server, ann) as owner,
        socket_of(server, bob, path="/ws/notes") as member,
        socket_of(server, eve, path="/ws/notes") as stranger,
    ):
        await owner.create_space(space, **{bob: "reader"})
        await member.until(lambda: ("notes", "t") in told(member) or member.all("sync-available", tables=[]))
        await wrote(server, ann, "shared", space=space)
        await member.until(lambda: ("notes", "shared") in told(member))
        await wrote(server, eve, "own")
        await stranger.until(lambda: ("notes", "own") in told(stranger))
        assert told(stranger) == {("notes", "own")}
        assert ("notes", "own") not in told(member)


async def test_joining_and_leaving_are_news(server: Server) -> None:
    ann, bob, space = unique("ann"), unique("bob"), unique("space")
    async with Device(server, ann) as owner, socket_of(server, bob, path="/ws/notes") as member:
        await owner.create_space(space)
        await wrote(server, ann, "t", space=space)
        await owner.put_member(space, bob)
        assert (await member.next("sync-available"))["appId"] == "notes"
        await wrote(server, ann, "joined", space=space)
        await member.until(lambda: ("notes", "joined") in told(member))
        before = len(member.frames)
        await owner.http.delete(f"/spaces/{space}/members/{bob}")
        await member.until(lambda: [f for f in member.frames[before:] if f["tables"] == []])
        await wrote(server, ann, "left", space=space)
        await wrote(server, bob, "own")
        await member.until(lambda: ("notes", "own") in told(member))
        assert ("notes", "left") not in told(member)


async def test_it_is_not_told_of_what_it_pushed_itself(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, "phone") as phone, socket_of(server, user, "laptop") as laptop:
        for n in range(3):
            await phone.push({**edit(f"r{n}", x=1), "table": f"mine-{n}"})
        await wrote(server, user, "other")
        for socket in (phone, laptop):
            await socket.until(lambda socket=socket: ("notes", "other") in told(socket))  # type: ignore[misc]
        assert {t for _, t in told(laptop)} == {"mine-0", "mine-1", "mine-2", "other"}
        assert {t for _, t in told(phone)} == {"other"}


async def test_who_subscribes_is_told_no_more_and_who_unsubscribes_is_again(server: Server) -> None:
    user = unique("ann")
    await wrote(server, user, "t", app="todo")
    async with socket_of(server, user) as socket, socket_of(server, user) as other:
        await socket.subscribe("notes")
        before = socket.all("sync-available")  # of the write before, where that is told late
        await wrote(server, user, "t", app="todo")
        await other.until(lambda: ("todo", "t") in told(other))
        await wrote(server, user, "u", app="notes")
        await socket.next("changes", appId="notes")
        assert socket.all("sync-available") == before
        await socket.send({"type": "unsubscribe", "appId": "notes"})
        await socket.ask({"type": "ping", "n": 1}, "pong")
        await wrote(server, user, "v", app="todo")
        await wrote(server, user, "w", app="notes")
        await socket.until(lambda: told(socket) >= {("todo", "v"), ("notes", "w")})
        assert len(socket.all("changes")) == 2


async def test_a_change_without_news_for_others_is_no_news(server: Server) -> None:
    user = unique("ann")
    async with Device(server, user, "elsewhere") as device, socket_of(server, user) as socket:
        await device.push([edit("r", 2, x=1)])
        await socket.until(lambda: told(socket))
        before = len(socket.frames)
        body = await device.push([{**edit("r", 1, x=1), "table": "t"}])
        assert [result["status"] for result in body["results"]] == ["superseded"]
        await wrote(server, user, "next")
        await socket.until(lambda: ("notes", "next") in told(socket))
        assert len(socket.frames) - before <= 2
