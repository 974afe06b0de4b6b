"""The vectors that every implementation reads: clock.json, merge.json, replica.json, base.json and
overwrites.json in tests/vectors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.data.change import read_change
from syncd_client.data.clock import format_instant, parse_instant, tick
from syncd_client.data.merge import Register, Registers, is_deleted, merge, overlay, wins
from syncd_client.store.store import set_meta

from tests.support.scripted import Script, applied, page, wire
from tests.support.vectors import vectors

CLOCK = vectors("clock")
MERGE = vectors("merge")
REPLICA = vectors("replica")
BASE = vectors("base")
OVERWRITES = vectors("overwrites")


def named(vectors: list[Any]) -> Any:
    return pytest.mark.parametrize("vector", vectors, ids=[str(v.get("name", v.get("text"))) for v in vectors])


@named(CLOCK["parse"])
def test_an_instant_is_read_and_written(vector: Any) -> None:
    assert parse_instant(vector["text"]) == vector["micros"]
    assert format_instant(vector["micros"]) == vector["canonical"]


@pytest.mark.parametrize("text", CLOCK["invalid"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_instant(text)


@named(CLOCK["tick"])
def test_the_clock_ticks(vector: Any) -> None:
    assert tick(vector["last"], vector["wall"]) == vector["expect"]


@pytest.mark.parametrize("pair", CLOCK["order"])
def test_stamps_have_an_order(pair: Any) -> None:
    smaller, greater = (Register(None, *pair[name]) for name in ("smaller", "greater"))
    assert wins(greater, smaller)
    assert not wins(smaller, greater)


def merged(changes: Any) -> Registers:
    held: Registers = {}
    for change in changes:
        merge(held, read_change(change).registers)
    return held


def plain(registers: Registers) -> dict[str, Any]:
    return {name: {"value": r.value, "at": format_instant(r.at), "clientId": r.client} for name, r in registers.items()}


@named(MERGE)
def test_changes_merge(vector: Any) -> None:
    orders = itertools.permutations(vector["changes"]) if vector["anyOrder"] else [vector["changes"]]
    for order in orders:
        held = merged(order)
        # As text, since Python takes 0 for false.
        assert json.dumps(plain(held), sort_keys=True) == json.dumps(vector["expect"]["registers"], sort_keys=True)
        assert is_deleted(held) == vector["expect"]["deleted"]


def test_there_are_enough_vectors() -> None:
    assert len(MERGE) >= 25
    assert len({vector["name"] for vector in MERGE}) == len(MERGE)


def registers(fields: Any) -> Registers:
    """Registers that each name their writer."""
    return read_change({"table": "t", "id": "r", "op": "update", "fields": fields}).registers


@named(REPLICA["lowered"])
def test_a_lowered_register_stands_for_the_one_that_was_sent(vector: Any) -> None:
    held, incoming = registers({"x": vector["held"]}), registers({"x": vector["incoming"]})
    wanted = {"held": held["x"], "incoming": incoming["x"]}[vector["stands"]]
    merge(held, incoming)
    assert held["x"] == wanted


@named(REPLICA["overlay"])
def test_unsent_writes_lie_on_top(vector: Any) -> None:
    unsent = [read_change(change, vector["client"]).registers for change in vector["unsent"]]
    assert overlay(registers(vector["confirmed"]), unsent) == registers(vector["expect"])


@named(REPLICA["write"])
def test_a_write_is_later_than_what_it_replaces(
    vector: Any, open_replica: Callable[..., Replica], script: Script
) -> None:
    replica = open_replica(wall=lambda: vector["wall"])
    fields = {f"f{n}": (0, format_instant(at)) for n, at in enumerate(vector["replaces"])}
    change = wire("r", client=replica.client_id, **fields)
    for register, sent in zip(change["fields"].values(), vector.get("sent", []), strict=False):
        register["sent"] = format_instant(sent)
    script.answers = [page(change)]
    replica.sync()
    with replica.store.write() as db:
        set_meta(db, "clock", vector["last"])
    replica.patch("t", "r", dict.fromkeys([*fields, "new"], 1), upsert=True)
    assert {register.at for register in replica.registers("t", "r").values()} == {vector["expect"]}


@named(BASE["base"])
def test_a_write_says_what_of_others_it_is_written_over(
    vector: Any, open_replica: Callable[..., Replica], script: Script
) -> None:
    replica = open_replica(wall=lambda: vector["wall"], client_id="me")
    script.answers = [page(wire("r") | {"fields": vector["held"]})]
    replica.pull()
    for write, *fields in vector["writes"]:
        getattr(replica, write)("t", "r", *fields)
    names = {"table": "t", "id": "r"}
    changes = [{**queued.change, "changeId": None} for queued in replica.pending()]
    assert changes == [{**change, **names, "changeId": None} for change in vector["changes"]]


@named(OVERWRITES["found"])
def test_a_write_over_what_was_not_seen_is_found(
    vector: Any, open_replica: Callable[..., Replica], script: Script
) -> None:
    edited = parse_instant("2026-01-01T10:30:00Z")
    replica = open_replica(wall=lambda: edited, client_id="me")
    script.answers = [page(wire("r") | {"fields": vector["held"]})]
    replica.pull()
    sent = [replica.patch("t", "r", fields, upsert=True) for fields in vector.get("edits", ())]
    if "change" in vector:
        script.answers = [page(wire("r") | vector["change"], cursor="c2")]
        replica.pull()
    else:
        said = [{"changeId": one, "seq": n, "eventId": f"e{n}", "status": "applied", "overwrote": of}
                for n, (one, of) in enumerate(zip(sent, vector["overwrote"], strict=True), 2)]  # fmt: skip
        script.answers = [lambda body: applied(body, results=said)]
        replica.push()
    names = ("kind", "field", "mine", "theirs", "by")
    found = [{name: getattr(conflict, name) for name in names} for conflict in replica.conflicts()]
    assert found == vector["conflicts"]
