"""Real clients of both kinds and of the first generation while everything fails that can: then all is well again.

A round is a schedule of faults from a seed; `SEED` repeats one. See tests/soak: world.py for who is there, faults.py
for what goes wrong, judge.py for what must be true afterwards.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
import traceback
from pathlib import Path

import pytest

from tests.soak.drawing import draw
from tests.soak.faults import FAULTS
from tests.soak.programs import bundled
from tests.soak.schedule import Fault, planned, shortest
from tests.soak.verdict import judged
from tests.soak.world import World

pytestmark = pytest.mark.waits

# Of a round, and of the search for the shortest schedule that fails. Seconds.
ROUND, SEARCH = 60.0, 60 * float(os.environ.get("SOAK_SEARCH", "20"))
SHORT = 10.0
# There is a fault so often on average. Seconds.
EVERY = 1.2
# In it processes of all kinds are killed, lines fail, a member goes and comes, and a space is compacted.
USUAL = 26


async def played(folder: Path, bundle: Path, seed: int, schedule: list[Fault]) -> list[str]:
    """A round from its beginning to its end: what is wrong with it. Where something is, it is drawn."""
    place = Path(tempfile.mkdtemp(dir=folder))
    os.chmod(place, 0o755)
    async with World(place, bundle, seed) as world:
        try:
            await world.play(schedule)
            await world.heal()
            found = await judged(world)
        except Exception as why:
            # Somebody never came to an end, a server did not start: it has a history as well.
            found = ["".join(traceback.format_exception(why))]
        if found:
            keep(world, seed, found)
    shutil.rmtree(place, ignore_errors=True)
    return found


def keep(world: World, seed: int, found: list[str]) -> None:
    """The history, as a picture and as it is, where it can be looked at afterwards."""
    out = Path(tempfile.mkdtemp(prefix=f"syncd-soak-{seed}-"))
    world.history.save(out / "history.jsonl")
    (out / "history.svg").write_text(draw(world.history.events, f"seed {seed}", found))
    (out / "server.log").write_text(world.server.output())
    (out / "verdict.txt").write_text("\n".join(found) + "\n")
    print(*found, f"the history is in {out}, and this in verdict.txt", sep="\n", flush=True)


async def round_of(folder: Path, bundle: Path, seed: int, seconds: float, search: float) -> None:
    """Plays a seed's schedule; where it fails, says with how little it still does."""
    schedule = planned(seed, seconds, list(FAULTS), every=EVERY)
    found = await played(folder, bundle, seed, schedule)
    if not found:
        return
    deadline = time.monotonic() + search

    async def fails(fewer: list[Fault]) -> bool:
        return time.monotonic() < deadline and bool(await played(folder, bundle, seed, fewer))

    least = await shortest(schedule, fails) if search else schedule
    told = "\n".join([*found[:20], f"SEED={seed}, the shortest schedule found:", *map(str, least)])
    pytest.fail(told, pytrace=False)


@pytest.mark.timeout(300)
async def test_a_short_schedule_of_faults_leaves_nothing_wrong(folder: Path) -> None:
    seed = int(os.environ.get("SEED", USUAL))
    await round_of(folder, bundled(folder), seed, SHORT, 0)


@pytest.mark.soak
async def test_rounds_of_faults_for_as_long_as_you_like(folder: Path) -> None:
    first = int(os.environ.get("SEED", random.randrange(1 << 30)))
    deadline, seed = time.monotonic() + 60 * float(os.environ.get("SOAK_MINUTES", "60")), first
    bundle = bundled(folder)
    while time.monotonic() < deadline or seed == first:
        print(f"{time.strftime('%H:%M:%S')} seed {seed}", flush=True)
        await round_of(folder, bundle, seed, ROUND, SEARCH)
        seed += 1
