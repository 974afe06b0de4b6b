"""A hub in this process over a real database, whose every call is a point where others may write in between.

A scene has one listener. Its plan says at which points, before or after which call, what happens: pushes by somebody
else, whose hints arrive or are lost, and changes of members. What the listener is sent is judged as it comes.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from syncd.bus.hints import Bus, Hint, State, key
from syncd.core.principal import Principal
from syncd.live.batch import Batch
from syncd.live.connection import Connection, Subscription
from syncd.live.hub import Hub
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor
from syncd.protocol.live_messages import SEPARATOR
from syncd.protocol.messages import PushBody
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullPage, PullRequest
from syncd.service.event_ids import EventIds
from syncd.service.pull import pull
from syncd.service.push import PushRequest, PushService
from syncd.service.spaces import SpaceService
from syncd.store.live import Live
from syncd.store.log import Log
from syncd.store.pool import Pool

APP = "notes"
LIMITS = Limits(1000, 1 << 20, 64, None)
# The slow looks come after some hundredths of a second here, so what has not come by now never will.
NEVER = 60.0
CALLS = {"live": ("resolve_user", "feeds", "heads", "read", "members", "membership_changes"), "log": ("peek", "pull")}
Point = tuple[str, int]


class SilentBus:
    """Carries nothing: what a scene's hub hears is what its plan lets it hear."""

    told = heard = sent = ignored = reconnects = dropped = 0
    state: State = "up"

    async def open(self, hear: Callable[[Hint], None]) -> None:
        """There is nothing to open."""

    def tell(self, hint: Hint) -> None:
        """Nobody hears it."""

    async def close(self) -> None:
        """There is nothing to close."""


class World:
    """The others: they write through connections of their own."""

    def __init__(self, ours: Pool, theirs: Pool, secret: bytes) -> None:
        self.ours, self.key = ours, secret
        self.log, self.spaces = Log(theirs), SpaceService(theirs, False, lambda: None)
        self._turn = 0

    async def write(self, user: str, space: str, app: str = APP) -> int:
        """Commits a change of a record of its own; its seq."""
        self._turn += 1
        name, now = f"r{self._turn}", time.time_ns() // 1000
        register = {"value": name, "at": "2026-01-01T00:00:00Z"}
        change = {"table": "t", "id": name, "op": "update", "changeId": name, "fields": {"x": register}}
        text = msgspec.json.encode({"changes": [{**change, "spaceId": space}], "pull": False})
        body = msgspec.json.decode(text, type=PushBody)
        answer = await PushService(self.log, self.key, LIMITS, 1 << 40).push(
            PushRequest(Principal(user), "elsewhere", PullRequest(app), text, body, now, EventIds(now))
        )
        return answer.written[space]

    async def cursor(self, user: str, app: str = APP) -> str:
        """Where a device is that has everything."""
        return (await pull(self.log, self.key, Principal(user), PullRequest(app, plain=False))).synced_until


