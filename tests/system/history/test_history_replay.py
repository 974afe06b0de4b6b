"""Every moment of random histories is what a replay of the log by the model gives, and restoring brings it back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.drawn import drawn, examples
from tests.support.model import Cells, alive, merge, written_by
from tests.support.past import NOTHING, address, ask, back, cells, get, listing, plain, restored
from tests.support.wire import Device, Json, ahead, at, unique, values

OPS = ["update"] * 4 + ["insert", "delete", "undelete"]
edits = st.tuples(
    st.sampled_from(["a", "b"]),
    st.sampled_from("rs"),
    st.sampled_from(OPS),
    st.dictionaries(st.sampled_from("xyz"), st.integers(0, 3) | st.none(), min_size=1, max_size=3),
    st.integers(1, 12),
    st.booleans(),
)


def change_of(number: int, drawn: Any, space: str) -> Json:
    """A change as its device sends it. Stamps differ in their last digits: no device writes a register twice at one."""
    _, record, op, written, when, more = drawn
    stamp = at(when * 1000 + number)
    fields = {name: {"value": value, "at": stamp} for name, value in written.items()}
    change = {
        "table": f"t{record}",
        "id": record,
        "op": op,
        "changeId": f"k{number}",
        "spaceId": space,
        "fields": fields,
    }
    if op == "delete":
        change |= {"deletedAt": stamp, "fields": fields if more else {}}
    if op == "undelete":
        change |= {"op": "update", "fields": {**(fields if more else {}), "deletedAt": {"value": None, "at": stamp}}}
    return change


class Replay:
    """The log replayed by the model: every record after every seq."""

    def __init__(self) -> None:
        self.states: list[dict[str, Cells]] = [{}]
        self.changes: list[tuple[Json, str]] = []

    def write(self, change: Json, client: str) -> None:
        now = {record: dict(held) for record, held in self.states[-1].items()}
        merge(now.setdefault(change["id"], {}), written_by(change, client))
        self.states.append(now)
        self.changes.append((change, client))

    def won(self, seq: int) -> set[str]:
        """The registers of a change that took effect."""
        change, client = self.changes[seq - 1]
        held = self.states[seq - 1].get(change["id"], {})
        return {name for name, cell in written_by(change, client).items() if cell.beats(held.get(name))}


@drawn
@pytest.mark.timeout(900)
@settings(max_examples=examples(20))
@given(st.lists(st.lists(edits, min_size=1, max_size=4), min_size=1, max_size=6), st.data())
def test_every_moment_is_as_the_replay_of_the_log_and_can_be_restored(
    device: Callable[..., Device], pushes: Any, data: Any
) -> None:
    user, replay, number = unique("replay"), Replay(), 0
    devices = {client: device(user, client) for client in "ab"}
    owner = devices["a"]
    space = owner.create(unique("s"))
    ends = [0]
    for together in pushes:
        client = together[0][0]
        sent = [change_of(number := number + 1, one, space) for one in together]
        devices[client].push(*sent)
        for change in sent:
            replay.write(change, client)
        ends.append(number)
    created = check_histories(owner, space, replay)
    check_moments(owner, space, replay, ends, created)
    goal = data.draw(st.integers(0, number))
    one = data.draw(st.sampled_from(sorted(replay.states[-1])))
    check_restore_of_a_record(owner, space, replay, one, goal)
    check_restore_of_the_space(owner, space, replay, data.draw(st.integers(0, number)), number + 1)


def check_histories(owner: Device, space: str, replay: Replay) -> dict[int, str]:
    """Every change of every record, and when it was committed."""
    created: dict[int, str] = {}
    for record in replay.states[-1]:
        found = get(owner, address(space, record, f"t{record}", "/history"), limit=1000)["changes"]
        expected = [seq for seq, (change, _) in enumerate(replay.changes, 1) if change["id"] == record]
        assert [change["seq"] for change in found] == expected[::-1]
        for change in found:
            sent, client = replay.changes[change["seq"] - 1]
            assert (change["changeId"], change["op"], change["clientId"]) == (sent["changeId"], sent["op"], client)
            assert set(change["fields"]) == replay.won(change["seq"])
            assert set(change["fields"]) | set(change["superseded"]) == set(written_by(sent, client))
            assert (change["status"] == "superseded") == (not change["fields"])
            created[change["seq"]] = change["createdAt"]
    return created


def check_moments(owner: Device, space: str, replay: Replay, ends: list[int], created: dict[int, str]) -> None:
    """Each record and the space after each seq, and at each instant."""
    moments: list[tuple[Json, Json, int]] = [({"seq": seq}, {"seq": seq}, seq) for seq in range(len(replay.states))]
    moments += [({"at": created[seq]}, {"instant": created[seq]}, seq) for seq in ends[1:]]
    moments += (
        [({"at": created[1][:-2] + "0Z"}, {"instant": "1999-01-01T00:00:00Z"}, 0)] if created[1][-2] != "0" else []
    )
    moments.append(({"at": ahead(3600)}, {"instant": ahead(3600)}, len(replay.changes)))
    for record_at, space_at, seq in moments:
        for record in replay.states[-1]:
            answer = ask(owner, address(space, record, f"t{record}"), **record_at)
            held = replay.states[seq].get(record)
            assert answer.status_code == (404 if held is None else 200), (record_at, answer.text)
            if held is not None:
                body = answer.json()
                assert cells(body["fields"]) == held
                assert body["deleted"] == (held.get("deletedAt", NOTHING).value is not None)
                assert replay.changes[body["seq"] - 1][0]["id"] == record
        found, after = listing(owner, space, limit=1, **space_at)
        assert after == seq
        living = {record["id"]: cells(record["fields"]) for record in found}
        assert set(living) == set(alive(replay.states[seq]))
        assert living == {record: replay.states[seq][record] for record in living}


def check_restore_of_a_record(owner: Device, space: str, replay: Replay, record: str, goal: int) -> None:
    path = address(space, record, f"t{record}")
    for _ in range(2):
        restored(owner, path.replace("?", "/restore?"), seq=goal, changeId="record")
        found = cells(get(owner, path)["fields"])
        assert plain(found) == plain(replay.states[goal].get(record))
    assert get(owner, path)["seq"] == len(replay.changes) + 1


def check_restore_of_the_space(owner: Device, space: str, replay: Replay, goal: int, head: int) -> None:
    def now() -> dict[str, Json | None]:
        return {record["id"]: plain(cells(record["fields"])) for record in listing(owner, space)[0]}

    before = now()
    results = restored(owner, back(space), seq=goal)
    assert [result["seq"] for result in results] == list(range(head + 1, head + 1 + len(results)))
    wanted = {record: plain(held) for record, held in replay.states[goal].items()}
    assert now() == {record: held for record, held in wanted.items() if held is not None}
    assert restored(owner, back(space), seq=goal) == []
    restored(owner, back(space), seq=head)
    assert now() == before
    log, fresh = owner.drain(history=1)[0], owner.drain()[0]
    for changes in (log, fresh):
        found = {name: {k: v for k, v in record.items() if v is not None} for name, record in values(changes).items()}
        assert found == before
