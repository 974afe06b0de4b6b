"""The processes of the live core, step by step. A call is answered in two steps, so that its answer may be old when it
arrives, and may fail. What the core decides is performed at once, on devices that judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import Any

from syncd.bus.hints import Hint
from syncd.core.errors import Busy, CursorLost, SyncdError
from syncd.live import effects
from syncd.live.available import find_feeds, find_new_feeds
from syncd.live.catching_up import catch_up
from syncd.live.connection import SKIPS, Subscription
from syncd.live.memberships import poll_members
from syncd.live.reading import check_joined_heads, read_feed, read_presence
from syncd.live.state import LiveState
from syncd.service.counts import Counts
from tests.unit.live.world import KEY, Device, ModelDatabase

# A process that is at work for so many steps never ends.
MOST_STEPS = 5000
Process = Generator[effects.Call[Any], Any, Any]
UNASKED = object()


class Task:
    """A process of the core: the call that it waits for, and its answer once that is known."""

    __slots__ = ("answer", "call", "children", "failure", "offered", "process", "then", "weight")

    def __init__(self, process: Process, then: Callable[[Exception | None], None] | None, weight: float) -> None:
        self.process, self.then, self.weight = process, then, weight
        self.call: effects.Call[Any] | None = None
        self.answer: Any = UNASKED
        self.failure: Exception | None = None
        self.offered = self.children = 0


class Processes:
    """What runs in one process of the server. `failing`: how often a call fails; `unwritten`: presence was not written
    once; `trace`: each step that was taken."""

    def __init__(self, chance: Random, database: ModelDatabase) -> None:
        self.chance, self.database = chance, database
        self.state = LiveState(KEY, Counts())
        self.tasks: list[Task] = []
        self.catching_up: dict[Subscription, Task] = {}
        self.polls: dict[Any, Task] = {}
        self.published: list[Hint] = []
        self.changed: set[int] = set()
        self.trace: list[tuple[Any, Any]] = []
        self.failing, self.unwritten = 0.0, False

    # -- processes -------------------------------------------------------------------------------------

    def start(self, process: Process, then: Callable[[Exception | None], None] | None = None) -> Task:
        # Some are quick and some very slow, so that much happens between two steps of theirs.
        task = Task(process, then, self.chance.random() ** 3)
        self.tasks.append(task)
        return task

    def next_task(self) -> Task:
        """One by chance, rather one of the quick ones."""
        for _ in range(5):
            task = self.tasks[int(self.chance.random() * len(self.tasks))]
            if self.chance.random() < task.weight:
                break
        return task

    def step(self, task: Task) -> None:
        """One step of a process: its beginning, asking, or what it does with an answer."""
        call = task.call
        if call is None:
            self._resume(task)
        elif isinstance(call, effects.Deliver):
            self._offer(task, call)
        elif isinstance(call, effects.Together):
            if task.children <= 0:
                self._resume(task)
        elif task.answer is UNASKED and task.failure is None:
            self.ask(task, call)
            if self.chance.random() < 0.5:
                self._resume(task)
        else:
            self._resume(task)

    def _resume(self, task: Task) -> None:
        answer, failure = (None if task.answer is UNASKED else task.answer), task.failure
        task.answer, task.failure, task.offered = UNASKED, None, 0
        try:
            task.call = task.process.send(answer) if failure is None else task.process.throw(failure)
        except StopIteration:
            self._ended(task, None)
        except (SyncdError, ConnectionResetError) as why:
            self._ended(task, why)
        else:
            if isinstance(task.call, effects.Together):
                self._together(task, task.call)
        self.perform()

    def _ended(self, task: Task, why: Exception | None) -> None:
        if task in self.tasks:
            self.tasks.remove(task)
        if task.then is not None:
            task.then(why)

    def _together(self, task: Task, call: effects.Together) -> None:
        def ended(why: Exception | None) -> None:
            if task.call is call and task.failure is None:
                task.failure, task.children = why, 0 if why else task.children - 1

        task.children = len(call.processes)
        for process in call.processes:
            self.start(process, ended)

    def _offer(self, task: Task, call: effects.Deliver) -> None:
        """To some of them; others have their turn in between."""
        for _ in range(self.chance.randint(1, 3)):
            if task.offered == len(call.subscribers):
                self._resume(task)
                return
            subscription = call.subscribers[task.offered]
            task.offered += 1
            device = subscription.connection.sink
            assert isinstance(device, Device)
            after = self.state.offer(call, subscription, device.room)
            if after != SKIPS:
                device.changes(subscription, call.batch, after, subscription.cursor)
            self.perform()

    # -- calls -----------------------------------------------------------------------------------------

    def ask(self, task: Task, call: effects.Call[Any]) -> None:
        if self.chance.random() < self.failing and not isinstance(call, effects.Rest | effects.Wait | effects.BackOff):
            task.failure = Busy()
            if isinstance(call, effects.WritePresence):
                self.unwritten = True
            if isinstance(call, effects.ReadPage):
                if self.chance.random() < 0.2:
                    task.failure = CursorLost()
                self._owes(call.subscription, 1)
            return
        try:
            task.answer = self._answer(call)
        except SyncdError as why:
            task.failure = why

    def _answer(self, call: effects.Call[Any]) -> Any:
        database = self.database
        match call:
            case effects.ReadFeed(query):
                return database.read(query)
            case effects.ReadPage(subscription):
                return database.page(subscription)
            case effects.SendPage(subscription, page):
                device = subscription.connection.sink
                assert isinstance(device, Device)
                if subscription in self.catching_up:
                    device.takes(subscription, page)
            case effects.ResolveUser(caller):
                return database.resolved(caller)
            case effects.CheckMembers(space, users):
                return database.members(space, users)
            case effects.ReadMembershipChanges(horizon):
                return database.changes(horizon)
            case effects.ReadHeads(feeds):
                return [database.spaces[space].head(app) for space, app in feeds]
            case effects.FindFeeds(user, spaces):
                return database.feeds(user, spaces)
            case effects.ReadPresence(user, space, _):
                return database.presence(user, space)
            case effects.WritePresence(items):
                return database.put_presence(items)
            case effects.Rest() | effects.Wait() | effects.BackOff():
                return None
            case _:
                raise TypeError(type(call).__name__)
        return None

    def _owes(self, subscription: Subscription, times: int) -> None:
        device, app = subscription.connection.sink, subscription.request.app
        assert isinstance(device, Device)
        device.owed[app] = max(0, device.owed.get(app, 0) + times)

    # -- effects ---------------------------------------------------------------------------------------

    def perform(self) -> None:
        while self.state.effects:
            self._perform(self.state.effects.popleft())

    def _perform(self, effect: effects.Effect) -> None:
        state = self.state
        match effect:
            case effects.StartReading(feed):
                self.start(read_feed(state, feed))
            case effects.StartCatchingUp(subscription):
                assert subscription not in self.catching_up, "it catches up twice"
                self.catching_up[subscription] = self.start(
                    catch_up(state, subscription), lambda _: self.catching_up.pop(subscription, None)
                )
            case effects.StopCatchingUp(subscription):
                task = self.catching_up.pop(subscription, None)
                if task is not None and task in self.tasks:
                    self.tasks.remove(task)
                    if task.process.gi_running is False:
                        task.process.close()
            case effects.StartFinding(spaces, connection, all_new):
                self.start((find_new_feeds if all_new else find_feeds)(state, spaces, connection))
            case effects.StartCheckingHeads():
                self.start(check_joined_heads(state))
            case effects.StartReadingPresence():
                self.start(read_presence(state))
            case effects.StartWritingPresence():
                self.start(state.presence.write())
            case effects.Send(connections, frame):
                for device in [connection.sink for connection in connections]:
                    assert isinstance(device, Device)
                    if device.room:
                        device.frame(frame)
                    else:
                        device.missed = True
            case effects.Refuse(subscription, why):
                self._refused(subscription, why)
            case effects.MembersChanged(users):
                self.changed |= users
            case effects.Publish(hint):
                self.published.append(hint)
            case effects.PollMembers():
                self.poll(poll_members)

    def _refused(self, subscription: Subscription, why: SyncdError) -> None:
        device, app = subscription.connection.sink, subscription.request.app
        assert isinstance(device, Device)
        self._owes(subscription, -1)
        if isinstance(why, CursorLost):
            # The device begins again, with nothing.
            device.has.pop(app, None)
            device.at.pop(app, None)

    # -- together --------------------------------------------------------------------------------------

    def poll(self, process: Callable[[LiveState], Process]) -> None:
        """One of a kind is under way at a time."""
        if process not in self.polls:
            self.polls[process] = self.start(process(self.state), lambda _: self.polls.pop(process))

    def settle(self) -> None:
        """Nothing fails or comes any more; what is under way goes on until it ends."""
        for _ in range(MOST_STEPS):
            if not self.tasks:
                return
            self.step(self.tasks[int(self.chance.random() * len(self.tasks))])
        raise AssertionError(f"it never ends: {[task.process.gi_code.co_name for task in self.tasks]}")

    def way(self) -> str:
        """What happened, one step a line."""
        return "\n".join(f"{what.__name__} {type(call).__name__ if call else ''}" for what, call in self.trace)
