"""G7, G10, G12: devices, users, spaces and memberships at random, through the real server, against a pure model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from tests.support.drawn import drawn, examples, steps
from tests.support.model import Cells, Model, alive, cells_of, merge
from tests.support.wire import Device, Json, at, unique

CLIENTS = ["A", "b", "é"]
USERS = 3
KEPT = ("applied", "superseded")  # what is a duplicate was taken when it was first answered, or is sent
pick = st.integers(0, 99)
limits = st.sampled_from([1, 3, 37, 1000])
change = st.tuples(
    pick,
    st.sampled_from("rst"),
    st.sampled_from(["update"] * 4 + ["insert", "delete", "restore"]),
    st.sampled_from(["x", "y", "xy"]),
    st.integers(0, 30),
)


class Replica:
    """A device that keeps what it is sent. Every value names its space, so what does not belong there is seen."""

    def __init__(self, wire: Device, model: Model) -> None:
        self.wire, self.model = wire, model
        self.empty()

    def empty(self) -> None:
        self.held: dict[str, dict[str, Cells]] = {}
        self.cursor = ""
        self.sent: list[Json] = []

    def take(self, changes: list[Json], writer: str | None = None, lost: Collection[Any] = ()) -> None:
        """Takes changes in: the server's, or its own ones after they were pushed, without the registers that lost."""
        for one in changes:
            cells = cells_of(one, writer or one["clientId"])
            cells = {name: cell for name, cell in cells.items() if (one["id"], name, cell.at) not in lost}
            held = self.held.setdefault(one["spaceId"], {}).setdefault(one["id"], {})
            if one.get("whole"):
                held.clear()
            merge(held, cells)

    def answered(self, page: Json) -> None:
        """Takes a page in, after a look at who should have been shown it."""
        for space in page["spaces"]["left"]:
            assert self.model.role(self.wire.user, space) is None, f"still a member of {space}"
            self.held.pop(space, None)
        for one in page["serverChanges"]:
            space = one["spaceId"]
            assert self.model.role(self.wire.user, space), f"{self.wire.user} was shown {space}"
            for name, field in one["fields"].items():
                assert name == "deletedAt" or field["value"].split("|")[0] == space, (
                    f"{field['value']} leaked into {space}"
                )
        assert page["syncedUntil"] >= self.cursor
        self.take(page["serverChanges"])
        self.cursor = page["syncedUntil"]

    def pull(self, limit: int, pages: int) -> bool:
        """Pulls some pages; says whether that was all there is."""
        for _ in range(pages):
            page = self.wire.pull(self.cursor, limit=limit)
            self.answered(page)
            if not page["hasMore"]:
                return True
        return False

    def living(self) -> dict[str, dict[str, Cells]]:
        return {space: found for space, records in self.held.items() if (found := alive(records))}


