"""Whatever happens to the live core in whatever order: nobody misses anything, and nobody hears what is not its own.

No database and no waiting: the core is pure. SEED repeats one interleaving.
"""

from __future__ import annotations

import os

from syncd.live.available import poll_feeds
from syncd.live.memberships import poll_members
from syncd.live.reading import poll_heads
from syncd.protocol.cursor import Cursor, decode
from tests.support.drawn import drawn
from tests.unit.live.processes import Task
from tests.unit.live.simulation import APPS, USERS, Simulation
from tests.unit.live.world import KEY, Device

# More of them in a soak, and where a planted fault is to be found.
COUNT = 8000 if "SYNCD_SOAK" in os.environ or "MUTANTS" in os.environ else 400
STEPS = 60


def quiet(world: Simulation) -> None:
    """All that fails is repaired, everybody reads again, and all is polled."""
    world.failing = 0
    world.settle()
    for space in world.database.spaces.values():
        space.broken.clear()
    if world.was_broken:
        world.restart()  # what could not be read is tried again with the next page
    for device in world.devices:
        device.room = True
    for _ in range(3):
        world.settle()
        for poll in (poll_members, poll_heads, poll_feeds):
            world.poll(poll)
            world.settle()
    if world.unwritten:
        for space in world.database.spaces.values():
            space.present.clear()  # what is not said again for long is gone
    world.state.presence.repeat()
    world.perform()
    world.settle()
    world.state.presence.poll()
    world.perform()
    world.settle()


def everybody_is_where_the_model_is(world: Simulation) -> None:
    """Each connection is in its user's spaces, and each subscription live and at every head."""
    database = world.database
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
            at = decode(subscription.cursor.decode(), KEY, str(device.user), app, ())
            assert isinstance(at, Cursor)
            heads = {number: space.head(app) for number, space in mine.items()}
            assert {position.space: position.seq for position in at.positions} == heads
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
            assert sees == {name: state for name, state in there.items() if name != own}


def a_push_now_is_heard_of(world: Simulation) -> None:
    """By those who subscribed to nothing too, without a poll."""
    for space in world.database.spaces.values():
        for app in APPS:
            head = world.database.push(space, app, 1)
            for device in world.devices:
                device.told.clear()
            world.commit(space, app, head)
            world.settle()
            for device in world.devices:
                connection = device.connection
                if device.user in space.members and connection.available_only and connection.app in (None, app):
                    assert app in device.told, f"{device.user} is not told of {app} in {space.id}"


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


def played(seed: int) -> Simulation:
    world = Simulation(seed)
    try:
        world.play(STEPS)
        quiet(world)
        everybody_is_where_the_model_is(world)
        presence_is_what_is_said(world)
        a_push_now_is_heard_of(world)
        everybody_is_where_the_model_is(world)
        nothing_is_left(world)
    except Exception as why:
        raise AssertionError(f"SEED={seed}: {why}\n{world.way()}") from why
    return world


@drawn
def test_whatever_happens_in_whatever_order() -> None:
    if "SEED" in os.environ:
        played(int(os.environ["SEED"]))
        return
    for seed in range(COUNT):
        played(seed)


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
