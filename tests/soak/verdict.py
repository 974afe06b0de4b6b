"""Reads what a round has come to, and judges it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import asyncpg

from tests.soak import judge
from tests.soak.judge import Made, Row
from tests.soak.world import APP, CANARY, DEADLINE, MEGABYTE, SPACES, World
from tests.support.device import Change, Device
from tests.support.ledger import none_is_open
from tests.support.model import Cells, cells_of, merge
from tests.support.processes import workers_of
from tests.support.socket_device import connections_of

# Connections to the database that a worker may have opened meanwhile, and what it has loaded by its first request.
MORE_DESCRIPTORS, MORE_MEMORY = 64, 256 * MEGABYTE
LOG = """SELECT c.seq, c.change_id, c.push_end FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no)
         WHERE s.space_id = $1 ORDER BY c.seq"""


def held(records: Mapping[str, Cells]) -> dict[str, Any]:
    """Records of a model as devices show them."""
    return {id_: {name: [*cell] for name, cell in cells.items()} for id_, cells in records.items()}


def living(spaces: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Those that are not deleted: a new device is not told of what is."""
    return {
        space: {id_: held for id_, held in records.items() if held.get("deletedAt", [None])[0] is None}
        for space, records in spaces.items()
    }


def folded(changes: list[Change]) -> dict[str, dict[str, Any]]:
    """{space: {record: registers}} of changes in their order, by the model of tests/support/model.py."""
    spaces: dict[str, dict[str, Cells]] = {}
    for change in changes:
        records = spaces.setdefault(change["spaceId"], {})
        merge(records.setdefault(f"{change['table']}/{change['id']}", {}), cells_of(change, change["clientId"]))
    return living({space: held(records) for space, records in spaces.items()})


def made(stream: list[Change]) -> list[Made]:
    """The writes of devices to the first part of their own records, in a log that was delivered."""
    found = []
    for change in stream:
        device, _, part = change["id"].rpartition("-")
        if change["table"] == "items" and part == "0" and device not in ("shared", "canary"):
            found.append(Made(change["seq"], device, int(change["fields"]["value"]["value"].rpartition(":")[2])))
    return found


async def judged(world: World) -> list[str]:
    """What is wrong with a round that was healed; nothing, as a rule."""
    async with Device(world.server, "watcher", "fresh", app=APP, timeout=60) as fresh:
        stream, _ = await fresh.drain(history=1)
        state, _ = await fresh.drain()
    log = [change for change in stream if change["spaceId"] == SPACES[0]]
    found = [*world.violations]
    connection = await asyncpg.connect(world.server.owner_dsn)
    try:
        await none_is_open(connection)
        rows = [Row(row["seq"], row["change_id"], row["push_end"]) for row in await connection.fetch(LOG, SPACES[0])]
    finally:
        await connection.close()
    events = world.history.of("wrote", "seen", "acked", "refused", "failed", "emptied", "started", "removed")
    found += judge.ledger(events, rows, made(log), SPACES[0])
    found += judge.order(made(log), [e for e in events if e["ev"] == "wrote" and e["space"] == SPACES[0]])
    found += judge.sessions(events, SPACES[0])
    found += judge.removals(events)
    found += judge.refusals(events, SPACES[0])
    for watcher in world.watchers:
        mine = [change for change in watcher.stream if change["spaceId"] == SPACES[0]]
        found += watcher.faults
        found += judge.pages([cut[1:] for cut in watcher.cuts if cut[0] == SPACES[0]], rows)
        if mine != log:
            found.append(f"{watcher.name} got another stream: {len(mine)} changes and not {len(log)}")
    wanted = folded(state)
    if folded(log)[SPACES[0]] != wanted[SPACES[0]]:
        found.append("the state is not what the log makes")
    found += await devices(world, wanted)
    found += await asyncio.to_thread(first_generation, world, wanted)
    return found + await afterwards(world)


async def devices(world: World, wanted: dict[str, Any]) -> list[str]:
    """Every device comes to hold what the server holds, live ones by themselves, within a deadline."""
    deadline, found = time.monotonic() + DEADLINE, ["nobody was asked"]
    names = {name for program in world.processes for name in program.devices}
    while found and time.monotonic() < deadline:
        for program in world.processes:
            program.shown.clear()
            await program.order(do="show")
        await world.until(
            lambda: world.over() or all(p.shown.keys() >= {*p.devices} for p in world.processes), "all have shown all"
        )
        if world.over():
            return ["a process of devices ended by itself", *(program.said for program in world.processes)]
        shown = {name: event for program in world.processes for name, event in program.shown.items()}
        found = judge.replicas({name: living(shown[name]["spaces"]) for name in names}, wanted)
        found += [f"{name} is {e['state']}" for name, e in shown.items() if e["state"] not in ("", "live")]
        found += [f"{name} has {e['pending']} changes left" for name, e in shown.items() if e["pending"]]
        if CANARY in json.dumps([event["spaces"] for event in shown.values()]):
            return ["a device holds what is of the vault"]
        await asyncio.sleep(0.2)
    return found


def first_generation(world: World, wanted: dict[str, Any]) -> list[str]:
    """Its devices show alike what new ones show, and what was taken of them is there."""
    found = []
    for actor in world.legacy:
        actor.sync(actor.wrote)
    shown = {actor.device_name: actor.shown() for actor in world.legacy}
    for actor in world.legacy:
        shown[f"a new {actor.device_name}"] = actor.fresh()
        n = wanted[SPACES[0]].get(f"tasks/{actor.device_name}", {}).get("n", [0])[0]
        if n != actor.acked:
            found.append(f"of {actor.device_name} {actor.acked} was taken, and {n} is there")
    first = shown["dexie"]
    return found + [f"{who} shows {mine} and not {first}" for who, mine in shown.items() if mine != first]


async def afterwards(world: World) -> list[str]:
    """When all have gone, no connection, descriptor or memory is left with them."""
    await world.close()
    deadline = time.monotonic() + DEADLINE
    while any(connections_of(worker) - {world.server.port} for worker in workers_of(world.server)):
        if time.monotonic() > deadline:
            return ["a worker keeps connections of who has gone"]
        await world.owner.http.aclose()
        await asyncio.sleep(0.2)
    descriptors, memory = world.measured()
    found = []
    if descriptors > world.before[0] + MORE_DESCRIPTORS:
        found.append(f"a worker has {descriptors} descriptors, and had {world.before[0]}")
    if memory > world.before[1] + MORE_MEMORY:
        found.append(f"a worker has {memory // MEGABYTE} MB, and had {world.before[1] // MEGABYTE}")
    return found
