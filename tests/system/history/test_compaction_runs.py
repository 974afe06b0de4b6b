"""Runs of the compaction: what is left, one at a time, killed ones go on, and the server's own."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.service.compact import Policy
from syncd.store.compaction import Compactor, LeaseLost
from tests.support.command_line import syncd
from tests.support.compacting import ALL, compact, compact_now, compacted, write_much
from tests.support.harness import Server
from tests.support.programs import need, psql
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture
def alone(folder: Path) -> Iterator[Server]:
    """A server of the test's own: what it compacts is nobody else's."""
    with Server(folder / "data") as server:
        yield server


@pytest.fixture
def make(alone: Server) -> Iterator[Make]:
    with httpx.Client(base_url=alone.url, timeout=500) as http:
        yield lambda user, client="c1", **more: Device(http, alone, user, client, **more)


def count(server: Server, table: str) -> int:
    return int(psql("-tA", "-c", f"SELECT count(*) FROM syncd.{table}", server.owner_dsn))


def run(server: Server, *arguments: str, expect: int = 0, **more: Any) -> str:
    """`syncd compact` as an operator calls it; what it says."""
    done = syncd("compact", "--database-url", server.owner_dsn, *arguments, **more)
    assert done.returncode == expect, done.stderr
    return done.stderr


def test_a_log_keeps_what_is_current_and_a_new_device_gets_the_same(alone: Server, make: Make) -> None:
    ada = make("ada")
    write_much(ada)
    state, before = values(ada.drain()[0]), count(alone, "sync_changes")
    report = compact_now(alone.owner_dsn)
    assert (report.looked, report.dropped) == (before, before - count(alone, "sync_changes"))
    # x and y of a, b and c; d's tombstone; of e, its return, and with what: both registers were written whole then
    assert count(alone, "sync_changes") <= 3 * 2 + 1 + 2
    assert values(ada.drain()[0]) == values(ada.drain(history=1)[0]) == state
    assert compact_now(alone.owner_dsn).looked == 0
    ada.write(edit("a", 60, x="more"), edit("a", 61, y="more"))
    assert compact_now(alone.owner_dsn).dropped == 2
    assert values(ada.drain(history=1)[0])["a"] == {"x": "more", "y": "more"}


def test_what_was_forgotten_does_not_come_back(alone: Server, make: Make) -> None:
    """G8 where an operator lets tombstones go: who may not know of them starts again, and old writes are refused."""
    ada, bob, eve = make("ada"), make("ada", "c2"), make("ada", "c3")
    ada.write(edit("kept", 1, x=1), edit("gone", 1, x=1))
    backup = ada.request("GET", "/backup/export", headers={"accept": "application/x-ndjson"}).content
    cursor, middle = bob.drain()[1], eve.pull(limit=1)["syncedUntil"]
    ada.write({"table": "t", "id": "gone", "op": "delete", "deletedAt": at(10), "changeId": unique("k")})
    knows = ada.pull()["syncedUntil"]
    assert compact_now(alone.owner_dsn, tombstones=ALL).forgotten == 1
    assert count(alone, "sync_records") == 1
    for stale in (cursor, middle):
        assert bob.ask(stale).json()["code"] == "cursor_lost"
    assert ada.drain(knows)[0] == []
    insert = {"table": "t", "id": "gone", "op": "insert", "changeId": unique("k")}
    pushed = bob.push(
        edit("gone", 5, x=2),
        edit("gone", 30, x=3),
        {**insert, "fields": {"x": {"value": 4, "at": at(7)}}},
        edit("kept", 5, x=5),
        {
            "table": "t",
            "id": "never",
            "op": "insert",
            "fields": {"x": {"value": 6, "at": at(31)}},
            "changeId": unique("k"),
        },
        edit("never", 32, x=7),
    )
    codes = [r.get("code", r["status"]) for r in pushed["results"]]
    assert codes == ["record_forgotten"] * 3 + ["applied"] * 3
    assert values(ada.drain()[0]) == values(ada.drain(history=1, limit=1)[0]) == {
        "kept": {"x": 5}, "never": {"x": 7, "deletedAt": None}}  # fmt: skip
    around = [
        {**insert, "id": f"at {n}", "changeId": unique("k"), "fields": {"x": {"value": n, "at": at(n)}}}
        for n in (9, 10, 11)
    ]
    codes = [r.get("code", r["status"]) for r in bob.push(*around)["results"]]
    assert codes == ["record_forgotten", "record_forgotten", "applied"]
    bob.write({"table": "t", "id": "at 11", "op": "delete", "deletedAt": at(12), "changeId": unique("k")})
    refused = bob.send(edit("kept", 40, x=1), edit("gone", 40, x=1), atomic=True)
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/changes/1")
    restored = ada.request("POST", "/backup/import", content=backup, headers={"content-type": "application/x-ndjson"})
    told = restored.json()
    assert (told["duplicates"], [r["code"] for r in told["refusals"]]) == (1, ["record_forgotten"])
    assert set(values(ada.drain()[0])) == {"kept", "never"}
    bob.write({**insert, "changeId": unique("k"), "fields": {"x": {"value": 8, "at": at(50)}}})
    assert values(ada.drain(knows)[0])["gone"]["x"] == 8


def test_one_compacts_at_a_time_and_who_stood_still_cannot_go_on(alone: Server, make: Make) -> None:
    write_much(make("ada"))

    async def work() -> None:
        first, second = [await asyncpg.connect(alone.owner_dsn) for _ in range(2)]
        one, other = Compactor(first), Compactor(second)
        assert await one.take()
        assert not await other.take()
        (feed,) = await one.foldable(None, datetime.now(UTC) + timedelta(seconds=2))
        await one.raise_horizon(feed)
        assert (await one.fold(feed, 10, None)).upto < feed.upto
        await second.execute("UPDATE syncd.sync_leases SET beat_at = now() - interval '1 minute'")
        assert await other.take()
        with pytest.raises(LeaseLost):
            await one.fold(feed, 10, None)
        assert (await other.fold(feed, 1000, None)).upto == feed.upto
        await other.give_back()
        assert await one.take()
        await first.close()
        await second.close()

    asyncio.run(work())


class ParsesOutside(asyncpg.Connection):  # type: ignore[misc]
    """Fails where a statement's text is sent alone while a transaction is open: who is frozen then is not idle."""

    async def _get_statement(self, query: str, *how: Any, **more: Any) -> Any:
        assert not self.is_in_transaction(), query
        return await super()._get_statement(query, *how, **more)


