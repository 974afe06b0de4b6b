"""Between reading and listening there is no gap: others commit at every point of the way, and at every two of them.

Real database, log and hub, in this process; see tests/support/interleaved.py for what is enumerated and what is judged.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from syncd.core.errors import Busy
from syncd.core.principal import Principal
from syncd.live.connection import Connection
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.protocol.live_messages import sync_available
from syncd.protocol.pull_messages import PullRequest
from syncd.store.live_rows import ResolvedUser
from syncd.store.log import cursor_key
from syncd.store.pool import Pool
from tests.support.drawn import drawn
from tests.support.interleaved import APP, Listener, Point, Scene, World, until

UNIQUE = itertools.count()
TOGETHER = 6
# All single points are played in a soak, and where a planted fault is to be found; else so many of them, by chance, and
# up to so many times as many until enough of them came about: on a busy machine many points are found that are rare.
SINGLES, PAIRS, AT_MOST = 24, 12, 10
ALL = "SYNCD_SOAK" in os.environ or "MUTANTS" in os.environ
STARTS = ["nothing", "the head", "some missed", "another listens"]
WHAT = ["push", "push, and all have it", "push unheard", "hint before push", "join", "leave", "leave and come back"]


@pytest.fixture(scope="module")
async def world(database: EmbeddedPostgres) -> AsyncIterator[World]:
    """The database by two ways: the hub's, and that of those who write in between."""
    ours, theirs = Pool(database.runtime_dsn, size=8), Pool(database.runtime_dsn, size=8)
    await ours.open()
    await theirs.open()
    yield World(ours, theirs, await cursor_key(ours))
    await ours.close()
    await theirs.close()


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("MEMBERS_EVERY", 0.03), ("HEADS_EVERY", 0.05), ("HEADS_EVERY_ALONE", 0.05)):
        monkeypatch.setattr(f"syncd.live.hub.{name}", seconds)


async def played(world: World, plan: dict[Point, str], start: str) -> Scene:
    """One scene, from one of STARTS, to its end."""
    scene = Scene(world, next(UNIQUE), plan)
    await scene.prepare()
    if start == "news alone":
        return await news_alone(scene)
    since = "" if start == "nothing" else await world.cursor(scene.user)
    if start == "some missed":
        await scene.write(scene.space, None)
    await scene.hub.open()
    try:
        others = [await before(scene)] if start == "another listens" else []
        for listener in (await scene.play(since), *others):
            await until(lambda: scene.has_it_all(listener), listener, scene)  # noqa: B023
            assert (listener.faults, listener.errors) == ([], []), (plan, start)
    finally:
        await scene.hub.close()
    return scene


async def news_alone(scene: Scene) -> Scene:
    """One of a device that does not subscribe."""
    await scene.hub.open()
    try:
        await scene.listen_for_news()
    finally:
        await scene.hub.close()
    return scene


async def before(scene: Scene) -> Listener:
    """A listener that is there already; the points of its own way are none."""
    plan, scene.plan = scene.plan, {}
    other = await scene.listener()
    await scene.listen(other, "")
    await until(lambda: scene.has_it_all(other), other, scene)
    scene.plan = plan
    scene.seen.clear()
    scene.trace.clear()
    return other


async def points(world: World, start: str) -> list[Point]:
    """Where something can happen, as a few scenes in which little happens show it."""
    plans: list[dict[Point, str]] = [
        {},
        {("after pull", 1): "push"},
        {("after pull", 1): "join"},
        {("after peek", 1): "leave"},
    ]
    found: dict[Point, None] = {}
    for plan in plans:
        found |= dict.fromkeys((await played(world, plan, start)).trace)
    # The slow looks go on for ever.
    return [point for point in found if point[1] <= 2]


async def play_some(
    world: World, plans: list[dict[Point, str]], count: int, start: str, least: float = 1 / 3, together: int = TOGETHER
) -> None:
    """So many of them, and more until that share of `count` was reached; SEED repeats a choice."""
    seed = int(os.environ.get("SEED", random.randrange(1 << 30)))
    print(f"seed {seed}")
    chosen = random.Random(seed).sample(plans, min(AT_MOST * count, len(plans)))
    reached = await play(world, chosen[:count], start, together)
    for at in range(count, len(chosen), together):
        if reached > count * least:
            break
        reached += await play(world, chosen[at : at + together], start, together)
    assert reached > count * least


async def play_all(
    world: World, plans: list[dict[Point, str]], start: str, least: float = 1 / 3, together: int = TOGETHER
) -> None:
    """All of them, of which that share is reached."""
    assert await play(world, plans, start, together) > len(plans) * least


async def play(world: World, plans: list[dict[Point, str]], start: str, together: int) -> int:
    """All of them, some at a time; the first that fails is told with its plan. Returns how many came about."""
    gate = asyncio.Semaphore(together)
    reached = 0

    async def one(plan: dict[Point, str]) -> None:
        nonlocal reached
        async with gate:
            try:
                scene = await played(world, plan, start)
            except AssertionError as why:
                raise AssertionError(f"plan {plan}: {why}") from None
            reached += plan.keys() <= set(scene.trace)

    await asyncio.gather(*(one(plan) for plan in plans))
    print(f"{start}: {len(plans)} interleavings, {reached} of them reached")
    return reached


@drawn
@pytest.mark.parametrize("start", STARTS)
async def test_whatever_happens_at_any_point_of_subscribing_arrives_once_and_in_order(world: World, start: str) -> None:
    places = await points(world, start)
    assert {"resolve_user", "pull", "heads", "read", "membership_changes"} <= {name.split()[1] for name, _ in places}
    plans = [{place: what} for place in places for what in WHAT]
    await (play_all(world, plans, start) if ALL else play_some(world, plans, SINGLES, start))


