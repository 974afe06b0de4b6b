"""What an actor wrote is taken back: a record becomes what the merge of all other changes makes of it."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from tests.support.harness import Server
from tests.support.past import address, get, history, listing, restore, restored
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

Make = Callable[..., Device]
RUN = {"agent": "tidy", "run": "1"}
STEP = 10_000  # a revert's stamp is a millisecond after what it takes back


@pytest.fixture
def owner(device: Make) -> Device:
    return device(unique("owner"))


@pytest.fixture
def space(owner: Device) -> str:
    return owner.create(unique("space"))


@pytest.fixture
def agent(device: Make, owner: Device, space: str) -> Device:
    made = device(unique("agent"))
    owner.member(space, made.user)
    return made


def of(space: str) -> str:
    return f"/sync/app/spaces/{space}/revert"


def deletion(record: str, when: int) -> Json:
    return {"table": "t", "id": record, "op": "delete", "deletedAt": at(when)}


def into(space: str, *changes: Json, run: Json | None = None) -> list[Json]:
    """The changes, in a space; those of a run with it as their actor."""
    return [{**change, "spaceId": space} | ({} if run is None else {"actor": run}) for change in changes]


def shown(device: Device, space: str) -> dict[str, Json]:
    """The records of a space that are not deleted, without fields that are null, the same by state, log and listing."""
    found = [values(device.drain()[0]), values(device.drain(history=1)[0])]
    found.append(
        {r["id"]: {name: f["value"] for name, f in r["fields"].items()} for r in listing(device, space, limit=1000)[0]}
    )
    one, *rest = [
        {id: {name: value for name, value in record.items() if value is not None} for id, record in state.items()}
        for state in found
    ]
    assert rest == [one, one]
    return one


def test_a_run_is_taken_back_as_one_batch_and_what_was_written_after_it_stays(
    owner: Device, agent: Device, space: str
) -> None:
    owner.write(*into(space, edit("a", 1, title=" tea ", due="?"), edit("b", 1, title="Ink"), edit("c", 1, title="C")))
    changes = [edit("a", STEP, title="Tea", tag="shop"), deletion("b", STEP), edit("made", STEP, title="Summary")]
    agent.write(*into(space, *changes, run=RUN))
    owner.write(*into(space, edit("a", 2 * STEP, title="Tea!")))
    _, cursor = owner.drain()
    spoilt = shown(owner, space)
    results = restored(owner, of(space), actor=RUN, changeId="back")
    assert [(r["table"], r["id"], r["status"]) for r in results] == [("t", id, "applied") for id in ("a", "b", "made")]
    assert shown(owner, space) == {"a": {"title": "Tea!", "due": "?"}, "b": {"title": "Ink"}, "c": {"title": "C"}}
    pages = [page for page in owner.pages(cursor, limit=1) if page["serverChanges"]]
    assert [change["id"] for change in pages[-1]["serverChanges"]] == ["a", "b", "made"]
    newest = history(owner, space, "a")[0]
    assert (newest["userId"], newest["origin"], newest["actor"]) == (owner.user, "revert", {"reverted": RUN})
    assert set(newest["fields"]) == {"tag"}
    # Asked for again it is done once, by its id and by what it means.
    assert restored(owner, of(space), actor=RUN, changeId="back") == [{**r, "status": "duplicate"} for r in results]
    assert restored(owner, of(space), actor=RUN) == []
    assert restore(owner, of(space), actor={"agent": "tidy"}, changeId="back").json()["code"] == "change_id_reused"
    # It is taken back like anything else.
    restored(owner, of(space), actor={"reverted": RUN})
    assert shown(owner, space) == spoilt


def test_what_a_person_wrote_offline_counts_whenever_it_comes(owner: Device, agent: Device, space: str) -> None:
    owner.write(*into(space, edit("r", 1, before="old", since="old", later="old")))
    agent.write(*into(space, edit("r", 2 * STEP, before="agent", since="agent", later="agent"), run=RUN))
    # One field was written offline before the run, and lost to it; one after it, of which nothing is known yet.
    assert owner.push(*into(space, edit("r", STEP, before="mine")))["results"][0]["status"] == "superseded"
    restored(owner, of(space), actor=RUN)
    assert shown(owner, space) == {"r": {"before": "mine", "since": "old", "later": "old"}}
    owner.write(*into(space, edit("r", 3 * STEP, later="mine")))
    assert shown(owner, space)["r"]["later"] == "mine"


def test_less_of_an_actor_is_more_of_its_changes(owner: Device, agent: Device, space: str) -> None:
    owner.write(*into(space, edit("r", 1, x=0, y=0, z=0)))
    for n, name in enumerate("xyz"):
        agent.write(*into(space, edit("r", (n + 1) * STEP, **{name: 1}), run={"agent": "tidy", "run": str(n)}))
    restored(owner, of(space), actor={"run": "1"})
    assert shown(owner, space)["r"] == {"x": 1, "y": 0, "z": 1}
    assert restored(owner, of(space), actor={"run": "1", "agent": "another"}) == []
    restored(owner, of(space), actor={"agent": "tidy"}, seq=2)
    assert shown(owner, space)["r"] == {"x": 1, "y": 0, "z": 0}
    restored(owner, of(space), actor={"agent": "tidy"}, instant=ahead(-3600))
    assert shown(owner, space)["r"] == {"x": 0, "y": 0, "z": 0}


def test_of_an_actor_since_a_moment_what_it_wrote_before_stands(owner: Device, agent: Device, space: str) -> None:
    owner.write(*into(space, edit("r", 1, x="person")))
    agent.write(*into(space, edit("r", STEP, x="first"), run=RUN))
    agent.write(*into(space, edit("r", 2 * STEP, x="second"), run=RUN))
    restored(owner, of(space), actor=RUN, seq=2)
    assert shown(owner, space)["r"]["x"] == "first"
    restored(owner, of(space), actor=RUN)
    assert shown(owner, space)["r"]["x"] == "person"


def test_what_others_deleted_stays_deleted(owner: Device, agent: Device, space: str) -> None:
    owner.write(*into(space, edit("r", 1, x=1), edit("s", 1, x=1)))
    agent.write(*into(space, edit("r", STEP, x=2), edit("made", STEP, x=2), edit("more", STEP, x=2), run=RUN))
    owner.write(*into(space, deletion("r", 2 * STEP), deletion("made", 2 * STEP), edit("more", 2 * STEP, y=3)))
    assert [r["id"] for r in restored(owner, of(space), actor=RUN)] == ["made", "more", "r"]
    assert shown(owner, space) == {"s": {"x": 1}, "more": {"y": 3}}
    owner.write(*into(space, {**edit("r", 3 * STEP, y=1), "op": "insert"}))
    assert shown(owner, space)["r"] == {"x": 1, "y": 1}


class Story:
    """Changes of people and of two runs of an agent to some records, at random, and what is to be of them. The second
    run comes after the first, and people write at any time, and come online at any other."""

    def __init__(self, drawn: random.Random) -> None:
        self.drawn = drawn
        stamps = {"1": list(range(1, 180, 3)), "2": list(range(181, 360, 3)), "": list(range(2, 360, 3))}
        for some in stamps.values():
            drawn.shuffle(some)
        order = [*stamps["1"], *stamps["2"]]
        for stamp in stamps[""]:
            order.insert(drawn.randint(0, len(order)), stamp)
        runs = {stamp: run for run, some in stamps.items() for stamp in some}
        self.changes = [self.change(runs[stamp], stamp * STEP) for stamp in order]

    def change(self, theirs: str, stamp: int) -> tuple[str, Json, dict[str, object]]:
        """Which run's it is, the change, and the registers that it writes."""
        record = f"r{self.drawn.randrange(16)}"
        if self.drawn.random() < 0.15:
            return theirs, deletion(record, stamp), {"deletedAt": at(stamp)}
        names = self.drawn.sample("xyz", self.drawn.randint(1, 3))
        written: dict[str, object] = dict.fromkeys(names, stamp)
        change = edit(record, stamp, **written)
        if self.drawn.random() < 0.2:
            return theirs, {**change, "op": "insert"}, {**written, "deletedAt": None}
        return theirs, change, written

    def without(self, *runs: str) -> dict[str, Json]:
        """The records that are not deleted without these runs: what the merge of all other changes makes."""
        found: dict[str, Json] = {}
        for _, change, written in sorted((c for c in self.changes if c[0] not in runs), key=lambda c: stamp_of(c[1])):
            found.setdefault(change["id"], {}).update(written)
        kept = {id: {name: v for name, v in record.items() if v is not None} for id, record in found.items()}
        return {id: record for id, record in kept.items() if "deletedAt" not in record}


