"""G19: on a socket or a stream, a client of the first generation is told of what cannot be read, and not sent away."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.support.harness import Server
from tests.support.socket_device import Socket, opened, socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import at, unique

# One more than these is forgiven in five seconds.
FORGIVEN = 20

ODD = ["", "{", "hello", "[]", "null", "{}", '{"type":"hello"}', '{"type":1}', '{"type":"subscribe","limit":"x"}']


def change(record: str, **more: Any) -> dict[str, Any]:
    return {"table": "t", "id": record, "op": "update", "fields": {"x": {"value": 1, "at": at(1)}}, **more}


async def wrote(server: Server, user: str, *changes: dict[str, Any], app: str = "notes") -> None:
    headers = {"authorization": f"Bearer {server.token(user)}", "x-client-id": "writer"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
        assert (await http.post(f"/sync/{app}", json={"changes": list(changes)})).status_code == 200


async def answers(socket: Socket, frame: str, kind: str) -> dict[str, Any]:
    """Sends a frame, and waits for one of a type more than there were."""
    before = len(socket.all(kind))
    await socket.send(frame)
    return (await socket.until(lambda: socket.all(kind)[before:]))[0]


class TestBeforeAuth:
    async def test_a_ping_is_answered(self, server: Server) -> None:
        async with await opened(server) as socket:
            for text in ('{"type":"ping"}', '{"type": "ping", "at": 5}'):
                await answers(socket, text, "pong")
            await socket.auth(unique("ann"))

    @pytest.mark.parametrize("odd", ODD)
    async def test_what_is_no_message_is_told(self, server: Server, odd: str) -> None:
        async with await opened(server) as socket:
            said = await answers(socket, odd, "error")
            assert said["code"] in ("malformed_json", "invalid_message")
            await socket.auth(unique("ann"))

    async def test_there_is_a_bound_to_it(self, server: Server) -> None:
        for odd in ("hello", '{"type":"ping"}'):
            async with await opened(server) as socket:
                await socket.send(*[odd] * (FORGIVEN + 10))
                assert await socket.ends() == 4400
                assert len(socket.frames) <= FORGIVEN + 2

    @pytest.mark.parametrize("broken", ['{"type":"auth"}', '{"type":"auth","token":5}'])
    async def test_an_auth_that_cannot_be_read_still_ends_it(self, server: Server, broken: str) -> None:
        async with await opened(server) as socket:
            await socket.send(broken)
            assert await socket.ends() == 4400


class TestAfterAuth:
    @pytest.mark.parametrize("odd", ODD)
    async def test_what_is_no_message_is_told_and_the_rest_goes_on(self, server: Server, odd: str) -> None:
        user = unique("ann")
        async with socket_of(server, user) as socket:
            await socket.subscribe()
            assert (await answers(socket, odd, "error"))["code"] in ("malformed_json", "invalid_message")
            await wrote(server, user, change("r"))
            await socket.brings("r")

    async def test_a_member_that_lost_keeps_nobody_from_what_follows(self, server: Server) -> None:
        user, before = unique("ann"), len(server.log.read_text())
        async with socket_of(server, user) as socket:
            await socket.subscribe()
            for n, value in ((3, "dark"), (2, "light")):
                await wrote(server, user, change("r", fields={"cfg.theme": {"value": value, "at": at(n)}}))
            await wrote(server, user, change("s"))
            await socket.brings("s")
        assert "Feed._read" not in server.log.read_text()[before:], "what listens reads on, and need not catch up"

    async def test_there_is_a_bound_to_it(self, server: Server) -> None:
        async with socket_of(server, unique("ann")) as socket:
            await socket.send(*["hello"] * (FORGIVEN + 10))
            assert await socket.ends() == 4400
            assert FORGIVEN <= len(socket.all("error")) <= FORGIVEN + 2

    async def test_a_client_of_ours_is_sent_away_as_before(self, server: Server) -> None:
        async with socket_of(server, unique("ann"), protocol=1) as socket:
            await socket.send('{"type":"hello"}')
            assert await socket.ends() == 4400

    @pytest.mark.parametrize("client", [None, "", "x" * 256, "a\u0001b"], ids=repr)
    async def test_without_a_client_id_it_pushes_under_a_name_that_stays(
        self, server: Server, client: str | None
    ) -> None:
        user = unique("ann")
        async with socket_of(server, user, client) as socket, socket_of(server, user, "other") as other:
            await other.subscribe()
            await socket.send({"type": "push", "appId": "notes", "requestId": 1, "changes": [change("r")]})
            await socket.next("push-result")
            assert (await other.brings("r"))["clientId"] == f"legacy:{user}"

    async def test_a_push_is_taken_as_over_http(self, server: Server) -> None:
        empty = {"table": "t", "id": "e", "op": "update", "fields": {}}
        undated = change("u", fields={"x": {}})
        many = [change(f"m{n}", spaceId="") for n in range(1500)]
        async with socket_of(server, unique("ann")) as socket:
            for n, changes in enumerate(([empty, undated, change("r")], None, many)):
                await socket.send({"type": "push", "appId": "notes", "requestId": n, "changes": changes})
                said = await socket.until(lambda n=n: socket.all("push-result", requestId=n))  # type: ignore[misc]
                assert [r["status"] for r in said[0]["results"]] == ["applied"] * len(changes or ())


class TestACursorOfNoUse:
    @pytest.mark.parametrize("since", ["garbage", "2026-13-01", 5, {}, None], ids=repr)
    async def test_on_a_socket_it_is_the_beginning(self, server: Server, since: Any) -> None:
        user = unique("ann")
        await wrote(server, user, change("r"))
        async with socket_of(server, user) as socket:
            await socket.send({"type": "subscribe", "appId": "notes", "since": since})
            await socket.brings("r")
            await wrote(server, user, change("s"))
            await socket.brings("s")
            assert socket.all("error") == []

    @pytest.mark.parametrize("since", ["garbage", "%FF", "a%0Aid:%20x"])
    async def test_on_a_stream_it_is_the_beginning(self, server: Server, since: str) -> None:
        user = unique("ann")
        await wrote(server, user, change("r"), {**change("r"), "table": "other"})
        address = {"query": f"?since={since}", "headers": {}}
        last = {"query": "", "headers": {"last-event-id": since}}
        for how in (address, last):
            headers = {"authorization": f"Bearer {server.token(user)}", **how["headers"]}
            async with (
                httpx.AsyncClient(base_url=server.url, timeout=httpx.Timeout(30)) as http,
                http.stream("GET", f"/sync/notes/stream{how['query']}", headers=headers) as response,
            ):
                assert response.status_code == 200
                text = ""
                async for piece in response.aiter_text():
                    text += piece
                    if text.count("event: changes") == 2 and text.endswith("\n\n"):
                        break
                assert "garbage" not in text
                assert all(line.partition(":")[0] in ("event", "id", "data", "") for line in text.split("\n"))
                data = [json.loads(line[6:]) for line in text.split("\n") if line.startswith('data: {"table')]
                assert [found["changes"][0]["id"] for found in data] == ["r", "r"]

    async def test_a_cursor_for_all_tables_serves_a_stream_of_one(self, server: Server) -> None:
        user = unique("ann")
        await wrote(server, user, change("r"))
        headers = {"authorization": f"Bearer {server.token(user)}"}
        async with httpx.AsyncClient(base_url=server.url, headers=headers) as http:
            cursor = (await http.get("/sync/notes/pull")).json()["syncedUntil"]
        async with stream_of(server, user, protocol=False, since=cursor, collections="t") as stream:
            await stream.next("heartbeat")
            await wrote(server, user, change("s"), {**change("no"), "table": "other"})
            await stream.brings("s")
            assert [found["id"] for found in stream.changes()] == ["s"]
