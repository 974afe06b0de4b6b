"""Interleavings of the live core, by chance and repeatable: what happens elsewhere, and each step of its processes.

In the end nothing fails any more, everything is polled, and everybody has to be where the model is.
"""

from __future__ import annotations

from itertools import accumulate
from random import Random

from syncd.bus.hints import Hint, key
from syncd.live.available import poll_feeds
from syncd.live.connection import Subscription
from syncd.live.memberships import connect, poll_members, renew
from syncd.live.reading import poll_heads
from syncd.protocol.pull_messages import PullRequest
from tests.unit.live.processes import Processes
from tests.unit.live.world import Device, ModelDatabase, ModelSpace

APPS = ("notes", "lists")
USERS = 3
MOST_DEVICES = 5
FAILING = 0.06


class Simulation(Processes):
    """One process of the server, its devices, and others."""

    def __init__(self, seed: int) -> None:
        super().__init__(Random(seed), ModelDatabase(3))
        # Everybody is in it for ever, as in a space of one's own.
        self.home = self.database.spaces[3]
        self.devices: list[Device] = []
        self.arriving: set[Device] = set()
        self.kept: list[Hint] = []
        self.clients, self.was_broken = 0, False
        for space in self.database.spaces.values():
            for user in range(1, USERS + 1):
                if space is self.home or self.chance.random() < 0.7:
                    self.database.join(space, user)
            if self.chance.random() < 0.7:
                self.database.push(space, "notes", 2)
        # As a hub does before it listens.
        self.poll(poll_members)
        self.settle()
        self.before = len(self.database.events)

    # -- what happens ----------------------------------------------------------------------------------

    def space(self) -> ModelSpace:
        """Rather the first one, so that much happens in it at once."""
        return self.database.spaces[self.chance.choice((1, 1, 1, 2, 3))]

    def app(self) -> str:
        return self.chance.choice((*APPS[:1] * 3, *APPS))

    def device(self) -> Device | None:
        """One that is there."""
        there = [device for device in self.devices if device not in self.arriving]
        return self.chance.choice(there) if there else None

    def hint(self, hint: Hint) -> None:
        """It arrives now, later, or never."""
        chance = self.chance.random()
        if chance < 0.5:
            self.state.receive(hint)
        elif chance < 0.75:
            self.kept.append(hint)

    def push(self) -> None:
        space, app = self.space(), self.app()
        head = self.database.push(space, app, self.chance.randint(1, 2), whole=self.chance.random() < 0.1)
        if self.chance.random() < 0.3:
            self.commit(space, app, head)
        else:
            self.hint(Hint("f", key(space.id), key(app), head))

    def commit(self, space: ModelSpace, app: str, head: int) -> None:
        """A push of this process, of which the others are told."""
        before = len(self.published)
        self.state.committed(space.id, app, head)
        self.perform()
        assert Hint("f", key(space.id), key(app), head) in self.published[before:], "the others are not told"

    def push_own(self) -> None:
        """A push over a device's own connection, to a space of its user."""
        device = self.device()
        mine = self.database.of(device.user) if device else []
        if device is None or not mine:
            return
        space, app = self.chance.choice(mine), self.app()
        event = f"own-{self.database.now}"
        device.connection.pushed([f"{event:<36}".encode()])
        head = self.database.push(space, app, 1, event, whole=self.chance.random() < 0.2)
        device.knows(app, space.number).add(head)
        self.commit(space, app, head)

    def late_hint(self) -> None:
        if self.kept:
            self.state.receive(self.chance.choice(self.kept))

    def early_hint(self) -> None:
        """From a process that is mistaken."""
        space, app = self.space(), self.app()
        self.state.receive(Hint("f", key(space.id), key(app), space.head(app) + 1))

    def move_member(self) -> None:
        space, user = self.space(), self.chance.randint(1, USERS)
        if space is self.home:
            return
        if user in space.members:
            self.database.leave(space, user)
            if self.chance.random() < 0.3:
                self.database.join(space, user)
        else:
            self.database.join(space, user)
        if self.chance.random() < 0.4:
            self.hint(Hint("m"))

    def invite(self) -> None:
        self.database.events.append(-self.chance.randint(1, USERS))

    def restart(self) -> None:
        self.database.boot += 1

    def break_or_mend(self) -> None:
        space, app = self.space(), self.app()
        space.broken ^= {app}
        self.was_broken = True

    def slow_or_quick(self) -> None:
        if (device := self.device()) is not None:
            device.room = not device.room

    def connect(self) -> None:
        if len(self.devices) < MOST_DEVICES:
            self.clients += 1
            client = self.chance.choice(["tab", f"client-{self.clients}"])
            subscribes, app = self.chance.random() < 0.5, self.chance.choice([None, None, *APPS])
            self.arrives(self.chance.randint(1, USERS), client, app, subscribes=subscribes)

    def arrives(self, user: int, client: str = "client", app: str | None = None, *, subscribes: bool = False) -> Device:
        """A device connects; its process is the newest one."""
        device = Device(self.database, user, client, app)
        self.devices.append(device)
        self.arriving.add(device)

        def entered(why: Exception | None) -> None:
            self.arriving.discard(device)
            if why is not None:
                self.devices.remove(device)
            elif subscribes:
                self.subscribe(device)

        self.start(connect(self.state, device.connection), entered)
        return device

    def subscribe(self, device: Device | None = None) -> None:
        device = device or self.device()
        if device is None:
            return
        app = device.connection.app or self.app()
        since = ""
        if app in device.at and self.chance.random() < 0.7:
            since = device.cursors[app]
        if not since:
            device.has.pop(app, None)
            device.at.pop(app, None)
        device.owed.pop(app, None)
        request = PullRequest(app, since, plain=self.chance.random() < 0.15)
        self.state.subscribe(Subscription(device.connection, request, since.encode()))

    def unsubscribe(self) -> None:
        if (device := self.device()) is not None and device.connection.subscriptions:
            app = self.chance.choice(list(device.connection.subscriptions))
            device.owed.pop(app, None)
            self.state.unsubscribe(device.connection, app)

    def disconnect(self) -> None:
        if (device := self.device()) is not None:
            self.devices.remove(device)
            self.state.gone(device.connection)

    def say(self) -> None:
        device = self.device()
        if device is None or not device.connection.spaces:
            return
        space_id = self.chance.choice(list(device.connection.spaces.values()))
        self.database.said += 1
        text = b"null" if self.chance.random() < 0.2 else b"%d" % self.database.said
        self.state.presence.say(device.connection, space_id, text)

    def renew(self) -> None:
        if (device := self.device()) is not None:
            self.start(renew(self.state, device.connection))

    EVENTS = (
        (push, 8), (push_own, 2), (late_hint, 2), (early_hint, 1), (move_member, 4), (invite, 0.3), (restart, 0.3),
        (break_or_mend, 0.4), (slow_or_quick, 0.6), (connect, 3), (subscribe, 1), (unsubscribe, 0.5), (disconnect, 0.8),
        (say, 2), (renew, 1),
    )  # fmt: skip
    POLLS = (poll_members, poll_members, poll_heads, poll_feeds)

    def play(self, steps: int) -> None:
        """Some steps of it, by chance."""
        # Each time some kinds of events are rare, or do not happen.
        events = [event for event, _ in self.EVENTS]
        weights = [*accumulate(weight * self.chance.random() ** 3 for _, weight in self.EVENTS)]
        polls = 0.1 * self.chance.random() ** 2
        for _ in range(3):
            self.connect()
        if self.chance.random() < 0.7:
            self.settle()
        self.failing = FAILING
        for _ in range(steps):
            chance = self.chance.random()
            if self.tasks and chance < 0.75:
                task = self.next_task()
                self.trace.append((task.process, task.call))
                self.step(task)
            elif chance < 0.75 + polls:
                self.poll(self.chance.choice(self.POLLS))
            elif chance < 0.76 + polls:
                self.state.presence.poll()
                self.perform()
            else:
                event = self.chance.choices(events, cum_weights=weights)[0]
                self.trace.append((event, None))
                event(self)
                self.perform()
