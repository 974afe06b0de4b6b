"""G10: who may write a table, or a field of one, is decided by the role in the space and what the table's schema says,
on every way in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest

import syncd
from tests.support.backend import backend_of
from tests.support.backups import line, restore, signed
from tests.support.command_line import syncd as syncd_command
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.holding import held, outcomes, reasons, until_written
from tests.support.holding import run as command
from tests.support.moving import insert
from tests.support.socket_device import socket_of
from tests.support.wire import Device, Json, at, edit, unique, values
from tests.system.operate.test_service_tokens import made, with_token

Make = Callable[..., Device]
TABLE = "only an owner of the space may write to this table"
FIELD = "state: only an owner of the space may write this field"
FEED = "SELECT FROM syncd.sync_feeds f JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id = $1 FOR UPDATE OF f"
WAITS = """
    SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND waitstart < clock_timestamp() - interval '1 second'
    AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"""
PRICES: Json = {"x-writable-by": "owner"}
ORDERS: Json = {"properties": {"state": {"x-writable-by": "owner"}, "item": {"x-writable-by": "writer"}}}


async def applied(server: Server, app: str, **tables: Json | None) -> None:
    """Puts schemas in force; None takes one out."""
    for table, schema in tables.items():
        body = "NULL" if schema is None else f"'{json.dumps(schema)}'"
        await run(server.owner_dsn, f"SELECT syncd.sync_schema_put('{app}', '{table}', {body})")


class Shop:
    """ann owns a space and bob writes in it; `prices` is ann's alone, and of `orders` the field `state`."""

    def __init__(self, server: Server, device: Make) -> None:
        self.server, self.app, self.make = server, unique("shop"), device
        self.ann, self.bob = device(unique("ann"), app=self.app), device(unique("bob"), app=self.app)
        self.space = self.ann.create(unique("stall"))
        self.ann.member(self.space, self.bob.user)

    async def begin(self) -> None:
        await applied(self.server, self.app, prices=PRICES, orders=ORDERS)

    def change(self, table: str, record: str, when: int = 1, op: str = "update", **fields: Any) -> Json:
        return edit(record, when, **fields) | {"table": table, "spaceId": self.space, "op": op}

    def price(self, record: str, when: int = 1, **fields: Any) -> Json:
        return self.change("prices", record, when, **(fields or {"pence": when}))

    def order(self, record: str, when: int = 1, **fields: Any) -> Json:
        return self.change("orders", record, when, **fields)

    def found(self) -> dict[str, Json]:
        changes = [change for change in self.ann.drain()[0] if change["spaceId"] == self.space]
        return {name: {n: v for n, v in one.items() if n != "deletedAt"} for name, one in values(changes).items()}


@pytest.fixture
async def shop(server: Server, device: Make) -> AsyncIterator[Shop]:
    made = Shop(server, device)
    await made.begin()
    yield made
    await applied(server, made.app, prices=None, orders=None)


def said(result: Json) -> tuple[Any, ...]:
    return result["status"], result.get("code"), result.get("field"), result.get("detail")


NO_TABLE, NO_FIELD = ("rejected", "rule_refused", None, TABLE), ("rejected", "rule_refused", "state", FIELD)


def test_a_table_is_its_owners_and_the_rest_of_a_push_goes_through(shop: Shop) -> None:
    results = shop.bob.push(shop.order("o1", item="tea"), shop.price("p1"), shop.order("o2", item="jam"))["results"]
    assert [result["status"] for result in results] == ["applied", "rejected", "applied"]
    assert said(results[1]) == NO_TABLE
    shop.ann.write(shop.price("p1"), shop.price("p2"))
    assert shop.found() == {"o1": {"item": "tea"}, "o2": {"item": "jam"}, "p1": {"pence": 1}, "p2": {"pence": 1}}


def test_a_push_of_one_change_is_no_way_around(shop: Shop) -> None:
    shop.ann.write(shop.price("p1"))
    for _ in range(2):  # the second finds all names
        assert said(shop.bob.push(shop.price("p1", 5))["results"][0]) == NO_TABLE
        assert said(shop.bob.push(shop.price("new", 5))["results"][0]) == NO_TABLE
    shop.ann.write(shop.price("p1", 3))
    assert shop.found() == {"p1": {"pence": 3}}


