"""`syncd import --from mana`: a first-generation log comes over, once, and as it was."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.first_generation import Log, first_generation
from tests.support.harness import Server
from tests.support.wire import Device, ahead, at, unique, values
from tests.system.transfer.test_operator_backup import syncd

Make = Callable[..., Device]


@pytest.fixture(params=["field_meta", "field_timestamps"])
async def log(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Log]:
    async with first_generation(server.owner_dsn, request.param) as made:
        yield made


@pytest.fixture
async def meta(server: Server) -> AsyncIterator[Log]:
    async with first_generation(server.owner_dsn) as made:
        yield made


def bring(server: Server, log: Log, *options: str | Path, ok: bool = True) -> str:
    """Imports a log into the server's own database; what was said."""
    urls = [server.owner_dsn, "--database-url", server.owner_dsn, "--table", log.name]
    return syncd("import", "--from", "mana", *urls, *options, ok=ok)


def counted(said: str, table: str = "t") -> dict[str, int]:
    """The counts of a table, by name."""
    names = re.search(r"^table +(.+)$", said, re.MULTILINE)
    numbers = re.search(rf"^{re.escape(table)} +([\d, ]+)$", said, re.MULTILINE)
    assert names, said
    assert numbers, said
    return dict(zip(names[1].split(), (int(n.replace(",", "")) for n in numbers[1].split()), strict=True))


async def test_records_history_and_tombstones_come_over(server: Server, device: Make, log: Log) -> None:
    user, space = unique("ada"), unique("garden")
    who = {"user_id": user, "created_at": "2026-01-01T09:00:00.5+02:00"}
    await log.add("r1", "insert", {"title": "a", "n": [1, {"x": None}]}, **who, actor={"kind": "agent"}, origin="agent",
                  schema_version=7)  # fmt: skip
    await log.add(
        "r1",
        "update",
        {"title": "b"},
        **{**who, "created_at": "2026-01-02T00:00:00Z"},
        times={"title": at(5_000_000_000_000)},
    )
    await log.add("r2", "insert", {"title": "gone"}, **who)
    await log.add("r2", "delete", None, **{**who, "created_at": "2026-02-01T00:00:00Z"})
    await log.add("s1", "insert", {"title": "shared"}, **who, space_id=space)
    said = bring(server, log, "--members", "authors")
    assert counted(said) == {"rows": 5, "held": 0, "refused": 0, "lowered": 0, "changes": 5, "imported": 5, "there": 0,
                             "same": 3, "newer": 2, "different": 0}  # fmt: skip
    ada = device(user)
    changes, _ = ada.drain()
    assert {c["id"]: c["spaceId"] for c in changes} == {"r1": f"_personal:{user}", "s1": space}
    live = values(changes)
    assert live["r1"] == {"title": "b", "n": [1, {"x": None}], "deletedAt": None}
    registers = next(c for c in changes if c["id"] == "r1")["fields"]
    assert registers["title"]["at"] == at(5_000_000_000_000)
    assert registers["n"]["at"] == "2026-01-01T07:00:00.500000Z"
    past = ada.request("GET", "/sync/app/records/t/r1/history").json()["changes"]
    assert [(c["op"], c["clientId"], c["userId"]) for c in past] == [
        ("update", "phone", user),
        ("insert", "phone", user),
    ]
    first = past[-1]
    assert (first["actor"], first["origin"], first["schemaVersion"]) == ({"kind": "agent"}, "agent", 7)
    assert first["createdAt"] == "2026-01-01T07:00:00.500000Z"
    gone = ada.request("GET", "/sync/app/records/t/r2").json()
    assert (gone["deleted"], gone["fields"]["deletedAt"]["at"]) == (True, "2026-02-01T00:00:00.000000Z")


@pytest.mark.parametrize("time", [at(3_000_000), "2026-01-01T02:00:03+02:00", 1767225603000])
async def test_the_times_of_fields_are_kept_in_every_form(server: Server, device: Make, log: Log, time: Any) -> None:
    user = unique("ada")
    await log.add("r", "update", {"a": 1, "b": 2}, user_id=user, times={"a": time}, created_at=at(9_000_000))
    bring(server, log)
    fields = device(user).drain()[0][0]["fields"]
    assert {name: register["at"] for name, register in fields.items()} == {"a": at(3_000_000), "b": at(9_000_000)}


