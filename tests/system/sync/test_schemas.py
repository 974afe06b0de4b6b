"""JSON Schemas of tables: put in force while the server serves, and no device writes what is not valid by them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.service import schema_faults
from syncd.service.table_schema import TableSchema
from tests.support.backups import line, restore, signed
from tests.support.command_line import syncd
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.holding import reasons
from tests.support.socket_device import Socket, socket_of, socket_on
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]
# Two seconds are promised; what else runs on the machine gets its share.
SOON = 60.0
PAGES: Json = {
    "type": "object",
    "properties": {
        "title": {"type": "string", "maxLength": 20},
        "status": {"enum": ["draft", "done"]},
        "tags": {"type": "array", "items": {"type": "string", "pattern": "^[a-z]+$"}},
        "address": {"type": "object", "properties": {"zip": {"type": "string"}}, "additionalProperties": False},
    },
    "required": ["title"],
    "additionalProperties": False,
}
# What may be there depends on another field.
STAYS: Json = {
    "properties": {"from": {"type": "integer"}, "to": {"type": "integer"}, "kind": {"type": "string"}},
    "if": {"properties": {"kind": {"const": "short"}}, "required": ["kind"]},
    "then": {"properties": {"to": {"maximum": 10}}},
}
# A rule of tests/support/clinic_rules.py asks about these as well.
VISITS: Json = {"properties": {"reason": {"type": "string", "maxLength": 10}}}


async def command(server: Server, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`syncd schema …` for this server."""
    return await asyncio.to_thread(syncd, "schema", *words, "--database-url", server.owner_dsn)


async def applied(server: Server, app: str, **tables: Json) -> subprocess.CompletedProcess[str]:
    """Puts schemas in force, which must succeed, and waits until each worker judges by them."""
    file = server.data_dir.with_name(f"{unique('schemas')}.json")
    file.write_text(json.dumps({"app": app, "tables": tables}))
    done = await command(server, "apply", file)
    assert done.returncode == 0, done.stderr
    await in_force(server, app, tables)
    return done


async def in_force(server: Server, app: str, tables: dict[str, Json]) -> None:
    """Returns when each worker judges by these."""
    for table, schema in tables.items():
        name = next(iter(schema["properties"]))
        for place in range(server.workers):
            async with on_worker(server, place) as socket:
                await until_refused(
                    lambda s=socket, t=table, n=name: s.push(edit(unique("r"), **{n: []}) | {"table": t}, app=app)
                )


def on_worker(server: Server, place: int) -> AbstractAsyncContextManager[Socket]:
    """A connection of somebody new to one of the workers."""
    return socket_on(server, place, unique("probe")) if server.workers > 1 else socket_of(server, unique("probe"))


async def until_refused(push: Callable[[], Any]) -> Json:
    begun = time.monotonic()
    while True:
        result: Json = (await push())["results"][0]
        if result["status"] == "rejected":
            return result
        assert time.monotonic() - begun < SOON
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def served(workspace: Path) -> AsyncIterator[Server]:
    settings = {"rules": "tests.support.clinic_rules"}
    with Server(workspace / "schemas", workers=2, settings=settings) as server:
        await applied(server, "notes", pages=PAGES, stays=STAYS)
        await applied(server, "clinic", visits=VISITS)
        yield server


@pytest.fixture
def judged(served: Server) -> Iterator[Make]:
    with httpx.Client(base_url=served.url, timeout=30) as http:

        def make(user: str = "", client: str = "c1", **more: Any) -> Device:
            return Device(http, served, user or unique("ann"), client, app=more.pop("app", "notes"), **more)

        yield make


def page(record: str, when: int | str = 1, **fields: Any) -> Json:
    return edit(record, when, **fields) | {"table": "pages"}


def stay(record: str, when: int = 1, **fields: Any) -> Json:
    return edit(record, when, **fields) | {"table": "stays"}


