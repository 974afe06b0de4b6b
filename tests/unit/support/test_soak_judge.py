"""The judge of tests/system/operate/test_soak.py sees each thing that can be wrong with a round, and else nothing."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.soak import judge
from tests.soak.drawing import draw
from tests.soak.faults import FAULTS
from tests.soak.history import Event
from tests.soak.judge import Made, Row
from tests.soak.schedule import Fault, planned, shortest

A = "ledger"


def wrote(who: str, n: int, saw: dict[str, int] | None = None, ids: list[str] | None = None) -> Event:
    ids = [f"{who}{n}.{part}" for part in range(2)] if ids is None else ids
    return {"t": float(n), "who": who, "ev": "wrote", "space": A, "n": n, "saw": saw or {}, "ids": ids}


def seen(who: str, heads: dict[str, int], *, t: float = 9.0, settled: bool = True, **more: object) -> Event:
    plain = {"space": A, "user": who[:3], "torn": [], "canaries": [], "settled": settled}
    return {"t": t, "who": who, "ev": "seen", "heads": heads, **plain, **more}


def acked(*ids: str) -> Event:
    return {"t": 9.0, "who": "ann", "ev": "acked", "ids": list(ids)}


EVENTS = [wrote("ann", 1), wrote("bob", 1, {"ann": 1}), acked("ann1.0", "ann1.1")]
LOG = [Row(1, "ann1.0", 2), Row(2, "ann1.1", 2), Row(3, "bob1.0", 4), Row(4, "bob1.1", 4)]
DELIVERED = [Made(1, "ann", 1), Made(3, "bob", 1)]


def test_nothing_is_wrong_where_nothing_is() -> None:
    assert judge.ledger(EVENTS, LOG, DELIVERED, A) == []
    assert judge.order(DELIVERED, EVENTS[:2]) == []
    assert judge.sessions([*EVENTS, seen("ann", {"ann": 1}), seen("ann", {"ann": 1, "bob": 1})], A) == []


@pytest.mark.parametrize(
    ("log", "delivered", "says"),
    [
        ([*LOG[:3], Row(5, "bob1.1", 4)], DELIVERED, "gaps"),
        ([Row(n + 1, row.change_id, row.push_end) for n, row in enumerate(LOG[2:])], DELIVERED, "acknowledged"),
        (LOG, [*DELIVERED, Made(5, "bob", 2)], "nobody wrote"),
        ([LOG[0], LOG[2], LOG[1], LOG[3]], DELIVERED, "split"),
        (LOG[:3], DELIVERED, "split"),
        ([*LOG[:3], Row(4, "bob1.1", 5)], DELIVERED, "split"),
    ],
    ids=["a gap", "a lost change", "an invented one", "two pushes mixed", "half a push", "a push in two"],
)
def test_a_log_that_is_wrong(log: list[Row], delivered: list[Made], says: str) -> None:
    log = [Row(n + 1 if says == "split" else row.seq, *row[1:]) for n, row in enumerate(log)]
    assert any(says in found for found in judge.ledger(EVENTS, log, delivered, A))


def test_a_round_in_which_nothing_was_acknowledged() -> None:
    assert any("nothing at all" in found for found in judge.ledger(EVENTS[:2], LOG, DELIVERED, A))


def test_a_page_that_ends_within_a_push() -> None:
    assert judge.pages([(2, 3)], LOG) == []
    assert len(judge.pages([(1, 2), (2, 3), (3, 4)], LOG)) == 2


def test_an_order_that_is_none() -> None:
    swapped = [Made(1, "bob", 1), Made(3, "ann", 1)]
    assert len(judge.order(swapped, EVENTS[:2])) == 1, "a write before what its writer had seen"
    assert len(judge.order([Made(1, "ann", 2), Made(2, "ann", 1)], [])) == 1, "a device's second write before its first"


@pytest.mark.parametrize(
    "events",
    [
        [wrote("ann", 1), seen("ann", {})],
        [seen("ann", {"bob": 2}), seen("ann", {"bob": 1})],
        [seen("ann", {"bob": 1}, torn=["bob"])],
        [wrote("bob", 1, {"cem": 3}), seen("ann", {"bob": 1, "cem": 2})],
    ],
    ids=["own write not read", "older than before", "half a push", "without its cause"],
)
def test_a_session_that_is_wrong(events: list[Event]) -> None:
    assert len(judge.sessions(events, A)) == 1


def test_what_a_device_has_forgotten_it_may_show_again() -> None:
    emptied = {"t": 5.0, "who": "ann", "ev": "emptied"}
    assert judge.sessions([seen("ann", {"bob": 2}), emptied, seen("ann", {"bob": 1})], A) == []
    assert judge.sessions([wrote("bob", 1, {"cem": 3}), seen("ann", {"bob": 1}, settled=False)], A) == []


def test_what_a_removed_member_sees() -> None:
    gone = {"t": 2.0, "who": "ann", "ev": "removed", "canary": "canary-1", "until": 4.0}
    for t, wrong in ((1.0, 0), (3.0, 1), (5.0, 0)):
        assert len(judge.removals([gone, seen("annlive", {}, t=t, canaries=["canary-1"])])) == wrong
    assert judge.removals([gone, seen("boblive", {}, t=3.0, canaries=["canary-1"])]) == []


def test_refusals_and_failures() -> None:
    refused = {"t": 1.0, "who": "ann", "ev": "refused", "space": A, "code": "not_a_writer", "id": "x"}
    failed = {"t": 1.0, "who": "ann", "ev": "failed", "code": "internal"}
    assert len(judge.refusals([refused, failed], A)) == 2
    assert judge.refusals([{**refused, "space": "other"}, {**failed, "code": "offline"}], A) == []


def test_replicas_that_differ() -> None:
    model = {A: {"items/r": {"x": [1, "t", "c"]}}}
    assert judge.replicas({"ann": model}, model) == []
    assert len(judge.replicas({"ann": {A: {"items/r": {"x": [2, "t", "c"]}}}, "bob": {}}, model)) == 2
    assert len(judge.replicas({"ann": {**model, "vault": {}}}, model)) == 1


async def test_the_shortest_schedule_is_looked_for() -> None:
    schedule = planned(7, 60, list(FAULTS), every=2)
    assert len(schedule) == 30
    assert schedule == planned(7, 60, list(FAULTS), every=2)
    assert schedule != planned(8, 60, list(FAULTS), every=2)
    culprits, tries = {schedule[4], schedule[21]}, list[int]()

    async def fails(fewer: list[Fault]) -> bool:
        tries.append(len(fewer))
        return culprits <= {*fewer}

    assert await shortest(schedule, fails) == [schedule[4], schedule[21]]
    assert len(tries) < 60


def test_every_fault_comes_before_any_comes_twice() -> None:
    names = [fault.name for fault in planned(3, 2.0 * len(FAULTS), list(FAULTS), every=2)]
    assert {*names} == {*FAULTS}
    assert len(names) == len(FAULTS)


def test_a_history_is_drawn() -> None:
    fault = {"t": 1.0, "who": "faults", "ev": "fault", "name": "kill <-9>", "until": 3.0}
    text = draw([*EVENTS, fault, seen("bob", {})], "seed 1", ["bob saw a push of ann by half"])
    root = ElementTree.fromstring(text)
    said = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"seed 1", "ann", "bob", "bob saw a push of ann by half"} <= {*said}
    assert len(list(root.iter("{http://www.w3.org/2000/svg}circle"))) == len(EVENTS) + 1
