"""G8 and what else compaction promises: looks at the horizon or later stay exact, husks hold, killed runs go on."""

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

from syncd.store.compaction import Compactor, LeaseLost
from tests.support.compacting import ALL, compact, compact_now
from tests.support.harness import Server
from tests.support.past import address, ask, get, history
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


@pytest.fixture(scope="module")
def shared(workspace: Path) -> Iterator[Server]:
    """A server for what is compacted space by space."""
    with Server(workspace / "compacted") as server:
        yield server


@pytest.fixture
def own(shared: Server) -> Iterator[Make]:
    """Makes devices of `shared`: of users who are this test's own."""
    test = unique("of")
    with httpx.Client(base_url=shared.url, timeout=500) as http:
        yield lambda user, client="c1", **more: Device(http, shared, f"{user}-{test}", client, **more)


def personal(device: Device) -> str:
    """The id of the space of a device's user."""
    return f"_personal:{device.user}"


def count(server: Server, table: str) -> int:
    return int(psql("-tA", "-c", f"SELECT count(*) FROM syncd.{table}", server.owner_dsn))


def run(server: Server, *arguments: str, expect: int = 0, **more: Any) -> str:
    """`syncd compact` as an operator calls it; what it says."""
    command = [sys.executable, "-m", "syncd", "compact", "--database-url", server.owner_dsn, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500, **more)
    assert done.returncode == expect, done.stderr
    return done.stderr


def fold_to(server: Server, space: str, upto: int) -> None:
    """Folds a space's one feed up to a seq, between two pushes or not."""

    async def work() -> None:
        connection = await asyncpg.connect(server.owner_dsn)
        compactor = Compactor(connection)
        assert await compactor.take()
        (feed,) = await compactor.foldable(space, datetime.now(UTC) + timedelta(seconds=2))
        feed = feed._replace(upto=upto)
        await compactor.raise_horizon(feed)
        while feed.done < upto:
            feed = feed._replace(done=(await compactor.fold(feed, 20, None)).upto)
        await compactor.give_back()
        await connection.close()

    asyncio.run(work())


def write_much(device: Device, space: str = "") -> None:
    """Records a to e, whose fields x and y are written again and again; d is deleted, e deleted and brought back."""
    more = {"spaceId": space} if space else {}
    for n in range(1, 31):
        device.write(*({**edit(record, n, x=f"{record}{n}"), **more} for record in "abcde"))
        if n % 10 == 0:
            device.write(*({**edit(record, n, y=n), **more} for record in "abcde"))
    for record in "de":
        device.write({"table": "t", "id": record, "op": "delete", "deletedAt": at(40), "changeId": unique("k"), **more})
    device.write({**edit("e", 50, x="again", deletedAt=None), **more})


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


def test_a_device_that_slept_gets_what_was_touched_since_as_state(shared: Server, own: Make) -> None:
    ada, bob = own("ada"), own("ada", "c2")
    for record in ("kept", "changed", "gone"):
        ada.write(edit(record, 1, x=1, y=1))
    held, cursor = bob.drain()
    ada.write({**edit("changed", 2, x=2)}, edit("changed", 3, x=3), edit("new", 3, x=3))
    ada.write({"table": "t", "id": "gone", "op": "delete", "deletedAt": at(4), "changeId": unique("k")})
    compact_now(shared.owner_dsn, personal(ada))
    news, after = bob.drain(cursor)
    assert {(c["id"], c["op"]) for c in news} == {("changed", "insert"), ("new", "insert"), ("gone", "delete")}
    assert values(held + news) == values(ada.drain()[0]) == {
        "kept": {"x": 1, "y": 1}, "changed": {"x": 3, "y": 1}, "new": {"x": 3}}  # fmt: skip
    ada.write(edit("changed", 5, x=5))
    assert [(c["op"], set(c["fields"])) for c in bob.drain(after)[0]] == [("update", {"x"})]


def test_a_delete_beats_what_a_device_wrote_before_it_whatever_was_compacted(shared: Server, own: Make) -> None:
    """G8: the husk has the stamps, for ever unless an operator says otherwise."""
    ada, bob = own("ada"), own("ada", "c2")
    ada.write(edit("r", 1, x="old", y="old"))
    _, cursor = bob.drain()
    ada.write({"table": "t", "id": "r", "op": "delete", "deletedAt": at(10), "changeId": unique("k")})
    compact_now(shared.owner_dsn, personal(ada))
    late = bob.push(edit("r", 5, x="late"), edit("r", 20, y="younger"), pull=True, since=cursor)
    assert [r["status"] for r in late["results"]] == ["applied", "applied"]
    assert values(late["serverChanges"] + bob.drain(late["syncedUntil"])[0]) == {}
    assert ada.drain()[0] == []
    # Brought back, it has what was written since, and of what it had before no values: on every device the same.
    ada.write(edit("r", 30, deletedAt=None))
    fresh = {name: field["value"] for name, field in ada.drain()[0][0]["fields"].items()}
    assert fresh == {"x": "late", "y": "younger", "deletedAt": None}


