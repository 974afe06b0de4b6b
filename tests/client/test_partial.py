"""Partial replicas of a real server: each has what the whole one has of its choice, whatever it chose before."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from syncd_client import HttpSender, InvalidQuery, Limits, NotReplicated, Offline, Replica, RetryPolicy
from syncd_client.data.merge import is_deleted
from syncd_client.store.records import all_registers
from syncd_client.sync.http import HttpRequest, HttpResponse
from syncd_client.sync.partial import choose

from tests.support.agreeing import create_space, set_role
from tests.support.drawn import drawn, examples
from tests.support.harness import Server
from tests.support.wire import unique

Open = Callable[..., Replica]
TABLES = ("cards", "lists", "notes")


class Line:
    """A line to a server. `came`: the answers; `loses`: which of the next is lost, 0: none; `old`: whether it is
    a server of before, which knows nothing of chosen spaces, nor of what its clients have."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.loses, self.old, self.http = 0, False, HttpSender()
        self.meanwhile: Callable[[], object] = lambda: None  # between a request and its answer

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if self.old:
            url = re.sub(r"[?&](spaces|knownSpaces|knownCollection)=[^&]*", "", request.url)
            request = request._replace(url=url if "?" in url else url.replace("&", "?", 1))
        answer = self.http(request)
        self.meanwhile()
        self.loses -= 1
        if self.loses == 0:
            raise OSError("the line broke")
        self.came.append(answer.body)
        return answer


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    made.http.close()


@pytest.fixture
def opened(server: Server, tmp_path: Path, line: Line) -> Iterator[Open]:
    """Opens devices of users, and opens them again with another choice."""
    replicas: dict[str, Replica] = {}
    app = unique("app")

    def open_one(user: str, name: str = "whole", **choice: Any) -> Replica:
        if name in replicas:
            replicas.pop(name).close()
        replicas[name] = Replica(
            tmp_path / f"{name}.db", app=app, url=server.url, token=server.token(user), send=line,
            durability="normal", retry=RetryPolicy(attempts=1), **choice,
        )  # fmt: skip
        return replicas[name]

    yield open_one
    for replica in replicas.values():
        replica.close()


def shown(replica: Replica, spaces: Any = "all", tables: Any = "all") -> dict[Any, Any]:
    """The records that are not deleted, of a choice."""
    with replica.store.read() as db:
        found = all_registers(db)
    return {
        key: registers for key, registers in found.items()
        if not is_deleted(registers) and (spaces == "all" or key[0] in spaces) and (tables == "all" or key[1] in tables)
    }  # fmt: skip


def test_only_what_is_chosen_is_there_and_a_choice_may_change(server: Server, opened: Open, line: Line) -> None:
    ada = unique("ada")
    red, blue = create_space(server, ada), create_space(server, ada)
    whole = opened(ada)
    for space in (None, red, blue):
        for table in TABLES:
            whole.put(table, "r", {"n": f"{space}/{table}"}, space=space)
    whole.sync()
    part = opened(ada, "part", spaces=[red], tables=["cards"])
    part.sync()
    assert list(shown(part)) == [(red, "cards", "r")]
    assert b"lists" not in b"".join(line.came[-2:])
    steps: list[dict[str, Any]] = [
        {"tables": ["cards", "notes"]}, {"spaces": [red, None]}, {"tables": ["notes"]}, {"spaces": "all"},
        {"spaces": [blue], "tables": "all"}, {"spaces": "all"},
    ]  # fmt: skip
    choice: dict[str, Any] = {"spaces": [red], "tables": ["cards"]}
    for step in steps:
        choice |= step
        part = opened(ada, "part", **step)
        assert shown(part).items() <= shown(whole, **choice).items()
        report = part.sync()
        assert not report.restarted
        assert shown(part) == shown(whole, **choice)
        found = part.verify()
        assert (found.differences, found.skipped) == (0, [])
    assert opened(ada, "part").sync().pulled == 0


