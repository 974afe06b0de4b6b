"""Interleavings of the live core, by chance and repeatable: what happens elsewhere, and each step of its processes.

In the end nothing fails any more, everything is polled, and everybody has to be where the model is.
"""

from __future__ import annotations

from itertools import accumulate
from random import Random

from syncd.bus.hints import Hint, key
from syncd.live.available import poll_feeds
from syncd.live.connection import Subscription
from syncd.live.memberships import UNKNOWN_FOR, connect, poll_members, renew
from syncd.live.reading import poll_heads
from syncd.protocol.pull_messages import PullRequest
from tests.unit.live.device import Device
from tests.unit.live.processes import Processes
from tests.unit.live.world import ModelDatabase, ModelSpace

APPS = ("notes", "lists")
USERS = 3
MOST_DEVICES = 5
FAILING = (0.0, 0.06, 0.12)
WORK = (0.5, 0.65, 0.8)


class Simulation(Processes):
    """One process of the server, its devices, and others."""

    def __init__(self, seed: int) -> None:
        chance = Random(seed)
        super().__init__(chance, ModelDatabase(3, keeps=chance.random() < 0.25))
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
        if self.chance.random() < 0.2:
            users = range(1, USERS + 1)
            self.database.lists = {user: {space.number for space in self.database.of(user)} for user in users}
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
        if self.database.lists is not None:
            self.database.lists[user] ^= {space.number}
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

    def forget_row(self) -> None:
        """Positions that were kept for a cursor go; its device begins again."""
        if self.database.kept:
            del self.database.kept[self.chance.choice(list(self.database.kept))]

    def silence(self) -> None:
        """The membership service says nothing any more, or speaks again."""
        self.silent = self.database.lists is not None and not self.silent

    def service(self) -> None:
        if self.database.lists is not None:
            self.ask_service(4 * self.chance.random())
            self.end_closed()

    def end_closed(self) -> None:
        """Connections that were closed are lost."""
        for device in [device for device in self.devices if device.ended and device not in self.arriving]:
            self.lose(device)

    def break_or_mend(self) -> None:
        space, app = self.space(), self.app()
        space.broken ^= {app}
        self.was_broken = True

    def slow_or_quick(self) -> None:
        if (device := self.device()) is not None:
            device.keeps_up = not device.keeps_up

    def connect(self) -> None:
        # Where the service is silent nobody is let in.
        if len(self.devices) < MOST_DEVICES and not self.silent:
            self.clients += 1
            client = self.chance.choice(["tab", f"client-{self.clients}"])
            subscribes, app = self.chance.random() < 0.5, self.chance.choice([None, None, *APPS])
            self.arrives(self.chance.randint(1, USERS), client, app, subscribes=subscribes)

    def arrives(self, user: int, client: str = "client", app: str | None = None, *, subscribes: bool = False) -> Device:
        """A device connects; its process is the newest one."""
        device = Device(self.database, user, client, app)
        self.heard_at[user] = self.clock
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
            self.lose(device)

    def lose(self, device: Device) -> None:
        self.devices.remove(device)
        self.state.gone(device.connection)
        self.perform()

    def say(self) -> None:
        device = self.device()
        if device is None or not device.connection.spaces:
            return
        space_id = self.chance.choice(list(device.connection.spaces.values()))
        self.database.said += 1
        text = b"null" if self.chance.random() < 0.2 else b"%d" % self.database.said
        self.state.presence.say(device.connection, space_id, text)

    def renew(self) -> None:
        if (device := self.device()) is not None and not self.silent:
            connection = device.connection
            connection.caller = connection.caller._replace(external=self.database.external(device.user))
            self.start(renew(self.state, connection))

    EVENTS = (
        (push, 8), (push_own, 2), (late_hint, 2), (early_hint, 1), (move_member, 4), (invite, 0.3), (restart, 0.3),
        (break_or_mend, 0.4), (slow_or_quick, 0.6), (connect, 3), (subscribe, 1), (unsubscribe, 0.5), (disconnect, 0.8),
        (say, 2), (renew, 1), (service, 2), (silence, 0.4), (forget_row, 0.3),
    )  # fmt: skip
    POLLS = (poll_members, poll_members, poll_heads, poll_feeds)
    # What an interleaving may be about: these come far more often then.
    THEMES = (
        (),
        (push, move_member, connect),
        (move_member, connect, subscribe),
        (say, disconnect, connect),
        (say, move_member),
    )

    def begin(self) -> None:
        """Some devices come; in half of the worlds the others are at rest then."""
        self.kinds = [event for event, _ in self.EVENTS]
        for _ in range(3):
            self.connect()
        if self.chance.random() < 0.7:
            self.settle()

    def play(self, steps: int) -> None:
        """Some steps by chance: of processes, polls, and events."""
        chance, tasks = self.chance.random, self.tasks
        # Each time some kinds of events are rare or do not happen, and processes are quicker or slower, or fail.
        theme = self.chance.choice(self.THEMES)
        weights = [*accumulate(weight * chance() ** 3 * (8 if event in theme else 1) for event, weight in self.EVENTS)]
        polls, work = 0.1 * chance() ** 2, self.chance.choice(WORK)
        self.failing = self.chance.choice(FAILING)
        for _ in range(steps):
            drawn = chance()
            if tasks and drawn < work:
                task = self.next_task()
                self.trace.append((task.process, task.call))
                self.step(task)
            elif work <= drawn < work + polls:
                self.poll(self.chance.choice(self.POLLS))
            elif work <= drawn < work + polls + 0.01:
                self.state.presence.poll()
                self.perform()
            else:
                event = self.chance.choices(self.kinds, cum_weights=weights)[0]
                self.trace.append((event, None))
                event(self)
                self.perform()

    # -- rest ------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """All that fails is repaired, everybody reads again, and all is polled."""
        self.failing = 0
        self.settle()
        for space in self.database.spaces.values():
            space.broken.clear()
        if self.was_broken:
            self.was_broken = False
            self.restart()  # what could not be read is tried again with the next page
        for device in self.devices:
            device.keeps_up = True
        if self.database.lists is not None:
            self.hear_the_service()
        # What a poll finds may be found to have gone on by the next.
        for poll in (poll_members, poll_heads, poll_feeds, poll_members, poll_heads):
            self.finish(poll(self.state))
        if self.database.said:
            self.say_again()

    def say_again(self) -> None:
        """What is said is repeated, written and read."""
        if self.unwritten:
            self.unwritten = False
            for space in self.database.spaces.values():
                space.present.clear()  # what is not said again for long is gone
        for again in (self.state.presence.repeat, self.state.presence.poll):
            again()
            self.perform()
            self.finish()

    def hear_the_service(self) -> None:
        """A service that is silent is so for too long; then it speaks."""
        if self.silent:
            for seconds in (1.0, UNKNOWN_FOR):
                self.ask_service(seconds)
                self.settle()
            assert all(device.ended for device in self.devices), "nobody knows whether it may read, and it listens on"
            self.end_closed()
            self.silent = False
        self.finish(poll_members(self.state))
        self.ask_service(1)
        self.settle()