def test_nothing_of_a_part_is_sent_without_its_values(alone: Server, make: Make) -> None:
    write_much(make("ada"))
    before = count(alone, "sync_changes")

    async def work() -> None:
        connection = await asyncpg.connect(alone.owner_dsn, connection_class=ParsesOutside, statement_cache_size=0)
        with pytest.raises(AssertionError, match="SELECT 1"):
            async with connection.transaction():
                await connection.prepare("SELECT 1")
        await compacted(connection, Policy(ALL, ALL, None))
        await connection.close()

    asyncio.run(work())
    assert count(alone, "sync_changes") < before


def test_the_command_says_what_it_did_and_keeps_what_goes(alone: Server, make: Make, folder: Path) -> None:
    ada = make("ada")
    write_much(ada)
    everything = {c["eventId"]: c for c in ada.drain(history=1)[0]}
    before = count(alone, "sync_changes")
    said = run(alone, "--compact-history", "0s", "--rest", "0", "--archive", str(folder / "archive"))
    assert "changes dropped" in said
    (note,) = (folder / "archive").glob("*.json")
    noted = json.loads(note.read_text())
    data = (folder / "archive" / noted["file"]).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (noted["bytes"], noted["sha256"])
    need("zstd")
    text = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) == noted["changes"] == before - count(alone, "sync_changes")
    for line in lines:
        assert everything[line["eventId"]]["fields"] == line["fields"]
    assert {line["eventId"] for line in lines}.isdisjoint(c["eventId"] for c in ada.drain(history=1)[0])
    run(alone, "--space", "nowhere", "--compact-history", "0s")
    blocked = folder / "a file"
    blocked.write_text("")
    write_much(ada, ada.create("shed"))
    log = count(alone, "sync_changes")
    assert "has left the log" in run(alone, "--compact-history", "0s", "--archive", str(blocked / "in it"), expect=1)
    assert count(alone, "sync_changes") == log


