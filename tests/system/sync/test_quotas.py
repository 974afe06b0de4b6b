"""Totals have quotas: counted behind the pushes, told to who asks; a space that has too much takes deletions alone."""

from __future__ import annotations

import asyncio
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.compacting import ALL, compact, compact_now
from tests.support.direct import pushed, run
from tests.support.harness import Server
from tests.support.holding import change, held, until_written
from tests.support.wire import Device, Json, ahead, edit, unique
from tests.system.transfer.test_backup import line, signed

WITHIN = 30.0
RECORDS, OF_USER, DEVICES, BYTES, BYTES_OF_USER = 3, 5, 2, 20_000, 30_000
Make = Callable[..., Device]


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[Server]:
    """A server with small quotas, which looks all the time."""
    limits = {
        "quota_every": 0.1,
        "quota_space_records": RECORDS,
        "quota_space_bytes": BYTES,
        "quota_user_records": OF_USER,
        "quota_user_bytes": BYTES_OF_USER,
        "quota_devices": DEVICES,
    }
    with Server(workspace / "quotas", settings=limits) as running:
        yield running


@pytest.fixture(scope="module")
def make(server: Server) -> Iterator[Make]:
    with httpx.Client(base_url=server.url, timeout=60) as http:

        def made(name: str, client: str = "c1", **more: Any) -> Device:
            return Device(http, server, unique(name), client, **more)

        yield made


def until(holds: Callable[[], Any], said: Callable[[], Any] = lambda: None) -> None:
    """Waits until the next looks have made something true."""
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, said()
        time.sleep(0.02)


def quotas(device: Device, space: str | None = None) -> Json:
    answer = device.request("GET", "/quota", params={} if space is None else {"spaceId": space})
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["user" if space is None else "space"])


def used(device: Device, quota: str, space: str | None = None) -> int:
    return int(quotas(device, space)[quota]["used"])


def personal(device: Device) -> str:
    return f"_personal:{device.user}"


def code(device: Device, *changes: Json) -> str | None:
    """Why a change is refused, if it is."""
    found: str | None = device.push(*changes)["results"][0].get("code")
    return found


def quota_of(device: Device, *changes: Json) -> str | None:
    """Which quota a change meets, if it does."""
    found: str | None = device.push(*changes)["results"][0].get("quota")
    return found


def deletion(record: str, **more: Any) -> Json:
    return {"table": "t", "id": record, "op": "delete", "deletedAt": ahead(0), "changeId": unique("d"), **more}


def fill(device: Device, records: int, space: str | None = None) -> None:
    """Writes so many records, and waits until they are counted."""
    named = {} if space is None else {"spaceId": space}
    before = used(device, "space_records", space or personal(device)) if space else 0
    device.write(*[{**edit(f"f{n}", x=n), **named} for n in range(records)])
    until(lambda: used(device, "space_records", space or personal(device)) == before + records)


def until_full(device: Device, record: str = "f0", **more: Any) -> None:
    until(lambda: code(device, {**edit(record, ahead(0), x=1), **more}) == "quota_exceeded")


def test_a_space_has_as_many_records_as_its_quota_and_with_one_more_takes_deletions_alone(make: Make) -> None:
    ann, bob = make("ann"), make("bob")
    fill(ann, RECORDS)
    fill(bob, RECORDS + 1)
    until_full(bob)
    # The look that found bob's found ann's.
    ann.write(edit("f0", ahead(0), x=2), edit("one-more", x=1))
    until_full(ann)
    [refused, gone] = ann.push(edit("f1", ahead(0), x=2), deletion("f2"))["results"]
    assert (refused["status"], refused["quota"], gone["status"]) == ("rejected", "space_records", "applied")
    assert "quota" in refused["detail"]
    until(lambda: used(ann, "space_records", personal(ann)) == RECORDS)
    until(lambda: code(ann, edit("f0", ahead(0), x=3)) is None)


