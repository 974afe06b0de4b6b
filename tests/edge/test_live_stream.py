"""Server-sent events: one table each, an id that is a cursor, and nothing that a cut connection loses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.legacy_devices import in_milliseconds
from tests.support.socket_device import socket_of
from tests.support.stream_device import Stream, stream_of
from tests.support.wire import edit, unique


async def wrote(server: Server, user: str, *changes: dict[str, Any], app: str = "notes") -> None:
    """One push of another device."""
    async with Device(server, user, "elsewhere", app=app) as device:
        body = await device.push(changes)
        assert {result["status"] for result in body["results"]} == {"applied"}


def at(table: str, record: str) -> dict[str, Any]:
    return {**edit(record, x=1), "table": table}


def ids(stream: Stream) -> list[str]:
    return [change["id"] for change in stream.changes()]


async def test_it_brings_what_was_missed_and_then_what_comes(server: Server) -> None:
    user = unique("ann")
    await wrote(server, user, at("t", "before"))
    async with stream_of(server, user) as stream:
        first = await stream.next("changes")
        assert stream.response.headers["content-type"] == "text/event-stream"
        assert stream.response.headers["cache-control"] == "no-store"
        assert (first.data["table"], first.data["hasMore"]) == ("t", False)
        assert [c["id"] for c in first.data["changes"]] == ["before"]
        assert first.id == first.data["syncedUntil"]
        await wrote(server, user, at("t", "after"))
        second = await stream.next("changes", 2)
        assert [c["id"] for c in second.data["changes"]] == ["after"]
        async with Device(server, user) as device:
            assert (await device.pull(str(second.id)))["serverChanges"] == []
            assert [c["id"] for c in (await device.pull(str(first.id)))["serverChanges"]] == ["after"]
        assert (await stream.next("spaces")).data == {"joined": [f"_personal:{user}"], "left": []}
        assert stream.events[0].name == "spaces"


async def test_the_first_heartbeat_comes_at_once_and_says_where_it_stands(server: Server) -> None:
    user = unique("ann")
    async with stream_of(server, user) as stream:
        beat = await stream.next("heartbeat", within=14)  # the second comes after 15 s
        assert beat.id
        async with Device(server, user) as device:
            await wrote(server, user, at("t", "r"))
            assert [c["id"] for c in (await device.pull(beat.id))["serverChanges"]] == ["r"]


@pytest.mark.parametrize("how", ["header", "since", "both"])
async def test_it_begins_where_it_is_told_to(server: Server, how: str) -> None:
    user = unique("ann")
    await wrote(server, user, at("t", "one"))
    async with stream_of(server, user) as stream:
        cursor = (await stream.next("changes")).id
    await wrote(server, user, at("t", "two"))
    headers = {} if how == "since" else {"Last-Event-ID": str(cursor)}
    queries: dict[str, dict[str, Any]] = {"header": {}, "since": {"since": cursor}, "both": {"since": ""}}
    query = queries[how]
    async with stream_of(server, user, headers=headers, **query) as again:
        await again.brings("two")
        assert ids(again) == ["two"]


async def cut_after_each(server: Server, user: str, since: str, app: str, **query: Any) -> None:
    """Whoever is cut off after any of the events, and comes back with its id, has everything in the end."""
    async with stream_of(server, user, app, since=since, **query) as stream:
        await stream.brings("last")
        events = stream.all("changes")
    for n in range(len(events) + 1):
        have = [change["id"] for event in events[:n] for change in event.data["changes"]]
        back = events[n - 1].id if n else since
        async with stream_of(server, user, app, headers={"Last-Event-ID": str(back)}, **query) as again:
            await again.until(lambda again=again: again.all("heartbeat") or "last" in ids(again))  # type: ignore[misc]
            assert {*have, *ids(again)} == {c["id"] for e in events for c in e.data["changes"]}, n
    cursors = [since, *(str(event.id) for event in events)]
    assert cursors == sorted(cursors)


@pytest.mark.parametrize("begin", ["at the start", "at a cursor"])
async def test_a_push_to_several_tables_that_is_cut_off_in_between_comes_again_whole(
    server: Server, begin: str
) -> None:
    user, app = unique("ann"), unique("app")
    await wrote(server, user, at("t", "old"), app=app)
    async with Device(server, user, app=app) as device:
        since = (await device.drain())[1] if begin == "at a cursor" else ""
    for n in range(3):
        await wrote(server, user, *(at(table, f"{n}-{table}") for table in "tuvt"), app=app)
    await wrote(server, user, at("u", "last"), app=app)
    await cut_after_each(server, user, since, app)
    await cut_after_each(server, user, since, app, collections="t,u")


async def test_so_does_one_that_comes_while_the_stream_is_open(server: Server) -> None:
    user = unique("ann")
    async with stream_of(server, user) as stream, Device(server, user) as device:
        before = str((await stream.next("heartbeat")).id)
        await wrote(server, user, at("t", "1"), at("u", "2"), at("t", "3"))
        await wrote(server, user, at("v", "4"))
        await stream.brings("4")
        first, second, third = stream.all("changes")
        assert [(e.data["table"], [c["id"] for c in e.data["changes"]]) for e in (first, second, third)] == [
            ("t", ["1", "3"]), ("u", ["2"]), ("v", ["4"]),
        ]  # fmt: skip
        assert [e.data["hasMore"] for e in (first, second, third)] == [True, False, False]
        assert [e.id for e in (first, second, third)] == [e.data["syncedUntil"] for e in (first, second, third)]
        assert first.id == before
        again, _ = await device.drain(str(first.id))
        assert [c["id"] for c in again] == ["1", "2", "3", "4"]
        assert [c["id"] for c in (await device.drain(str(second.id)))[0]] == ["4"]


@pytest.mark.parametrize("query", [{"collections": "t,u"}, {"collections": ["t", "u"]}, {"collection": ["u", "t"]}])
async def test_collections_narrow_it(server: Server, query: dict[str, Any]) -> None:
    user = unique("ann")
    await wrote(server, user, at("t", "a"), at("v", "b"))
    async with stream_of(server, user, **query) as stream:
        await stream.brings("a")
        await wrote(server, user, at("v", "c"), at("u", "d"))
        await wrote(server, user, at("v", "e"))
        await wrote(server, user, at("t", "f"))
        await stream.brings("f")
        assert ids(stream) == ["a", "d", "f"]


async def test_a_backlog_comes_in_pages_of_whole_pushes(server: Server) -> None:
    user = unique("ann")
    for n in range(30):
        await wrote(server, user, *(at("t", f"{n}-{i}") for i in range(100)))
    await wrote(server, user, at("t", "last"))
    async with stream_of(server, user) as stream:
        await stream.brings("0-0")  # what was written first comes last
        for event in stream.all("changes"):
            count: dict[str, int] = {}
            for change in event.data["changes"]:
                push = change["id"].split("-")[0]
                count[push] = count.get(push, 0) + 1
            assert set(count.values()) - {100} <= {1}
        assert len(ids(stream)) == len(set(ids(stream))) == 3001
        assert [e.data["hasMore"] for e in stream.all("changes")][-1] is False


async def test_the_same_changes_come_as_on_a_socket(server: Server) -> None:
    user = unique("ann")
    insert = {"op": "insert", "id": "i", "table": "t", "data": {"title": "a\n\u2028b"}, "changeId": "i"}
    async with (
        stream_of(server, user) as ours,
        stream_of(server, user, protocol=False) as legacy,
        socket_of(server, user, protocol=1) as socket,
    ):
        await socket.subscribe()
        await ours.next("heartbeat")
        await legacy.next("heartbeat")
        await wrote(server, user, insert, {**edit("r", x="\r\n\n"), "actor": {"a": 1}})
        for stream in (ours, legacy):
            await stream.brings("r")
        await socket.brings("r")
        assert ours.changes() == socket.changes()
        assert legacy.changes()[0]["data"]["title"] == "a\n\u2028b"
        assert {c["op"] for c in legacy.changes()} == {"update"}
        apart = [[{k: v for k, v in c.items() if k not in ("data", "op")} for c in s.changes()] for s in (legacy, ours)]
        theirs, here = [[{**c, "fields": in_milliseconds(c["fields"])} for c in changes] for changes in apart]
        assert theirs == here


async def test_an_expired_token_ends_it(server: Server) -> None:
    user = unique("ann")
    async with stream_of(server, user, token=server.token(user, ttl=3)) as stream:
        await stream.ends()
        await wrote(server, user, at("t", "r"))
        assert ids(stream) == []


@pytest.mark.parametrize(
    ("query", "headers", "status", "code"),
    [
        ("", {}, 401, "unauthorized"),
        ("", {"authorization": "Bearer x"}, 401, "unauthorized"),
        ("?token=GOOD", {}, 403, "token_in_address"),
        ("?access_token=GOOD&since=", {}, 403, "token_in_address"),
        ("?since=x", {"authorization": "Bearer GOOD"}, 400, "bad_cursor"),
        ("", {"authorization": "Bearer GOOD", "last-event-id": "x"}, 400, "bad_cursor"),
        ("?collections=a%00", {"authorization": "Bearer GOOD"}, 400, "invalid_request"),
        ("?collections=" + ",".join(map(str, range(101))), {"authorization": "Bearer GOOD"}, 400, "invalid_request"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_what_cannot_be_served_is_a_problem(
    server: Server, query: str, headers: dict[str, str], status: int, code: str
) -> None:
    token = server.token(unique("ann"))
    sent = {name: value.replace("GOOD", token) for name, value in headers.items()}
    async with httpx.AsyncClient(base_url=server.url) as http:
        http.headers["x-sync-protocol"] = "1"
        answer = await http.get("/sync/notes/stream" + query.replace("GOOD", token), headers=sent)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert (await http.post("/sync/notes/stream", headers=sent)).status_code == 405
        assert (await http.get("/sync/a%00/stream", headers=sent)).status_code == 400
    assert token not in server.output()


async def test_streams_that_hang_up_leave_nothing(server: Server) -> None:
    async def visit(n: int) -> None:
        async with stream_of(server, unique("visitor")) as stream:
            await stream.next("heartbeat")

    await asyncio.gather(*(visit(n) for n in range(30)))
    async with httpx.AsyncClient(base_url=server.url) as http:
        for _ in range(1200):
            lines = (await http.get("/metrics")).text.splitlines()
            found = [line for line in lines if line.startswith(("syncd_connections{", "syncd_streams{"))]
            if len(found) == 2 and all(float(line.rsplit(" ", 1)[1]) == 0 for line in found):
                return
            await asyncio.sleep(0.05)
    raise AssertionError(json.dumps(found))