async def test_a_field_that_another_device_wrote_keeps_its_writer(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    times = {"a": {"at": at(1), "clientId": "tablet"}, "b": {"updatedAt": at(2)}, "c": {}}
    await meta.add("r", "insert", {"a": 1, "b": 2, "c": 3}, user_id=user, times=times, created_at=at(9))
    assert counted(bring(server, meta))["changes"] == 2
    fields = device(user).drain()[0][0]["fields"]
    stamps = {name: (register["at"], register["clientId"]) for name, register in fields.items() if name in "abc"}
    assert stamps == {"a": (at(1), "tablet"), "b": (at(2), "phone"), "c": (at(9), "phone")}


async def test_an_insert_is_dated_as_its_device_dated_it(server: Server, device: Make, log: Log) -> None:
    user = unique("ada")
    late = {"user_id": user, "created_at": "2026-01-01T12:00:00Z"}
    made, edited = "2026-01-01T10:00:00Z", "2026-01-01T10:05:00Z"
    await log.add("by creation", "insert", {"title": "first", "createdAt": made}, times={}, **late)
    await log.add("by creation", "update", {"title": "second"}, times={"title": edited}, **late)
    await log.add("by update", "insert", {"title": "first", "createdAt": edited, "updatedAt": made}, **late)
    await log.add("by update", "update", {"title": "second"}, times={"title": edited}, **late)
    await log.add("by its row", "insert", {"title": "first", "createdAt": "in spring", "updatedAt": None}, **late)
    assert counted(bring(server, log))["different"] == 0
    fields = {change["id"]: change["fields"]["title"] for change in device(user).drain()[0]}
    assert {record: (title["value"], title["at"][11:16]) for record, title in fields.items()} == {
        "by creation": ("second", "10:05"),
        "by update": ("second", "10:05"),
        "by its row": ("first", "12:00"),
    }


async def test_a_delete_is_dated_as_its_device_dated_it(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    late = {"user_id": user, "created_at": "2026-01-01T12:00:00Z"}
    for record, back in (("r", "11:00"), ("gone", "10:00")):
        await meta.add(record, "delete", {"deletedAt": "2026-01-01T10:05:00Z"}, **late)
        await meta.add(record, "insert", {"title": "again", "updatedAt": f"2026-01-01T{back}:00Z"}, **late)
    assert counted(bring(server, meta))["different"] == 0
    assert set(values(device(user).drain()[0])) == {"r"}


async def test_a_record_that_was_written_in_the_personal_space_and_in_another_is_one(
    server: Server, device: Make, meta: Log
) -> None:
    user, other, space = unique("ada"), unique("bob"), unique("garden")
    for record, personal in (("r", None), ("s", f"_personal:{user}")):
        await meta.add(record, "insert", {"title": "one"}, user_id=user, space_id=personal, created_at=at(1))
        await meta.add(record, "update", {"note": "n"}, user_id=user, space_id=space, created_at=at(2))
    await meta.add("s", "delete", None, user_id=user, space_id=space, created_at=at(3))
    await meta.add("r", "insert", {"title": "another's"}, user_id=other, created_at=at(1))
    assert counted(bring(server, meta, "--members", "authors"))["different"] == 0
    for legacy in (False, True):
        (record,) = device(user, legacy=legacy).drain()[0]
        assert (record["id"], record["spaceId"]) == ("r", space)
        assert {name: record["fields"][name]["value"] for name in ("title", "note")} == {"title": "one", "note": "n"}
    assert [c["spaceId"] for c in device(other).drain()[0]] == [f"_personal:{other}"]
    assert counted(bring(server, meta, "--members", "authors"))["there"] == 6


@pytest.mark.parametrize("data", [None, {}])
async def test_an_update_of_nothing_is_nothing(server: Server, device: Make, meta: Log, data: Any) -> None:
    user = unique("ada")
    await meta.add("r", "update", data, user_id=user, times={"title": {"at": at(1)}})
    await meta.add("good", "insert", {"x": 1}, user_id=user)
    said = counted(bring(server, meta, "--strict"))
    assert (said["rows"], said["refused"], said["changes"], said["different"]) == (2, 0, 1, 0)
    assert [c["id"] for c in device(user).drain()[0]] == ["good"]


async def test_the_greater_stamp_wins_whatever_the_order_of_the_rows(server: Server, device: Make, meta: Log) -> None:
    user, dice = unique("ada"), random.Random(5)
    wanted: dict[str, dict[str, tuple[str, str, int]]] = {}
    for n in range(400):
        record, client = f"r{dice.randrange(20)}", f"c{dice.randrange(3)}"
        names = dice.sample("abc", dice.randint(1, 3))
        # No device writes a field twice with one stamp.
        times = {name: {"at": at(dice.randrange(1000) * 1000 + n)} for name in names}
        created = at(dice.randrange(10) * 1_000_000)
        await meta.add(record, "update", dict.fromkeys(names, n), user_id=user, client_id=client, times=times,
                       created_at=created)  # fmt: skip
        held = wanted.setdefault(record, {})
        for name in names:
            held[name] = max(held.get(name, ("", "", 0)), (times[name]["at"], client, n))
    said = counted(bring(server, meta))
    assert (said["imported"], said["same"] + said["newer"], said["different"]) == (400, 400, 0)
    found = values(device(user).drain()[0])
    assert found == {record: {name: held[name][2] for name in held} for record, held in wanted.items()}


async def test_a_clock_that_was_far_ahead_does_not_win_for_ever(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    await meta.add("r", "insert", {"x": 1}, user_id=user, times={"x": {"at": "9000-01-01T00:00:00Z"}}, created_at=at(1))
    said = bring(server, meta)
    assert (counted(said)["lowered"], counted(said)["different"]) == (1, 0)
    ada = device(user)
    register = ada.drain()[0][0]["fields"]["x"]
    assert (register["at"] < ahead(0), register["sent"]) == (True, "9000-01-01T00:00:00.000000Z")
    ada.write(
        {"table": "t", "id": "r", "op": "update", "changeId": "next", "fields": {"x": {"value": 2, "at": ahead(0)}}}
    )
    assert values(ada.drain()[0])["r"]["x"] == 2
    assert counted(bring(server, meta))["newer"] == 1


async def test_a_dry_run_says_the_same_and_writes_nothing(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    await meta.add("r", "insert", {"x": 1}, user_id=user)
    await meta.add("r", "merge", {"x": 1}, user_id=None)
    dry = syncd("import", "--from", "mana", server.owner_dsn, "--table", meta.name, "--dry-run")
    assert counted(dry) == {"rows": 2, "held": 0, "refused": 1, "lowered": 0, "changes": 1}
    assert "invalid_row" in dry
    assert device(user).drain()[0] == []
    assert counted(bring(server, meta)).items() >= counted(dry).items()


async def test_run_again_it_writes_what_is_new_and_nothing_twice(
    server: Server, device: Make, meta: Log, folder: Path
) -> None:
    user, state = unique("ada"), folder / "state.json"
    await meta.add("old", "insert", {"x": 1}, user_id=user, created_at=at(0))
    await meta.add("r1", "insert", {"x": 1}, user_id=user, created_at=at(7_200_000_000))
    assert counted(bring(server, meta, "--state", state))["imported"] == 2
    ada = device(user)
    _, cursor = ada.drain()
    # The old server goes on; one of its transactions ends late.
    await meta.add("r2", "insert", {"x": 2}, user_id=user, created_at=at(7_200_000_000 - 60_000_000))
    await meta.add("r1", "update", {"x": 3}, user_id=user, created_at=at(7_300_000_000))
    ada.write({"table": "t", "id": "own", "op": "insert", "changeId": "c", "fields": {"x": {"value": 9, "at": at(1)}}})
    counts = counted(bring(server, meta, "--state", state))
    assert (counts["rows"], counts["imported"], counts["there"], counts["different"]) == (3, 2, 1, 0)
    news = [c["id"] for c in ada.pull(cursor)["serverChanges"]]
    assert news == ["own", "r2", "r1"]
    counts = counted(bring(server, meta))
    assert (counts["rows"], counts["imported"], counts["there"]) == (4, 0, 4)
    assert values(ada.drain()[0])["r1"]["x"] == 3
    assert [c["seq"] for c in ada.drain(history=1)[0]] == [1, 2, 3, 4, 5]
    counts = counted(bring(server, meta, "--since", at(7_300_000_000)))
    assert (counts["rows"], counts["there"]) == (1, 1)
    bring(server, meta, "--state", Path(__file__), ok=False)


async def test_a_row_that_was_stored_twice_is_one_change(server: Server, device: Make, meta: Log) -> None:
    user = unique("ada")
    for _ in range(3):
        await meta.add("r", "insert", {"x": 1}, user_id=user, times={"x": at(1)})
    assert counted(bring(server, meta)) | {"same": 3} == counted(bring(server, meta)) | {"imported": 1, "there": 2}
    assert len(device(user).drain(history=1)[0]) == 1


async def test_what_a_device_sends_once_more_after_the_cut_over_is_known(
    server: Server, device: Make, meta: Log
) -> None:
    user = unique("ada")
    fields = {"x": at(1), "y": at(2)}
    await meta.add("r", "update", {"x": 1, "y": "z"}, user_id=user, times=fields)
    made = {"id": "s", "title": "a", "createdAt": at(1)}
    await meta.add("s", "insert", made, user_id=user, times={})
    await meta.add("q", "delete", {"deletedAt": at(1)}, user_id=user, times={})
    bring(server, meta)
    old = device(user, "phone", legacy=True)
    change = {"table": "t", "id": "r", "op": "update",
              "fields": {"x": {"value": 1, "updatedAt": at(1)}, "y": {"value": "z", "updatedAt": at(2)}}}  # fmt: skip
    new = {**change, "fields": {"x": {"value": 5, "updatedAt": at(3)}}}
    again = (
        change, {"table": "t", "id": "s", "op": "insert", "data": made},
        {"table": "t", "id": "q", "op": "delete", "deletedAt": at(1)},
    )  # fmt: skip
    assert [r["status"] for r in old.push(*again, new)["results"]] == ["duplicate"] * 3 + ["applied"]
    # An instant of the old server is a cursor; a cursor of another making is the beginning.
    for since in (at(0), "of-another-making"):
        assert {c["id"] for c in old.pull(since)["serverChanges"]} >= {"r", "s"}


async def test_what_differs_is_said_and_the_exit_code_is_1(server: Server, meta: Log) -> None:
    user = unique("ada")
    row = await meta.add("r", "insert", {"x": 1, "y": 2}, user_id=user)
    bring(server, meta)
    bring(server, meta, "--verify-only")
    await meta.connection.execute(f'UPDATE {meta.name} SET data = \'{{"x": 1, "y": 3}}\' WHERE id = {row}')
    await meta.add("new", "insert", {"x": 1}, user_id=user)
    said = bring(server, meta, "--verify-only", ok=False)
    assert f"row {row}: t r differs in y" in said
    assert "t new is not there" in said
    assert counted(said)["different"] == 2


async def test_who_is_in_a_shared_space_is_for_an_operator_to_say(
    server: Server, device: Make, meta: Log, folder: Path
) -> None:
    ada, bob, eve, space = unique("ada"), unique("bob"), unique("eve"), unique("garden")
    for n, user in enumerate((bob, ada, bob)):
        await meta.add(f"r{n}", "insert", {"x": 1}, user_id=user, space_id=space, created_at=at(n))
    assert "--members authors" in bring(server, meta, ok=False)
    file = folder / "members.csv"
    for lines, wrong in ((f"{space},{eve},writer", "no owner"), (f"{space},{eve},king", "line 2")):
        file.write_text(f"space,user,role\n{lines}\n")
        assert wrong in bring(server, meta, "--members", file, ok=False)
    file.write_text(f"space,user,role\n{space},{eve},owner\n{space},{ada},reader\nelse,{bob},owner\n")
    bring(server, meta, "--members", file)
    members = device(eve).request("GET", f"/spaces/{space}/members").json()["members"]
    assert {m["userId"]: m["role"] for m in members} == {eve: "owner", ada: "reader"}
    assert device(bob).request("GET", f"/spaces/{space}").status_code == 404
    assert len(device(eve).drain()[0]) == 3
    bring(server, meta, "--members", "authors")  # nobody is added to a space that is there
    assert device(bob).request("GET", f"/spaces/{space}").status_code == 404


async def test_authors_are_members_and_the_first_owns(server: Server, device: Make, meta: Log) -> None:
    ada, bob = unique("ada"), unique("bob")
    theirs, nobodys = unique("garden"), unique("shed")
    for n, user in enumerate((bob, ada, bob)):
        await meta.add(f"r{n}", "insert", {"x": 1}, user_id=user, space_id=theirs, created_at=at(n))
    bring(server, meta, "--members", "authors")
    members = device(ada).request("GET", f"/spaces/{theirs}/members").json()["members"]
    assert {m["userId"]: m["role"] for m in members} == {bob: "owner", ada: "writer"}
    await meta.add("r", "insert", {"x": 1}, user_id=ada, space_id=nobodys)
    assert counted(bring(server, meta, "--members", "none"))["imported"] == 1
    assert device(ada).request("GET", f"/spaces/{nobodys}").status_code == 404


async def test_what_the_log_refuses_is_left_out_and_leaves_no_gap(server: Server, device: Make, meta: Log) -> None:
    user, dice = unique("ada"), random.Random(1)
    for n in range(18):  # a record takes 16 MiB
        text = base64.b64encode(dice.randbytes(750_000)).decode()
        await meta.add("r", "update", {f"f{n}": text}, user_id=user, created_at=at(n))
    await meta.add("next", "insert", {"x": 1}, user_id=user, created_at=at(99))
    await meta.add("r", "insert", {"x": 1}, user_id=user, space_id="s" * 256)
    try:
        said = bring(server, meta)
        counts = counted(said)
        assert "record_too_large: " in said
        assert "row 20: invalid_id: " in said
        assert 1 <= counts["held"] - 1 < 18
        assert (counts["imported"] + counts["held"], counts["different"]) == (20, 0)
        assert counted(bring(server, meta, "--verify-only"))["different"] == 0
    finally:
        syncd("held", "drop", "--yes", "--user", user, "--database-url", server.owner_dsn)
    seqs = [row[0] for row in await meta.connection.fetch(OF_USER.format(what="c.seq"), user)]
    assert sorted(seqs) == list(range(1, counts["imported"] + 1))
    assert "next" in {c["id"] for c in device(user).drain()[0]}


FILL = """
INSERT INTO {name} (app_id, table_name, record_id, user_id, op, data, client_id, created_at)
SELECT 'app', 't', 'r' || i % 2500, $1, 'update', json_build_object('n', i), 'c',
    timestamptz '2026-01-01' + i * interval '1 second'
FROM generate_series(1, 4000) i
"""


async def test_killed_in_the_middle_it_goes_on_and_nothing_is_there_twice(
    server: Server, device: Make, meta: Log, folder: Path
) -> None:
    user, state = unique("ada"), folder / "state.json"
    await meta.connection.execute(FILL.format(name=meta.name), user)
    command = [sys.executable, "-m", "syncd", "import", "--from", "mana", server.owner_dsn, "--table", meta.name,
               "--database-url", server.owner_dsn, "--state", str(state)]  # fmt: skip
    for goal in (1, 2000):
        running = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 90
        while await written(meta, user) < goal:
            assert running.returncode is None
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)
        running.send_signal(signal.SIGKILL)
        assert await running.wait() == -signal.SIGKILL
    counts = counted(await asyncio.to_thread(bring, server, meta, "--state", state))
    assert 0 < counts["imported"] < 4000
    assert counts["different"] == 0
    assert await written(meta, user) == 4000
    seqs = await meta.connection.fetch(OF_USER.format(what="c.seq"), user)
    assert sorted(row[0] for row in seqs) == list(range(1, 4001))
    assert json.loads(state.read_text())["upto"] == "2026-01-01T01:06:40.000000Z"
    assert len(values(device(user).drain()[0])) == 2500


OF_USER = """SELECT {what} FROM syncd.sync_changes c
    JOIN syncd.sync_names n ON n.name_no = c.user_no WHERE n.name = $1"""


async def written(log: Log, user: str) -> int:
    return int(await log.connection.fetchval(OF_USER.format(what="count(*)"), user))


async def test_a_database_that_has_no_such_log_is_said_so(server: Server, meta: Log) -> None:
    for table, wrong in (("no_such_table", "there is no table"), ("syncd.sync_spaces", "lacks id")):
        said = syncd("import", "--from", "mana", server.owner_dsn, "--table", table, "--dry-run", ok=False)
        assert wrong in said
    said = syncd("import", "--from", "mana", "postgresql://127.0.0.1:1/x", "--dry-run", ok=False)
    assert "Error: " in said
    said = syncd("import", "--from", "mana", server.owner_dsn, "--table", meta.name,
                 "--database-url", server.runtime_dsn, ok=False)  # fmt: skip
    assert "connect as a superuser" in said
