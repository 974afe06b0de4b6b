"""Names of users, devices, apps and tables are made for what is written, and as many as one user may."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.postgres.database_checks import numbers
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.holding import held
from tests.support.socket_device import socket_of
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
MANY = 20


async def made(server: Server, mark: str) -> list[str]:
    """The names that have a mark of the test's, but for those of its users (`mark` and -u)."""
    query = f"SELECT name FROM syncd.sync_names WHERE name LIKE '%{mark}%' AND name NOT LIKE '{mark}-u%' ORDER BY 1"
    return [name for (name,) in await run(server.owner_dsn, query)]


async def users(server: Server, mark: str) -> int:
    [(count,)] = await run(server.owner_dsn, f"SELECT count(*) FROM syncd.sync_names WHERE name LIKE '{mark}-u%'")
    return int(count)


def tables(mark: str, record: str = "r", **more: Any) -> list[dict[str, Any]]:
    """Changes, each to a table of its own."""
    return [{**edit(f"{record}{i}", i + 1, x=1), "table": f"{mark}-t{i}", **more} for i in range(MANY)]


def codes(answer: Any) -> set[str]:
    return {result.get("code", result["status"]) for result in answer["results"]}


@pytest.fixture
def mark() -> str:
    return unique("names")


@pytest.fixture
def space(device: Make, mark: str) -> str:
    """A space of somebody's, in which the user `mark`-u-reader reads."""
    owner = device(f"{mark}-u-owner")
    assert owner.request("POST", "/spaces", json={"id": f"{mark}-u-space", "name": "x"}).status_code == 201
    path = f"/spaces/{mark}-u-space/members/{mark}-u-reader"
    assert owner.request("PUT", path, json={"role": "reader"}).status_code == 200
    return f"{mark}-u-space"


@pytest.mark.parametrize("legacy", [False, True])
async def test_a_push_into_a_foreign_space_makes_none(server: Server, device: Make, mark: str, legacy: bool) -> None:
    stranger = device(f"{mark}-u", f"{mark}-c", app=f"{mark}-a", legacy=legacy)
    assert codes(stranger.push(*tables(mark, spaceId="nowhere"))) == {"space_not_found"}
    assert await made(server, mark) == []
    assert await users(server, mark) == int(legacy)  # whose changes are held
    if legacy:
        assert len(held(stranger)) == MANY


async def test_a_reader_s_push_makes_none(server: Server, device: Make, mark: str, space: str) -> None:
    reader = device(f"{mark}-u-reader", f"{mark}-c", app=f"{mark}-a")
    assert codes(reader.push(*tables(mark, spaceId=space), incarnations=["1.firstfirst"])) == {"not_a_writer"}
    assert await made(server, mark) == []


async def test_of_a_push_only_what_is_written_makes_names(server: Server, device: Make, mark: str, space: str) -> None:
    reader = device(f"{mark}-u-reader", f"{mark}-c", app=f"{mark}-a")
    own = {**edit("own", 1, x=1), "table": f"{mark}-own"}
    reader.push(*tables(mark, spaceId=space), own)
    assert await made(server, mark) == [f"{mark}-a", f"{mark}-c", f"{mark}-own"]


async def test_a_change_id_of_another_change_makes_none(server: Server, device: Make, mark: str) -> None:
    user = device(f"{mark}-u", "c1")
    user.write(edit("r", 1, change_id="taken", x=1))
    again = {**edit("r", 2, change_id="taken", x=2), "table": f"{mark}-t"}
    assert codes(user.push(again)) == {"change_id_reused"}
    assert codes(device(f"{mark}-u", "c1", app=f"{mark}-a").push(again)) == {"change_id_reused"}
    other = {**edit("s", 3, x=1), "table": "t"}
    assert codes(user.push(again, other)) == {"change_id_reused", "applied"}
    assert await made(server, mark) == []


async def test_a_push_that_is_refused_whole_makes_none(server: Server, device: Make, mark: str) -> None:
    user = device(f"{mark}-u", f"{mark}-c", app=f"{mark}-a")
    answer = user.send(*tables(mark), edit("far", x=1) | {"spaceId": "nowhere"}, atomic=True)
    assert answer.status_code == 422
    assert await made(server, mark) == []


async def test_reading_makes_none(server: Server, device: Make, mark: str) -> None:
    user = device(f"{mark}-u", f"{mark}-c", app=f"{mark}-a")
    user.pull()
    user.pull(collections=f"{mark}-t")
    user.request("GET", f"/sync/{mark}-a/held")
    user.request("GET", f"/sync/{mark}-a/digest", params={"since": ""})
    user.request("GET", "/spaces")
    user.request("GET", f"/sync/{mark}-a/history", params={"table": f"{mark}-t", "id": "r"})
    user.request("GET", "/backup/export")
    assert (await made(server, mark), await users(server, mark)) == ([], 0)