class World(RuleBasedStateMachine):
    """One example: three users with two devices each and their spaces, all with names of its own."""

    device: Callable[..., Device]

    def __init__(self) -> None:
        super().__init__()
        self.model, self.clock, self.tail = Model(), 0, unique("")
        self.users = [f"u{n}{self.tail}" for n in range(USERS)]
        self.spaces: list[str] = []
        self.replicas = [self.replica(user, client) for user in self.users for client in CLIENTS[:2]]

    def replica(self, user: str, client: str) -> Replica:
        wire = type(self).device(user, "x", app=f"app{self.tail}")
        wire.headers = {name.encode(): value.encode() for name, value in wire.headers.items()}
        wire.headers[b"x-client-id"] = client.encode()
        wire.client = client
        return Replica(wire, self.model)

    def target(self, user: str, choice: int) -> str:
        """A space to write to: mostly a real one, sometimes a guess."""
        guesses = [f"_personal:{user}", f"_personal:{self.users[choice % USERS]}", f"nowhere{self.tail}"]
        return self.spaces[choice % len(self.spaces)] if self.spaces and choice >= 30 else guesses[choice % 3]

    def make(self, user: str, drawn: Any) -> Json:
        choice, record, op, names, when = drawn
        self.clock += 1
        stamp, space = at(when * 1_000_000 + self.clock), self.target(user, choice)
        fields: Json = {name: {"value": f"{space}|{self.clock}", "at": stamp} for name in names}
        made: Json = {
            "changeId": f"k{self.clock}",
            "table": "t",
            "id": record,
            "spaceId": space,
            "op": op,
            "fields": fields,
        }
        if op == "delete":
            del made["fields"]
            made["deletedAt"] = stamp
        if op == "restore":
            made |= {"op": "update", "fields": {"deletedAt": {"value": None, "at": stamp}}}
        return made

    @rule(user=pick)
    @precondition(lambda self: len(self.spaces) < 3)
    def create_a_space(self, user: int) -> None:
        space, owner = f"s{len(self.spaces)}{self.tail}", self.users[user % USERS]
        self.replicas[user % USERS * 2].wire.create(space)
        self.model.create(owner, space)
        self.spaces.append(space)

    def _manage(self, actor: int, method: str, path: str, status: int, **body: Any) -> None:
        answer: httpx.Response = self.replicas[actor % USERS * 2].wire.request(method, path, **body)
        assert answer.status_code == status, answer.text

    @rule(actor=pick, space=pick, user=pick, role=st.sampled_from(["owner", "writer", "reader"]))
    @precondition(lambda self: self.spaces)
    def set_a_member(self, actor: int, space: int, user: int, role: str) -> None:
        named, member = self.spaces[space % len(self.spaces)], self.users[user % USERS]
        status = self.model.put(self.users[actor % USERS], named, member, role)
        self._manage(actor, "PUT", f"/spaces/{named}/members/{member}", status, json={"role": role})

    @rule(actor=pick, space=pick, user=pick)
    @precondition(lambda self: self.spaces)
    def remove_a_member(self, actor: int, space: int, user: int) -> None:
        named, member = self.spaces[space % len(self.spaces)], self.users[user % USERS]
        status = self.model.remove(self.users[actor % USERS], named, member)
        self._manage(actor, "DELETE", f"/spaces/{named}/members/{member}", status)

    @rule(actor=pick, space=pick, sure=st.integers(0, 3))
    @precondition(lambda self: self.spaces)
    def delete_a_space(self, actor: int, space: int, sure: int) -> None:
        if sure == 0:
            named = self.spaces[space % len(self.spaces)]
            self._manage(actor, "DELETE", f"/spaces/{named}", self.model.drop(self.users[actor % USERS], named))

    @rule(who=pick, drawn=st.lists(change, min_size=1, max_size=6), atomic=st.booleans(), delta=st.booleans())
    def push(self, who: int, drawn: list[Any], atomic: bool, delta: bool) -> None:
        replica = self.replicas[who % len(self.replicas)]
        replica.sent = [self.make(replica.wire.user, one) for one in drawn]
        self._push(replica, replica.sent, atomic and len(drawn) > 3, delta)

    @rule(who=pick, delta=st.booleans(), seed=st.randoms(use_true_random=False))
    def send_the_last_push_again_shuffled(self, who: int, delta: bool, seed: Any) -> None:
        replica = self.replicas[who % len(self.replicas)]
        if replica.sent:
            seed.shuffle(again := list(replica.sent))
            self._push(replica, again, False, delta)

    def _push(self, replica: Replica, changes: list[Json], atomic: bool, delta: bool) -> None:
        wire = replica.wire
        expected = self.model.push(wire.user, wire.client, changes, atomic=atomic)
        answer = wire.send(*changes, atomic=atomic, pull=delta, **({"since": replica.cursor} if delta else {}))
        if expected is None:
            assert answer.status_code == 422, answer.text
            return
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert [result.get("code", result["status"]) for result in body["results"]] == expected
        if delta:
            kept = [one for one, status in zip(changes, expected, strict=True) if status in KEPT]
            replica.take(kept, wire.client, {(c["id"], c["field"], c["clientTimestamp"]) for c in body["conflicts"]})
            replica.answered(body)

    @rule(who=pick, limit=limits, pages=st.sampled_from([1, 2, 1000]))
    def pull(self, who: int, limit: int, pages: int) -> None:
        self.replicas[who % len(self.replicas)].pull(limit, pages)

    @rule(who=pick)
    def lose_everything_on_a_device(self, who: int) -> None:
        self.replicas[who % len(self.replicas)].empty()

    def teardown(self) -> None:
        """At the end every device agrees with the model, and so do a new device and a replay of the log."""
        for n, replica in enumerate(self.replicas):
            assert replica.pull([1, 3, 37][n % 3], 1000)
            visible = self.model.visible(replica.wire.user)
            assert replica.living() == visible, "a device differs from the model"
        for user in self.users:
            for history in (0, 1):
                fresh = self.replica(user, "new")
                for page in fresh.wire.pages(limit=2, history=history):
                    fresh.answered(page)
                assert fresh.living() == self.model.visible(user), (
                    f"history={history}: a new device differs from the model"
                )
        for replica in self.replicas[::2]:
            shown = [c["seq"] for c in replica.wire.drain(history=1)[0] if c["spaceId"].startswith("_personal:")]
            assert shown == sorted(set(shown))


@drawn
@pytest.mark.timeout(900)  # a red run takes minutes to find the shortest way to its fault
def test_devices_agree_with_the_model_whatever_happens(device: Callable[..., Device]) -> None:
    World.device = staticmethod(device)
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        World,
        settings=settings(max_examples=examples(50), stateful_step_count=steps(30), suppress_health_check=checks),
    )