class Listener:
    """A sink. It judges each frame as it comes, and keeps what a device would know."""

    def __init__(self, secret: bytes, user: str) -> None:
        self.secret, self.user = secret, user
        self.seqs: dict[str, list[int]] = {}
        self.cursor = ""
        self.available: list[str] = []
        self.joined: list[str] = []
        self.left: list[str] = []
        self.errors: list[bytes] = []
        self.faults: list[str] = []
        self.ids: dict[int, str] = {}
        self.forbidden: set[tuple[str, int]] = set()
        self.reading = asyncio.Event()
        self.reading.set()

    @property
    def keeps_up(self) -> bool:
        return self.reading.is_set()

    page_bytes = 256 * 1024

    async def page_turn(self) -> None:
        await self.reading.wait()

    def changes(self, subscription: Subscription, batch: Batch, after: int, cursor: bytes) -> None:
        chosen = batch.selection(False, (), after=after if after > batch.after else None)
        self._take([change.text for change in chosen], cursor.decode(), snapshot=False)

    async def page(self, subscription: Subscription, delta: PullPage) -> None:
        for space in delta.left:
            self.seqs.pop(space, None)
        self.joined += delta.joined
        self.left += delta.left
        texts = msgspec.json.decode(b"[%s]" % delta.changes, type=list[msgspec.Raw])
        self._take([bytes(text) for text in texts], delta.synced_until, snapshot=bool(delta.joined))

    def frame(self, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        if said["type"] == "error":
            self.errors.append(frame)
        else:
            self.available.append(said["appId"])

    def end(self, code: int, reason: str) -> None:
        self.faults.append(f"ended with {code}")

    def knows(self, cursor: str) -> None:
        """It was here before, and has everything up to a cursor."""
        self.cursor = cursor
        self.seqs = {space: list(range(1, seq + 1)) for space, seq in self.positions().items() if seq}

    def positions(self) -> dict[str, int]:
        """How far its last cursor says it has come, by space."""
        at = cursors.decode(self.cursor, self.secret, self.user, APP, ()) if self.cursor else None
        return {self.ids[p.space]: p.seq for p in at.positions} if isinstance(at, Cursor) else {}

    def _take(self, texts: list[bytes], cursor: str, *, snapshot: bool) -> None:
        before, left = self.positions(), set(self.left)
        for text in texts:
            assert SEPARATOR not in text
            change = msgspec.json.decode(text)
            if (change["spaceId"], change["seq"]) in self.forbidden:
                self.faults.append(f"{change['spaceId']}: {change['seq']} was written after the removal")
            known = self.seqs.setdefault(change["spaceId"], [])
            if change["seq"] in known:
                continue  # a device knows it by its seq
            if known and not snapshot and change["seq"] != max(known) + 1:
                self.faults.append(f"{change['spaceId']}: {change['seq']} came after {known}")
            known.append(change["seq"])
        self.cursor = cursor
        for space, seq in self.positions().items():
            missing = set(range(1, seq + 1)) - set(self.seqs.get(space, ()))
            if missing:
                self.faults.append(f"{space}: a cursor at {seq}, and {missing} never came")
            if seq < before.get(space, 0) and space not in left:
                self.faults.append(f"{space}: a cursor went from {before[space]} back to {seq}")


class Scene:
    """A listener's way from its connection to the end of what the plan brings."""

    def __init__(self, world: World, number: int, plan: dict[Point, str]) -> None:
        self.world, self.plan = world, dict(plan)
        self.owner, self.user = f"owner-{number}", f"user-{number}"
        self.space, self.other = f"space-{number}", f"other-{number}"
        self.log, self.live = Log(world.ours), Live(world.ours)
        self.bus: Bus = SilentBus()
        self.hub = Hub(self.log, self.live, self.bus, world.key)
        self.heads = Counter[str]()
        self.seen = Counter[str]()
        self.trace: list[Point] = []
        self.kept: list[Hint] = []
        self.inside = True
        self._turn, self.under_way = asyncio.Lock(), 0
        # What was written where the listener is no member; it may never see it while that lasts.
        self.forbidden: set[tuple[str, int]] = set()

    async def prepare(self) -> None:
        """Two spaces with something in them; the listener is in both, where the plan does not make it join one."""
        owner = Principal(self.owner)
        for space in (self.space, self.other):
            await self.world.spaces.create(owner, space, space)
            for _ in range(2):
                await self.write(space, None)
        await self.member(self.space)
        if "join" not in self.plan.values():
            await self.member(self.other)
        else:
            self.inside = False
        for part, names in CALLS.items():
            for name in names:
                self._wrap(getattr(self, part), name)

    def _wrap(self, part: Any, name: str) -> None:
        call = getattr(part, name)

        async def wrapped(*arguments: Any) -> Any:
            await self._reach(f"before {name}")
            found = await call(*arguments)
            await self._reach(f"after {name}")
            return found

        setattr(part, name, wrapped)

    async def _reach(self, name: str) -> None:
        self.seen[name] += 1
        point = (name, self.seen[name])
        self.trace.append(point)
        if (what := self.plan.pop(point, None)) is not None:
            await self.happens(what)

    async def happens(self, what: str) -> None:
        """One step of the plan, and one at a time."""
        self.under_way += 1
        async with self._turn:
            await STEPS[what](self)
        self.under_way -= 1

    async def member(self, space: str, role: str = "writer") -> None:
        await self.world.spaces.put_member(Principal(self.owner), space, self.user, role)

    async def write(self, space: str, hinted: bool | None, app: str = APP) -> None:
        """A push of somebody else; `hinted`: whether the hub hears of it."""
        seq = self.heads[space] = await self.world.write(self.owner, space, app)
        if hinted:
            self.hub.receive(Hint("f", key(space), key(app), seq))

    async def listen(self, listener: Listener, since: str) -> Connection:
        """Connects and subscribes, as a conversation does."""
        member = Connection(listener, Principal(self.user), "here", None)
        await self.hub.connect(member)
        question = PullRequest(APP, since, plain=False)
        self.hub.subscribe(self.hub.subscription(member, question))
        return member

    async def play(self, since: str) -> Listener:
        """All of it: what was planned for points that were never reached happens in the end."""
        listener = await self.listener()
        listener.knows(since)
        member = await self.listen(listener, since)
        await self._quiet()
        while self.plan:
            await self.happens(self.plan.pop(next(iter(self.plan))))
        await until(lambda: self.has_it_all(listener), listener, self)
        self.hub.gone(member)
        return listener

    async def listen_for_news(self) -> None:
        """As a device of the first generation, which is only told that there is news: in every space, of every app."""
        listener = await self.listener()
        member = Connection(listener, Principal(self.user), "here", None)
        await self.hub.connect(member)
        await self._quiet()
        while self.plan:
            await self.happens(self.plan.pop(next(iter(self.plan))))
        await self._hears_of(listener, self.space, APP, hinted=False)
        await self._hears_of(listener, self.space, "another app", hinted=False)
        await self._hears_of(listener, self.other, APP, hinted=True)
        await self._hears_of(listener, self.space, APP, hinted=True)
        self.hub.gone(member)

    async def _hears_of(self, listener: Listener, space: str, app: str, *, hinted: bool) -> None:
        """Of one push it must hear; where the hub may not know yet that it is a member, of one of many."""
        deadline = time.monotonic() + NEVER
        await asyncio.sleep(0.1)
        listener.available.clear()
        await self.write(space, hinted, app)
        while app not in listener.available:
            assert time.monotonic() < deadline, f"not told of {app} in {space}: {self.trace[:80]}"
            await asyncio.sleep(0.02)
            if space == self.other:
                await self.write(space, hinted, app)

    async def _quiet(self) -> None:
        """Until the plan is through, or nothing more of it comes to pass by itself."""
        for _ in range(8):
            if self.plan:
                await asyncio.sleep(0.02)

    async def listener(self) -> Listener:
        """A sink of the user's, which knows the spaces by number."""
        listener = Listener(self.world.key, self.user)
        for user in (self.owner, self.user):
            found = await Live(self.world.ours).resolve_user(user, None, 0)
            listener.ids |= dict(zip(found.spaces, found.ids, strict=True))
        listener.forbidden = self.forbidden
        return listener

    def has_it_all(self, listener: Listener) -> bool:
        """Whether the device knows everything of its spaces, and its cursor too, and nothing of others."""
        wanted = {self.space: self.heads[self.space], f"_personal:{self.user}": 0}
        if self.inside:
            wanted[self.other] = self.heads[self.other]
        whole = all(sorted(listener.seqs.get(space, ())) == list(range(1, head + 1)) for space, head in wanted.items())
        return whole and not self.under_way and listener.positions() == wanted


async def until(condition: Callable[[], bool], listener: Listener, scene: Scene) -> None:
    """Waits for it; what never comes is said with all that is known."""
    deadline = time.monotonic() + NEVER
    while not condition():
        assert not listener.faults, listener.faults
        assert time.monotonic() < deadline, (
            f"it never came: has {listener.seqs}, cursor {listener.positions()}, heads {dict(scene.heads)}, "
            f"inside {scene.inside}, joined {listener.joined}, left {listener.left}, available {listener.available}, "
            f"errors {listener.errors}, seen {scene.trace[:80]}"
        )
        await asyncio.sleep(0.005)


async def _pushed(scene: Scene) -> None:
    await scene.write(scene.space, True)


async def _pushed_and_read(scene: Scene) -> None:
    """The others who listen have it before anything else goes on."""
    await scene.write(scene.space, True)
    for _ in range(20):
        spaces = [space for space in scene.hub.state.spaces.values() if space.id == scene.space]
        feeds = [feed for space in spaces for feed in space.feeds.values()]
        if all(feed.head >= scene.heads[scene.space] for feed in feeds):
            return
        await asyncio.sleep(0.005)


async def _pushed_unheard(scene: Scene) -> None:
    await scene.write(scene.space, False)


async def _pushed_late_hint(scene: Scene) -> None:
    await scene.write(scene.space, False)
    scene.kept.append(Hint("f", key(scene.space), key(APP), scene.heads[scene.space]))


async def _late_hint(scene: Scene) -> None:
    for hint in scene.kept:
        scene.hub.receive(hint)


async def _early_hint(scene: Scene) -> None:
    """A hint that comes before what it tells of, from a process that is mistaken."""
    scene.hub.receive(Hint("f", key(scene.space), key(APP), scene.heads[scene.space] + 1))
    await asyncio.sleep(0.01)
    await scene.write(scene.space, False)


async def _joins(scene: Scene) -> None:
    await scene.member(scene.other)
    scene.inside = True
    await scene.write(scene.other, True)


async def _leaves(scene: Scene) -> None:
    if not scene.inside:
        return
    await scene.world.spaces.remove_member(Principal(scene.owner), scene.other, scene.user)
    scene.inside = False
    scene.forbidden.add((scene.other, scene.heads[scene.other] + 1))
    await scene.write(scene.other, True)


async def _leaves_and_comes_back(scene: Scene) -> None:
    await _leaves(scene)
    scene.forbidden.clear()
    await scene.member(scene.other)
    scene.inside = True
    await scene.write(scene.other, False)


STEPS: dict[str, Callable[[Scene], Awaitable[None]]] = {
    "push": _pushed,
    "push, and all have it": _pushed_and_read,
    "push unheard": _pushed_unheard,
    "push, hint later": _pushed_late_hint,
    "the hint": _late_hint,
    "hint before push": _early_hint,
    "join": _joins,
    "leave": _leaves,
    "leave and come back": _leaves_and_comes_back,
}
