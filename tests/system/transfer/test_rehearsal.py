"""`syncd import --from mana --compare`: an old server and this one, as an old device reads them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest

from tests.support.command_line import syncd
from tests.support.harness import Server
from tests.support.wire import Device, unique

Make = Callable[..., Device]
CANARY = "a-value-that-is-not-told"


class OldServer(ThreadingHTTPServer):
    """Answers a pull as the first generation's server did: two changes a page, no `hasMore`, the last one again."""

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), OldPull)
        self.token, self.log, self.asked = token, list[dict[str, Any]](), list[dict[str, list[str]]]()
        self.strict = False
        self.url = f"http://127.0.0.1:{self.server_port}"


class OldPull(BaseHTTPRequestHandler):
    server: OldServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        self.server.asked.append(query)
        if self.headers["authorization"] != f"Bearer {self.server.token}":
            self.send_error(401)
            return
        wanted = query.get("collection")
        if wanted is None and self.server.strict:
            self.send_error(400)
            return
        log = [one for one in self.server.log if wanted is None or one["table"] in wanted]
        since = query["since"][0]
        page = [one for one in log if one["createdAt"] >= since][:2]
        until = page[-1]["createdAt"] if page else since
        body = json.dumps({"serverChanges": page, "syncedUntil": until}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


@pytest.fixture
def old(server: Server) -> Iterator[OldServer]:
    with OldServer(server.token(unique("ada"))) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def user_of(old: OldServer) -> str:
    return str(jwt.decode(old.token, options={"verify_signature": False})["sub"])


def rehearse(old: OldServer, server: Server, *options: str, token: str | None = None) -> tuple[int, str]:
    """The exit code, and what was said."""
    words = ["import", "--from", "mana", old.url, "--compare", server.url, *options]
    done = syncd(*words, env={"SYNCD_TOKEN": token or old.token})
    assert CANARY not in done.stdout + done.stderr
    assert old.token not in done.stdout + done.stderr
    return done.returncode, done.stderr


def write(old: OldServer, ada: Device, minute: int, op: str, record: str, table: str = "tasks", **members: Any) -> None:
    """The same change on both servers."""
    keep(old, minute, op, record, table, **members)
    assert ada.push({"op": op, "table": table, "id": record, **members})["results"][0]["status"] != "rejected"


def keep(old: OldServer, minute: int, op: str, record: str, table: str = "tasks", **members: Any) -> None:
    when = f"2026-01-01T10:{minute:02}:00.000Z"
    old.log.append({"op": op, "table": table, "id": record, "createdAt": when, **members})


def test_servers_that_agree_are_said_to(old: OldServer, server: Server, device: Make) -> None:
    ada = device(user_of(old), legacy=True)
    for n in range(5):
        data = {"id": f"r{n}", "title": CANARY, "cfg": {"theme": "light"}, "createdAt": f"2026-01-01T09:0{n}:00.000Z"}
        write(old, ada, n, "insert", f"r{n}", data=data)
    write(old, ada, 6, "update", "r1", fields={"title": {"value": "two", "at": "2026-01-01T10:06:00.000Z"}})
    write(old, ada, 7, "update", "r2", fields={"cfg.theme": {"value": "dark", "at": "2026-01-01T10:07:00.000Z"}})
    write(old, ada, 8, "delete", "r3", deletedAt="2026-01-01T10:08:00.000Z")
    code, said = rehearse(old, server, "--app", "app")
    assert (code, said.splitlines()[-1].split()) == (0, ["tasks", "4", "0", "0", "0"]), said


def test_what_differs_is_named_without_its_value(old: OldServer, server: Server, device: Make) -> None:
    ada = device(user_of(old), legacy=True)
    data = {"id": "r", "title": CANARY, "updatedAt": "2026-01-01T09:00:00.000Z"}
    write(old, ada, 1, "insert", "r", data=data)
    write(old, ada, 2, "insert", "gone", data={**data, "id": "gone"})
    ada.push({"op": "delete", "table": "tasks", "id": "gone", "deletedAt": "2026-01-01T10:02:00.000Z"})
    keep(old, 3, "update", "r", fields={"title": {"value": f"not {CANARY}", "at": "2026-01-01T10:03:00.000Z"}})
    code, said = rehearse(old, server, "--app", "app")
    assert code == 1
    assert "different: tasks r differs in title\n" in said
    assert "different: tasks gone is on the old server only\n" in said


def test_collections_are_read_one_by_one(old: OldServer, server: Server, device: Make) -> None:
    ada = device(user_of(old), legacy=True)
    data = {"id": "r", "title": "x", "updatedAt": "2026-01-01T09:00:00.000Z"}
    write(old, ada, 1, "insert", "r", data=data)
    write(old, ada, 2, "insert", "r", table="notes", data=data)
    keep(old, 3, "insert", "s", table="others", data=data)
    code, said = rehearse(old, server, "--app", "app", "--table", "tasks", "--table", "notes")
    assert code == 0, said
    assert {table for query in old.asked for table in query["collection"]} == {"tasks", "notes"}


def test_a_server_that_wants_a_collection_is_no_wrong_address(old: OldServer, server: Server) -> None:
    old.strict = True
    code, said = rehearse(old, server, "--app", "app")
    assert (code, "name each with --table NAME" in said) == (1, True)
    assert rehearse(old, server, "--app", "app", "--table", "tasks")[0] == 0


def test_a_server_that_does_not_take_part_is_named(old: OldServer, server: Server) -> None:
    code, said = rehearse(old, server, "--app", "app", token="not-a-token")
    assert code == 1
    assert f"{old.url} does not accept the token in SYNCD_TOKEN" in said
    gone = OldServer(old.token)
    gone.server_close()
    code, said = rehearse(gone, server, "--app", "app")
    assert (code, "cannot be reached" in said) == (1, True)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "--app NAME says which app is compared"),
        (("--app", "app", "--dry-run"), "--compare only reads: --dry-run would do nothing"),
        (("--app", "app", "--from", "csv"), "--compare is for --from mana"),
    ],
)
def test_what_makes_no_sense_is_refused(
    old: OldServer, server: Server, options: tuple[str, ...], sentence: str
) -> None:
    code, said = rehearse(old, server, *options)
    assert code == 2
    assert sentence in said
