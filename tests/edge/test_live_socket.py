"""The socket's exchanges, one by one: who gets in, what is answered, what ends the connection and with which code."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import jwt
import pytest

from tests.support.agreeing import create_space, set_role
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.legacy_devices import in_milliseconds
from tests.support.socket_device import opened, refusal, socket_of
from tests.support.wire import edit, unique

LIMIT = 10 * 1024 * 1024
FRAME_ROOM = 1024


@pytest.fixture(scope="module")
def secret(server: Server) -> str:
    return (server.data_dir / "jwt_secret").read_text().strip()


def claims(secret: str, **members: Any) -> str:
    """A token that says this."""
    return jwt.encode(members, secret, algorithm="HS256")


async def wrote(server: Server, user: str, record: str, app: str = "notes", **more: Any) -> None:
    """A change by another device of the user."""
    async with Device(server, user, "elsewhere", app=app) as device:
        change = {**edit(record, x=1), **more}
        assert [r["status"] for r in (await device.push([change]))["results"]] == ["applied"]


# -- who gets in ---------------------------------------------------------------------------------------------


async def test_a_good_token_is_answered_with_the_user_and_the_servers_time(server: Server) -> None:
    async with await opened(server) as socket:
        user = unique("ann")
        said = await socket.auth(user)
        assert said["userId"] == user
        assert abs(time.time() - time.mktime(time.strptime(said["serverTime"][:19], "%Y-%m-%dT%H:%M:%S"))) < 86400


@pytest.mark.parametrize(
    "first",
    [
        {"type": "subscribe", "appId": "notes"},
        {"type": "push", "appId": "notes", "changes": []},
        {"type": "presence", "spaceId": "s", "state": 1},
        {"type": "unsubscribe"},
    ],
    ids=lambda frame: str(frame["type"]),
)
async def test_nothing_is_done_before_auth(server: Server, first: dict[str, Any]) -> None:
    async with await opened(server) as socket:
        await socket.send(first, {"type": "auth", "token": server.token("ann"), "clientId": "c"})
        assert await socket.ends() == 4401
        assert socket.frames == []


NOW = int(time.time())
TOKENS = {
    "nothing": "",
    "no token": "x",
    "dots": "a.b.c",
    "not ascii": "ä.ö.ü",
    "half a surrogate": "\ud800",
    "too long": "x" * 20_000,
    "expired": {"sub": "ann", "exp": NOW - 60},
    "without exp": {"sub": "ann"},
    "without sub": {"exp": NOW + 3600},
    "a number for a user": {"sub": 5, "exp": NOW + 3600},
    "not yet": {"sub": "ann", "exp": NOW + 36_000, "nbf": NOW + 18_000},
}


@pytest.mark.parametrize("what", TOKENS)
async def test_a_token_that_cannot_be_believed_ends_it(server: Server, secret: str, what: str) -> None:
    given: Any = TOKENS[what]
    token = given if isinstance(given, str) else claims(secret, **given)
    for clean in (False, True):
        async with await opened(server) as socket:
            if clean:
                await socket.auth("ann")
            await socket.send({"type": "auth", "token": token, "clientId": "c1"})
            # Before it is known who is there, no frame may be larger than a token.
            large = 1009 if what == "too long" and not clean else 4401
            assert await socket.ends() in ((4401, 4400) if what == "half a surrogate" else (large,))
            assert len(token) < 3 or token not in socket.reason


async def test_a_token_of_another_key_ends_it(server: Server) -> None:
    async with await opened(server) as socket:
        other = claims("another secret of more than thirty-two bytes", sub="ann", exp=NOW + 3600)
        await socket.send({"type": "auth", "token": other, "clientId": "c1"})
        assert await socket.ends() == 4401


BROKEN: dict[str, str | bytes] = {
    "no text at all": "",
    "not JSON": "{",
    "more than JSON": '{"type":"ping"}x',
    "no object": "[]",
    "null": "null",
    "no type": "{}",
    "unknown type": '{"type":"hello"}',
    "a number for a type": '{"type":1}',
    "auth without a token": '{"type":"auth"}',
    "auth with a number": '{"type":"auth","token":5}',
    "presence without a space": '{"type":"presence","state":1}',
    "push without changes": '{"type":"push","appId":"notes","requestId":"r"}',
    "a list for a request id": '{"type":"push","appId":"notes","requestId":[],"changes":[]}',
    "a number for a cursor": '{"type":"subscribe","appId":"notes","since":5}',
    "a binary frame": b'{"type":"ping"}',
}


@pytest.mark.parametrize("what", BROKEN)
async def test_what_is_no_message_ends_it(server: Server, what: str) -> None:
    async with await opened(server) as socket:
        await socket.auth(unique("ann"), protocol=1)
        await socket.send(BROKEN[what])
        assert await socket.ends() == 4400
        assert socket.all("error") == []


async def test_a_reason_does_not_repeat_what_was_sent(server: Server) -> None:
    async with await opened(server) as socket:
        said = await socket.ask({"type": "eyJhbGciOi"}, "error")
        assert said["detail"]
        assert "eyJ" not in str(said)
        await socket.auth(unique("ann"), protocol=1)
        await socket.send('{"type": "eyJhbGciOi"}')
        assert await socket.ends() == 4400
        assert socket.reason
        assert "eyJ" not in socket.reason


@pytest.mark.parametrize("bad", [b'{"type":"ping","x":"\xff"}', b'{"type":"ping","x":"\xed\xa0\x80"}'], ids=repr)
async def test_text_that_is_not_utf_8_ends_it(server: Server, bad: bytes) -> None:
    async with await opened(server) as socket:
        await socket.auth(unique("ann"), protocol=1)
        await socket.connection.send(bad, text=True)
        assert await socket.ends() in (4400, 1007)


async def test_a_frame_in_pieces_is_one_frame(server: Server) -> None:
    async with await opened(server) as socket:
        text = json.dumps({"type": "auth", "token": server.token("ann"), "clientId": "ü"}, ensure_ascii=False)
        await socket.connection.send(iter(text))
        await socket.next("auth-ok")
        await socket.connection.send(iter(['{"type":', "", '"ping"}']))
        await socket.next("pong")


async def test_a_frame_that_is_too_big_ends_it_and_one_that_is_not_does_not(server: Server) -> None:
    async with socket_of(server, unique("ann")) as socket:
        await socket.send({"type": "ping", "x": "x" * (LIMIT - FRAME_ROOM)})
        await socket.next("pong")
        await socket.send({"type": "ping", "x": "x" * (LIMIT + 10 * FRAME_ROOM)})
        assert await socket.ends() == 1009


# -- the address ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/wss", 404, "not_found"),
        ("/", 404, "not_found"),
        ("/ws/", 400, "invalid_request"),
        ("/ws/a/b", 404, "not_found"),
        ("/sync/notes/pull", 404, "not_found"),
        ("/ws/%00", 400, "invalid_request"),
        ("/ws/%ff", 400, "invalid_request"),
        ("/ws/" + "x" * 256, 400, "invalid_request"),
        ("/ws?token=secret-thing", 403, "token_in_address"),
        ("/ws/notes?x=1&access_token=secret-thing", 403, "token_in_address"),
    ],
)
async def test_a_wrong_address_is_refused_before_the_upgrade(server: Server, path: str, status: int, code: str) -> None:
    answer = await refusal(server, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret-thing" not in answer.text


async def test_a_token_in_the_address_is_never_written_down(server: Server) -> None:
    token = server.token(unique("ann"))
    await refusal(server, f"/ws?token={token}")
    await refusal(server, f"/nowhere?jwt={token}")
    async with await opened(server) as socket:
        await socket.send({"type": "auth", "token": token[:-2], "clientId": "c"})
        await socket.ends()
    assert token[:-2] not in server.output()


def test_a_plain_request_is_told_to_upgrade(http: httpx.Client) -> None:
    for path in ("/ws", "/ws/notes"):
        answer = http.get(path)
        assert (answer.status_code, answer.json()["code"]) == (426, "upgrade_required")
        assert answer.headers["upgrade"] == "websocket"


# -- subscriptions -------------------------------------------------------------------------------------------


async def test_a_subscription_brings_what_was_missed_and_then_what_comes(server: Server) -> None:
    user = unique("ann")
    await wrote(server, user, "before")
    async with socket_of(server, user) as socket:
        pages = await socket.subscribe()
        assert [c["id"] for page in pages for c in page["changes"]] == ["before"]
        assert pages[0]["spaces"] == {"joined": [f"_personal:{user}"], "left": []}
        await wrote(server, user, "after")
        frame = await socket.next("changes")
        assert [(c["id"], c["seq"]) for c in frame["changes"]] == [("after", 2)]
        assert frame["hasMore"] is False
        cursors = [page["syncedUntil"] for page in (*pages, frame)]
    async with socket_of(server, user) as again:
        assert [c["id"] for page in await again.subscribe(since=cursors[0]) for c in page["changes"]] == ["after"]
        assert [c["id"] for page in await again.subscribe(since=cursors[-1]) for c in page["changes"]] == []
        async with Device(server, user) as device:
            assert (await device.pull(cursors[-1]))["serverChanges"] == []


@pytest.mark.parametrize("since", ["x", "2026-01-01", "2026-01-01T00:00:00.000000Z.", "ä", "." * 100])
async def test_a_bad_cursor_is_told_and_the_socket_stays(server: Server, since: str) -> None:
    async with socket_of(server, unique("ann"), protocol=1) as socket:
        said = await socket.ask({"type": "subscribe", "appId": "notes", "since": since}, "error")
        assert (said["code"], said["appId"]) == ("bad_cursor", "notes")
        assert "changes" not in said
        await socket.subscribe()


async def test_a_cursor_of_another_user_or_app_is_told(server: Server) -> None:
    ann, bob = unique("ann"), unique("bob")
    async with socket_of(server, ann, protocol=1) as socket, socket_of(server, bob, protocol=1) as other:
        cursor = (await socket.subscribe())[-1]["syncedUntil"]
        for who, app in ((other, "notes"), (socket, "todo")):
            said = await who.ask({"type": "subscribe", "appId": app, "since": cursor}, "error")
            assert (said["code"], said["appId"]) == ("bad_cursor", app)


async def test_an_instant_is_taken_for_a_cursor(server: Server) -> None:
    user = unique("ann")
    await wrote(server, user, "r")
    async with socket_of(server, user) as socket:
        pages = await socket.subscribe(since="2020-01-01T00:00:00Z")
        assert [c["id"] for page in pages for c in page["changes"]] == ["r"]


async def test_a_socket_of_one_app_takes_no_other(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, path="/ws/notes") as socket:
        said = await socket.ask({"type": "subscribe", "appId": "todo"}, "error")
        assert (said["code"], said["errors"][0]["pointer"]) == ("invalid_request", "/appId")
        push = {"type": "push", "requestId": 7, "appId": "todo", "changes": [edit("r", x=1)]}
        said = await socket.ask(push, "error")
        assert (said["requestId"], said["errors"][0]["pointer"]) == (7, "/appId")
        await socket.send({"type": "subscribe"})
        await socket.next("changes", appId="notes")
        await socket.send({"type": "push", "requestId": 8, "changes": [edit("r", x=1)]})
        assert (await socket.next("push-result", requestId=8))["appId"] == "notes"


@pytest.mark.parametrize("app", [None, "", "x" * 256, "a\u0001"])
async def test_a_socket_of_every_app_needs_to_be_told_which(server: Server, app: str | None) -> None:
    async with socket_of(server, unique("ann")) as socket:
        for frame in ({"type": "subscribe"}, {"type": "push", "changes": []}, {"type": "unsubscribe"}):
            said = await socket.ask({**frame, "appId": app}, "error")
            assert said["errors"][0]["pointer"] == "/appId"


@pytest.mark.parametrize("collections", [["t", "u"], "t,u", ["u", "t", "t"]], ids=str)
async def test_collections_narrow_what_is_missed_and_what_comes(server: Server, collections: Any) -> None:
    user = unique("ann")
    for table in ("t", "u", "v"):
        await wrote(server, user, f"before-{table}", table=table)
    async with socket_of(server, user) as socket:
        await socket.subscribe(collections=collections)
        for table in ("v", "t", "v", "u"):
            await wrote(server, user, unique(table), table=table)
        await socket.until(lambda: len(socket.changes()) >= 4)
        assert [c["table"] for c in socket.changes()] == ["u", "t", "t", "u"]
        cursor = socket.all("changes")[-1]["syncedUntil"]
    async with socket_of(server, user) as again:
        pages = await again.subscribe(since=cursor, collections=["t", "u"])
        assert [c["id"] for page in pages for c in page["changes"]] == []


@pytest.mark.parametrize("collections", [["a\u0001"], "x" * 256, [f"t{i}" for i in range(101)]], ids=["1", "2", "3"])
async def test_collections_that_cannot_be_are_told(server: Server, collections: Any) -> None:
    async with socket_of(server, unique("ann")) as socket:
        said = await socket.ask({"type": "subscribe", "appId": "notes", "collections": collections}, "error")
        assert said["errors"][0]["pointer"] == "/collections"
        await socket.subscribe()


async def test_a_subscription_to_some_spaces_is_sent_nothing_of_others(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, protocol=1) as socket:
        await wrote(server, user, "before")
        pages = await socket.subscribe(spaces=["elsewhere"])
        assert [page["spaces"] for page in pages] == [{"joined": [], "left": [], "partial": True}]
        await wrote(server, user, "after")
        pages = await socket.subscribe(since=pages[-1]["syncedUntil"], spaces=["elsewhere", ""])
        assert {c["id"] for page in pages for c in page["changes"]} == {"before", "after"}
        await wrote(server, user, "live")
        frame = await socket.next("changes")
        assert [c["id"] for c in frame["changes"]] == ["live"]
        assert "partial" not in frame["spaces"]
        pages = await socket.subscribe(since=pages[-1]["syncedUntil"], spaces=[""], knownSpaces=["elsewhere"])
        assert {c["id"] for page in pages for c in page["changes"]} == {"before", "after", "live"}


def catch_ups(server: Server) -> float:
    text = httpx.get(server.url + "/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("syncd_catch_ups_total"))


async def test_a_subscription_to_some_spaces_is_live_and_reads_no_pages(server: Server) -> None:
    """Each change comes as a batch, also after a membership in another space has come and gone."""
    user = unique("ann")
    async with socket_of(server, user, protocol=1) as socket:
        await socket.subscribe(spaces=[""])
        before = catch_ups(server)
        for turn in range(2):
            space = create_space(server, user)
            for n in range(10):
                await wrote(server, user, f"live-{turn}-{n}")
                await socket.brings(f"live-{turn}-{n}")
            set_role(server, user, space, unique("zoe"), "owner")
            set_role(server, user, space, user, None)
        for n in range(10):
            await wrote(server, user, f"last-{n}")
            await socket.brings(f"last-{n}")
        assert catch_ups(server) - before < 20


@pytest.mark.parametrize("name", ["spaces", "knownSpaces", "knownCollections"])
async def test_a_choice_that_cannot_be_is_told(server: Server, name: str) -> None:
    async with socket_of(server, unique("ann"), protocol=1) as socket:
        for given in ([], ["a\u0001"], [f"s{n}" for n in range(101)]):
            said = await socket.ask({"type": "subscribe", "appId": "notes", name: given}, "error")
            assert said["errors"][0]["pointer"] == f"/{name}"
        await socket.subscribe()


async def test_a_socket_follows_many_apps_and_leaves_them(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user) as socket:
        for n in range(64):
            await socket.subscribe(f"app-{n}")
        said = await socket.ask({"type": "subscribe", "appId": "one-more"}, "error")
        assert said["code"] == "invalid_request"
        await socket.subscribe("app-5")
        await socket.send({"type": "unsubscribe", "appId": "app-6"})
        await socket.subscribe("one-more")
        await wrote(server, user, "left", "app-6")
        await wrote(server, user, "five", "app-5")
        await wrote(server, user, "more", "one-more")
        await socket.brings("more", "one-more")
        assert [c["id"] for c in socket.changes("app-5")] == ["five"]
        assert socket.changes("app-6") == []


async def test_legacy_listeners_get_records_beside_the_fields_and_ours_do_not(server: Server) -> None:
    user = unique("ann")
    insert = {"op": "insert", "table": "t", "data": {"title": "x", "updatedAt": "2026-01-01T00:00:00Z"}}
    async with socket_of(server, user, "old") as old, socket_of(server, user, "new", protocol=1) as new:
        for turn in range(2):
            async with Device(server, user, "elsewhere") as device:
                if turn == 0:
                    await device.push([{**insert, "id": "before", "changeId": "k0"}])
                    await old.subscribe()
                    await new.subscribe()
                else:
                    await device.push([{**insert, "id": "after", "changeId": "k1"}])
        for record in ("before", "after"):
            plain, ours = await old.brings(record), await new.brings(record)
            assert plain["data"]["title"] == "x"
            plain["fields"], ours["fields"] = in_milliseconds(plain["fields"]), in_milliseconds(ours["fields"])
            assert "data" not in ours
            assert {k: v for k, v in plain.items() if k != "data"} == {**ours, "op": "update"}


async def test_what_another_device_pushes_over_http_comes_whole(server: Server) -> None:
    user = unique("ann")
    async with socket_of(server, user, protocol=1) as socket, Device(server, user, "elsewhere") as device:
        await socket.subscribe()
        sent = {**edit("r", x=[1, None, "ü\u2028"]), "schemaVersion": 3, "actor": {"a": 1}, "origin": "agent"}
        gone = {"table": "t", "id": "r", "op": "delete", "changeId": "d", "deletedAt": "2026-03-01T00:00:00Z"}
        await device.push([sent, gone])
        frame = await socket.next("changes")
        pulled = [c for c in (await device.drain(history=1))[0] if c["seq"] > 0]
        assert frame["changes"] == pulled
        assert [c["op"] for c in pulled] == ["update", "delete"]