def test_only_what_would_add_to_a_full_space_is_refused_and_what_was_done_is_done(make: Make) -> None:
    ann = make("ann")
    team = ann.create(unique("team"))
    known = {**edit("f0", x=0), "spaceId": team}
    ann.write(known, *[{**edit(f"f{n}", x=n), "spaceId": team} for n in range(1, RECORDS + 1)])
    until_full(ann, spaceId=team)
    late = {**edit("late", x=1), "spaceId": team}
    answer = ann.push(known, late, edit("mine", x=1))
    assert [result["status"] for result in answer["results"]] == ["duplicate", "rejected", "applied"]
    refused = ann.send(late, edit("mine", x=2), atomic=True)
    assert (refused.status_code, refused.json()["code"]) == (422, "atomic_rejected")
    assert [fault["code"] for fault in refused.json()["errors"]] == ["quota_exceeded"]
    ann.write({**deletion("f1"), "spaceId": team})
    until(lambda: code(ann, {**late, "changeId": unique("again")}) is None)


def test_what_the_first_generation_writes_is_held_and_written_when_there_is_room(make: Make, server: Server) -> None:
    old = make("old", legacy=True)
    ours = Device(old.http, server, old.user, "c2")
    fill(ours, RECORDS + 1)
    until_full(ours)
    [result] = old.push(change("late", x=1))["results"]
    assert (result["status"], result["code"], result["held"]) == ("rejected", "quota_exceeded", True)
    assert [row["reason"] for row in held(old)] == ["quota_exceeded"]
    ours.write(deletion("f0"))
    until_written(old)
    assert [row["id"] for row in ours.drain(history=1)[0]].count("late") == 1


def test_a_user_s_spaces_count_together_while_the_user_is_in_them(make: Make, server: Server) -> None:
    ann, bob = make("ann"), make("bob")
    first, second, other = ann.create(unique("s")), ann.create(unique("s")), bob.create(unique("s"))
    bob.member(other, ann.user)
    ann.member(second, bob.user, "owner")
    fill(ann, 2)
    for space in (first, second):
        fill(ann, 2, space)
    until(lambda: used(ann, "user_records") == 6)
    for space in (first, second):
        until_full(ann, spaceId=space)
    until_full(bob, spaceId=second)
    [result] = ann.push({**edit("x", x=1), "spaceId": second})["results"]
    assert result["quota"] == "user_records"
    ann.write({**edit("x", x=1), "spaceId": other})
    until(lambda: (used(bob, "user_records"), used(bob, "spaces")) == (1, 1))
    ann.remove(second, ann.user)
    assert used(ann, "user_records") == 4
    until(lambda: code(ann, {**edit("f0", ahead(0), x=3), "spaceId": first}) is None)