@drawn
@pytest.mark.parametrize("start", STARTS)
async def test_a_hint_that_finds_nobody_yet_does_not_wait_for_the_slow_look(
    world: World, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = await points(world, start)
    monkeypatch.setattr("syncd.live.hub.HEADS_EVERY", 3600.0)
    plans = [{place: what} for place in places for what in WHAT[:2]]
    await (play_all(world, plans, start) if ALL else play_some(world, plans, SINGLES, start))


@pytest.mark.parametrize("start", STARTS)
async def test_whatever_happens_at_any_two_points_arrives_once_and_in_order(world: World, start: str) -> None:
    places = await points(world, start)
    assert len(places) > 10
    twos = [*itertools.product(WHAT, WHAT), ("push, hint later", "the hint")]
    plans = [{a: x, b: y} for a, b in itertools.combinations(places, 2) for x, y in twos]
    await play_some(world, plans, PAIRS, start)


@pytest.mark.soak
@pytest.mark.parametrize("start", STARTS)
async def test_all_pairs_of_points(world: World, start: str) -> None:
    places = await points(world, start)
    plans = [{a: x, b: y} for a, b in itertools.combinations(places, 2) for x, y in itertools.product(WHAT, WHAT)]
    await play_all(world, plans, start)


@drawn
async def test_who_is_only_told_of_news_is_told_whatever_happens_at_any_point(world: World) -> None:
    names = ("resolve_user", "feeds", "membership_changes", "heads", "read", "members")
    places = [(f"{when} {name}", n) for name in names for when in ("before", "after") for n in (1, 2)]
    what = ["push unheard", "hint before push", "join", "leave and come back"]
    plans = [{place: step} for place in places for step in what]
    how = "news alone", 0.05, 3 * TOGETHER
    await (play_all(world, plans, *how) if ALL else play_some(world, plans, SINGLES // 2, *how))


async def owner_listens(scene: Scene) -> Listener:
    """The owner's device, live, and the first in every feed, so that the feeds are read as the owner."""
    listener = Listener(scene.world.key, scene.owner)
    listener.ids = (await scene.listener()).ids
    member = Connection(listener, Principal(scene.owner), "there", None)
    await scene.hub.connect(member)
    scene.hub.subscribe(scene.hub.subscription(member, PullRequest(APP, "", plain=False)))
    await has_heard(scene, listener)
    return listener


async def has_heard(scene: Scene, owner: Listener) -> None:
    """Until the owner's device has all of the space that the scene's device may lose."""
    await until(lambda: max(owner.seqs.get(scene.other, [0])) == scene.heads[scene.other], owner, scene)


@pytest.fixture
async def unaided(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A scene in which no look at members helps."""
    monkeypatch.setattr("syncd.live.hub.MEMBERS_EVERY", 3600.0)
    scene = Scene(world, next(UNIQUE), {})
    await scene.prepare()
    await scene.hub.open()
    yield scene
    await scene.hub.close()


async def test_who_is_removed_is_sent_nothing_that_others_hear_before_any_look_at_members(unaided: Scene) -> None:
    owner, listener = await owner_listens(unaided), await unaided.listener()
    await unaided.listen(listener, "")
    await until(lambda: unaided.has_it_all(listener), listener, unaided)
    before = listener.seqs[unaided.other][:]
    await unaided.happens("leave")
    await has_heard(unaided, owner)
    assert listener.seqs.get(unaided.other, before) == before


async def test_who_is_removed_between_its_resolution_and_its_place_is_told_of_nothing_that_follows(
    unaided: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its space is known to be of members at a later membership version than that of its resolution."""
    owner, newcomer = await owner_listens(unaided), await unaided.listener()
    told: list[bytes] = []
    monkeypatch.setattr(newcomer, "frame", told.append)
    resolve_user = unaided.live.resolve_user

    async def resolved(user: str, spaces: Any, as_of: int) -> ResolvedUser:
        found = await resolve_user(user, spaces, as_of)
        await unaided.happens("leave")
        await has_heard(unaided, owner)
        return found

    monkeypatch.setattr(unaided.live, "resolve_user", resolved)
    await unaided.hub.connect(Connection(newcomer, Principal(unaided.user), "here", None))
    await unaided.write(unaided.other, True)
    await has_heard(unaided, owner)
    # That it was removed is news to it; what was written since is not.
    assert {*told} <= {sync_available(APP, ())}


async def test_a_removal_is_told_when_the_look_at_it_failed_half_way(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a space where nobody writes: nothing else would tell."""
    scene = Scene(world, next(UNIQUE), {})
    await scene.prepare()
    await scene.hub.open()
    resolve_user, failures = scene.live.resolve_user, [Busy()]

    async def failing(user: str, spaces: Any, as_of: int) -> ResolvedUser:
        if failures:
            raise failures.pop()
        return await resolve_user(user, spaces, as_of)

    try:
        listener = await scene.listener()
        await scene.listen(listener, "")
        await until(lambda: scene.has_it_all(listener), listener, scene)
        monkeypatch.setattr(scene.live, "resolve_user", failing)
        await world.spaces.remove_member(Principal(scene.owner), scene.other, scene.user)
        # Who is still a member may be asked first: the look that fails comes all the same.
        await until(lambda: scene.other in listener.left and not failures, listener, scene)
    finally:
        await scene.hub.close()