def test_what_it_may_not_write_it_may_neither_delete_nor_bring_back(shop: Shop) -> None:
    shop.ann.write(shop.price("p1"), shop.price("p2"))
    gone = {"table": "prices", "id": "p2", "op": "delete", "deletedAt": at(2), "spaceId": shop.space}
    assert said(shop.bob.push({**gone, "id": "p1", "changeId": "d1"})["results"][0]) == NO_TABLE
    shop.ann.write({**gone, "changeId": "d2"})
    back = {**shop.price("p2", 3, deletedAt=None), "op": "insert"}
    assert said(shop.bob.push(back)["results"][0]) == NO_TABLE
    assert shop.found() == {"p1": {"pence": 1}}


def test_of_a_field_each_change_that_writes_it_is_refused_and_names_it(shop: Shop) -> None:
    shop.ann.write(shop.order("o1", item="tea", state="open"))
    results = shop.bob.push(
        shop.order("o1", 2, item="jam"), shop.order("o1", 3, item="salt", state="sent"), shop.order("o2", state="sent"),
        shop.order("o3", item="bun"), shop.order("o1", 4, **{"state.by": "bob"}),
    )["results"]  # fmt: skip
    assert [result["status"] for result in results] == ["applied", "rejected", "rejected", "applied", "rejected"]
    assert {said(result) for result in results if result["status"] == "rejected"} == {NO_FIELD}
    assert shop.found() == {"o1": {"item": "jam", "state": "open"}, "o3": {"item": "bun"}}


def test_also_where_it_would_lose(shop: Shop) -> None:
    shop.ann.write(shop.order("o1", 9, item="tea", state="open"))
    assert said(shop.bob.push(shop.order("o1", 2, state="sent"))["results"][0]) == NO_FIELD
    assert said(shop.bob.push(shop.order("o1", 2, item="jam"))["results"][0])[0] == "superseded"


def test_a_record_with_such_a_field_may_be_deleted_and_comes_back_with_it(shop: Shop) -> None:
    shop.ann.write(shop.order("o1", item="tea", state="open"))
    shop.bob.write(
        {"table": "orders", "id": "o1", "op": "delete", "deletedAt": at(2), "changeId": "d", "spaceId": shop.space}
    )
    shop.bob.write({**shop.order("o1", 3, item="jam", deletedAt=None), "op": "insert"})
    shop.bob.write(shop.order("o1", 4, item="salt"))
    assert shop.found() == {"o1": {"item": "salt", "state": "open"}}


def test_an_atomic_push_is_refused_whole(shop: Shop) -> None:
    answer = shop.bob.send(shop.order("o1", item="tea"), shop.price("p1"), atomic=True)
    assert (answer.status_code, answer.json()["code"]) == (422, "atomic_rejected")
    [error] = answer.json()["errors"]
    assert (error["code"], error["detail"]) == ("rule_refused", TABLE)
    assert shop.found() == {}


def test_pushes_of_many_at_once_are_each_what_they_are_alone(shop: Shop) -> None:
    writers = [shop.make(unique("w"), app=shop.app) for _ in range(3)]
    for writer in writers:
        shop.ann.member(shop.space, writer.user)
    owners = [shop.make(shop.ann.user, f"c{n}", app=shop.app) for n in range(3)]

    def work(turn: int) -> list[str]:
        device = [*writers, *owners][turn % 6]
        change = shop.price(f"r{turn}") if turn % 2 else shop.order(f"r{turn}", item="tea")
        return [device.push(change)["results"][0]["status"], str(device in writers), str(bool(turn % 2))]

    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(work, range(72)))
    for status, writes, priced in done:
        assert status == ("rejected" if (writes, priced) == ("True", "True") else "applied")
    assert len(shop.found()) == sum(status == "applied" for status, *_ in done)


