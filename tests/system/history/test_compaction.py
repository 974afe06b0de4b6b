"""G8 and what else compaction promises: looks at the horizon or later stay exact, stripped tombstones hold."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.store.compaction import Compactor
from tests.support.compacting import compact_now, write_much
from tests.support.harness import Server
from tests.support.past import address, ask, get, history
from tests.support.wire import Device, at, edit, unique, values

Make = Callable[..., Device]


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


def test_a_login_that_is_not_allowed_to_is_told_who_compacts(shared: Server) -> None:
    command = [sys.executable, "-m", "syncd", "compact", "--database-url", shared.runtime_dsn]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "GRANT syncd_compactor TO" in done.stderr