def stamp_of(change: Json) -> str:
    return str(change.get("deletedAt") or next(iter(change["fields"].values()))["at"])


def test_a_record_becomes_what_all_other_changes_make_of_it(device: Make) -> None:
    seed = int(os.environ.get("SEED") or secrets.randbits(32))
    print("SEED", seed)
    drawn = random.Random(seed)
    for _ in range(4):
        app = device(unique("owner"), app=unique("app"))
        agent = device(app.user, "agent", app=app.app)
        space = app.create(unique("space"))
        story = Story(drawn)
        runs = {run: {"agent": "tidy", "run": run} for run in "12"}
        for theirs, change, _ in story.changes:
            (agent if theirs else app).push(*into(space, change, run=runs.get(theirs)))
        assert shown_of(app) == story.without()
        for actor, gone in (
            (runs["2"], "2"), (runs["1"], "12"), ({"reverted": runs["1"]}, "2"), ({"reverted": runs["2"]}, ""),
            (runs["2"], "2"), (runs["1"], "12"), ({"reverted": {"agent": "tidy"}}, ""), ({"agent": "tidy"}, "12"),
        ):  # fmt: skip
            restored(app, f"/sync/{app.app}/spaces/{space}/revert", actor=actor)
            assert shown_of(app) == story.without(*gone), actor
            assert restored(app, f"/sync/{app.app}/spaces/{space}/revert", actor=actor) == []