async def test_a_repeat_of_what_was_written_before_is_no_new_question(server: Server, device: Make) -> None:
    shop = Shop(server, device)
    change = shop.price("p1")
    shop.bob.write(change)
    await shop.begin()
    assert shop.bob.push(change)["results"][0]["status"] == "duplicate"
    assert [r["status"] for r in shop.bob.push(change, shop.price("p2"))["results"]] == ["duplicate", "rejected"]


async def test_it_begins_and_ends_with_the_schema_and_the_role(shop: Shop) -> None:
    assert said(shop.bob.push(shop.price("p1"))["results"][0]) == NO_TABLE
    shop.ann.member(shop.space, shop.bob.user, "owner")
    shop.bob.write(shop.price("p1"))
    shop.ann.member(shop.space, shop.bob.user, "writer")
    assert said(shop.bob.push(shop.price("p1", 2))["results"][0]) == NO_TABLE
    await applied(shop.server, shop.app, prices={"x-writable-by": "writer"})
    shop.bob.write(shop.price("p1", 3))
    own = edit("mine") | {"table": "orders", "fields": {"state": {"value": 1, "at": at(1)}}}
    shop.bob.write(own)  # in its personal space it is the owner


async def test_over_a_socket(shop: Shop) -> None:
    async with socket_of(shop.server, shop.bob.user) as socket:
        answer = await socket.push(shop.price("p1"), shop.order("o1", item="tea"), app=shop.app)
    assert [said(result)[:2] for result in answer["results"]] == [("rejected", "rule_refused"), ("applied", None)]


def test_the_first_generation_s_is_held_and_the_device_goes_on(shop: Shop) -> None:
    old = shop.make(shop.bob.user, "old", app=shop.app, legacy=True)
    changes = [shop.price("p1"), shop.order("o1", item="tea"), shop.order("o2", state="sent")]
    changes = [{key: value for key, value in change.items() if key != "changeId"} for change in changes]
    wanted = ["rule_refused", "applied", "rule_refused"]
    assert outcomes(old.push(*changes)) == wanted
    assert outcomes(old.push(*changes))[::2] == wanted[::2]
    assert [row["reason"] for row in held(old)] == ["rule_refused"] * 2
    assert shop.found() == {"o1": {"item": "tea"}}


def test_a_record_does_not_move_to_where_its_writer_may_not_write_it(shop: Shop) -> None:
    old = shop.make(shop.bob.user, "old", app=shop.app, legacy=True)
    ours = [
        {**insert("r", 1, state="mine", item="tea"), "table": "orders"},
        {**insert("q", 1, pence=1), "table": "prices"},
    ]
    old.write(*ours)
    moving = [shop.order("r", 2, item="jam"), shop.price("q", 2), shop.order("s", 2, item="bun")]
    moving = [{key: value for key, value in change.items() if key != "changeId"} for change in moving]
    assert outcomes(old.push(*moving)) == ["rule_refused", "rule_refused", "applied"]
    assert shop.found() == {"s": {"item": "bun"}}
    assert {change["id"] for change in old.drain()[0] if change["spaceId"].startswith("_personal:")} == {"r", "q"}


async def test_a_device_of_ours_writes_nothing_to_where_its_record_went(server: Server, device: Make) -> None:
    shop = Shop(server, device)
    old = device(shop.bob.user, "old", app=shop.app, legacy=True)
    old.write({**insert("r", 1, item="tea"), "table": "orders"})
    old.write({key: value for key, value in shop.order("r", 2, item="jam").items() if key != "changeId"})
    await shop.begin()
    here = edit("r", 3, item="bun") | {"table": "orders"}
    shop.bob.write(here)
    there = [edit("r", 4, state="sent") | {"table": "orders"}, edit("n", 4, item="n") | {"table": "orders"}]
    results = shop.bob.push(*there)["results"]
    assert (said(results[0]), results[1]["status"]) == (NO_FIELD, "applied")
    assert {name: shop.found()["r"].get(name) for name in ("item", "state")} == {"item": "bun", "state": None}


