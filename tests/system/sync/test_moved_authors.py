"""A record that moves says of each register who wrote it: a run's changes are found where the record went."""

from __future__ import annotations

import json
from collections.abc import Callable

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.moving import Home, in_space, insert
from tests.support.past import history, restored
from tests.support.wire import Device, Json, at, edit, values

Make = Callable[..., Device]
RUN = {"agent": "tidy", "run": "1"}
STEP = 10_000


@pytest.fixture
def home(device: Make) -> Home:
    return Home(device)


def into_space(home: Home) -> None:
    """What the record moves by: another field, so that nothing of it is overwritten."""
    home.old.write(in_space(home, edit("r", 9 * STEP, moved="yes")))
    assert home.records()["r"] == {home.space}


def written(home: Home) -> list[tuple[str, Json | None, str | None, set[str]]]:
    """Of each change that came with the record, the oldest first: device, actor, origin, fields."""
    changes = [change for change in history(home.ours, home.space) if "moved" not in change["fields"]]
    return [(c["clientId"], c.get("actor"), c.get("origin"), set(c["fields"])) for c in reversed(changes)]


@pytest.mark.parametrize("last", [None, {"agent": "other"}])
def test_each_change_has_its_own_actor_and_origin(home: Home, last: Json | None) -> None:
    home.old.write(insert("r", 1, title="one", note="n"))
    run = {"actor": RUN, "origin": "agent"}
    home.ours.write({**edit("r", STEP, change_id=None, note="tidied", tag="shop"), **run})
    home.ours.write({**edit("r", 2 * STEP, change_id=None, tag="mine"), **({} if last is None else {"actor": last})})
    into_space(home)
    parts = written(home)
    assert parts[0] == ("old", None, None, {"title", "createdAt", "deletedAt"})
    assert sorted(parts[1:], key=str) == sorted(
        [("ours", RUN, "agent", {"note"}), ("ours", last, None, {"tag"})], key=str
    )
    assert {change["userId"] for change in history(home.ours, home.space)} == {home.user}


def test_a_run_is_taken_back_where_its_records_went(home: Home) -> None:
    """What it had written over stays behind, in the log of the personal space, which nobody else reads."""
    home.old.write(insert("r", 1, title="one", note="n"))
    home.ours.write({**edit("r", STEP, change_id=None, note="tidied", tag="shop"), "actor": RUN})
    home.ours.write(edit("r", 2 * STEP, change_id=None, due="soon"))
    into_space(home)
    assert [r["id"] for r in restored(home.ours, f"/sync/app/spaces/{home.space}/revert", actor=RUN)] == ["r"]
    found = values([c for c in home.ours.drain()[0] if c["spaceId"] == home.space])["r"]
    kept = {"title": "one", "createdAt": at(1), "deletedAt": None, "due": "soon", "moved": "yes"}
    assert found == {**kept, "note": None, "tag": None}


def test_what_a_revert_wrote_is_its_author_s_writing_where_the_record_went(home: Home) -> None:
    """As a revert there it would have a later one look for what is not in that log, and write null."""
    home.old.write(insert("r", 1, title="one"))
    home.ours.write({**edit("r", STEP, change_id=None, title="tidied"), "actor": RUN})
    assert restored(home.ours, f"/sync/app/spaces/{home.personal}/revert", actor=RUN)
    into_space(home)
    other = {"agent": "other"}
    home.ours.write({**edit("r", 10 * STEP, change_id=None, tag="x"), "spaceId": home.space, "actor": other})
    assert restored(home.ours, f"/sync/app/spaces/{home.space}/revert", actor=other)
    found = values([c for c in home.ours.drain()[0] if c["spaceId"] == home.space])["r"]
    assert (found["title"], found["tag"]) == ("one", None)
    parts = written(home)
    assert ("_server:_server:ours", None, "revert", {"title"}) in parts


def test_a_change_that_follows_a_record_brings_its_actor(home: Home) -> None:
    home.old.write(insert("r", 1, title="one"))
    into_space(home)
    run = {"actor": RUN, "origin": "agent"}
    home.ours.write({**edit("r", 10 * STEP, change_id=None, title="tidied"), **run})
    newest = history(home.ours, home.space)[0]
    assert (newest["fields"]["title"]["value"], newest["actor"], newest["origin"]) == ("tidied", RUN, "agent")


WRITERS = """
SELECT w.key, w.actor FROM syncd.sync_spaces s JOIN syncd.sync_records r USING (space_no)
CROSS JOIN LATERAL syncd.sync_writers(r) w
WHERE s.space_id = $1 AND r.record_id = 'r'"""


@pytest.mark.parametrize(("steps", "found"), [(40, None), (1000, RUN)])
async def test_actors_count_in_how_far_back_writers_are_sought(
    server: Server, home: Home, steps: int, found: Json | None
) -> None:
    home.ours.write({**edit("r", 1, change_id=None, title="one"), "actor": RUN})
    for n in range(12):
        home.ours.write({**edit("r", (n + 1) * STEP, change_id=None, note=n), "actor": {"said": "x" * 8000}})
    conn = await asyncpg.connect(server.owner_dsn)
    try:
        await conn.execute("SELECT set_config('syncd.steps', $1, false)", str(steps))
        rows = await conn.fetch(WRITERS, f"_personal:{home.user}")
    finally:
        await conn.close()
    assert {row["key"]: row["actor"] and json.loads(row["actor"]) for row in rows}["title"] == found