def test_a_wider_choice_downloads_what_is_new_alone(server: Server, opened: Open, line: Line) -> None:
    ada = unique("ada")
    red, blue = create_space(server, ada), create_space(server, ada)
    whole = opened(ada)
    for n in range(20):
        whole.put(TABLES[n % 2], f"r{n}", {"n": n}, space=(red, blue)[n // 10])
    whole.sync()
    part = opened(ada, "part", spaces=[red], tables=["cards"])
    assert part.sync().pulled == 5
    assert opened(ada, "part", tables=["cards", "lists"]).sync().pulled == 5
    assert opened(ada, "part", spaces=[red, blue]).sync().pulled == 10
    assert opened(ada, "part", spaces=[blue]).sync().pulled == 0
    assert opened(ada, "part", spaces="all", tables="all").sync().pulled == 10


def test_what_is_unsent_stays_is_sent_and_then_goes(server: Server, opened: Open, line: Line) -> None:
    ada = unique("ada")
    red = create_space(server, ada)
    part = opened(ada, "part")
    part.put("cards", "a", {"n": 1}, space=red)
    part.put("cards", "b", {"n": 1}, space=red)
    part.sync()
    part.patch("cards", "a", {"m": 2}, space=red)
    part = opened(ada, "part", spaces=[None])
    assert [record.id for record in part.query("cards", space=red)] == ["a"]
    assert part.why("cards", "a", space=red).state == "waiting"
    assert part.why("cards", "b", space=red).state == "not_replicated"
    line.loses = 1
    with pytest.raises(Offline):
        part.sync()
    assert [change.id for change in part.pending()] == ["a"]
    part.sync()
    assert part.query("cards", space=red) == []
    assert part.pending() == []
    assert part.why("cards", "a", space=red).state == "not_replicated"
    whole = opened(ada)
    whole.sync()
    assert whole.get("cards", "a", space=red)["m"] == 2


def test_what_was_refused_stays_until_it_is_dropped(server: Server, opened: Open) -> None:
    zoe, ada = unique("zoe"), unique("ada")
    red = create_space(server, zoe)
    set_role(server, zoe, red, ada, "writer")
    part = opened(ada, "part")
    part.sync()
    change = part.put("cards", "a", {"n": 1}, space=red)
    set_role(server, zoe, red, ada, "reader")
    part.push()
    assert [queued.change_id for queued in part.rejected()] == [change]
    part = opened(ada, "part", tables=["lists"])
    part.sync()
    assert part.why("cards", "a", space=red).state == "no_permission"
    set_role(server, zoe, red, ada, "writer")
    part.requeue(change)
    part.sync()
    assert part.rejected() == []
    assert shown(part) == {}
    assert opened(zoe).sync().pulled == 1


def test_a_write_elsewhere_is_refused_at_once(opened: Open) -> None:
    part = opened(unique("ada"), "part", spaces=[None], tables=["cards"])
    for write in (
        lambda: part.put("lists", "a", {"n": 1}),
        lambda: part.put("cards", "a", {"n": 1}, space="red"),
        lambda: part.delete("lists", "a", upsert=True),
    ):
        with pytest.raises(NotReplicated) as refused:
            write()
        assert refused.value.code == "not_replicated"
    batch = part.new_batch()
    batch.put("cards", "a", {"n": 1})
    batch.put("lists", "a", {"n": 1})
    with pytest.raises(NotReplicated, match="lists"):
        part.commit(batch)
    assert part.pending() == []
    assert part.why("lists", "a").state == "not_replicated"
    assert part.why("cards", "a").state == "unknown"


@pytest.mark.parametrize(
    "choice",
    [
        {"spaces": []}, {"tables": []}, {"spaces": "red"}, {"tables": "cards"}, {"tables": ["a,b"]}, {"tables": [1]},
        {"spaces": [f"s{n}" for n in range(101)]}, {"tables": ["\x00"]}, {"spaces": [1]}, {"spaces": 1},
        {"spaces": ["x" * 256]},
        {"spaces": ["_personal:zoe"]}, {"spaces": ["x" * 200 + str(n) for n in range(20)]},
    ],
)  # fmt: skip
def test_a_choice_that_cannot_be_is_refused(opened: Open, choice: dict[str, Any]) -> None:
    with pytest.raises(InvalidQuery):
        opened(unique("ada"), "part", **choice)


def test_a_choice_that_is_made_back_while_a_page_is_on_its_way_loses_nothing(opened: Open, line: Line) -> None:
    """The page is of what was removed in between, and its cursor is past that."""
    ada = unique("ada")
    whole, part = opened(ada), opened(ada, "part", tables=["cards"])
    whole.put("cards", "early", {"n": 1})
    whole.sync()
    part.sync()
    whole.put("cards", "late", {"n": 2})
    whole.sync()
    others = iter([["lists"], ["cards"]])
    line.meanwhile = lambda: [choose(part.store, None, tables, ada) for tables in others]
    part.sync()
    assert {record.id for record in part.query("cards")} == {"early", "late"}


@pytest.mark.parametrize("upgraded", [False, True])
def test_what_was_given_up_comes_again_from_a_server_of_before(opened: Open, line: Line, upgraded: bool) -> None:
    ada = unique("ada")
    whole = opened(ada)
    whole.put("cards", "a", {"n": 1})
    whole.put("lists", "a", {"n": 1})
    whole.sync()
    line.old = True
    opened(ada, "part").sync()
    opened(ada, "part", tables=["cards"])
    part = opened(ada, "part", tables="all")
    part.sync()
    line.old = not upgraded
    part.sync()
    assert shown(part) == shown(whole)


def test_a_space_that_was_given_up_comes_again_where_the_server_has_become_an_older_one(
    server: Server, opened: Open, line: Line
) -> None:
    ada = unique("ada")
    red = create_space(server, ada)
    whole = opened(ada)
    whole.put("cards", "a", {"n": 1})
    whole.put("cards", "a", {"n": 1}, space=red)
    whole.sync()
    opened(ada, "part", spaces=[None, red]).sync()
    opened(ada, "part", spaces=[None])
    part = opened(ada, "part", spaces=[None, red])
    line.old = True
    part.sync()
    assert shown(part) == shown(whole)


def test_a_choice_that_is_made_back_before_a_sync_downloads_what_was_removed_alone(
    server: Server, opened: Open
) -> None:
    ada = unique("ada")
    red = create_space(server, ada)
    whole = opened(ada)
    whole.put("cards", "a", {"n": 1})
    whole.put("cards", "a", {"n": 1}, space=red)
    whole.sync()
    opened(ada, "part").sync()
    opened(ada, "part", spaces=[None])
    part = opened(ada, "part", spaces="all")
    assert part.sync().pulled == 1
    assert shown(part) == shown(whole)


def test_the_longest_choice_that_is_taken_is_synced(opened: Open, line: Line) -> None:
    """All names stand twice in its address, which also names the changes that the server has to have."""
    ada, taken = unique("ada"), 0
    tables, spaces = [f"table {n:03}" for n in range(100)], [f"spaceid{n:03}" for n in range(100)]
    for most in range(100, 0, -1):
        with suppress(InvalidQuery):
            opened(ada, "part", tables=tables, spaces=[None, *spaces[:most]])
            taken = most
            break
    assert 0 < taken < 100
    part = opened(ada, "part", tables=tables[1:], spaces=[None, *spaces[: taken - 1]])
    part.sync()
    for n in range(16):
        part.put(tables[1], f"r{n}", {"n": n})
        part.push()
    part = opened(ada, "part", tables=tables, spaces=[None, *spaces[:taken]])
    line.came.clear()
    part.sync()
    assert b'"partial"' in line.came[-1]
    assert len(shown(part)) == 16


def test_a_verification_brings_nothing_back_of_what_is_given_up_meanwhile(opened: Open, line: Line) -> None:
    ada = unique("ada")
    part = opened(ada, "part")
    part.put("cards", "a", {"n": 1})
    part.put("lists", "b", {"n": 1})
    part.sync()
    with part.store.write() as db:
        db.execute("DELETE FROM records WHERE tbl = 'lists'")
    line.meanwhile = lambda: b'"buckets"' in line.came[-1] and choose(part.store, None, ["cards"], ada)
    assert part.verify().skipped == []
    assert [table for _, table, _ in shown(part)] == ["cards"]


def test_the_conflicts_of_what_is_given_up_go_but_for_those_of_what_is_unsent(opened: Open) -> None:
    """Of what it is not sent any more, a replica would not hear that it was erased."""
    ada = unique("ada")
    whole, part = opened(ada), opened(ada, "part")
    for name in ("a", "b"):
        whole.put("cards", name, {"n": 1})
        part.put("cards", name, {"n": 2})
    whole.sync()
    part.sync()
    assert {conflict.id for conflict in part.conflicts()} == {"a", "b"}
    part.put("cards", "b", {"n": 3})
    part = opened(ada, "part", tables=["lists"])
    assert {conflict.id for conflict in part.conflicts()} == {"b"}


class World:
    """Devices of a user with their choices, and a device that has all."""

    def __init__(self, seed: int, server: Server, opened: Open, line: Line) -> None:
        self.chance, self.user, self.open, self.line = random.Random(seed), unique("ada"), opened, line
        # More than seven the server reads in another way than a few.
        self.spaces = [None, *(create_space(server, self.user) for _ in range(9))]
        self.whole = opened(self.user)
        self.choices: dict[str, dict[str, Any]] = {f"part{n}": {} for n in range(3)}
        self.limits = Limits(pull_limit=self.chance.choice([2, 5, 1000]))
        self.parts = {name: opened(self.user, name, limits=self.limits) for name in self.choices}
        self.written: dict[Any, Any] = {}

    def some(self, names: list[Any]) -> Any:
        if self.chance.random() < 0.3:
            return "all"
        return self.chance.sample(names, self.chance.randint(1, len(names)))

    def choose(self, name: str) -> None:
        self.choices[name] = {"spaces": self.some(self.spaces), "tables": self.some(list(TABLES))}
        self.parts[name] = self.open(self.user, name, limits=self.limits, **self.choices[name])

    def write(self, replica: Replica, step: int) -> None:
        space, table = self.chance.choice(self.spaces), self.chance.choice(TABLES)
        record = f"r{self.chance.randrange(6)}"
        try:
            if self.chance.random() < 0.2:
                replica.delete(table, f"d{record}", space=space, upsert=True)
            elif self.chance.random() < 0.3:
                replica.put(table, f"d{record}", {"n": step}, space=space)
            else:
                replica.put(table, record, {f"f{step}": step}, space=space)
                self.written[space, table, record, f"f{step}"] = step
        except NotReplicated:
            return

    def choose_meanwhile(self, name: str) -> None:
        """As another process that opens the file."""
        if self.chance.random() < 0.1:
            self.choices[name] = {"spaces": self.some(self.spaces), "tables": self.some(list(TABLES))}
            choose(self.parts[name].store, **self.choices[name], user=self.user)

    def choose_twice(self, name: str) -> None:
        self.choose_meanwhile(name)
        self.choose_meanwhile(name)

    def sync(self, replica: Replica) -> None:
        self.line.loses = self.chance.choice([0, 0, 0, 1, 2, 5])
        for name in (name for name, part in self.parts.items() if part is replica):
            self.line.meanwhile = partial(self.choose_twice, name)
        try:
            self.chance.choice([replica.sync, replica.sync, replica.pull, replica.push])()
        except Offline:
            return
        finally:
            self.line.loses, self.line.meanwhile = 0, lambda: None

    def settle(self) -> None:
        for _ in range(2):
            for replica in (*self.parts.values(), self.whole):
                replica.sync()


@drawn
@pytest.mark.parametrize("seed", range(examples(12)))
def test_each_has_what_the_whole_one_has_of_its_choice(seed: int, server: Server, opened: Open, line: Line) -> None:
    """The server of every third run is one of before, or becomes one, or a newer one, at any time."""
    world = World(seed, server, opened, line)
    for step in range(90):
        if seed % 3 == 2 and world.chance.random() < 0.1:
            line.old = not line.old
        name = world.chance.choice(list(world.parts))
        replica = world.chance.choice([world.whole, world.parts[name]])
        kind = world.chance.random()
        if kind < 0.5:
            world.write(replica, step)
        elif kind < 0.85:
            world.sync(replica)
        else:
            world.choose(name)
    world.settle()
    everything = shown(world.whole)
    fields = {(*key, name): register.value for key, found in everything.items() for name, register in found.items()}
    assert world.written.items() <= fields.items()
    for name, replica in world.parts.items():
        assert replica.pending() == []
        assert shown(replica) == shown(world.whole, **world.choices[name])
        assert replica.verify().differences == 0