def test_a_user_s_import_is_no_way_around(shop: Shop) -> None:
    def one(n: int, table: str, **fields: Any) -> Json:
        registers = {name: {"value": value, "at": at(n)} for name, value in fields.items()}
        return line(shop.bob.user, n, appId=shop.app, table=table, spaceId=shop.space, fields=registers)

    lines = [one(1, "prices", pence=1), one(2, "orders", item="tea"), one(3, "orders", state="sent")]
    report = restore(shop.bob, signed(lines))
    assert (report["imported"], report["refused"]) == (1, 2)
    told = {row["line"]: (row["code"], row["detail"]) for row in report["refusals"]}
    assert told == {1: ("rule_refused", TABLE), 3: ("rule_refused", FIELD)}
    assert shop.found() == {"r2": {"item": "tea"}}
    assert restore(shop.bob, signed([one(4, "prices", pence=1)]))["refused"] == 1


def test_nor_is_the_way_back_to_before(shop: Shop) -> None:
    seq = shop.ann.push(shop.price("p1"), shop.order("o1", item="a", state="open"))["results"][1]["seq"]
    shop.ann.write(shop.price("p1", 2), shop.order("o1", 2, state="sent"))

    def back(device: Device, where: str) -> tuple[int, str]:
        body = {"clientId": device.client, "seq": seq}
        path = f"/sync/{shop.app}/{where}"
        answer = device.request("POST", path, json=body, params={"spaceId": shop.space} if "records" in where else {})
        return answer.status_code, answer.json().get("code", "") + answer.json().get("detail", "")

    before = shop.found()
    for where in (f"spaces/{shop.space}/restore", "records/prices/p1/restore", "records/orders/o1/restore"):
        status, text = back(shop.bob, where)
        assert status == 422, text
        assert "rule_refused" in text
        assert "only an owner" in text
    assert shop.found() == before
    shop.bob.write(shop.order("o1", 3, item="b"))
    status, text = back(shop.ann, f"spaces/{shop.space}/restore")
    assert status == 200, text
    assert shop.found() == {"p1": {"pence": 1}, "o1": {"item": "a", "state": "open"}}


def test_nor_is_the_taking_back_of_what_an_actor_wrote(shop: Shop) -> None:
    run = {"agent": "prices", "run": "1"}
    shop.ann.write(shop.price("p1") | {"actor": run}, shop.order("o1", state="open") | {"actor": run})
    before = shop.found()
    body = {"clientId": shop.bob.client, "actor": run}
    answer = shop.bob.request("POST", f"/sync/{shop.app}/spaces/{shop.space}/revert", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "rule_refused"), answer.text
    assert shop.found() == before
    answer = shop.ann.request("POST", f"/sync/{shop.app}/spaces/{shop.space}/revert", json=body | {"clientId": "c1"})
    assert answer.status_code == 200, answer.text
    assert shop.found() == {}


async def test_a_backend_writes_as_the_user_that_it_names(shop: Shop) -> None:
    def put(table: str, record: str, **fields: Any) -> Json:
        return {"table": table, "id": record, "spaceId": shop.space, "fields": fields}

    async with backend_of(shop.server) as backend, backend.connection() as connection:

        async def write(user: str, *changes: Json, how: Any = "return") -> list[Any]:
            return list(await syncd.write(connection, user=user, app=shop.app, changes=list(changes), on_refused=how))

        for _ in range(2):
            [alone] = await write(shop.bob.user, put("prices", "p1", pence=1))
            assert (alone.status, alone.code, alone.field) == ("rejected", "rule_refused", "table")
        several = [put("orders", "o1", item="tea"), put("orders", "o2", state="sent"), put("prices", "p1", pence=1)]
        done = await write(shop.bob.user, *several)
        assert [one.field for one in done] == [None, "fields/state", "table"]
        assert [one.status for one in done] == ["applied", "rejected", "rejected"]
        with pytest.raises(syncd.WriteRefused) as refused:
            await write(shop.bob.user, several[2], how="raise")
        assert (refused.value.code, refused.value.field) == ("rule_refused", "table")
        [owned] = await write(shop.ann.user, several[2])
        assert owned.status == "applied"
    assert shop.found() == {"o1": {"item": "tea"}, "p1": {"pence": 1}}