@pytest.mark.parametrize("who", ["itself", "database"])
def test_a_compaction_that_is_killed_goes_on(alone: Server, make: Make, folder: Path, who: str) -> None:
    ada = make("ada")
    for n in range(12):
        ada.write(*(edit(f"r{i}", n + 1, x=n, y=i) for i in range(1000)))
    state = values(ada.drain(limit=10_000)[0])
    command = [sys.executable, "-m", "syncd", "compact", "--database-url", alone.owner_dsn, "--compact-history", "0s"]
    process = subprocess.Popen([*command, "--rest", "50", "--archive", str(folder / "archive")], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while count(alone, "sync_changes") == 12_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    if who == "itself":
        process.kill()
    else:
        alone.kill()
    process.communicate(timeout=90)
    if who == "database":
        alone.start()
        ada = make("ada")
        ada.http = httpx.Client(base_url=alone.url, timeout=500)
    half = count(alone, "sync_changes")
    assert 1000 < half < 12_000
    assert values(ada.drain(limit=10_000)[0]) == values(ada.drain(limit=10_000, history=1)[0]) == state
    asyncio.run(release(alone))
    run(alone, "--compact-history", "0s", "--rest", "0", "--no-vacuum")
    assert count(alone, "sync_changes") == 1000
    assert values(ada.drain(limit=10_000)[0]) == values(ada.drain(limit=10_000, history=1)[0]) == state
    if who == "database":
        ada.http.close()


async def release(server: Server) -> None:
    """Half a minute passes: the lease of who was killed is stale."""
    connection = await asyncpg.connect(server.owner_dsn)
    await connection.execute("UPDATE syncd.sync_leases SET beat_at = beat_at - interval '1 minute'")
    await connection.close()


def test_control_c_stops_it_after_a_part(alone: Server, make: Make) -> None:
    ada = make("ada")
    for n in range(10):
        ada.write(*(edit(f"r{i}", n + 1, x=n) for i in range(1000)))
    command = [sys.executable, "-m", "syncd", "compact", "--database-url", alone.owner_dsn, "--compact-history", "0s"]
    process = subprocess.Popen([*command, "--rest", "10"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while count(alone, "sync_changes") == 10_000 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=90)[1]
    assert process.returncode == 0, said
    assert "run it again to go on" in said
    assert 1000 < count(alone, "sync_changes") < 10_000
    run(alone, "--compact-history", "0s", "--no-vacuum")
    assert count(alone, "sync_changes") == 1000


def test_pushes_and_pulls_go_on_meanwhile(alone: Server, make: Make) -> None:
    """Devices that write, and read page by page, while everything is folded again and again, end up equal."""
    devices = [make("ada", f"c{n}") for n in range(3)]
    held: list[list[Json]] = [[], [], []]
    cursors = ["", "", ""]

    async def compact_often(over: asyncio.Event) -> int:
        dropped = 0
        while not over.is_set():
            dropped += (await compact(alone.owner_dsn)).dropped
        return dropped

    def turn(n: int) -> None:
        who = n % 3
        devices[who].write(*(edit(f"r{i % 7}", n + 1, **{f"f{i % 3}": n}) for i in range(n, n + 5)))
        page = devices[who].pull(cursors[who], limit=3)
        held[who] += page["serverChanges"]
        cursors[who] = page["syncedUntil"]

    async def work() -> int:
        over = asyncio.Event()
        compacting = asyncio.create_task(compact_often(over))
        for n in range(150):
            await asyncio.to_thread(turn, n)
        over.set()
        return await compacting

    assert asyncio.run(work()) > 200
    truth = values(devices[0].drain()[0])
    for who in range(3):
        assert values(held[who] + devices[who].drain(cursors[who], limit=2)[0]) == truth


def test_the_server_compacts_by_itself(folder: Path) -> None:
    settings = {"compact_every": 0.5, "compact_history": 0}
    with (
        Server(folder / "data", settings=settings) as server,
        httpx.Client(base_url=server.url, timeout=500) as http,
    ):
        asyncio.run(plant(server))  # before there is anything to fold, which is done at once
        ada = Device(http, server, "ada")
        write_much(ada)
        state, full = values(ada.drain()[0]), 172
        deadline = time.monotonic() + 60
        while count(server, "sync_changes") > full / 5 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert count(server, "sync_changes") < full / 5
        assert values(ada.drain()[0]) == state
        assert asyncio.run(planted_for(server)) == {("syncd_compactor", "syncd_compactor")}
        asyncio.run(release(server))
        while "compacted" not in server.output() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert "compacted" in server.output(), server.output()[-1500:]


# What somebody who became the owner would leave behind: it tells whose power it is called with, and who has logged in.
PLANTED = """
CREATE TABLE public.planted (role text, login text);
GRANT INSERT ON public.planted TO PUBLIC;
CREATE OR REPLACE FUNCTION syncd.sync_own_fields(p_fields json) RETURNS text[] LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    INSERT INTO public.planted VALUES (current_user, session_user);
    RETURN ARRAY(SELECT f.key FROM json_each(p_fields) f WHERE f.value -> 'clientId' IS NULL);
END $$;
"""


async def plant(server: Server) -> None:
    connection = await asyncpg.connect(server.owner_dsn)
    await connection.execute(PLANTED)
    await connection.close()


async def planted_for(server: Server) -> set[tuple[str, str]]:
    connection = await asyncpg.connect(server.owner_dsn)
    rows = await connection.fetch("SELECT DISTINCT role, login FROM public.planted")
    await connection.close()
    return {tuple(row) for row in rows}


def test_an_export_of_a_folded_log_makes_the_same_records(alone: Server, make: Make, folder: Path) -> None:
    ada = make("ada")
    write_much(ada, ada.create("garden"))
    compact_now(alone.owner_dsn)
    data = ada.request("GET", "/backup/export", headers={"accept": "application/x-ndjson"}).content
    with Server(folder / "other") as other, httpx.Client(base_url=other.url, timeout=500) as http:
        again = Device(http, other, "ada")
        answer = again.request("POST", "/backup/import", content=data, headers={"content-type": "application/x-ndjson"})
        assert answer.json()["refused"] == 0, answer.text
        assert values(again.drain()[0]) == values(ada.drain()[0])