def told(result: Json) -> tuple[str, str | None, str]:
    assert result["status"] == "rejected", result
    return result["code"], result.get("field"), result["detail"]


def test_a_refusal_names_its_field_and_why_and_the_rest_goes_through(judged: Make) -> None:
    ann = judged()
    long = "a secret " * 3
    results = ann.push(
        page("p1", title="Beds"), page("p2", title=long), page("p3", title="x", status="open"),
        page("p4", title="x", tags=["a", "B"]), page("p5", title="x", colour="red"), page("p6", status="done"),
        page("p7", title="x", address={"zip": 1}), page("p8", title="x", address={"my secret": 1}),
        edit("n1", title=[]),
    )["results"]  # fmt: skip
    assert (results[0]["status"], results[-1]["status"]) == ("applied", "applied")
    assert [told(result) for result in results[1:-1]] == [
        ("rule_refused", "title", "title: must be at most 20 characters"),
        ("rule_refused", "status", 'status: must be one of "draft","done"'),
        ("rule_refused", "tags", "tags[1]: must be of the form ^[a-z]+$"),
        ("rule_refused", "colour", "colour: is no field of this table"),
        ("rule_refused", "title", "title: is needed"),
        ("rule_refused", "address", "address.zip: must be a text"),
        ("rule_refused", "address", "address: has a member that is not allowed"),
    ]
    assert "secret" not in str(results)
    assert set(values(ann.drain()[0])) == {"p1", "n1"}


