"""Pushes over a socket: the same answers as over HTTP, to the frame that asked; nobody hears before it is committed."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import asyncpg
import pytest

from syncd.core.error_codes import ERROR_CODES
from tests.support.compacting import ALL, compact
from tests.support.device import Device
from tests.support.direct import somebody_waits
from tests.support.harness import Server
from tests.support.proxy import Proxy
from tests.support.socket_device import Socket, opened, socket_of
from tests.support.wire import at, edit, unique

NUMBERS = itertools.count()


def said(answer: dict[str, Any]) -> list[str]:
    """The code of what was rejected, else the status."""
    return [result.get("code", result["status"]) for result in answer["results"]]


async def refused(socket: Socket, *changes: Any, **members: Any) -> dict[str, Any]:
    """The error that answers a push."""
    request = f"r-{next(NUMBERS)}"
    frame = {"type": "push", "requestId": request, "appId": "notes", "changes": list(changes), **members}
    return await socket.ask(frame, "error", requestId=request)


async def log_of(server: Server, user: str) -> list[dict[str, Any]]:
    async with Device(server, user, "reader") as device:
        return (await device.drain(history=1))[0]


async def test_each_change_gets_its_result(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user) as socket:
        first = edit("r", 2, x=1)
        answer = await socket.push(
            first, edit("r", 1, x=0), edit("s", spaceId=1, change_id="s") | {"spaceId": "nowhere"}
        )
        assert said(answer) == ["applied", "superseded", "space_not_found"]
        assert (answer["appId"], answer["results"][0]["seq"]) == ("notes", 1)
        assert answer["results"][0]["changeId"] == first["changeId"]
        conflict = answer["conflicts"][0]
        assert (conflict["id"], conflict["clientValue"], conflict["serverValue"]) == ("r", 0, 1)
        again = await socket.push(first)
        assert said(again) == ["duplicate"]
        assert again["results"][0]["seq"] == 1
        assert again["results"][0]["eventId"] == answer["results"][0]["eventId"]
        assert said(await socket.push({**first, "id": "other"})) == ["change_id_reused"]
        assert said(await socket.push()) == []
    assert [c["id"] for c in await log_of(server, user)] == ["r"]


async def test_a_change_without_an_id_is_recognised_by_its_content(server: Server) -> None:
    async with socket_of(server, unique("ann")) as socket:
        legacy = edit("r", change_id=None, x=1)
        assert [said(await socket.push(legacy)) for _ in range(2)] == [["applied"], ["duplicate"]]


async def test_where_deletions_were_forgotten_its_writer_is_sent_what_it_made_and_what_it_wrote_with_it(
    server: Server,
) -> None:
    """A device that holds a forgotten record drops that at the new one, and with it what it had written meanwhile."""
    user = unique("ann")
    made = {**edit("r", 4, x=1), "op": "insert"}
    async with socket_of(server, user, protocol=1) as socket:
        await socket.subscribe()
        await socket.push(edit("old", 1, x=1), edit("kept", 1, x=1))
        await socket.push({"table": "t", "id": "old", "op": "delete", "deletedAt": at(2), "changeId": unique("k")})
        assert (await compact(server.owner_dsn, f"_personal:{user}", tombstones=ALL)).forgotten == 1
        await socket.push(edit("kept", 3, x=2))
        answer = await socket.push(made, edit("kept", 4, x=3))
        assert said(answer) == ["applied"] * 2
        await socket.brings("r")
        told = [(c["id"], c.get("whole"), c["fields"]["x"]["value"]) for c in socket.changes()]
        assert told[-2:] == [("r", True, 1), ("kept", None, 3)]


async def test_http_and_socket_know_each_others_change_ids(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, "phone") as socket, Device(server, user, "phone") as phone:
        change = edit("r", x=1)
        assert said(await phone.push([change])) == ["applied"]
        assert said(await socket.push(change)) == ["duplicate"]


@pytest.mark.parametrize("then", ["reader", "removed"])
async def test_a_retry_of_who_may_write_no_more_gets_the_first_answer(server: Server, then: str) -> None:
    """The push was taken and its answer lost; then its author became a reader, or was removed, and came back."""
    owner, guest, space = unique("own"), unique("gst"), unique("s")
    changes = [{**edit(f"r{n}", n + 1, x=n), "spaceId": space} for n in range(2)]
    new = {**edit("r0", 9, x=9), "spaceId": space}
    async with Device(server, owner, "reader") as device, Proxy(server.port) as line:
        await device.create_space(space, **{guest: "writer"})
        unlucky = await opened(server, host="127.0.0.1", port=line.port)
        async with unlucky, socket_of(server, owner) as listener:
            await listener.subscribe()
            await unlucky.auth(guest)
            line.faults.stall = {"down"}
            await unlucky.send({"type": "push", "requestId": "lost", "appId": "notes", "changes": changes})
            await listener.brings("r1")
            assert unlucky.all("push-result") == []
            line.cut()
        first = (await device.drain(history=1))[0]
        if then == "reader":
            await device.put_member(space, guest, "reader")
        else:
            assert (await device.http.delete(f"/spaces/{space}/members/{guest}")).status_code == 204
        async with socket_of(server, guest, protocol=1) as again:
            await again.subscribe()
            before = len(again.changes())
            answer = await again.push(*changes)
            told = [(r["status"], r["eventId"], r["seq"]) for r in answer["results"]]
            assert told == [("duplicate", change["eventId"], change["seq"]) for change in first]
            assert answer["conflicts"] == []
            assert said(await again.push(changes[1], new)) == [
                "duplicate", "not_a_writer" if then == "reader" else "space_not_found",
            ]  # fmt: skip
            assert len(again.changes()) == before, "and is shown nothing by it"
        assert (await device.drain(history=1))[0] == first


async def test_all_or_nothing_when_a_push_says_so(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user) as socket:
        bad = {**edit("b", x=1), "spaceId": "nowhere"}
        error = await refused(socket, edit("a", x=1), bad, edit("c", x=1), atomic=True)
        assert error["code"] == "atomic_rejected"
        assert [(e["pointer"], e["code"]) for e in error["errors"]] == [("/changes/1", "space_not_found")]
        assert error["errors"][0]["detail"] == ERROR_CODES["space_not_found"].text
        assert await log_of(server, user) == []
        assert said(await socket.push(edit("a", x=1), edit("c", x=1), atomic=True)) == ["applied"] * 2


VALUES = [
    "1e999", "-1e999", "1e-999", "[[1e400]]", "0e-99999", "1" * 400, "[" * 65 + "]" * 65,
    r'"\u0000"', r'"\ud800"', r'"\udc00\ud800"', r'{"\u0000":1}',
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: str(v)[:20])
async def test_a_value_that_could_not_come_back_is_an_error_of_its_push_alone(server: Server, value: str) -> None:
    user = unique("ann")
    async with socket_of(server, user, protocol=1) as socket:
        frame = {
            "type": "push",
            "requestId": "mine",
            "appId": "notes",
            "changes": [edit("a", x=1), edit("b", x="HERE")],
        }
        await socket.send(json.dumps(frame).replace('"HERE"', value))
        error = await socket.next("error", requestId="mine")
        assert error["code"] == "invalid_value"
        assert error["errors"][0]["pointer"].startswith("/changes/1")
        assert await log_of(server, user) == []
        assert said(await socket.push(edit("b", x=2))) == ["applied"]


async def test_what_the_first_generation_may_not_write_is_held_and_the_others_are_written(server: Server) -> None:
    async with socket_of(server, user := unique("ann")) as socket:
        changes = [edit("a", x=1), edit("b", x="HERE"), edit("c", x=1), {**edit("d", x=1), "spaceId": unique("space")}]
        frame = {"type": "push", "requestId": "mine", "appId": "notes", "changes": changes}
        for value, code in (("1e999", "invalid_value"), (r'"\ud800"', "invalid_change")):
            await socket.send(json.dumps(frame).replace('"HERE"', value))
            results = (await socket.next("push-result", requestId="mine"))["results"]
            assert [result.get("code") for result in results] == [None, code, None, "space_not_found"]
            assert [result.get("held", False) for result in results] == [False, True, False, True]
        assert {change["id"] for change in await log_of(server, user)} == {"a", "c"}


CHANGES: list[Any] = [
    None, [], "x", {}, {"table": "t"},
    {"table": 5, "id": "r", "op": "update"}, {"table": "t", "id": "r", "op": "upsert"},
    {"table": "t", "id": "r", "op": "update"}, {"table": "t", "id": "", "op": "delete"},
    {"table": "t", "id": "a\u0000b", "op": "delete"},
    {"table": "t", "id": "r", "op": "delete", "deletedAt": "yesterday"},
    {"table": "t", "id": "r", "op": "update", "fields": {"x": {"at": "2026-01-01T00:00:00Z"}}},
    {"table": "t", "id": "r", "op": "update", "fields": {"x": {"value": 1}}},
    {"table": "t", "id": "r", "op": "update", "fields": {"x": 1}},
    {"table": "t", "id": "\ud800", "op": "delete"}, {"table": "\ud800", "id": "r", "op": "delete"},
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: repr(c)[:60])
async def test_a_change_that_is_none_is_an_error_of_its_push_alone_with_its_place(server: Server, change: Any) -> None:
    user = unique("ann")
    async with socket_of(server, user, protocol=1) as socket:
        error = await refused(socket, edit("good", x=1), change)
        assert error["code"] in ("invalid_change", "invalid_value", "empty_change")
        assert error["errors"][0]["pointer"].startswith("/changes/1")
        assert await log_of(server, user) == []
        assert said(await socket.push(edit("good", x=1))) == ["applied"]


async def test_too_many_changes_are_an_error_and_one_too_large_is_rejected_alone(server: Server) -> None:
    async with socket_of(server, unique("ann"), protocol=1) as socket:
        error = await refused(socket, *(edit(f"r{i}", x=1) for i in range(1001)))
        assert error["code"] == "too_many_changes"
        answer = await socket.push(edit("a", x=1), edit("b", x="x" * (1 << 20)), edit("c", x=3))
        assert said(answer) == ["applied", "change_too_large", "applied"]


async def test_who_did_not_name_its_device_cannot_push(server: Server) -> None:
    async with socket_of(server, unique("ann"), None, protocol=1) as socket:
        error = await refused(socket, edit("r", x=1))
        assert error["code"] == "invalid_request"
        await socket.subscribe()


@pytest.mark.parametrize("request_id", [None, "", "x" * 1000, 0, -5, 1 << 53, "ü"], ids=lambda r: str(r)[:10])
async def test_the_result_names_its_request(server: Server, request_id: Any) -> None:
    async with socket_of(server, unique("ann")) as socket:
        frame = {"type": "push", "requestId": request_id, "appId": "notes", "changes": []}
        assert (await socket.ask(frame, "push-result"))["requestId"] == request_id


async def test_pushes_are_worked_on_in_their_order(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user) as socket:
        for n in range(150):
            await socket.send({"type": "push", "requestId": n, "appId": "notes", "changes": [edit(f"r{n}", n, x=n)]})
        await socket.until(lambda: len(socket.all("push-result")) == 150)
        assert [frame["requestId"] for frame in socket.all("push-result")] == list(range(150))
        assert [frame["results"][0]["seq"] for frame in socket.all("push-result")] == list(range(1, 151))


async def test_the_sender_does_not_get_its_own_back_and_its_other_sockets_do(server: Server) -> None:
    user = unique("ann")
    async with (
        socket_of(server, user, "phone") as sender,
        socket_of(server, user, "phone") as same_device,
        socket_of(server, user, "laptop", protocol=1) as laptop,
        socket_of(server, user, "tablet") as narrowed,
    ):
        for socket in (sender, same_device, laptop):
            await socket.subscribe()
        await narrowed.subscribe(collections=["t"])
        for n in range(5):
            await sender.push(*(edit(f"r{n}-{i}", x=i) for i in range(3)))
            await laptop.push(edit(f"theirs-{n}", x=1))
        for socket in (sender, same_device, narrowed):
            await socket.brings("theirs-4")
        await laptop.brings("r4-2")
        sent, theirs = {f"r{n}-{i}" for n in range(5) for i in range(3)}, {f"theirs-{n}" for n in range(5)}
        assert {c["id"] for c in sender.changes()} == theirs
        assert {c["id"] for c in laptop.changes()} == sent
        assert {c["id"] for c in same_device.changes()} == {c["id"] for c in narrowed.changes()} == sent | theirs
        assert [c["seq"] for c in same_device.changes()] == list(range(1, 21))
        cursor = sender.all("changes")[-1]["syncedUntil"]
    async with Device(server, user) as device:
        missed, _ = await device.drain(cursor)
        assert {c["id"] for c in missed} <= sent


async def test_what_is_rejected_or_a_duplicate_hides_nothing_that_comes_later(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, "phone") as sender, socket_of(server, user, "laptop") as laptop:
        await sender.subscribe()
        change = edit("r", 1, x=1)
        await sender.push(change)
        await sender.push(change, {**edit("no", x=1), "spaceId": "nowhere"})
        await laptop.push(edit("r", 2, x=2))
        assert (await sender.brings("r"))["fields"]["x"]["value"] == 2


async def test_the_cursor_of_a_result_skips_nothing_that_others_wrote(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, "phone") as phone, socket_of(server, user, "laptop") as laptop:
        assert "syncedUntil" not in await phone.push(edit("r", x=1))
        await phone.subscribe()

        async def keep_pushing(socket: Socket, name: str) -> list[str]:
            return [(await socket.push(edit(f"{name}-{n}", x=n))).get("syncedUntil", "") for n in range(20)]

        cursors, _ = await asyncio.gather(keep_pushing(phone, "p"), keep_pushing(laptop, "l"))
        assert cursors == sorted(cursors)
        async with Device(server, user) as device:
            for cursor in cursors:
                have = {c["id"] for c in phone.changes()} | {f"p-{n}" for n in range(20)}
                rest, _ = await device.drain(cursor)
                assert have | {c["id"] for c in rest} >= {f"l-{n}" for n in range(20)}


async def test_the_result_comes_after_the_commit_and_nobody_hears_before(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, "phone") as phone, socket_of(server, user, "laptop") as laptop:
        await phone.push(edit("r", x=1))
        await laptop.subscribe()
        holder = await asyncpg.connect(server.owner_dsn)
        transaction = holder.transaction()
        await transaction.start()
        feeds = "syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no)"
        await holder.fetch(f"SELECT FROM {feeds} WHERE s.space_id = $1 FOR UPDATE OF f", f"_personal:{user}")
        pushing = asyncio.create_task(phone.push(edit("held", x=1)))
        await somebody_waits(holder)
        assert not pushing.done()
        assert "held" not in {c["id"] for c in laptop.changes()}
        await transaction.rollback()
        await holder.close()
        assert said(await pushing) == ["applied"]
        await laptop.brings("held")


async def test_what_is_sent_just_before_the_end_is_written_whole_or_not_at_all(server: Server) -> None:
    user = unique("ann")
    for turn in range(10):
        async with socket_of(server, user, f"c{turn}") as socket:
            changes = [edit(f"{turn}-{i}", x=i) for i in range(20)]
            await socket.send({"type": "push", "requestId": 1, "appId": "notes", "changes": changes})
            if turn % 2:
                socket.connection.transport.abort()
    await asyncio.sleep(0.5)
    whole = [c["id"].split("-")[0] for c in await log_of(server, user)]
    assert {whole.count(str(turn)) for turn in range(10)} <= {0, 20}