def shown_of(device: Device) -> dict[str, Json]:
    """As `shown`, for an app that is in one space alone."""
    one, other = (
        {id: {name: v for name, v in record.items() if v is not None} for id, record in values(changes).items()}
        for changes in (device.drain()[0], device.drain(history=1)[0])
    )
    assert one == other
    return one


def test_who_may_take_back(device: Make, owner: Device, agent: Device, space: str) -> None:
    agent.write(*into(space, edit("r", 1, x=1), run=RUN))
    reader, stranger = device(unique("reader")), device(unique("stranger"))
    owner.member(space, reader.user, "reader")
    for other, code in ((reader, (403, "not_a_writer")), (stranger, (404, "space_not_found"))):
        answer = restore(other, of(space), actor=RUN)
        assert (answer.status_code, answer.json()["code"]) == code
    assert len(history(owner, space)) == 1


@pytest.mark.parametrize("actor", [None, 7, "tidy", [], [RUN], {}, {"run": ["1"]}, {"run": 2**53 + 1}])
def test_whose_changes_has_to_be_said(owner: Device, space: str, actor: object) -> None:
    answer = restore(owner, of(space), actor=actor)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert [fault["pointer"] for fault in answer.json()["errors"]] == ["/actor"]
    assert restore(owner, of(space)).json()["errors"][0]["pointer"] == "/actor"


@pytest.fixture
async def superuser(server: Server) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.owner_dsn)
    yield connection
    await connection.close()


FORGET = """
DELETE FROM syncd.sync_changes c USING syncd.sync_spaces s
WHERE s.space_no = c.space_no AND s.space_id = $1 AND c.seq = ANY ($2::bigint[])"""
PLACE = """
SELECT f.space_no, f.app_no FROM syncd.sync_feeds f JOIN syncd.sync_spaces s ON s.space_no = f.space_no
WHERE s.space_id = $1"""


async def test_what_is_not_known_any_more_is_not_guessed(
    owner: Device, agent: Device, space: str, superuser: asyncpg.Connection
) -> None:
    owner.write(*into(space, edit("r", 1, x=1), edit("s", 1, x=1)))
    agent.write(*into(space, edit("r", STEP, x=2), edit("s", STEP, y=2), run=RUN))
    await superuser.execute(FORGET, space, [1])
    answer = restore(owner, of(space), actor=RUN)
    assert (answer.status_code, answer.json()["code"]) == (410, "history_gone")
    assert get(owner, address(space))["fields"]["x"]["value"] == 2


async def test_a_feed_is_looked_through_so_far_and_not_further(
    owner: Device, agent: Device, space: str, superuser: asyncpg.Connection
) -> None:
    agent.write(*into(space, edit("r", STEP, x=2), edit("s", STEP, x=2), run=RUN))
    place = await superuser.fetchrow(PLACE, space)
    looks = "SELECT records::text FROM syncd.sync_acted_on($1, $2, $3, $4::text::jsonb)"
    call = '{"revert": {"run": "1"}, "looks": %d, "most": %d}'
    for seq, most, records in ((0, 1, 2), (0, 2, 1)):
        with pytest.raises(asyncpg.PostgresError, match="restore_too_large"):
            await superuser.fetchval(looks, *place, seq, call % (most, records))
    assert await superuser.fetchval(looks, *place, 1, call % (1, 1)) is not None
    few = '{"revert": {"run": "1"}, "looks": 2, "most": 2, "lookBytes": %d}'
    with pytest.raises(asyncpg.PostgresError, match="restore_too_large"):
        await superuser.fetchval(looks, *place, 0, few % 20)
    assert await superuser.fetchval(looks, *place, 0, few % 1000) is not None