async def test_many_faults_keep_nobody_waiting_and_are_judged_beside_the_others(
    judged: Make, served: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is refused counts in no quota."""
    ann, said = judged(), 0
    changes = [page(f"p{n}", **{f"x{m}": 1 for m in range(60)}) for n in range(400)]
    results = ann.push(*changes)["results"]
    assert {result["detail"] for result in results} == {
        "title: is needed; x0: is no field of this table; x1: is no field of this table; and more"
    }
    schema = TableSchema({"properties": {f"x{n}": {"enum": list(range(100))} for n in range(60)}})

    def counted(options: Any) -> str:
        nonlocal said
        said += 1
        return "is wrong"

    monkeypatch.setitem(schema_faults.REASONS, "enum", counted)
    assert schema_faults.told(schema.faults({f"x{n}": -1 for n in range(60)})).count("is wrong") == said == 3


async def test_a_value_that_takes_too_long_to_judge_is_refused_and_the_rest_goes_through(
    judged: Make, served: Server
) -> None:
    """The judging of it would hold a worker for seconds; `apply` says so of the schema."""
    app, parts = unique("wide"), [{"minimum": 10**6 + n} for n in range(1900)]
    codes: Json = {"items": {"anyOf": [*parts, {"type": "integer"}]}}
    done = await applied(served, app, t={"properties": {"title": {"type": "string"}, "codes": codes}})
    assert "of codes, lists of more than some " in done.stderr
    ann = judged(app=app)
    results = ann.push(
        edit("a", codes=list(range(2_000))),
        edit("b", codes=[1, 2]),
        edit("c", title="x" * 9_000),
        edit("d", codes=[0.5]),
    )["results"]
    code, field, why = told(results[0])
    assert (code, field) == ("rule_refused", "codes")
    assert "2,000,000 steps at most: lists of" in why
    assert told(results[3])[1:] == ("codes", "codes[0]: is of none of the forms that are allowed")
    assert set(values(ann.drain()[0])) == {"b", "c"}


def test_an_edit_needs_only_what_it_writes_where_the_record_has_the_rest(judged: Make) -> None:
    ann = judged()
    ann.write(page("p1", title="Beds"))
    ann.write(page("p1", when=2, status="done"))
    # In one push, too: an edit of what the push makes.
    ann.write(page("p2", title="Sheds"), page("p2", when=2, status="done"))
    [missing] = ann.push(page("p3", status="done"))["results"]
    assert told(missing)[1:] == ("title", "title: is needed")


def test_an_edit_of_what_the_push_could_not_make_is_judged_as_new(judged: Make) -> None:
    ann = judged()
    refused, also = ann.push(page("p1", title=7), page("p1", when=2, status="done"))["results"]
    assert told(refused)[1] == told(also)[1] == "title"
    assert ann.drain()[0] == []


def test_fields_that_depend_on_each_other_are_judged_as_the_record_will_be(judged: Make) -> None:
    ann = judged()
    ann.write(stay("s1", to=20, kind="long"))
    [result] = ann.push(stay("s1", when=2, kind="short"))["results"]
    assert told(result)[1:] == ("to", "to: must be at most 10")
    ann.write(stay("s1", when=3, kind="short", to=5))
    first, second = ann.push(stay("s2", to=20), stay("s2", when=2, kind="short"))["results"]
    assert (first["status"], told(second)[1]) == ("applied", "to")


async def test_a_record_that_was_invalid_before_is_corrected_field_by_field(judged: Make, served: Server) -> None:
    ann = judged(app="garden")
    ann.write(page("p1", title="x" * 30, status="open", colour="red"), page("p2", title="x" * 30, status="open"))
    await applied(served, "garden", pages=PAGES)
    ann.write(page("p1", when=2, status="done"))
    # The same value once more makes nothing worse: a form that writes all its fields can correct one.
    ann.write(page("p1", when=3, title="x" * 30, status="draft"))
    [worse] = ann.push(page("p1", when=4, title="y" * 30))["results"]
    assert told(worse)[1] == "title"
    [again] = ann.push(page("p1", when=4, colour="blue"))["results"]
    assert told(again)[1:] == ("colour", "colour: is no field of this table")
    ann.write(page("p1", when=5, title="Beds"))


def test_a_delete_is_not_judged_and_what_comes_back_has_to_be_whole(judged: Make) -> None:
    ann = judged()
    gone = {"table": "pages", "op": "delete"}
    ann.write(page("p1", title="Beds"))
    ann.write({**gone, "id": "p1", "changeId": unique("c"), "deletedAt": "2026-02-01T00:00:00Z"})
    back = {"deletedAt": {"value": None, "at": "2026-02-02T00:00:00Z"}}
    undone = {"table": "pages", "id": "p1", "op": "update", "changeId": unique("c"), "fields": back}
    ann.write(undone)
    # One that never was: nobody can make it by deleting it first.
    status = {"status": {"value": "done", "at": "2026-02-01T00:00:00Z"}}
    for record, fields in (("p2", {}), ("p3", status)):
        deletion = {**gone, "id": record, "deletedAt": "2026-02-01T00:00:00Z", "fields": fields}
        ann.write(deletion | {"changeId": unique("c")})
        [result] = ann.push({**undone, "id": record, "changeId": unique("c")})["results"]
        assert told(result)[1:] == ("title", "title: is needed")


@pytest.mark.parametrize("op", ["delete", "update", "insert"])
def test_whatever_a_device_calls_it_what_it_writes_is_judged(judged: Make, op: str) -> None:
    ann = judged()
    ann.write(page("p1", title="Beds"))
    fields = {"title": {"value": 7, "at": "2026-02-01T00:00:00Z"}}
    for deleted in (None, "2026-02-01T00:00:00.000000Z"):
        register = {"deletedAt": {"value": deleted, "at": "2026-02-01T00:00:00Z"}}
        change = {"table": "pages", "id": "p1", "op": op, "changeId": unique("c"), "fields": fields | register}
        [result] = ann.push(change)["results"]
        assert told(result)[1:] == ("title", "title: must be a text")


def test_a_repeat_of_what_was_written_is_a_repeat_whatever_the_schema_is_by_now(judged: Make) -> None:
    ann = judged()
    first = page("p1", title="Beds")
    ann.write(first)
    assert ann.push(first)["results"][0]["status"] == "duplicate"


async def test_a_repeat_of_what_was_taken_before_there_was_a_schema(judged: Make, served: Server) -> None:
    ann = judged(app="orchard")
    first = page("p1", title=7)
    ann.write(first)
    await applied(served, "orchard", pages=PAGES)
    assert ann.push(first)["results"][0]["status"] == "duplicate"
    assert told(ann.push(page("p2", title=7))["results"][0])[1] == "title"


def test_an_atomic_push_is_refused_as_a_whole(judged: Make) -> None:
    ann = judged()
    answer = ann.send(page("p1", title="Beds"), page("p2", title=7), atomic=True)
    assert (answer.status_code, answer.json()["code"]) == (422, "atomic_rejected")
    assert answer.json()["errors"] == [
        {"pointer": "/changes/1", "detail": "title: must be a text", "code": "rule_refused"}
    ]
    assert ann.drain()[0] == []


async def test_over_a_socket_it_is_refused_the_same(judged: Make, served: Server) -> None:
    ann = judged()
    async with socket_of(served, ann.user, "c1", protocol=1) as socket:
        fine, wrong = (await socket.push(page("p1", title="Beds"), page("p2", title=7)))["results"]
    assert (fine["status"], told(wrong)[1:]) == ("applied", ("title", "title: must be a text"))


def test_row_security_comes_first_and_nothing_is_told_of_what_may_not_be_seen(judged: Make) -> None:
    owner, reader, stranger = judged(), judged(), judged()
    space = owner.create(unique("space"))
    owner.member(space, reader.user, "reader")
    owner.write(stay("s1", to=20) | {"spaceId": space})
    for change in (page("p1", title=7), page("p1", title="x"), stay("s1", when=2, kind="short")):
        assert reader.push(change | {"spaceId": space})["results"][0]["code"] == "not_a_writer"
        again = change | {"spaceId": space, "changeId": unique("c")}
        assert stranger.push(again)["results"][0]["code"] == "space_not_found"


def test_a_schema_is_judged_by_before_the_rules(judged: Make) -> None:
    ann = judged(app="clinic")
    visits = {"table": "visits"}
    results = ann.push(
        edit("v1", reason="x" * 11) | visits, edit("v2", reason="") | visits, edit("v3", reason=" Cough ") | visits
    )["results"]
    assert told(results[0])[2] == "reason: must be at most 10 characters"
    assert told(results[1])[2] == "A visit needs a reason."
    assert values(ann.drain()[0])["v3"]["summary"] == "cough"


def test_a_device_of_the_first_generation_has_what_is_refused_held(judged: Make) -> None:
    old = judged(legacy=True)
    data = {"title": 7, "updatedAt": "2026-01-01T00:00:00Z"}
    old.push({"table": "pages", "id": "p1", "op": "insert", "data": {"title": 7, "updatedAt": data["updatedAt"]}})
    assert reasons(old) == ["rule_refused"]
    assert values(judged(old.user, "c2").drain()[0]) == {}


def test_what_moves_between_spaces_is_judged_where_it_comes_to(judged: Make) -> None:
    old, owner = judged(legacy=True), judged()
    space = owner.create(unique("space"))
    owner.member(space, old.user)
    old.push({"table": "stays", "id": "s1", "op": "insert", "data": {"to": 20, "updatedAt": "2026-01-01T00:00:00Z"}})
    moved = {"table": "stays", "id": "s1", "op": "update", "spaceId": space,
             "fields": {"kind": {"value": "short", "updatedAt": "2026-01-02T00:00:00Z"}}}  # fmt: skip
    old.push(moved)
    assert reasons(old) == ["rule_refused"]
    assert values(owner.drain()[0]) == {}


async def test_versions_are_taken_in_by_all_workers_and_kept(judged: Make, served: Server) -> None:
    app = unique("versions")
    ann = judged(app=app)
    bad = {"properties": {"title": {"type": "string"}}}
    assert "version 1" in (await applied(served, app, pages=bad)).stderr
    assert "as it was" in (await applied(served, app, pages=bad)).stderr
    assert "version 2" in (await applied(served, app, pages=PAGES)).stderr
    assert "pages  2" in (await command(served, "list")).stdout
    shown = await command(served, "show", f"{app}/pages")
    assert json.loads(shown.stdout) == PAGES
    assert "version 1," in shown.stderr
    assert json.loads((await command(served, "show", f"{app}/pages", "--version", "1")).stdout) == bad
    assert (await command(served, "remove", f"{app}/pages")).returncode == 0
    async with AsyncExitStack() as stack:
        for place in range(served.workers):
            socket = await stack.enter_async_context(on_worker(served, place))
            begun = time.monotonic()
            while (await socket.push(page(unique("r"), title=7), app=app))["results"][0]["status"] != "applied":
                assert time.monotonic() - begun < SOON
                await asyncio.sleep(0.05)
    assert (await command(served, "remove", f"{app}/pages")).returncode == 1
    ann.write(page("p1", title=7))


async def test_one_that_starts_judges_from_its_first_push(workspace: Path) -> None:
    with Server(workspace / "restarted") as server:
        await applied(server, "notes", pages=PAGES)
        server.restart()
        with httpx.Client(base_url=server.url, timeout=30) as http:
            ann = Device(http, server, unique("ann"), app="notes")
            assert told(ann.push(page("p1", title=7))["results"][0])[1] == "title"


def test_of_a_user_s_import_each_field_is_judged(judged: Make) -> None:
    ann = judged()
    fields = [{"title": {"value": value, "at": at(1)}} for value in (7, "Beds")]
    lines = [line(ann.user, n, appId="notes", table="pages", fields=one) for n, one in enumerate(fields, 1)]
    report = restore(ann, signed(lines))
    assert (report["imported"], report["refused"]) == (1, 1)
    assert (report["refusals"][0]["code"], report["refusals"][0]["detail"]) == (
        "rule_refused", "title: must be a text",
    )  # fmt: skip
    assert set(values(ann.drain()[0])) == {"r2"}


@asynccontextmanager
async def unreadable(server: Server, app: str) -> AsyncIterator[None]:
    """While there is a schema in the database that this syncd cannot read, as one without the library cannot."""
    await run(
        server.owner_dsn, f"""SELECT syncd.sync_schema_put('{app}', 'pages', '{{"$ref": "https://a.example/b"}}')"""
    )
    try:
        yield
    finally:
        await run(server.owner_dsn, f"SELECT syncd.sync_schema_put('{app}', 'pages', NULL)")


async def test_what_cannot_be_read_lets_nothing_pass_and_is_told_by_readyz(judged: Make, served: Server) -> None:
    app = unique("unread")
    ann = judged(app=app)
    async with unreadable(served, app):
        begun = time.monotonic()
        while ann.send(page(unique("r"), title="x")).status_code != 503:
            assert time.monotonic() - begun < SOON
            await asyncio.sleep(0.05)
        ready = ann.http.get("/readyz")
        assert (ready.status_code, f"{app}/pages" in ready.text) == (503, True)
        # Other tables are served.
        ann.write(edit("n1", title=7))
    begun = time.monotonic()
    while ann.http.get("/readyz").status_code != 200:
        assert time.monotonic() - begun < SOON
        await asyncio.sleep(0.05)


async def test_types_are_made_of_what_is_in_force(served: Server) -> None:
    app = unique("typed")
    await applied(served, app, pages=PAGES, stays=STAYS)
    file = served.data_dir.with_name(f"{app}.json")
    file.write_text(json.dumps({"app": app, "tables": {"stays": STAYS, "pages": PAGES}}))
    made = [
        await asyncio.to_thread(syncd, "types", "typescript", *more)
        for more in (["--database-url", served.owner_dsn, "--app", app], ["--file", file])
    ]
    assert made[0].stdout == made[1].stdout != "", made[0].stderr
