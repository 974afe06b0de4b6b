"""A record or a space goes back to what it was, once however often that is asked for."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import statistics
import time
import uuid
from collections.abc import Callable

import asyncpg
import pytest

from syncd.core.clock import format_instant
from tests.support.direct import somebody_waits
from tests.support.harness import Server
from tests.support.past import address, back, get, history, listing, restore, restored
from tests.support.wire import Device, ahead, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture
def owner(device: Make) -> Device:
    return device(unique("owner"))


@pytest.fixture
def space(owner: Device) -> str:
    return owner.create(unique("space"))


def test_a_restored_record_is_as_it_was_then(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1, y=1), "spaceId": space})
    owner.write({**edit("r", 2, x=2, z=2), "spaceId": space})
    before = history(owner, space)
    (result,) = restored(owner, address(space, what="/restore"), seq=1, changeId="k", actor={"by": "me"})
    assert result == {
        "status": "applied",
        "changeId": "k",
        "eventId": result["eventId"],
        "seq": 3,
        "table": "t",
        "id": "r",
    }
    found = get(owner, address(space))
    assert {name: r["value"] for name, r in found["fields"].items()} == {"x": 1, "y": 1, "z": None, "deletedAt": None}
    newest, *rest = history(owner, space)
    assert rest == before
    assert set(newest["fields"]) == {"x", "z", "deletedAt"}
    assert (newest["changeId"], newest["origin"], newest["actor"], newest["op"]) == (
        "k",
        "restore",
        {"by": "me"},
        "update",
    )
    assert values(owner.drain(history=1)[0]) == values(owner.drain()[0])


def test_a_restore_and_its_device_never_stamp_a_register_equally(owner: Device, space: str) -> None:
    """The last stamp is ahead of the server's clock: the next one is the same for both."""
    owner.write({**edit("r", 1, x="first"), "spaceId": space})
    last = int(time.time() + 20) * 1_000_000
    written = [format_instant(last), format_instant(last + 1)]
    owner.write({**edit("r", written[0], x="second"), "spaceId": space})
    restored(owner, address(space, what="/restore"), seq=1)
    owner.push({**edit("r", written[1], x="mine"), "spaceId": space})
    log = owner.drain(history=1)[0]
    registers = [(c["fields"]["x"]["at"], c["clientId"], c["fields"]["x"]["value"]) for c in log if "x" in c["fields"]]
    stamps = [(at, client) for at, client, _ in registers]
    assert len(set(stamps)) == len(stamps) == 4
    assert get(owner, address(space))["fields"]["x"]["value"] == max(registers)[2]


@pytest.mark.parametrize("client", ["_server:c1", "_server:"])
def test_no_device_writes_under_an_id_of_the_servers(device: Make, owner: Device, space: str, client: str) -> None:
    other = device(owner.user, client)
    for answer in (other.send({**edit("r", 1, x=1), "spaceId": space}), restore(other, back(space), seq=0)):
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (400, "/clientId")


def test_a_restored_record_is_deleted_or_not_as_it_was_then(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space})
    owner.write({"table": "t", "id": "r", "op": "delete", "deletedAt": at(2), "spaceId": space})
    for seq, deleted in ((1, False), (2, True), (1, False), (0, True), (3, False)):
        restored(owner, address(space, what="/restore"), seq=seq)
        found = get(owner, address(space))
        assert (found["deleted"], found["fields"]["x"]["value"]) == (deleted, 1)
    ops = [change["op"] for change in history(owner, space)]
    assert ops == ["insert", "delete", "insert", "delete", "insert", "delete", "update"]
    fresh = owner.drain()[0]
    assert values(fresh) == values(owner.drain(history=1)[0]) == {"r": {"x": 1, "deletedAt": None}}


def test_a_restore_beats_every_stamp_that_the_record_has_and_what_comes_late(
    device: Make, owner: Device, space: str
) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space})
    owner.write({**edit("r", ahead(50), x=2), "spaceId": space})
    restored(owner, address(space, what="/restore"), seq=1)
    assert get(owner, address(space))["fields"]["x"]["value"] == 1
    late = device(owner.user, "late")
    late.push({"table": "t", "id": "r", "op": "delete", "deletedAt": ahead(-1), "spaceId": space})
    late.push({**edit("r", ahead(-1), x=3), "spaceId": space})
    found = get(owner, address(space))
    assert (found["deleted"], found["fields"]["x"]["value"]) == (False, 1)
    owner.write({**edit("r", ahead(55), x=4), "spaceId": space})
    assert get(owner, address(space))["fields"]["x"]["value"] == 4


def test_a_restore_leaves_alone_what_had_not_changed(device: Make, owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1, y=1), "spaceId": space})
    owner.write({**edit("r", 2, x=2), "spaceId": space})
    restored(owner, address(space, what="/restore"), seq=1)
    device(owner.user, "offline").write({**edit("r", 3, y=3), "spaceId": space})
    assert get(owner, address(space))["fields"]["y"]["value"] == 3


