"""What the measurements compute of their rounds."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from bench.crowd import SYNCD, receipts
from bench.figures import Bar, Results, Sample, Side, Work, against, measure, part, ratio, save, side
from bench.live import histogram
from bench.page import BEGIN, END, alt, write
from bench.peers.cast import ABSENT
from bench.play import fell_out, order
from bench.sockets import Count, Listener
from bench.workload import RECORD, Device, record


def test_a_quantile_is_a_value_that_was_measured() -> None:
    times = [float(n) for n in range(1, 101)]
    assert part(times, 0.5) == 51.0
    assert part(times, 0.99) == 100.0
    assert part(times, 1.0) == 100.0
    assert part([7.0], 0.0) == 7.0


def test_there_is_no_quantile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        part([], 0.5)


def test_a_ratio_is_of_rounds_and_not_of_medians() -> None:
    # In the last round the machine was slow for both.
    assert ratio([100.0, 100.0, 10.0], [200.0, 200.0, 20.0]) == 0.5
    assert ratio([1.0, 4.0, 9.0], [1.0, 2.0, 3.0]) == 2.0


def test_a_ratio_to_nothing_is_without_end() -> None:
    assert ratio([1.0], [0.0]) == float("inf")


def test_a_ratio_wants_as_many_rounds_of_each() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio([1.0, 2.0], [1.0])


def test_a_side_has_its_median_its_spread_and_its_cpu() -> None:
    one = side("syncd", [Sample(90.0, 0.3), Sample(100.0, 0.1), Sample(120.0, 0.2)])
    assert (one.median, one.spread, one.cpu_median) == (100.0, 0.15, 0.2)
    assert side("COPY", [Sample(1.0)]).cpu_median is None


def test_a_bar_is_met_from_above_or_from_below_or_not_decided() -> None:
    assert Bar(what="rate", value=1.0, target=1.0).met is True
    assert Bar(what="rate", value=0.99, target=1.0).met is False
    assert Bar(what="cost", value=1.01, target=1.0, ceiling=True).met is False
    assert Bar(what="rate", value=None, target=1.0).met is None


def test_who_is_absent_is_no_bar_that_is_met() -> None:
    sides = {"syncd": side("syncd", [Sample(10.0, 1.0)])}
    assert against(sides, "triplit", 1.0).met is None


def test_by_cpu_the_cheaper_is_more() -> None:
    sides = {"syncd": side("syncd", [Sample(10.0, 1.0)]), "broadcast": side("broadcast", [Sample(10.0, 0.25)])}
    assert against(sides, "broadcast", 0.8, cpu=True).value == 0.25


def test_every_round_begins_with_another() -> None:
    turns = [order(["a", "b", "c"], turn) for turn in range(4)]
    assert [turn[0] for turn in turns] == ["a", "b", "c", "a"]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in turns)


def test_a_work_of_two_sides_is_judged_by_its_rounds() -> None:
    work = measure("growth", "a push", [3.0, 1.0], [2.0, 1.0], unit="ms", against="small", target=1.1, ceiling=True)
    assert work.bars[0].value == 1.25
    assert work.bars[0].met is False
    free = measure("growth", "a push", [3.0], [2.0], unit="ms", against="small", target=None)
    assert free.bars == []


def test_a_work_on_a_machine_that_others_use_says_so() -> None:
    sides = {"syncd": Side(label="syncd", values=[1.0])}
    assert Work(name="idle", what="a pull", unit="µs", sides=sides, others=0.5).busy
    assert not Work(name="idle", what="a pull", unit="µs", sides=sides, others=0.05).busy


def test_the_shares_of_a_histogram_are_all_of_it() -> None:
    bars = histogram([0.1, 0.2, 5.0, 400.0])
    assert sum(bar["share"] for bar in bars) == 1.0
    assert all(bar["from"] < bar["to"] for bar in bars)


@pytest.mark.parametrize("edits", [0, 2])
def test_every_record_that_is_written_has_as_many_bytes(edits: int) -> None:
    device = Device("user", "space", edits=edits, whole=True)
    changes = [change for _ in range(4) for change in device.changes(25)]
    assert {len(msgspec.json.encode(record(change))) for change in changes} == {RECORD}
    assert ("update" in {change["op"] for change in changes}) == bool(edits)


def test_devices_of_one_user_make_ids_of_their_own() -> None:
    devices = [Device("user", f"space-{n}") for n in range(50)]
    made = [change["changeId"] for device in devices for change in device.changes(2)]
    assert len(set(made)) == len(made)


def test_the_page_keeps_what_is_around_its_figures(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    works = [measure("wal", "a [log]", [1.0], [2.0], unit="bytes", against="floor", target=1.0)]
    write(Results(made="2026-11-29T00:00:00Z", peers={"Triplit": "1"}, absent={"Kinto": "no npm"},
                  works={"wal": works[0]}), page)  # fmt: skip
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "Kinto was not there: no npm." in text
    assert "| a [log] (bytes) | syncd | 1 |" in text
    assert alt(works) == "Bars. a log, bytes: syncd 1, floor 2"


def test_a_peer_that_does_not_get_through_is_said_to_be_absent_and_a_floor_ends_the_work() -> None:
    try:
        fell_out("triplit_flushed", "a work", ConnectionError("the server closed the connection\nand more"))
        assert ABSENT == {"triplit_flushed (a work)": "the server closed the connection"}
    finally:
        ABSENT.clear()
    for name in ("syncd", "copy", "broadcast"):
        with pytest.raises(ConnectionError):
            fell_out(name, "a work", ConnectionError("the server closed the connection"))


def test_a_change_that_a_listener_is_sent_again_is_received_once_and_first() -> None:
    count, (one, other) = Count(b"x"), (socket.socket(), socket.socket())
    with one, other:
        ann, bob = Listener(one, count), Listener(other, count)
        sent = [b'{"changeId":"a"}', b'{"changeId":"b"}']
        kept = [(1, ann, sent[0]), (2, ann, sent[0]), (3, bob, sent[0] + sent[1]), (4, bob, b'{"changeId":"older"}')]
        assert receipts(SYNCD.name, sent, kept) == [[1, 3], [3]]


def test_works_of_several_runs_are_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.figures.RESULTS", tmp_path)
    one = measure("wal", "the log", [1.0], [2.0], unit="bytes", against="floor", target=1.0)
    gone = {"triplit (the log)": "it closed", "Kinto": "no npm"}
    save([one], {}, quick=False, postgres="17", took={"wal": 60.0}, peers={}, absent=gone)
    other = measure("page", "a page", [1.0], [2.0], unit="bytes", against="floor", target=1.0)
    kept = save([other], {}, quick=False, postgres="17", took={"page": 30.0}, peers={"Kinto": "1"}, absent={})
    assert (list(kept.works), kept.seconds) == (["wal", "page"], 90.0)
    assert kept.absent == {"triplit (the log)": "it closed"}
    again = save([one], {}, quick=False, postgres="17", took={"wal": 50.0}, peers={}, absent={})
    assert (again.seconds, again.absent) == (80.0, {})