async def test_a_service_writes_what_its_own_role_may(shop: Shop) -> None:
    token, _ = await made(shop.server, "--service", unique("tills"), "--spaces", shop.space)
    service = with_token(shop.ann.http, shop.server, token, app=shop.app)
    results = service.push(shop.price("p1"), shop.order("o1", item="tea"), shop.order("o2", state="sent"))["results"]
    assert [said(result)[:3] for result in results] == [NO_TABLE[:3], ("applied", None, None), NO_FIELD[:3]]
    token, _ = await made(shop.server, shop.ann.user, "--service", unique("office"))
    with_token(shop.ann.http, shop.server, token, app=shop.app).write(shop.price("p1", 2))


def test_what_is_held_is_asked_again_when_it_may_be_released(shop: Shop) -> None:
    shop.ann.member(shop.space, shop.bob.user, "reader")
    old = shop.make(shop.bob.user, "old", app=shop.app, legacy=True)
    changes = [shop.price("p1"), shop.order("o1", item="tea")]
    changes = [{key: value for key, value in change.items() if key != "changeId"} for change in changes]
    assert outcomes(old.push(*changes)) == ["not_a_writer"] * 2
    shop.ann.member(shop.space, shop.bob.user, "writer")
    until_written(old, 1)
    assert (shop.found(), reasons(old)) == ({"o1": {"item": "tea"}}, ["rule_refused"])
    shop.ann.member(shop.space, shop.bob.user, "owner")
    command(shop.server, "held", "retry", "--user", shop.bob.user)
    until_written(old)
    assert shop.found()["p1"] == {"pence": 1}


def test_a_word_that_nobody_would_read_is_not_applied(shop: Shop) -> None:
    file = shop.server.data_dir.with_name(f"{shop.app}.json")
    nested = {"properties": {"address": {"properties": {"zip": {"x-writable-by": "owner"}}}}}
    for schema, place in ((nested, "tables/rooms/properties/address/"), ({"x-writable-by": "boss"}, "tables/rooms/")):
        file.write_text(json.dumps({"app": shop.app, "tables": {"rooms": schema}}))
        done = syncd_command("schema", "apply", file, "--database-url", shop.server.owner_dsn)
        assert done.returncode != 0
        assert place in done.stderr


async def test_a_schema_that_comes_between_the_question_and_the_write_is_asked_again(
    server: Server, device: Make
) -> None:
    shop = Shop(server, device)
    shop.bob.write(shop.price("p1"))
    holding = await asyncpg.connect(server.owner_dsn)
    transaction = holding.transaction()
    await transaction.start()
    await holding.execute(FEED, shop.space)
    pushing = asyncio.create_task(asyncio.to_thread(shop.bob.send, shop.price("p1", 2)))
    for _ in range(1200):  # patiently, and not for a quarter of a second
        if await holding.fetchval(WAITS):
            break
        await asyncio.sleep(0.05)
    await shop.begin()
    await transaction.rollback()
    await holding.close()
    answer = await pushing
    assert (answer.status_code, answer.json().get("code")) in ((503, "busy"), (200, None)), answer.text
    if answer.status_code == 200:
        assert said(answer.json()["results"][0]) == NO_TABLE
    assert said(shop.bob.push(shop.price("p1", 2))["results"][0]) == NO_TABLE
    assert shop.found() == {"p1": {"pence": 1}}


def test_an_operator_s_import_is_not_bound(shop: Shop) -> None:
    fields = {"pence": {"value": 7, "at": at(1)}}
    file = shop.server.data_dir.with_name(f"{shop.app}.jsonl")
    file.write_bytes(signed([line(shop.bob.user, appId=shop.app, table="prices", spaceId=shop.space, fields=fields)]))
    done = syncd_command("import", "--as-is", file, "--database-url", shop.server.owner_dsn)
    assert done.returncode == 0, done.stderr
    assert shop.found() == {"r1": {"pence": 7}}
