"""Two devices of one client id that write different values at one instant: whatever comes first, all end equal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica

from tests.support.agreeing import check_same
from tests.support.harness import Server
from tests.support.scripted import packed, take
from tests.support.wire import Device, edit, unique

WALL = 1_767_261_900_000_000
NAMES = ("one", "two")
# Each device writes to a record twice. Every record has its own order of these pushes.
ORDERS = {
    "-".join(order): order for twos in combinations(range(4), 2) for order in [[NAMES[n in twos] for n in range(4)]]
}
Make = Callable[..., Device]
Frame = tuple[dict[str, Any], tuple[Any, ...]]


def merged(own: list[Frame], others: list[Frame]) -> Iterator[list[Frame]]:
    """All orders of both in which each keeps its own."""
    count = len(own) + len(others)
    for places in combinations(range(count), len(own)):
        mine, theirs = iter(own), iter(others)
        yield [next(mine) if place in places else next(theirs) for place in range(count)]


class Pair:
    """Two devices of two users, opened with one client id, in one space."""

    def __init__(self, server: Server, device: Make, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.users = {name: unique(name) for name in NAMES}
        self.wire = {name: device(user, "given") for name, user in self.users.items()}
        self.space = self.wire["one"].create(unique("shared"))
        self.wire["one"].member(self.space, self.users["two"])
        self.new = device(self.users["two"], "new")

    def open(self, name: str, file: str, **more: Any) -> Replica:
        return Replica(
            self.folder / f"{file}.db", app="app", url=self.server.url, token=self.server.token(self.users[name]),
            durability="normal", client_id="given", wall=lambda: WALL, **more,
        )  # fmt: skip

    def stands(self) -> dict[str, Any]:
        """The records as a new device gets them."""
        found: dict[str, Any] = {}
        for change in self.new.drain()[0]:
            found.setdefault(change["id"], {}).update(
                {name: register["value"] for name, register in change["fields"].items() if name != "deletedAt"}
            )
        return found


@pytest.fixture
def pair(server: Server, device: Make, tmp_path: Path) -> Pair:
    return Pair(server, device, tmp_path)


def write_at_one_instant(pair: Pair, name: str) -> dict[str, list[Any]]:
    """What one of them writes, not sent yet: by record, two changes."""
    with pair.open(name, name) as replica:
        replica.pull()
        for record in ORDERS:
            replica.patch("t", record, {"title": name}, space=pair.space, upsert=True)
            replica.patch("t", record, {"title": f"{name} again", "body": name}, space=pair.space)
        queue = packed(replica)
    return {record: [change for change in queue if json.loads(change.body)["id"] == record] for record in ORDERS}


@pytest.mark.parametrize("echoed", [False, True], ids=["own left out", "own come back"])
def test_in_every_order_of_pushes_answers_and_changes_all_end_equal(pair: Pair, echoed: bool) -> None:
    pair.new.push(*(edit(record, title="before", body="before") | {"spaceId": pair.space} for record in ORDERS))
    queues = {name: write_at_one_instant(pair, name) for name in NAMES}
    sent = {name: {record: list(changes) for record, changes in queue.items()} for name, queue in queues.items()}
    answers: dict[str, dict[str, list[Frame]]] = {name: {record: [] for record in ORDERS} for name in NAMES}
    for record, order in ORDERS.items():
        stamps = [[json.loads(change.body)["fields"]["title"]["at"] for change in sent[n][record]] for n in NAMES]
        assert stamps[0] == stamps[1]
        for name in order:
            change = sent[name][record].pop(0)
            answer = pair.wire[name].push(json.loads(change.body))
            answers[name][record].append(({"results": answer["results"], "conflicts": []}, (change,)))
    log, stands = pair.new.drain(history=1)[0], pair.stands()
    for name in NAMES:
        own = {change.change_id for changes in queues[name].values() for change in changes}
        frames = {
            record: list(merged(answers[name][record], [
                ({"changes": [change]}, ()) for change in log
                if (change["id"], change["clientId"]) == (record, "given") and (echoed or change["changeId"] not in own)
            ])) for record in ORDERS
        }  # fmt: skip
        for number in range(max(map(len, frames.values()))):
            shutil.copy(pair.folder / f"{name}.db", pair.folder / "copy.db")
            with pair.open(name, "copy") as replica:
                for record in ORDERS:
                    for frame, pushed in frames[record][number % len(frames[record])]:
                        take(replica, frame, pushed, cursor=None)
                    assert replica.get("t", record, space=pair.space) == stands[record], (record, number)
                assert not replica.pending()


def test_live_and_by_sync_they_end_equal_and_verified(pair: Pair) -> None:
    with pair.open("one", "first") as one, pair.open("two", "second") as two:
        one.put("t", "r", {"n": 0}, space=pair.space)
        one.sync()
        two.sync()
        lives = [replica.live() for replica in (one, two)]
        for n in range(20):
            for replica, name in ((one, "one"), (two, "two")):
                replica.patch("t", "r", {"n": f"{name} {n}"}, space=pair.space)
        assert all(live.wait_until_synced(30) for live in lives)
        for live in lives:
            live.close()
        for replica in (one, two, one):
            replica.sync()
        check_same(one, two)
        assert one.get("t", "r", space=pair.space) == pair.stands()["r"]
        assert one.verify().differences == two.verify().differences == 0