@pytest.mark.parametrize("what", ["record", "space"])
def test_a_restore_that_is_asked_for_again_is_done_once(device: Make, owner: Device, space: str, what: str) -> None:
    owner.write(*({**edit(record, 1, x=1), "spaceId": space} for record in "rs"))
    owner.write(*({**edit(record, 2, x=2), "spaceId": space} for record in "rs"))
    path = address(space, what="/restore") if what == "record" else back(space)
    first = restored(owner, path, seq=2, changeId="k")
    owner.write({**edit("r", ahead(1), x=3), "spaceId": space})
    again = restored(owner, path, seq=2, changeId="k")
    assert again == [{**result, "status": "duplicate"} for result in first]
    assert get(owner, address(space))["fields"]["x"]["value"] == 3
    for other, body in (
        (path, {"seq": 1}),
        (address(space, "s", what="/restore"), {"seq": 2}),
        (back(unique("s")), {"seq": 2}),
    ):
        if "/spaces/" in other and other != path:
            owner.create(other.split("/")[4])
        answer = restore(owner, other, changeId="k", **body)
        assert (answer.status_code, answer.json()["code"]) == (422, "change_id_reused")
    assert (
        owner.push({**edit("q", 1, x=1, change_id="k"), "spaceId": space})["results"][0]["code"] == "change_id_reused"
    )
    owner.write({**edit("q", 1, x=1, change_id="used"), "spaceId": space})
    assert restore(owner, path, seq=2, changeId="used").json()["code"] == "change_id_reused"
    other_device = device(owner.user, "c2")
    assert restored(other_device, path, seq=2, changeId="k")[0]["status"] == "applied"


@pytest.mark.parametrize("then", ["reader", "removed", "deleted"])
@pytest.mark.parametrize("what", ["record", "space"])
def test_a_restore_asked_for_again_by_who_may_write_no_more_gets_the_first_answer(
    device: Make, owner: Device, space: str, what: str, then: str
) -> None:
    writer = device(unique("writer"))
    owner.member(space, writer.user)
    writer.write({**edit("r", 1, x=1), "spaceId": space})
    writer.write({**edit("r", 2, x=2), "spaceId": space})
    path = address(space, what="/restore") if what == "record" else back(space)
    first = restored(writer, path, seq=1, changeId="k")
    if then == "reader":
        owner.member(space, writer.user, "reader")
    elif then == "removed":
        owner.remove(space, writer.user)
    else:
        assert owner.request("DELETE", f"/spaces/{space}").status_code == 204
    again = restored(writer, path, seq=1, changeId="k")
    assert again == [{**result, "status": "duplicate"} for result in first]
    refusal = (403, "not_a_writer") if then == "reader" else (404, "space_not_found")
    for seq, change_id in ((2, "k"), (1, "other")):
        answer = restore(writer, path, seq=seq, changeId=change_id)
        assert (answer.status_code, answer.json()["code"]) == refusal
    if then != "deleted":
        assert [change["seq"] for change in history(owner, space)] == [3, 2, 1]


def test_a_restore_that_changed_nothing_changes_nothing_later(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space})
    assert restored(owner, back(space), seq=1, changeId="k") == []
    owner.write({**edit("r", 2, x=2), "spaceId": space})
    assert restored(owner, back(space), seq=1, changeId="k") == []
    assert get(owner, address(space))["fields"]["x"]["value"] == 2


def test_five_restores_at_once_with_one_change_id_have_one_effect(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space}, {**edit("s", 1, x=1), "spaceId": space})
    owner.write({**edit("r", 2, x=2), "spaceId": space})
    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: restored(owner, back(space), seq=2, changeId="k"), range(5)))
    assert sorted(answer[0]["status"] for answer in answers) == ["applied", *["duplicate"] * 4]
    assert {answer[0]["eventId"] for answer in answers} == {answers[0][0]["eventId"]}
    assert len(history(owner, space)) == 3


