"""Whatever happens to the live core in whatever order: nobody misses anything, and nobody hears what is not its own.

No database and no waiting: the core is pure. An interleaving is some steps by chance, from one rest to the next. A
world has several, one after the other. SEED repeats a world, and what is printed of one that failed is made shorter.
"""

from __future__ import annotations

import gc
import os

import pytest

from syncd.live.memberships import poll_members
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor, decode
from tests.support.drawn import drawn
from tests.unit.live.device import Device
from tests.unit.live.processes import Task
from tests.unit.live.simulation import APPS, USERS, Simulation
from tests.unit.live.world import KEY, opened

# Worlds: more of them in a soak, and where a planted fault is to be found.
COUNT = 4000 if "SYNCD_SOAK" in os.environ or "MUTANTS" in os.environ else 200
INTERLEAVINGS, STEPS = 8, 12


def everybody_is_where_the_model_is(world: Simulation) -> None:
    """Each connection is in its user's spaces, and each subscription live and at every head."""
    database = world.database
    if database.lists is not None:
        for device in world.devices:
            known = {space.number for space in database.of(device.user)}
            assert known == database.lists[device.user], "what the membership service says is not taken over"
    assert {user for user in database.events[world.before :] if user > 0} <= world.changed, (
        "a membership change is not told"
    )
    for device in world.devices:
        mine = {space.number: space for space in database.of(device.user)}
        connection = device.connection
        assert connection.spaces == {number: space.id for number, space in mine.items()}
        assert not any(device.owed.values()), f"it is not told that it cannot catch up: {device.owed}"
        for app, subscription in connection.subscriptions.items():
            assert subscription.live, f"{app} of {device.user} is not live"
            at = opened(subscription.cursor)
            assert at is not None
            heads = {number: space.head(app) for number, space in mine.items()}
            places = database.positions(at)
            if places is not None:  # else its row went, which its next page tells
                assert {position.space: position.seq for position in places} == heads
            assert subscription.bookmark is not None
            assert subscription.bookmark.seqs == heads
            assert at.boot == database.boot, "a restart is not looked at"
            for number, head in heads.items():
                assert device.knows(app, number) == set(range(1, head + 1))


def presence_is_what_is_said(world: Simulation) -> None:
    """Those who left are not there, and each watcher sees all others."""
    for number, space in world.database.spaces.items():
        there = {(str(user), client): state for (user, client), state in space.present.items() if user in space.members}
        names = {(str(device.user), device.connection.client) for device in world.devices}
        assert there.keys() <= names, "presence of a device that is gone"
        live = world.state.spaces.get(number)
        for device in world.devices:
            if live is None or device.missed or device.connection not in (live.watchers or ()):
                continue
            own = (str(device.user), device.connection.client)
            sees = {(user, client): state for (id_, user, client), state in device.sees.items() if id_ == space.id}
            sees.pop(own, None)
            wanted = {name: state for name, state in there.items() if name != own}
            # What a device saw before its user left and came back it has to drop by itself.
            left = space.left_at.get(device.user, {}).get("said", 0)
            assert wanted == {name: state for name, state in sees.items() if name in wanted or int(state) > left}


def a_push_now_is_heard_of(world: Simulation) -> None:
    """By those who subscribed to nothing too, without a poll."""
    heads = {}
    told = [device for device in world.devices if device.connection.available_only]
    for device in told:
        device.told.clear()
        device.told_of.clear()
    for space in world.database.spaces.values():
        for app in APPS:
            heads[space.number, app] = world.database.push(space, app, 1)
            world.commit(space, app, heads[space.number, app])
    world.settle()
    for (number, app), head in heads.items():
        for device in told:
            if device.user in world.database.spaces[number].members and device.connection.app in (None, app):
                heard = f"{number}-{head}" in device.told or app in device.told_of
                assert heard, f"{device.user} is not told of {app} in space {number}"


def cursors_are_the_server_s(world: Simulation) -> None:
    """Their signatures too, which are not looked at all the time."""
    for device in world.devices:
        for app, subscription in device.connection.subscriptions.items():
            found = decode(subscription.cursor.decode(), KEY, str(device.user), app, ())
            assert isinstance(found, Cursor)


def nothing_is_left(world: Simulation) -> None:
    """When everybody is gone."""
    state = world.state
    for device in world.devices:
        state.gone(device.connection)
        world.perform()
    world.settle()
    assert (state.users, state.spaces, state.entering, state.presence.stale) == ({}, {}, {}, {})
    assert (state.counts.connections, state.counts.subscriptions) == (0, 0)
    assert not any(space.present for space in world.database.spaces.values())
    assert (state.known_at, state.untold, state.presence._said) == ({}, set(), {})


