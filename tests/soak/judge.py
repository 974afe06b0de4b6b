"""What must be true of a round when all is well again. Pure: events and what was read at the end in, sentences out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from tests.soak.history import Event

Heads = Mapping[str, int]
PARTS = 3


class Row(NamedTuple):
    """A change of the log as it is in the database."""

    seq: int
    change_id: str
    push_end: int


class Made(NamedTuple):
    """A record's head as the log delivered it: the write `n` of a device."""

    seq: int
    device: str
    n: int


def ledger(events: Sequence[Event], log: Sequence[Row], delivered: Sequence[Made], space: str) -> list[str]:
    """Acknowledged ⊆ delivered ⊆ attempted, contiguous, pushes whole."""
    found = []
    if [row.seq for row in log] != list(range(1, len(log) + 1)):
        found.append(f"the log of {space} has gaps: {[row.seq for row in log][:20]} …")
    ids = {row.change_id for row in log}
    wrote = [event for event in events if event["ev"] == "wrote" and event["space"] == space]
    mine = {id_ for event in wrote for id_ in event["ids"]}
    acked = {id_ for event in events if event["ev"] == "acked" for id_ in event["ids"]}
    if lost := sorted((acked & mine) - ids):
        found.append(f"{len(lost)} acknowledged changes are not in the log of {space}: {lost[:5]}")
    tried = {(event["who"], event["n"]) for event in wrote}
    if foreign := [made for made in delivered if (made.device, made.n) not in tried]:
        found.append(f"nobody wrote what was delivered in {space}: {foreign[:5]}")
    if not acked & mine:
        found.append(f"nothing at all was acknowledged in {space}")
    return found + whole(wrote, log)


def whole(wrote: Iterable[Event], log: Sequence[Row]) -> list[str]:
    """Every batch is there with all its changes, side by side in one push, or not at all."""
    place = {row.change_id: row for row in log}
    found = []
    for event in wrote:
        rows = [place[id_] for id_ in event["ids"] if id_ in place]
        if not rows:
            continue
        seqs = sorted(row.seq for row in rows)
        if len(rows) != len(event["ids"]) or seqs[-1] - seqs[0] != len(seqs) - 1 or len({r.push_end for r in rows}) > 1:
            found.append(f"write {event['n']} of {event['who']} was split: {seqs} of {len(event['ids'])} changes")
    return found


def pages(cuts: Iterable[tuple[int, int]], log: Sequence[Row]) -> list[str]:
    """No page ends within a push: what comes before and after its end is of two."""
    ends = {row.seq: row.push_end for row in log}
    split = [f"a page split a push between {last} and {first}" for last, first in cuts if ends[last] == ends[first]]
    return split[:5]


def order(delivered: Sequence[Made], wrote: Iterable[Event]) -> list[str]:
    """Monotonic writes, and writes follow reads: in the log each write comes after what its writer had seen."""
    needs = {(event["who"], event["n"]): event["saw"] for event in wrote}
    found, heads = [], defaultdict[str, int](int)
    for made in sorted(delivered):
        if made.n < heads[made.device]:
            found.append(f"write {made.n} of {made.device} comes after its write {heads[made.device]}")
        for device, n in needs.get((made.device, made.n), {}).items():
            if heads[device] < n and device != made.device:
                found.append(f"write {made.n} of {made.device}, who had seen {device} at {n}, comes before that")
        heads[made.device] = max(made.n, heads[made.device])
    return found


def sessions(events: Iterable[Event], space: str) -> list[str]:
    """What a device shows: its own writes, nothing older than before, no push by half, nothing without its causes."""
    found, last = [], defaultdict[str, dict[str, int]](dict)
    needs: dict[tuple[str, int], Heads] = {}
    events = [event for event in events if event.get("space", space) == space]
    for event in events:
        if event["ev"] == "wrote":
            needs[event["who"], event["n"]] = event["saw"]
    for event in events:
        who = event["who"]
        if event["ev"] == "emptied":
            last[who] = {}
        if event["ev"] == "wrote" and event["ids"]:
            last[who][who] = event["n"]
        if event["ev"] == "seen":
            found += [f"{who} saw a push of {device} by half" for device in event["torn"]]
            found += [
                f"{who} saw {device} at {event['heads'].get(device, 0)} after {n}"
                for device, n in last[who].items()
                if event["heads"].get(device, 0) < n
            ]
            found += without_causes(who, event["heads"], needs) if event["settled"] else []
            last[who] = dict(event["heads"])
    return found


def without_causes(who: str, heads: Heads, needs: Mapping[tuple[str, int], Heads]) -> list[str]:
    """What a device shows of others is not there without what they had seen when they wrote it."""
    return [
        f"{who} saw write {n} of {device} without write {wanted} of {other}, which {device} had seen"
        for device, n in heads.items()
        for other, wanted in needs.get((device, n), {}).items()
        if heads.get(other, 0) < wanted
    ]


def removals(events: Sequence[Event]) -> list[str]:
    """What was written in a space after a removal is seen by no device of who was removed, until it is back."""
    found = []
    for gone in (event for event in events if event["ev"] == "removed"):
        found += [
            f"{seen['who']} saw {gone['canary']} while its user {gone['who']} was removed"
            for seen in events
            if seen["ev"] == "seen" and gone["canary"] in seen["canaries"] and seen.get("user") == gone["who"]
            and gone["t"] < seen["t"] < gone["until"]
        ]  # fmt: skip
    return found


def refusals(events: Iterable[Event], space: str) -> list[str]:
    """In a space that all may write to nothing is refused, and no client meets what it has no word for."""
    known = {"offline", "no_answer", "busy", "database_unavailable", "sync_busy", "stopping", "store_failed"}
    found = []
    for event in events:
        if event["ev"] == "refused" and event["space"] == space:
            found.append(f"{event['who']} was refused a write in {space}: {event['code']}")
        if event["ev"] == "failed" and event["code"] not in known:
            found.append(f"{event['who']} met {event['code']}: {event.get('detail', '')}")
    return found


def replicas(shown: Mapping[str, Mapping[str, Any]], wanted: Mapping[str, Any]) -> list[str]:
    """All devices hold what the model holds, register by register; `wanted` is {space: {record: registers}}."""
    found = []
    for who, spaces in shown.items():
        found += [f"{who} holds a foreign space {space}" for space in set(spaces) - set(wanted)]
        for space, records in wanted.items():
            mine = spaces.get(space, {})
            differ = sorted(id_ for id_ in {*mine, *records} if mine.get(id_) != records.get(id_))
            if differ:
                one = differ[0]
                found.append(
                    f"{who} differs in {len(differ)} records of {space}, in {one}: "
                    f"{mine.get(one)} and not {records.get(one)}"
                )
    return found
