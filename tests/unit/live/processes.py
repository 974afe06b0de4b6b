"""The processes of the live core, step by step. A call is answered in two steps, so that its answer may be old when it
arrives, and may fail. What the core decides is performed at once, on devices that judge it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from random import Random
from typing import Any, ClassVar

from syncd.bus.hints import Hint
from syncd.core.errors import Busy, CursorLost, MembershipsUnavailable, SyncdError
from syncd.live import effects
from syncd.live.available import find_feeds, find_new_feeds
from syncd.live.catching_up import catch_up
from syncd.live.connection import SKIPS, Subscription
from syncd.live.memberships import UNKNOWN_FOR, ask_service, poll_members
from syncd.live.reading import check_joined_heads, read_feed, read_presence
from syncd.live.state import LiveState
from syncd.service.counts import Counts
from tests.unit.live.device import Device
from tests.unit.live.world import KEY, ModelDatabase

# A process that is at work for so many steps never ends.
MOST_STEPS = 5000
Process = Generator[effects.Call[Any], Any, Any]
UNASKED = object()
AT_ONCE = (effects.Rest, effects.Wait, effects.BackOff)


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
    once; `silent`: the membership service says nothing; `clock`: seconds; `trace`: each step that was taken."""

    def __init__(self, chance: Random, database: ModelDatabase) -> None:
        self.chance, self.database = chance, database
        self.state = LiveState(KEY, Counts())
        self.tasks: list[Task] = []
        self.catching_up: dict[Subscription, Task] = {}
        self.polls: dict[Any, Task] = {}
        self.published: list[Hint] = []
        self.changed: set[int] = set()
        self.trace: list[tuple[Any, Any]] = []
        self.failing, self.unwritten, self.silent, self.clock = 0.0, False, False, 0.0
        # When the membership service last said something of a user.
        self.heard_at: dict[int, float] = {}

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
        kind = type(call)
        if call is None or task.answer is not UNASKED or task.failure is not None:
            self._resume(task)
        elif kind is effects.Deliver:
            self._offer(task, call)  # type: ignore[arg-type]
        elif kind is effects.Together:
            if task.children <= 0:
                self._resume(task)
        else:
            self.ask(task, call)
            if self.chance.random() < 0.5:
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
            if type(task.call) is effects.Together:
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
            task.offered += 1
            self._offer_to(call, call.subscribers[task.offered - 1])

    def _offer_to(self, call: effects.Deliver, subscription: Subscription) -> None:
        device = subscription.connection.sink
        assert isinstance(device, Device)
        after = self.state.offer(call, subscription, device.keeps_up)
        if after != SKIPS:
            device.changes(subscription, call.batch, after, subscription.cursor)
        self.perform()

    def _offer_all(self, call: effects.Deliver) -> None:
        for subscription in call.subscribers:
            self._offer_to(call, subscription)

    # -- calls -----------------------------------------------------------------------------------------

    def ask(self, task: Task, call: effects.Call[Any]) -> None:
        if self.failing and self.chance.random() < self.failing and not isinstance(call, AT_ONCE):
            task.failure = Busy()
            if isinstance(call, effects.WritePresence):
                self.unwritten = True
            if isinstance(call, effects.ReadPage):
                if self.chance.random() < 0.2:
                    task.failure = CursorLost()
                self._owes(call.subscription, 1)
            return
        try:
            task.answer = self.ANSWERS[type(call)](self, call)
        except SyncdError as why:
            task.failure = why
            if isinstance(call, effects.ReadPage):
                self._owes(call.subscription, 1)

    def _send_page(self, call: effects.SendPage) -> None:
        device = call.subscription.connection.sink
        assert isinstance(device, Device)
        if call.subscription in self.catching_up:
            device.takes(call.subscription, call.page)

    def _heads(self, call: effects.ReadHeads) -> list[int]:
        return [self.database.spaces[space].head(app) for space, app in call.feeds]

    def _ask_service(self, call: effects.AskService) -> Any:
        if self.database.lists is None:
            return None
        if self.silent:
            if self.clock >= call.until:
                raise MembershipsUnavailable
            return None
        self.heard_at[int(call.user)] = self.clock
        return self.database.external(int(call.user))

    ANSWERS: ClassVar[dict[type[effects.Call[Any]], Callable[[Any, Any], Any]]] = {
        effects.ReadFeed: lambda self, call: self.database.read(call.query),
        effects.ReadPage: lambda self, call: self.database.page(call.subscription),
        effects.SendPage: _send_page,
        effects.ResolveUser: lambda self, call: self.database.resolved(call.caller),
        effects.CheckMembers: lambda self, call: self.database.members(call.space, call.users),
        effects.ReadMembershipChanges: lambda self, call: self.database.changes(call.horizon),
        effects.ReadHeads: _heads,
        effects.ReadPositions: lambda self, call: self.database.positions(call.cursor),
        effects.FindFeeds: lambda self, call: self.database.feeds(call.user, call.spaces),
        effects.ReadPresence: lambda self, call: self.database.presence(call.user, call.space),
        effects.WritePresence: lambda self, call: self.database.put_presence(call.items),
        effects.AskService: _ask_service,
        **dict.fromkeys(AT_ONCE, lambda self, call: None),
    }

    def _owes(self, subscription: Subscription, times: int) -> None:
        device, app = subscription.connection.sink, subscription.request.app
        assert isinstance(device, Device)
        device.owed[app] = max(0, device.owed.get(app, 0) + times)

    # -- effects ---------------------------------------------------------------------------------------

    def perform(self) -> None:
        todo = self.state.effects
        while todo:
            effect = todo.popleft()
            self.EFFECTS[type(effect)](self, effect)

    def _catch_up(self, effect: effects.StartCatchingUp) -> None:
        subscription = effect.subscription
        assert subscription not in self.catching_up, "it catches up twice"
        self.catching_up[subscription] = self.start(
            catch_up(self.state, subscription), lambda _: self.catching_up.pop(subscription, None)
        )

    def _stop(self, effect: effects.StopCatchingUp) -> None:
        task = self.catching_up.pop(effect.subscription, None)
        if task is not None and task in self.tasks:
            self.tasks.remove(task)
            if task.process.gi_running is False:
                task.process.close()

    def _find(self, effect: effects.StartFinding) -> None:
        find = find_new_feeds if effect.all_new else find_feeds
        self.start(find(self.state, effect.spaces, effect.connection))

    def _send(self, effect: effects.Send) -> None:
        for connection in effect.connections:
            device = connection.sink
            assert isinstance(device, Device)
            if device.keeps_up:
                device.frame(effect.frame)
            else:
                device.missed = True

    def _close(self, effect: effects.Close) -> None:
        for connection in effect.connections:
            known = self.heard_at[connection.user_no]
            assert self.clock - known >= UNKNOWN_FOR, f"closed {self.clock - known} s after its service spoke"
            connection.sink.end(effect.code, effect.reason)

    EFFECTS: ClassVar[dict[type[effects.Effect], Callable[[Any, Any], Any]]] = {
        effects.StartReading: lambda self, effect: self.start(read_feed(self.state, effect.feed)),
        effects.Delivered: lambda self, effect: None,
        effects.StartCatchingUp: _catch_up,
        effects.StopCatchingUp: _stop,
        effects.StartFinding: _find,
        effects.StartCheckingHeads: lambda self, effect: self.start(check_joined_heads(self.state)),
        effects.StartReadingPresence: lambda self, effect: self.start(read_presence(self.state)),
        effects.StartWritingPresence: lambda self, effect: self.start(self.state.presence.write()),
        effects.Send: _send,
        effects.Refuse: lambda self, effect: self._refused(effect.subscription, effect.why),
        effects.TellInvited: lambda self, effect: [one.sink.invitations() for one in effect.connections],
        effects.Close: _close,
        effects.MembersChanged: lambda self, effect: self.changed.update(effect.users),
        effects.Publish: lambda self, effect: self.published.append(effect.hint),
        effects.PollMembers: lambda self, effect: self.poll(poll_members),
    }

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

    def ask_service(self, seconds: float) -> None:
        """Time passes, and the membership service is asked about everybody, once at a time for each."""
        self.clock += seconds
        for user in list(self.state.users):
            if ("service", user) not in self.polls:
                asking = ask_service(self.state, user, self.clock)
                self.polls["service", user] = self.start(asking, lambda _, user=user: self.polls.pop(("service", user)))

    def finish(self, process: Process | None = None) -> None:
        """A process, and what comes of it, each to its end in one go: for when the order is no question."""
        if process is not None:
            self._run(process)
        while self.tasks:
            task = self.tasks[0]
            why = self._run(task.process)
            self._ended(task, why)

    def _run(self, process: Process) -> Exception | None:
        answer: Any = None
        failure: Exception | None = None
        try:
            while True:
                call = process.send(answer) if failure is None else process.throw(failure)
                answer = failure = None
                self.perform()
                kind = type(call)
                if kind is effects.Deliver:
                    self._offer_all(call)
                elif kind is effects.Together:
                    for one in call.processes:
                        failure = self._run(one) or failure
                else:
                    try:
                        answer = self.ANSWERS[kind](self, call)
                    except SyncdError as why:
                        failure = why
        except StopIteration:
            return None
        except (SyncdError, ConnectionResetError) as why:
            return why
        finally:
            self.perform()

    def settle(self) -> None:
        """Nothing fails or comes any more; what is under way goes on until it ends."""
        chance, step, tasks = self.chance.random, self.step, self.tasks
        for _ in range(MOST_STEPS):
            if not tasks:
                return
            step(tasks[int(chance() * len(tasks))] if len(tasks) > 1 else tasks[0])
        raise AssertionError(f"it never ends: {[task.process.gi_code.co_name for task in self.tasks]}")

    def way(self) -> str:
        """What happened, one step a line."""
        return "\n".join(f"{what.__name__} {type(call).__name__ if call else ''}" for what, call in self.trace)
