"""/sync/{app}/digest: what it says is what a device that was sent everything has, and it mends what is not."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from syncd.protocol.digest import MAX_BODY, MAX_RECORDS
from tests.support.device import Change, Device, answer
from tests.support.digests import Copy, Sum, bucket_of, digest_of, sum_of
from tests.support.harness import Server
from tests.support.wire import unique

EMPTY = {"spaces": [], "behind": [], "unready": []}


@pytest.fixture
async def ann(server: Server) -> AsyncIterator[Device]:
    async with Device(server, unique("ann"), "phone") as device:
        yield device


async def tell(device: Device, since: str | None = None, **query: Any) -> dict[str, Any]:
    params = query if since is None else {"since": since, **query}
    return answer(await device.http.get(f"/sync/{device.app}/digest", params=params))


async def compare(device: Device, since: str, bucket: int, records: Iterable[Any], **body: Any) -> dict[str, Any]:
    body |= {"since": since, "bucket": bucket, "records": list(records)}
    return answer(await device.http.post(f"/sync/{device.app}/digest", json=body))


def told(page: dict[str, Any]) -> dict[str, Sum]:
    """The digests of an answer by space."""
    return {space["spaceId"]: Sum(space["records"], space["digest"]) for space in page["spaces"]}


async def caught_up(device: Device, copy: Copy) -> str:
    """Brings a copy up to date; its cursor."""
    changes, copy.cursor = await device.drain(copy.cursor)
    for change in changes:
        copy.apply(change)
    return copy.cursor


def deletion(device: Device, change_id: str, record: str, **more: Any) -> Change:
    return {"changeId": change_id, "table": "items", "id": record, "op": "delete", "deletedAt": device.clock(), **more}


async def test_it_is_the_digest_of_what_a_new_device_is_sent(ann: Device) -> None:
    team = await ann.create_space(unique("team"))
    await ann.push(ann.change(f"p{n}", f"r{n}", n) for n in range(20))
    await ann.push(ann.change(f"s{n}", f"r{n}", n, space=team) for n in range(5))
    await ann.push([{"table": "legacy", "id": "x", "op": "insert", "data": {"a": 1, "b": {"c": None}}}])
    await ann.push([deletion(ann, "gone", "r3"), deletion(ann, "back", "r4")])
    await ann.push(
        [
            {
                "changeId": "again",
                "table": "items",
                "id": "r4",
                "op": "insert",
                "fields": {"v": {"value": 1, "at": ann.clock()}},
            }
        ]
    )
    copy = Copy(ann)
    page = await tell(ann, await caught_up(ann, copy))
    assert (
        told(page)
        == copy.sums()
        == {
            team: Sum(5, copy.sums()[team].digest),
            f"_personal:{ann.user}": Sum(20, copy.sums()[f"_personal:{ann.user}"].digest),
        }
    )
    assert (page["behind"], page["unready"]) == ([], [])


async def test_nothing_is_the_digest_of_nothing(ann: Device) -> None:
    assert await tell(ann) == EMPTY
    team = await ann.create_space(unique("team"))
    _, cursor = await ann.drain()
    assert await tell(ann, cursor) == {
        **EMPTY,
        "spaces": [{"spaceId": team, "seq": 0, "records": 0, "digest": "0" * 16}],
    }


async def test_who_is_not_at_the_end_of_the_log_is_told_so(ann: Device, server: Server) -> None:
    team = await ann.create_space(unique("team"))
    await ann.push([ann.change("1", "r", 1, space=team), ann.change("2", "r", 1)])
    personal = f"_personal:{ann.user}"
    _, cursor = await ann.drain()
    await ann.push([ann.change("3", "r", 2, space=team)])
    page = await tell(ann, cursor)
    assert (list(told(page)), page["behind"]) == ([personal], [team])
    for nowhere in ("", "2026-01-01T00:00:00Z"):
        page = await tell(ann, nowhere)
        assert (page["spaces"], sorted(page["behind"])) == ([], sorted([personal, team]))
    assert set(told(await tell(ann))) == {personal, team}
    _, cursor = await ann.drain(cursor)
    joined = await ann.create_space(unique("joined"))
    assert (await tell(ann, cursor))["behind"] == [joined]
    answer_ = await ann.http.delete(f"/spaces/{joined}")
    assert answer_.status_code == 204
    assert set(told(await tell(ann, cursor))) == {personal, team}


async def test_a_page_of_the_state_is_not_the_end(ann: Device) -> None:
    for n in range(4):
        await ann.push([ann.change(f"c{n}", f"r{n}", n)])
    page = await ann.pull(limit=2, digest=1)
    assert page["hasMore"]
    assert "digest" not in page
    assert (await tell(ann, page["syncedUntil"]))["spaces"] == []


async def test_a_pull_brings_it_on_request(ann: Device) -> None:
    await ann.push(ann.change(f"c{n}", f"r{n}", n) for n in range(4))
    page = await ann.pull(digest=1)
    assert page["digest"] == await tell(ann, page["syncedUntil"])
    assert told(page["digest"])[f"_personal:{ann.user}"].records == 4
    again = await ann.pull(page["syncedUntil"], digest=1)
    assert (again["serverChanges"], again["digest"]) == ([], page["digest"])
    assert "digest" not in await ann.pull(page["syncedUntil"])


async def test_tables_have_digests_of_their_own(ann: Device) -> None:
    tables = {name: {"v": {"value": 1, "at": ann.clock()}} for name in ("one", "two", "three")}
    await ann.push(
        {"changeId": name, "table": name, "id": "r", "op": "update", "fields": f} for name, f in tables.items()
    )
    registers = {name: {"v": {**f["v"], "clientId": "phone"}} for name, f in tables.items()}
    cursor = (await ann.pull(collection="one,two"))["syncedUntil"]
    page = await tell(ann, cursor, collection="two,one")
    expected = sum_of(digest_of(name, "r", registers[name]) for name in ("one", "two"))
    assert told(page) == {f"_personal:{ann.user}": expected}
    assert (await tell(ann, cursor))["spaces"] == []
    for collection in ("three", "nowhere"):
        found = told(await tell(ann, None, collection=collection))[f"_personal:{ann.user}"]
        assert found == sum_of(digest_of("three", "r", registers["three"]) for _ in range(collection == "three"))
    body = {"collections": ["one", "two"]}
    bucket = bucket_of("one", "r")
    held = [["one", "r", digest_of("one", "r", registers["one"])]]
    expected_of_bucket = ["two"] if bucket_of("two", "r") == bucket else []
    assert [c["table"] for c in (await compare(ann, cursor, bucket, held, **body))["changes"]] == expected_of_bucket


async def test_a_bucket_is_compared_and_what_differs_is_sent(ann: Device) -> None:
    ids = [f"r{n}" for n in range(2000) if bucket_of("items", f"r{n}") == 7]
    missing, other, dead, same, absent = ids[:5]
    await ann.push(ann.change(f"c{record}", record, record) for record in (missing, other, dead, same))
    copy = Copy(ann)
    cursor = await caught_up(ann, copy)
    held = {record: digest_of("items", record, copy.registers("items", record)) for record in (dead, same)}
    await ann.push([deletion(ann, "delete", dead)])
    cursor = (await ann.pull(cursor))["syncedUntil"]
    mine = [["items", record, digest] for record, digest in held.items()]
    mine += [["items", other, "0" * 16], ["items", absent, "1" * 16], ["unheard", absent, "1" * 16]]
    page = await compare(ann, cursor, 7, mine)
    assert {change["id"]: change["op"] for change in page["changes"]} == {
        missing: "insert",
        other: "insert",
        dead: "delete",
    }
    assert sorted(page["gone"]) == [["items", absent], ["unheard", absent]]
    assert not page["hasMore"]
    for change in page["changes"]:
        copy.replace(change)
    assert copy.sums() == told(await tell(ann, cursor))


async def test_many_differences_come_in_parts(ann: Device) -> None:
    ids = [f"r{n}" for n in range(40_000) if bucket_of("items", f"r{n}") == 0][:140]
    for part in (ids[:70], ids[70:]):
        await ann.push(ann.change(f"c{record}", record, "x" * 20_000) for record in part)
    cursor = (await ann.drain())[1]
    held: dict[str, str] = {}
    rounds = 0
    while True:
        page = await compare(ann, cursor, 0, [["items", *item] for item in held.items()])
        held |= {change["id"]: digest_of("items", change["id"], change["fields"]) for change in page["changes"]}
        rounds += 1
        if not page["hasMore"]:
            break
    assert (set(held), rounds) == (set(ids), 2)


async def test_more_than_a_bucket_is_refused_with_its_bound(ann: Device) -> None:
    await ann.push([ann.change("1", "r", 1)])
    cursor = (await ann.pull())["syncedUntil"]
    records = [["t", f"r{n}", "0" * 16] for n in range(MAX_RECORDS + 1)]
    body: dict[str, Any] = {"since": cursor, "bucket": 0, "records": records}
    refused = await ann.http.post("/sync/notes/digest", json=body)
    assert (refused.status_code, refused.json()["errors"]) == (400, [{"pointer": "/records", "detail": "too many"}])
    assert "20,000" in refused.json()["detail"]
    taken = await ann.http.post("/sync/notes/digest", json={**body, "records": records[:-1]})
    assert taken.status_code == 200
    large = await ann.http.post("/sync/notes/digest", json={**body, "records": [["t", "r" * MAX_BODY, "0" * 16]]})
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    assert str(MAX_BODY) in large.json()["detail"]


async def test_a_comparison_away_from_the_end_is_refused(ann: Device) -> None:
    await ann.push([ann.change("1", "r", 1)])
    cursor = (await ann.pull())["syncedUntil"]
    await ann.push([ann.change("2", "r", 2)])
    body = {"since": cursor, "bucket": 0, "records": []}
    refused = await ann.http.post("/sync/notes/digest", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "digest_behind")


async def test_a_stranger_learns_nothing(ann: Device, server: Server) -> None:
    team = await ann.create_space(unique("team"))
    await ann.push([ann.change("1", "r", 1, space=team)])
    async with Device(server, unique("eve"), "eves") as eve:
        assert await tell(eve) == EMPTY
        for space in (team, "nowhere"):
            for asked in (
                await eve.http.get("/sync/notes/digest", params={"spaceId": space}),
                await eve.http.post(
                    "/sync/notes/digest", json={"since": "", "spaceId": space, "bucket": 0, "records": []}
                ),
            ):
                assert (asked.status_code, asked.json()["code"]) == (404, "space_not_found")
        await ann.put_member(team, eve.user, "reader")
        assert told(await tell(eve))[team].records == 1
        assert (await ann.http.delete(f"/spaces/{team}/members/{eve.user}")).status_code == 204
        assert await tell(eve) == EMPTY


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"since": "", "records": []}, "invalid_request"),
    ({"since": "", "bucket": 256, "records": []}, "invalid_request"),
    ({"since": "", "bucket": -1, "records": []}, "invalid_request"),
    ({"since": "", "bucket": 1.5, "records": []}, "invalid_request"),
    ({"since": "", "bucket": 0}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [["t", "r"]]}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [["t", "r", "x" * 16]]}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [["t", 5, "0" * 16]]}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [["t", "\0", "0" * 16]]}, "invalid_value"),
    ({"since": "", "bucket": 0, "records": [["t", "\ud800", "0" * 16]]}, "invalid_value"),
    ({"since": "never", "bucket": 0, "records": []}, "bad_cursor"),
    ({"since": "", "bucket": 0, "records": [], "spaceId": ""}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [], "spaceId": "a\nb"}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [], "collections": ["\x7f"]}, "invalid_request"),
    ({"since": "", "bucket": 0, "records": [], "collections": [f"t{n}" for n in range(101)]}, "invalid_request"),
]


@pytest.mark.parametrize(("body", "code"), WRONG, ids=[f"{n}" for n in range(len(WRONG))])
async def test_a_body_that_is_wrong_is_refused(ann: Device, body: dict[str, Any], code: str) -> None:
    headers = {"Content-Type": "application/json"}
    asked = await ann.http.post("/sync/notes/digest", content=json.dumps(body), headers=headers)
    assert (asked.status_code, asked.json()["code"]) == (400, code), asked.text


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("since=x", "bad_cursor"),
        ("spaceId=", "invalid_request"),
        ("collection=%00", "invalid_request"),
        ("spaceId=%0a", "invalid_request"),
    ],
)
async def test_a_query_that_is_wrong_is_refused(ann: Device, query: str, code: str) -> None:
    asked = await ann.http.get(f"/sync/notes/digest?{query}")
    assert (asked.status_code, asked.json()["code"]) == (400, code), asked.text


async def test_other_methods_are_refused(ann: Device) -> None:
    asked = await ann.http.put("/sync/notes/digest", json={})
    assert (asked.status_code, asked.json()["code"]) == (405, "method_not_allowed")


async def test_a_cursor_of_somebody_else_is_refused(ann: Device, server: Server) -> None:
    async with Device(server, unique("bob")) as bob:
        await bob.push([bob.change("1", "r", 1)])
        cursor = (await bob.pull())["syncedUntil"]
    asked = await ann.http.get("/sync/notes/digest", params={"since": cursor})
    assert (asked.status_code, asked.json()["code"]) == (400, "bad_cursor")


async def test_while_others_write_it_is_right_or_says_that_it_cannot_be(ann: Device, server: Server) -> None:
    team = await ann.create_space(unique("team"))
    bob = Device(server, unique("bob"), "bobs")
    await ann.put_member(team, bob.user, "writer")
    copy, compared, over = Copy(ann), 0, False

    async def write(device: Device, seed: int) -> None:
        chance, n = random.Random(seed), 0
        while not over:
            n += 1
            record = f"r{chance.randrange(40)}"
            change = device.change(f"{device.client}-{n}", record, n, space=team)
            if chance.random() < 0.2:
                change = deletion(device, f"{device.client}-{n}", record, spaceId=team)
            await device.push([change])
            await asyncio.sleep(chance.random() * 0.03)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write(ann, 1))
        tasks.create_task(write(bob, 2))
        for _ in range(400):
            page = await ann.pull(copy.cursor, digest=1)
            for change in page["serverChanges"]:
                copy.apply(change)
            copy.cursor = page["syncedUntil"]
            if not page["hasMore"] and page["digest"]["spaces"]:
                assert told(page["digest"])[team] == copy.sums().get(team, sum_of([]))
                compared += 1
                if compared == 40:
                    break
        over = True
    await bob.close()
    assert compared == 40