def failure(seed: int, interleavings: int = INTERLEAVINGS, steps: int = STEPS) -> tuple[Exception, str] | None:
    """What is wrong with a world, and how it came to that."""
    before, cursors.MOST_MOVED = cursors.MOST_MOVED, 1  # a kept cursor is full when two of three spaces have moved
    world = Simulation(seed)
    try:
        world.begin()
        for _ in range(interleavings):
            world.trace.clear()
            world.play(steps)
            world.rest()
            everybody_is_where_the_model_is(world)
            presence_is_what_is_said(world)
        a_push_now_is_heard_of(world)
        everybody_is_where_the_model_is(world)
        cursors_are_the_server_s(world)
        nothing_is_left(world)
    except Exception as why:
        return why, world.way()
    finally:
        cursors.MOST_MOVED = before
    return None


def played(seed: int) -> None:
    """One world. Where it fails, it is played again with fewer interleavings and steps, and the shortest is told."""
    if (found := failure(seed)) is None:
        return
    shorter = ((n, steps) for n in range(1, INTERLEAVINGS + 1) for steps in range(1, STEPS + 1))
    for n, steps in shorter:
        if (again := failure(seed, n, steps)) is not None:
            found = again
            break
    why, way = found
    raise AssertionError(f"SEED={seed}, {n} interleavings of {steps} steps: {why}\n{way}") from why


@drawn
def test_whatever_happens_in_whatever_order() -> None:
    if "SEED" in os.environ:
        played(int(os.environ["SEED"]))
        return
    # What a world leaves behind is looked for now and then: the collector would take a third of the time.
    gc.disable()
    try:
        for seed in range(COUNT):
            played(seed)
            if seed % 100 == 0:
                gc.collect()
    finally:
        gc.enable()


def with_a_device_live(members: tuple[int, ...]) -> Simulation:
    """A simulation in which nothing fails, with the first user's device live in the first space."""
    world = Simulation(0)
    space = world.database.spaces[1]
    for user in range(1, USERS + 1):
        (world.database.join if user in members else world.database.leave)(space, user)
    world.poll(poll_members)
    device = world.arrives(1, app="notes")
    world.settle()
    world.subscribe(device)
    world.perform()
    world.settle()
    assert device.connection.subscriptions["notes"].live
    return world


def a_newcomer_has_its_answer(world: Simulation) -> tuple[Device, Task]:
    """The second user's device connects; what it asked for was answered, and has not arrived."""
    newcomer = world.arrives(2)
    entering = world.tasks[-1]
    world.step(entering)
    assert entering.call is not None
    world.ask(entering, entering.call)
    return newcomer, entering


def push_and_read(world: Simulation, held: Task) -> None:
    """A push in the first space, read by all who listen, while one process waits."""
    space = world.database.spaces[1]
    world.tasks.remove(held)
    world.commit(space, "notes", world.database.push(space, "notes", 1))
    world.settle()
    world.tasks.append(held)


def test_a_newcomer_that_is_removed_between_its_answer_and_its_place_is_told_of_nothing_that_follows() -> None:
    world = with_a_device_live((1, 2))
    newcomer, entering = a_newcomer_has_its_answer(world)
    world.database.leave(world.database.spaces[1], 2)
    push_and_read(world, entering)
    world.settle()
    world.commit(world.database.spaces[1], "notes", world.database.push(world.database.spaces[1], "notes", 1))
    world.settle()
    # That it was removed is news to it; what was written since is not.
    assert newcomer.told <= {"notes"}


def test_an_app_s_first_change_is_news_also_where_somebody_else_looks_just_then() -> None:
    world = with_a_device_live((1, 2))
    space = world.database.spaces[1]
    listener = world.arrives(2)
    world.settle()
    assert listener.connection.available_only
    head = world.database.push(space, "lists", 1)
    world.commit(space, "lists", head)
    looking = world.tasks.pop()
    world.arrives(2, "another")  # it finds the feed before whoever looks for what is new does
    world.settle()
    world.tasks.append(looking)
    world.settle()
    assert "1-1" in listener.told


def test_a_kept_cursor_of_which_too_much_has_moved_is_given_up_for_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cursors, "MOST_MOVED", 0)
    world = Simulation(0)
    world.database.keeps = True
    device = world.arrives(1, app="notes")
    world.settle()
    world.subscribe(device)
    world.perform()
    world.settle()
    pages = world.state.counts.dropped_back
    for _ in range(2):
        world.commit(world.home, "notes", world.database.push(world.home, "notes", 1))
        world.settle()
    assert world.state.counts.dropped_back == pages + 1
    assert device.connection.subscriptions["notes"].live


def test_a_newcomer_whose_memberships_changed_meanwhile_is_in_the_spaces_of_now() -> None:
    world = with_a_device_live((1,))
    newcomer, entering = a_newcomer_has_its_answer(world)
    world.database.join(world.database.spaces[1], 2)
    world.tasks.remove(entering)
    world.poll(poll_members)
    world.settle()
    world.tasks.append(entering)
    world.settle()
    assert 1 in newcomer.connection.spaces