async def test_presence_and_subscriptions_make_none(server: Server, mark: str) -> None:
    async with socket_of(server, f"{mark}-u", f"{mark}-c") as socket:
        await socket.send({"type": "presence", "spaceId": "nowhere", "state": {"x": 1}})
        await socket.send({"type": "presence", "spaceId": f"_personal:{mark}-u", "state": {"x": 1}})
        await socket.subscribe(f"{mark}-a", collections=[f"{mark}-t"])
        await socket.push({**edit("r", x=1), "spaceId": "nowhere", "table": f"{mark}-t"}, app=f"{mark}-a")
        await socket.fence()
    assert await made(server, mark) == []


async def test_a_refused_restore_makes_none(server: Server, device: Make, mark: str, space: str) -> None:
    reader = device(f"{mark}-u-reader", f"{mark}-c", app=f"{mark}-a")
    for place in (space, "nowhere"):
        answer = reader.request("POST", f"/sync/{mark}-a/restore", json={"spaceId": place, "seq": 0, "changeId": "c"})
        assert answer.status_code in (403, 404), answer.text
    assert await made(server, mark) == []


async def test_a_refused_member_makes_none(server: Server, device: Make, mark: str, space: str) -> None:
    reader = device(f"{mark}-u-reader")
    answer = reader.request("PUT", f"/spaces/{space}/members/{mark}-new", json={"role": "reader"})
    assert answer.status_code == 403
    assert await made(server, mark) == []


@pytest.fixture(scope="module")
def strict(workspace: Path) -> Iterator[tuple[Server, httpx.Client]]:
    """A server on which one user makes 16 names."""
    with (
        Server(workspace / "strict", settings={"max_names": 16, "max_touched": 65536}) as server,
        httpx.Client(base_url=server.url, timeout=60) as http,
    ):
        yield server, http


async def test_beyond_the_bound_what_needs_a_new_name_is_rejected_for_good(
    strict: tuple[Server, httpx.Client], mark: str
) -> None:
    server, http = strict
    user = Device(http, server, f"{mark}-u", f"{mark}-c", app=f"{mark}-a")
    results = user.push(*tables(mark))["results"]
    assert [result.get("code", result["status"]) for result in results] == ["applied"] * 14 + ["too_many_names"] * 6
    assert "SYNCD_MAX_NAMES" in results[-1]["detail"]
    assert len(await made(server, mark)) == 16
    user.write({**edit("r0", 50, x=2), "table": f"{mark}-t0"}, {**edit("r1", 50, x=2), "table": f"{mark}-t13"})
    second = Device(http, server, f"{mark}-u", f"{mark}-c2", app=f"{mark}-a")
    assert codes(second.push({**edit("r0", 60, x=3), "table": f"{mark}-t0"})) == {"too_many_names"}
    other = Device(http, server, f"{mark}-u2", f"{mark}-c", app=f"{mark}-a")
    other.write({**edit("r", 1, x=1), "table": f"{mark}-t15"})
    space = user.request("POST", "/spaces", json={"name": "x"}).json()["id"]
    answer = user.request("PUT", f"/spaces/{space}/members/{mark}-new", json={"role": "reader"})
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_names")
    assert user.request("PUT", f"/spaces/{space}/members/{mark}-u2", json={"role": "reader"}).status_code == 200
    answer = second.send({**edit("r0", 60, x=3), "table": f"{mark}-t0"}, atomic=True)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "too_many_names")


async def test_beyond_the_bound_the_first_generation_s_is_held(strict: tuple[Server, httpx.Client], mark: str) -> None:
    server, http = strict
    old = Device(http, server, f"{mark}-u", f"{mark}-c", app=f"{mark}-a", legacy=True)
    results = old.push(*tables(mark))["results"]
    assert [result["status"] for result in results] == ["applied"] * 14 + ["rejected"] * 6
    assert [row["reason"] for row in held(old)] == ["too_many_names"] * 6
    assert len({row["id"] for row in old.drain()[0]}) == 14