def test_a_space_goes_back_as_one_batch_and_forth_again(device: Make, owner: Device, space: str) -> None:
    reader = device(unique("reader"))
    owner.member(space, reader.user, "reader")
    owner.write(*({**edit(f"r{n}", 1, x=n), "spaceId": space} for n in range(20)))
    _, cursor = reader.drain()
    good = max(change["createdAt"] for change in history(owner, space, "r19"))
    owner.write(
        *({"table": "t", "id": f"r{n}", "op": "delete", "deletedAt": at(2), "spaceId": space} for n in range(10)),
        *({**edit(f"r{n}", 2, x=-n, extra=1), "spaceId": space} for n in range(10, 15)),
        {**edit("late", 2, x=1), "spaceId": space},
    )
    spoilt = values(owner.drain()[0])
    head = listing(owner, space)[1]
    results = restored(owner, back(space), instant=good)
    assert [result["seq"] for result in results] == list(range(head + 1, head + 17))
    assert {result["id"] for result in results} == {*(f"r{n}" for n in range(15)), "late"}
    whole = {f"r{n}": n for n in range(20)}
    assert {name: record["x"] for name, record in values(owner.drain()[0]).items()} == whole
    pages = [page for page in reader.pages(cursor, limit=1) if page["serverChanges"]]
    assert [change["id"] for change in pages[-1]["serverChanges"]] == [result["id"] for result in results]
    restored(owner, back(space), seq=head)
    nothing = {"deletedAt": None}
    assert {n: r | nothing for n, r in values(owner.drain()[0]).items()} == {n: r | nothing for n, r in spoilt.items()}


def test_a_space_with_more_changes_than_a_restore_takes_is_refused_with_their_number(owner: Device, space: str) -> None:
    for start in range(0, 10_001, 1000):
        ids = range(start, min(start + 1000, 10_001))
        owner.write(*({**edit(f"r{n}", 1, x=n), "spaceId": space} for n in ids))
    answer = restore(owner, back(space), seq=0)
    assert (answer.status_code, answer.json()["code"]) == (422, "restore_too_large")
    assert "10,001 records" in answer.json()["detail"]
    assert get(owner, f"/sync/app/spaces/{space}/at", limit=1)["seq"] == 10_001
    assert len(restored(owner, back(space), seq=1)) == 10_000
    assert [record["id"] for record in listing(owner, space)[0]] == ["r0"]
    assert len(restored(owner, back(space), seq=10_001)) == 10_000
    assert len(listing(owner, space)[0]) == 10_001


def test_a_restore_of_too_many_bytes_is_refused_with_their_number(owner: Device, space: str) -> None:
    for n in range(11):
        owner.write({**edit(f"r{n}", 1, x="x" * 1_000_000), "spaceId": space})
    owner.write(*({**edit(f"r{n}", 2, x=0), "spaceId": space} for n in range(11)))
    answer = restore(owner, back(space), seq=11)
    assert (answer.status_code, answer.json()["code"]) == (422, "restore_too_large")
    assert "11 records" in answer.json()["detail"]
    assert "11,00" in answer.json()["detail"]
    assert listing(owner, space)[1] == 22


def test_who_listens_hears_of_a_restore_at_once(owner: Device, space: str) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space}, {**edit("r", 2, x=2), "spaceId": space})
    _, cursor = owner.drain()
    waits = []
    with owner.http.stream("GET", "/sync/app/stream", params={"since": cursor}, headers=owner.headers) as stream:
        lines = stream.iter_lines()
        assert "event: heartbeat" in lines  # reads up to it: the connection is there
        for turn in range(7):
            restored(owner, address(space, what="/restore"), seq=1 + turn % 2, changeId=f"heard{turn}")
            begin = time.monotonic()
            assert any(f'"changeId":"heard{turn}"' in line for line in lines)
            waits.append(time.monotonic() - begin)
    # Without a hint it would be found too, but by a look every two seconds, and each turn begins just after one.
    assert statistics.median(waits) < 1.2, waits


PUSH = "SELECT marks FROM syncd.sync_push($1::jsonb, '{1}', ARRAY[$2::json])"


async def test_a_restore_waits_for_a_write_under_way_and_undoes_it_too(
    server: Server, owner: Device, space: str
) -> None:
    owner.write({**edit("r", 1, x=1), "spaceId": space}, {**edit("s", 1, x=1), "spaceId": space})
    runtime = await asyncpg.connect(server.runtime_dsn)
    head = {
        "user": owner.user,
        "client": "other",
        "app": "app",
        "n": 1,
        "spaces": [space],
        "tables": ["t"],
        "ids": [None],
    }
    register = {"value": 2, "at": ahead(0)}
    change = {"i": 1, "s": 1, "t": 1, "r": "s", "o": 2, "e": str(uuid.uuid4()), "lo": 1 << 50, "hi": 1 << 50}
    change |= {"f": {"x": register}, "g": {"x": {**register, "clientId": "other"}}}
    try:
        async with runtime.transaction():
            call = json.dumps([{**head, "hi": 1, "skew": 0, "largest": 1 << 20}])
            assert await runtime.fetchval(PUSH, call, json.dumps([change])) == "a"
            waiting = asyncio.create_task(asyncio.to_thread(restored, owner, back(space), seq=2))
            await somebody_waits(runtime)
            assert not waiting.done()
        assert [result["id"] for result in await waiting] == ["s"]
    finally:
        await runtime.close()
    assert get(owner, address(space, "s"))["fields"]["x"]["value"] == 1