def test_values_of_what_was_deleted_are_gone_everywhere_when_it_comes_back(shared: Server, own: Make) -> None:
    ada, bob = own("ada"), own("ada", "c2")
    ada.write(edit("r", 1, x="old", y="old"))
    held, _ = bob.drain()
    ada.write({"table": "t", "id": "r", "op": "delete", "deletedAt": at(10), "changeId": unique("k")})
    deletion, cursor = bob.drain(bob.pull()["syncedUntil"])
    assert compact_now(shared.owner_dsn, personal(ada)).emptied == 1
    ada.write(edit("r", 20, y="new", deletedAt=None))
    back, _ = bob.drain(cursor)
    assert values(held + deletion + back) == values(ada.drain()[0]) == {"r": {"x": None, "y": "new", "deletedAt": None}}


def test_looks_at_the_horizon_or_after_are_exact_and_before_it_never_wrong(shared: Server, own: Make) -> None:
    ada = own("ada")
    space = ada.create(unique("garden"))
    write_much(ada, space)
    truth: dict[tuple[str, int], Any] = {}
    head = get(ada, address(space, "e"))["seq"]
    horizons = (40, 97, 140, head - 1)
    looked = [seq for seq in range(1, head + 1) if seq % 7 == 1 or min(abs(seq - upto) for upto in horizons) < 3]
    for record in "abcde":
        for seq in looked:
            answer = ask(ada, address(space, record), seq=seq)
            truth[record, seq] = answer.json()["fields"] if answer.status_code == 200 else answer.status_code
    for upto in horizons:
        fold_to(shared, space, upto)
        for (record, seq), fields in truth.items():
            answer = ask(ada, address(space, record), seq=seq)
            if seq >= upto or (answer.status_code == 200 and answer.json()["complete"]):
                found = answer.json()["fields"] if answer.status_code == 200 else answer.status_code
                if isinstance(fields, dict) and fields.get("deletedAt", {}).get("value") is not None:
                    assert found["deletedAt"] == fields["deletedAt"]
                else:
                    assert found == fields, (upto, record, seq)
            else:
                assert answer.status_code in (404, 410) or not answer.json()["complete"], (upto, record, seq)


def test_history_says_that_something_is_missing(shared: Server, own: Make) -> None:
    ada = own("ada")
    space = ada.create(unique("garden"))
    write_much(ada, space)
    whole = history(ada, space, "a")
    compact_now(shared.owner_dsn, space)
    page = get(ada, address(space, "a", what="/history"), limit=1000)
    assert not page["complete"]
    assert [c["seq"] for c in page["changes"]] == [whole[0]["seq"], next(c["seq"] for c in whole if "x" in c["fields"])]
    refused = ada.request("POST", address(space, "a", what="/restore"), json={"seq": 2})
    assert (refused.status_code, refused.json()["code"]) == (410, "history_gone")
    ada.write({**edit("a", 70, x="later"), "spaceId": space})
    last = whole[0]["seq"]
    assert ada.request("POST", address(space, "a", what="/restore"), json={"seq": last}).status_code == 200
    assert get(ada, address(space, "a"))["fields"]["x"]["value"] == "a30"


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


def test_the_role_that_serves_cannot_compact(shared: Server, own: Make) -> None:
    own("ada").write(edit("r", 1, x=1))

    async def attempt() -> None:
        connection = await asyncpg.connect(shared.runtime_dsn)
        for call in (
            "sync_fold(1, 1, 1, 1, false)", "sync_forget(1, 1, 1, 1, false)", "sync_raise_horizon(1, 1, 1)",
            "sync_lease_take('compaction', gen_random_uuid(), '1s')", "sync_foldable(NULL, now())",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch(f"SELECT syncd.{call}")
        for statement in (
            "DELETE FROM syncd.sync_changes", "UPDATE syncd.sync_changes SET prev_seq = 0",
            "DELETE FROM syncd.sync_records",
            "UPDATE syncd.sync_feeds SET horizon = 9", "UPDATE syncd.sync_compactions SET folded = 0",
            "SELECT * FROM syncd.sync_leases",
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        await connection.close()

    asyncio.run(attempt())


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


def test_a_login_that_is_not_allowed_to_is_told_who_compacts(shared: Server) -> None:
    command = [sys.executable, "-m", "syncd", "compact", "--database-url", shared.runtime_dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "GRANT syncd_compactor TO" in done.stderr


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