async def test_what_is_refused_as_too_large_takes_no_number(strict: tuple[Server, httpx.Client], mark: str) -> None:
    """The names are there when it is found, and go again; a number that a sequence gave would be lost."""
    server, http = strict
    taken = """SELECT (SELECT count(*) FROM syncd.sync_names),
        coalesce(pg_sequence_last_value('syncd.sync_names_name_no_seq'), 0)
        - (SELECT count(*) FROM syncd.sync_numbers WHERE kind = 'name')"""
    [(names, numbers)] = await run(server.owner_dsn, taken)
    user = Device(http, server, f"{mark}-u", f"{mark}-c", app=f"{mark}-a")
    found = user.push(*tables(mark)[:5], edit("r", x="y" * 40_000), edit("s", x="y" * 40_000), edit("t", x=1))
    assert codes(found) == {"applied", "push_too_large"}
    for _ in range(3):
        large = {**edit("r", x="y" * 70_000), "table": f"{mark}-large"}
        assert codes(user.push(large)) == {"push_too_large"}
    [after] = await run(server.owner_dsn, taken)
    assert f"{mark}-large" not in await made(server, mark)
    assert after[0] - names == after[1] - numbers > 5


async def test_of_an_import_only_what_is_written_makes_names(
    strict: tuple[Server, httpx.Client], device: Make, mark: str
) -> None:
    server, http = strict
    owner = device(f"{mark}-u-owner")
    assert owner.request("POST", "/spaces", json={"id": f"{mark}-s", "name": "x"}).status_code == 201
    assert owner.request("PUT", f"/spaces/{mark}-s/members/{mark}-u", json={"role": "writer"}).status_code == 200
    writer = device(f"{mark}-u", f"{mark}-c", app=f"{mark}-a")
    writer.write(*tables(mark, spaceId=f"{mark}-s"))
    writer.write(*({**one, "table": f"{mark}-own{i}"} for i, one in enumerate(tables(mark, "own"))))
    export = writer.request("GET", "/backup/export").content
    there = Device(http, server, f"{mark}-u")
    answer = there.request("POST", "/backup/import", content=export, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code == 200, answer.text
    refused = [refusal["code"] for refusal in answer.json()["refusals"]]
    assert sorted(refused) == ["space_not_found"] * MANY + ["too_many_names"] * 6
    assert len(await made(server, mark)) == 16
    assert not [name for name in await made(server, mark) if "-t" in name]


async def test_how_far_the_numbers_are_used_is_shown(strict: tuple[Server, httpx.Client], mark: str) -> None:
    server, http = strict
    Device(http, server, f"{mark}-u", f"{mark}-c").write(edit("r", x=1))
    [(names, spaces)] = await run(server.owner_dsn, "SELECT names, spaces FROM syncd.sync_numbers_used()")
    assert 3 <= names < 2000
    assert 1 <= spaces < 2000
    found = numbers(names, spaces)
    assert (found.status, f"{names:,} of names" in found.detail) == ("ok", True)
    assert [numbers(used, 1).status for used in (2**30 - 1, 2**30, 1932735283)] == ["ok", "warn", "FAIL"]
    assert numbers(1, 2**30).remedy
    shown = http.get("/metrics").text
    assert 'syncd_numbers_used{kind="names"} ' in shown
    assert 'syncd_numbers_used{kind="spaces"} ' in shown


async def test_at_the_end_of_the_numbers_what_needs_a_new_one_is_told_so_and_all_else_goes_on(
    strict: tuple[Server, httpx.Client], mark: str
) -> None:
    server, http = strict
    user = Device(http, server, f"{mark}-u", f"{mark}-c")
    user.write(edit("r", 1, x=1))
    ready = "DELETE FROM syncd.sync_numbers WHERE kind = 'name' RETURNING no"
    last = "SELECT setval('syncd.sync_names_name_no_seq', {})"
    [(before,)] = await run(server.owner_dsn, "SELECT last_value FROM syncd.sync_names_name_no_seq")
    # The greatest number is somebody's, or the sequence would go back.
    greatest = f"""INSERT INTO syncd.sync_names (name_no, name, quoted) OVERRIDING SYSTEM VALUE
        VALUES ({2**31 - 1}, '{mark}-u-last', '"{mark}-u-last"')"""
    taken = [no for (no,) in await run(server.owner_dsn, last.format(2**31 - 1), greatest, ready)]
    try:
        answer = user.send({**edit("s", 1, x=1), "table": f"{mark}-t"})
        assert (answer.status_code, answer.json()["code"]) == (503, "numbers_used_up")
        user.write(edit("r", 2, x=2))
        assert user.request("PUT", f"/spaces/nowhere/members/{mark}-x", json={"role": "reader"}).status_code == 404
    finally:
        back = f"INSERT INTO syncd.sync_numbers SELECT 'name', unnest(ARRAY{taken}::integer[])"
        gone = f"DELETE FROM syncd.sync_names WHERE name = '{mark}-u-last'"
        await run(server.owner_dsn, last.format(before), gone, back)
    user.write({**edit("s", 1, x=1), "table": f"{mark}-t"})