async def test_of_a_folded_log_half_a_run_is_not_taken_back(
    owner: Device, agent: Device, space: str, superuser: asyncpg.Connection
) -> None:
    agent.write(*into(space, edit("r", STEP, x=2), edit("s", STEP, x=2), run=RUN))
    agent.write(*into(space, edit("u", 2 * STEP, x=2), run=RUN))
    place = await superuser.fetchrow(PLACE, space)
    await superuser.execute("SELECT syncd.sync_raise_horizon($1, $2, 2)", *place)
    answer = restore(owner, of(space), actor=RUN)
    assert (answer.status_code, answer.json()["code"]) == (410, "history_gone")
    assert "with seq, 2 or more" in answer.json()["detail"]
    assert [r["id"] for r in restored(owner, of(space), actor=RUN, seq=2)] == ["u"]


FORGED = [(RUN, "x"), (RUN, 0), (RUN, 1.5), (RUN, 1e19), (False, {}), (["reverted"], 0), ({}, 0)]


@pytest.mark.parametrize(("said", "after"), FORGED)
def test_only_the_server_writes_reverts(
    device: Make, owner: Device, agent: Device, space: str, said: object, after: object
) -> None:
    if said == ["reverted"]:
        theirs: object = said
    else:
        theirs = {"app": "web", "reverted": said, "after": after}
    owner.write(*into(space, edit("r", 1, x="old")))
    owner.write({**edit("r", 2, x="mine", y="mine"), "spaceId": space, "actor": theirs, "origin": "revert"})
    agent.write(*into(space, edit("r", STEP, x="agent"), run=RUN))
    # Neither is a restore one, whatever it says of itself, nor has a device an id that the server writes under.
    said_by = {"actor": theirs, "origin": "revert"}
    agent.write(*into(space, edit("s", 1, x="old"), edit("s", STEP, x="agent"), run=RUN))
    last = history(owner, space, "s")[0]["seq"]
    owner.write(*into(space, edit("s", 2 * STEP, x="spoilt")))
    assert restore(owner, address(space, "s", what="/restore"), seq=last, **said_by).status_code == 200
    forger = device(owner.user, "_server:_server:c1")
    assert forger.send(*into(space, edit("r", 3 * STEP, x=1), run=RUN)).status_code == 400
    assert [r["id"] for r in restored(owner, of(space), actor=RUN)] == ["r"]
    assert shown(owner, space) == {"r": {"x": "mine", "y": "mine"}, "s": {"x": "agent"}}


def test_numbers_and_other_scalars_name_a_run(owner: Device, agent: Device, space: str) -> None:
    for n, run in enumerate(({"run": 0.1}, {"run": 2**53}, {"run": True}, {"run": None}, {"run": -1e300})):
        agent.write(*into(space, edit(f"r{n}", STEP, x=1), run=run))
        assert [r["id"] for r in restored(owner, of(space), actor=run)] == [f"r{n}"]


def test_an_actor_of_many_elements_is_compared_at_once(owner: Device, agent: Device, space: str) -> None:
    many = {"agent": "tidy", "run": [f"{n}" for n in range(100_000)], "reverted": {"run": [f"{n}" for n in range(9)]}}
    agent.write(*into(space, edit("r", STEP, x=1), run=many))
    agent.write(*into(space, edit("s", STEP, x=1), run=RUN))
    assert restored(owner, of(space), actor={"run": "1", "agent": "tidy"})[0]["id"] == "s"
    assert restored(owner, of(space), actor={"agent": "tidy"})[0]["id"] == "r"


def test_a_record_of_many_fields_is_taken_back(owner: Device, agent: Device, space: str) -> None:
    many = 1000
    owner.write(*into(space, edit("r", 1, **{f"f{n}": 0 for n in range(many)})))
    agent.write(*into(space, edit("r", STEP, **{f"f{n}": 1 for n in range(many)}), run=RUN))
    began = time.monotonic()
    restored(owner, of(space), actor=RUN)
    print("seconds", time.monotonic() - began)
    fields = get(owner, address(space))["fields"]
    assert {fields[f"f{n}"]["value"] for n in range(many)} == {0}