def test_the_bytes_of_a_user_s_spaces_count_together(make: Make) -> None:
    ann, bob = make("ann"), make("bob")
    first, second = ann.create(unique("s")), ann.create(unique("s"))
    ann.member(second, bob.user)
    text = secrets.token_hex(BYTES * 4 // 10)  # two are more than a user may have, one is less than a space may
    for space in (first, second):
        ann.write({**edit("r", x=text), "spaceId": space})
    for writer, space in ((ann, first), (ann, second), (bob, second)):
        until_full(writer, "r", spaceId=space)
        assert quota_of(writer, {**edit("r", ahead(0), x=1), "spaceId": space}) == "user_bytes"
    assert BYTES_OF_USER < used(ann, "user_bytes") < 2 * BYTES
    assert max(used(ann, "space_bytes", space) for space in (first, second)) < BYTES
    # Who is a member of one of them has a space of its own, and room there.
    bob.write(edit("r", x=text))


def test_so_many_devices_and_those_that_are_there_go_on(make: Make) -> None:
    ann = make("ann")

    def pushed(client: str) -> httpx.Response:
        body = {"changes": [edit(client, x=1)], "pull": False, "incarnations": [f"1.{client * 8}"]}
        return ann.request("POST", "/sync/app", json=body, headers={"x-client-id": client})

    assert [pushed(client).status_code for client in "ab"] == [200, 200]
    refused = pushed("c")
    assert (refused.status_code, refused.json()["quota"]) == (507, "devices")
    assert (pushed("a").status_code, used(ann, "devices")) == (200, DEVICES)


TRUTH = """
SELECT (SELECT count(*) FROM syncd.sync_records r WHERE r.space_no = s.space_no AND NOT r.deleted),
       (SELECT coalesce(sum(syncd.sync_stored_bytes(c.fields, c.lost, c.actor, c.record_id, c.change_id)), 0)
        FROM syncd.sync_changes c WHERE c.space_no = s.space_no)
FROM syncd.sync_spaces s WHERE s.space_id = '{space}'"""


def truth(server: Server, space: str) -> tuple[int, int]:
    [(records, size)] = asyncio.run(run(server.owner_dsn, TRUTH.format(space=space)))
    return int(records), int(size)


def recount(server: Server, device: Device) -> None:
    asyncio.run(run(server.owner_dsn, f"SELECT syncd.sync_usage_recount('{personal(device)}')"))


def until_counted(device: Device, server: Server) -> tuple[int, int]:
    """Waits until what was counted is what there is."""
    space = personal(device)
    expected = truth(server, space)

    def counted() -> tuple[int, int]:
        found = quotas(device, space)
        return found["space_records"]["used"], found["space_bytes"]["used"]

    until(lambda: counted() == expected, lambda: (counted(), expected))
    return expected


def test_deletions_and_compaction_lower_what_is_counted_and_a_recount_finds_the_same(
    make: Make, server: Server
) -> None:
    ann = make("ann")
    asyncio.run(run(server.owner_dsn, f"SELECT syncd.sync_quota_set('{ann.user}', NULL, 'user_records', 0)"))
    for record in ("kept", "gone", "back"):
        ann.write(edit(record, x="x" * 300))
    assert until_counted(ann, server)[0] == 3
    for n in range(5):
        ann.write(edit("kept", ahead(n - 100), x=f"{n}" * 300))
    ann.write(deletion("gone"), deletion("back"))
    assert until_counted(ann, server)[0] == 1
    ann.write({**edit("back", ahead(1), x=1), "op": "insert"}, edit("gone", ahead(-200), x=5))
    records, before = until_counted(ann, server)
    assert records == 2
    compact_now(server.owner_dsn, personal(ann))
    assert until_counted(ann, server)[1] < before - 5 * 300
    compact_now(server.owner_dsn, personal(ann), tombstones=ALL)
    assert until_counted(ann, server)[0] == 2
    # What was forgotten may come again, as a new record, and an old one be deleted.
    ann.write({**edit("gone", ahead(2), x=1), "op": "insert"}, deletion("kept"))
    assert until_counted(ann, server)[0] == 2
    recount(server, ann)
    ann.write(edit("gone", ahead(3), x=2))
    assert until_counted(ann, server)[0] == 2


def test_what_is_folded_before_it_was_ever_counted_is_counted_first(make: Make, server: Server) -> None:
    ann = make("ann")
    ann.write(*[edit("r", n + 1, x=f"{n}" * 50) for n in range(20)], edit("s", x=1))
    compact_now(server.owner_dsn, personal(ann), history=timedelta(seconds=-2))
    until_counted(ann, server)
    recount(server, ann)
    ann.write(edit("s", ahead(0), x=2))
    assert until_counted(ann, server)[0] == 2


async def test_a_record_that_is_folded_before_it_was_counted_again_counts_once(database: EmbeddedPostgres) -> None:
    who = unique("ann")
    space = f"{who}-s"
    later = pushed(who, space, "r", 2).replace("2026-01-01T", "2026-01-02T").replace("1767225600", "1767312000")
    feed = "FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no)"
    count = f"SELECT syncd.sync_usage_count(h.space_no, h.app_no, 100) {feed} WHERE s.space_id = '{space}'"
    make = f"DO $$ BEGIN PERFORM syncd.sync_act_as('{who}', true), syncd.sync_space_create('{space}', 'S'); END $$"
    await run(database.runtime_dsn, make, pushed(who, space, "r", 1))
    await run(database.owner_dsn, count)
    await run(database.runtime_dsn, later)
    await compact(database.owner_dsn, space)
    found = "SELECT u.records FROM syncd.sync_space_usage u JOIN syncd.sync_spaces s USING (space_no) WHERE s.space_id"
    assert await run(database.owner_dsn, count, f"{found} = '{space}'") == [(1,)]


def test_counting_costs_as_much_as_there_is_to_count(make: Make, server: Server) -> None:
    ann = make("ann")
    ann.write(*[edit(f"r{n}", x=n) for n in range(400)])
    until_counted(ann, server)

    async def fetched() -> int:
        conn = await asyncpg.connect(server.owner_dsn)
        transaction = conn.transaction()
        await transaction.start()
        await conn.execute("SELECT syncd.sync_usage_recount($1)", personal(ann))
        feed = "SELECT h.space_no, h.app_no FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no)"
        await conn.execute(
            f"SELECT syncd.sync_usage_count(f.space_no, f.app_no, 400) FROM ({feed} WHERE s.space_id = $1) f",
            personal(ann),
        )
        read = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'sync_records'"
        found = int(await conn.fetchval(read))
        await transaction.rollback()
        await conn.close()
        return found

    assert 400 <= asyncio.run(fetched()) < 3 * 400


def test_bytes_are_bounded_too_and_a_restore_and_an_import_are_refused(make: Make, server: Server) -> None:
    ann = make("ann")
    ann.write(edit("r", x="0123456789" * 10))
    noise = "".join(unique("n") for _ in range(1500))
    ann.write(edit("r", ahead(0), y=noise))
    until_full(ann, "r")
    [result] = ann.push(edit("r", ahead(0), x=1))["results"]
    assert result["quota"] == "space_bytes"
    undo = ann.request("POST", "/sync/app/records/t/r/restore", json={"seq": 1, "changeId": unique("u")})
    assert (undo.status_code, undo.json()["quota"]) == (507, "space_bytes")
    # An import of another record, too; of a deletion it takes one.
    gone = {"deletedAt": {"value": ahead(0), "at": ahead(0)}}
    lines = [line(ann.user, 900_001), line(ann.user, 900_002, op="delete", id="r", fields=gone)]
    found = []
    for some in (lines, lines[1:]):
        body, headers = signed(some), {"content-type": "application/x-ndjson"}
        taken = ann.request("POST", "/backup/import", content=body, headers=headers)
        found.append((taken.status_code, taken.json().get("quota")))
    assert found == [(507, "space_bytes"), (200, None)]
    numbers = ann.http.get("/metrics").text
    assert re.search(r'^syncd_full_spaces\{quota="space_bytes"\} [1-9]', numbers, re.MULTILINE)
    assert re.search(r'^syncd_quota_hits_total\{quota="space_bytes",worker="0"\} [1-9]', numbers, re.MULTILINE)
    assert ann.user not in numbers


def test_who_is_no_member_is_told_nothing_of_a_space(make: Make) -> None:
    ann, eve = make("ann"), make("eve")
    space = ann.create(unique("s"))
    assert quotas(ann, space) == {
        "space_records": {"used": 0, "limit": RECORDS}, "space_bytes": {"used": 0, "limit": BYTES}
    }  # fmt: skip
    for named in (space, personal(ann), unique("none")):
        refused = eve.request("GET", "/quota", params={"spaceId": named})
        assert (refused.status_code, refused.json()["code"]) == (404, "space_not_found")
    assert quotas(eve)["requests"] == {"limit": 200.0}
    assert quotas(eve)["sockets"] == {"used": 0, "limit": 100}


# -- the operator -------------------------------------------------------------------------------------------------


def syncd(server: Server, *arguments: str) -> str:
    done = subprocess.run(
        [*server.command(), *arguments], env=server.environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_an_operator_gives_a_user_and_a_space_quotas_of_their_own(make: Make, server: Server) -> None:
    ann = make("ann")
    space = ann.create(unique("s"))
    syncd(server, "quota", "set", "space_records", "1", "--space", space)
    syncd(server, "quota", "set", "requests", "1000", "--user", ann.user)
    fill(ann, 2, space)
    until_full(ann, spaceId=space)
    assert quotas(ann, space)["space_records"] == {"used": 2, "limit": 1}
    assert quotas(ann)["requests"] == {"limit": 1000}
    shown = syncd(server, "quota", "list", "--space", space)
    assert re.search(rf"space +{space} +space_records +2 +1 +own exceeded", shown), shown
    syncd(server, "quota", "set", "space_records", "default", "--space", space)
    assert "1 feeds are counted again" in syncd(server, "quota", "recount", "--space", space)
    until(lambda: code(ann, {**edit("f0", ahead(0), x=3), "spaceId": space}) is None)
    until(lambda: quotas(ann, space)["space_records"] == {"used": 2, "limit": RECORDS})
