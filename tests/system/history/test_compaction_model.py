"""G1, G8: the machine of test_model.py, with compactions in between. Devices that slept through them converge too."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from tests.support.compacting import ALL, compact_now
from tests.support.drawn import drawn, examples, steps
from tests.support.harness import Server
from tests.support.model import Cell, Cells, Model, merge, written_by
from tests.support.wire import Device, Json
from tests.system.sync.test_model import KEPT, Replica, World, limits, pick

HUSK = "{}|a value that is gone"


class Forgetful(Model):
    """What compaction may take away: the values of deleted records, and then the deleted records themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.floors: dict[str, str] = {}
        self.folded: set[str] = set()
        self.limbo: set[tuple[str, str, str]] = set()
        self.places: dict[tuple[str, str, str], tuple[str, str]] = {}

    def fold(self, space: str) -> None:
        self.folded.add(space)
        for id_, cells in self.records.get(space, {}).items():
            if cells.get("deletedAt", Cell(None, "", "")).value is not None:
                self.limbo |= {key for key, place in self.places.items() if place == (space, id_)}
                cells.update({n: cell._replace(value=None) for n, cell in cells.items() if n != "deletedAt"})

    def forget(self, space: str) -> None:
        self.fold(space)
        records = self.records.get(space, {})
        for id_, cells in list(records.items()):
            if cells.get("deletedAt", Cell(None, "", "")).value is not None:
                self.floors[space] = max(self.floors.get(space, ""), *(cell.at for cell in cells.values()))
                del records[id_]
                self.taken -= {key for key, place in self.places.items() if place == (space, id_)}

    def push(self, user: str, client: str, changes: list[Json], *, atomic: bool) -> list[str] | None:
        kept = copy.deepcopy((self.records, self.taken, self.roles)) if atomic else None
        marks = super().push(user, client, changes, atomic=atomic)
        if kept is not None and marks is not None and "record_forgotten" in marks:
            self.records, self.taken, self.roles = kept
            return None
        return marks

    def _write(self, user: str, client: str, change: Json) -> str:
        key, space = (user, client, change["changeId"]), change["spaceId"]
        if key not in self.taken and change["id"] not in self.records[space] and space in self.floors:
            made = written_by(change, client)
            if change["op"] == "update" or (change["op"] == "insert" and made["deletedAt"].at <= self.floors[space]):
                return "record_forgotten"
        self.places[key] = space, change["id"]
        return super()._write(user, client, change)


class Sleeper(Replica):
    """A device that may be told to start again, and is sent husks: tombstones without values."""

    def answered(self, page: Json) -> None:
        for one in page["serverChanges"]:
            for name, register in one["fields"].items():
                if register["value"] is None and name != "deletedAt":
                    register["value"] = HUSK.format(one["spaceId"])
        super().answered(page)

    def living(self) -> dict[str, dict[str, Cells]]:
        found = super().living()
        return {
            space: {
                id_: {n: c._replace(value=None) if c.value == HUSK.format(space) else c for n, c in cells.items()}
                for id_, cells in records.items()
            }
            for space, records in found.items()
        }

    def pull(self, limit: int, pages: int) -> bool:
        for _ in range(pages):
            answer = self.wire.ask(self.cursor, limit=limit)
            if answer.status_code == 410:
                self.empty()
                continue
            assert answer.status_code == 200, answer.text
            self.answered(answer.json())
            if not answer.json()["hasMore"]:
                return True
        return False


class Compacted(World):
    """Three users' devices, and an operator who compacts."""

    server: Server
    forgets = False

    def __init__(self) -> None:
        super().__init__()
        self.model = Forgetful()
        for replica in self.replicas:
            replica.model = self.model

    def replica(self, user: str, client: str) -> Replica:
        made = super().replica(user, client)
        return Sleeper(made.wire, self.model)

    def _compact(self, tombstones: timedelta | None) -> None:
        assert isinstance(self.model, Forgetful)
        for space in list(self.model.records):
            compact_now(type(self).server.owner_dsn, space, tombstones=tombstones)
            (self.model.fold if tombstones is None else self.model.forget)(space)

    @rule()
    def compact(self) -> None:
        self._compact(None)

    @rule(sure=pick)
    @precondition(lambda self: self.forgets)
    def forget(self, sure: int) -> None:
        if sure % 3 == 0:
            self._compact(ALL)

    def _push(self, replica: Replica, changes: list[Json], atomic: bool, delta: bool) -> None:
        assert isinstance(self.model, Forgetful)
        wire = replica.wire
        # Whether the log still knows a change of a user who may write no more depends on what was folded.
        unsure = {c["spaceId"]: self.model.missing_right(wire.user, c["spaceId"]) for c in changes}
        atomic = atomic and not any(why and space in self.model.folded for space, why in unsure.items())
        expected = self.model.push(wire.user, wire.client, changes, atomic=atomic)
        answer = wire.send(*changes, atomic=atomic, pull=delta, **({"since": replica.cursor} if delta else {}))
        if expected is None:
            assert answer.status_code == 422, answer.text
            return
        if answer.status_code == 410 and delta:
            replica.empty()
            return
        assert answer.status_code == 200, answer.text
        body = answer.json()
        for change, result, status in zip(changes, body["results"], expected, strict=True):
            # The log may not know any more that it had a change which has no effect now.
            known, space = {status}, change["spaceId"]
            if status == "duplicate" and space in self.model.folded:
                known.add(unsure[space] or "superseded")
            if status == "duplicate" and (wire.user, wire.client, change["changeId"]) in self.model.limbo:
                known.add("applied")  # the husk gets back what this very change had written
            found = result.get("code", result["status"])
            assert found in known, (change, result, status)
            if (status, found) == ("duplicate", "applied"):
                merge(self.model.records[space][change["id"]], written_by(change, wire.client))
        if delta:
            kept = [c for c, r in zip(changes, body["results"], strict=True) if r["status"] in KEPT]
            replica.take(kept, wire.client, {(c["id"], c["field"], c["clientTimestamp"]) for c in body["conflicts"]})
            replica.answered(body)

    @rule(who=pick, limit=limits, pages=pick)
    def begin_anew_and_go_to_sleep(self, who: int, limit: int, pages: int) -> None:
        replica = self.replicas[who % len(self.replicas)]
        replica.empty()
        replica.pull(limit, 1 + pages % 3)


@drawn
@pytest.mark.timeout(900)
@pytest.mark.parametrize("forgets", [False, True], ids=["folds", "forgets"])
def test_devices_that_sleep_through_compactions_agree_with_those_that_do_not(
    device: Callable[..., Device], server: Server, forgets: bool
) -> None:
    kind: Any = type("Machine", (Compacted,), {"device": staticmethod(device), "server": server, "forgets": forgets})
    checks = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]
    run_state_machine_as_test(
        kind,
        settings=settings(max_examples=examples(25), stateful_step_count=steps(30), suppress_health_check=checks),
    )
