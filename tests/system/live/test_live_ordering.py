"""G4 and G6 live: every listener hears everything, in the order of the log and never half a push, whatever happens.

Twelve writers push batches of 1 to 400 into two spaces, over HTTP and sockets, on two workers. Listeners on sockets and
streams stay, narrow, reconnect from their last cursor at random moments, or come in the middle.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.device import Change, Device, statuses
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.socket_device import Socket, connections_of, only, opened, socket_of, socket_on
from tests.support.stream_device import Stream, stream_of
from tests.support.wire import unique

pytestmark = pytest.mark.waits

WRITERS, PUSHES = 12, 8
SIZES = (1, 1, 2, 3, 7, 20, 60, 150, 400)
TABLES = ("a", "b", "c")
Page = tuple[list[Change], str, bool]


class Listener:
    """What one device was sent: pages of (changes, cursor, more), over all its connections."""

    def __init__(self, name: str, server: Server, *, tables: tuple[str, ...] = (), restless: int = 0) -> None:
        self.name, self.server, self.tables = name, server, tables
        self.chance = random.Random(restless)
        self.restless = bool(restless)
        self.connections: list[list[Page]] = []
        self.cursor = ""
        self.marks: set[str] = set()
        self.limit: asyncio.Timeout | None = None

    @property
    def pages(self) -> list[Page]:
        return [page for pages in self.connections for page in pages]

    @property
    def stream(self) -> list[Change]:
        return [change for changes, _, _ in self.pages for change in changes]

    def got(self, page: Page) -> None:
        """A frame or an event."""
        self.connections[-1].append(page)
        self.cursor = page[1]
        if self.restless and len(self.connections[-1]) == 2 and self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + self.chance.uniform(0, 0.3))
        self.marks |= {change["id"] for change in page[0] if change["table"] == "mark"}

    async def listen(self) -> None:
        """Until it was sent the marks of both spaces, which are written last; comes back when it is restless."""
        while len(self.marks) < 2:
            self.connections.append([([], self.cursor, True)])
            # Every other time it waits for a page: where connecting takes long it would never have one.
            hasty = self.restless and len(self.connections) % 2
            try:
                async with asyncio.timeout(self.chance.uniform(0.05, 0.3) if hasty else 400) as limit:
                    self.limit = None if hasty else limit
                    await self.connect()
            except TimeoutError:
                assert self.restless, f"{self.name} was not sent everything: {self.marks}"

    async def connect(self) -> None:
        """One connection."""
        raise NotImplementedError


class OnSocket(Listener):
    async def connect(self) -> None:
        async with socket_of(self.server, "follower", self.name, protocol=1) as socket:
            frame = {"type": "subscribe", "appId": "notes", "since": self.cursor, "collections": list(self.tables)}
            await socket.send(frame)
            place = 0
            while len(self.marks) < 2:
                await socket.until(lambda: len(socket.frames) > place, 400)  # noqa: B023
                for came in socket.frames[place:]:
                    assert came["type"] in ("auth-ok", "sync-available", "changes"), came
                    if came["type"] == "changes":
                        self.got((came["changes"], came["syncedUntil"], came["hasMore"]))
                place = len(socket.frames)


class OnStream(Listener):
    async def connect(self) -> None:
        query: dict[str, Any] = {"collections": ",".join(self.tables)} if self.tables else {}
        headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
        async with stream_of(self.server, "follower", headers=headers, **query) as stream:
            place = 0
            while len(self.marks) < 2:
                await stream.until(lambda: len(stream.events) > place, 400)  # noqa: B023
                for event in stream.events[place:]:
                    if event.name == "heartbeat":
                        self.got(([], event.id or self.cursor, False))
                    elif event.name == "changes":
                        self.got((event.data["changes"], event.data["syncedUntil"], event.data["hasMore"]))
                place = len(stream.events)


Push = Callable[[list[Change]], Awaitable[dict[str, Any]]]


async def write(device: Device, push: Push, seed: int) -> None:
    """Pushes batches to one or both spaces and several tables; a change says which push it came with."""
    chance = random.Random(seed)
    for number in range(PUSHES):
        size = chance.choice(SIZES)
        changes = []
        for space in chance.choice((["one"], ["two"], ["one", "two"])):
            for i in range(size):
                name = f"{device.user}-{number}-{space}-{i}"
                # Every tenth record is everybody's, so that the log has writes that lost.
                record = f"shared-{i}" if i % 10 == 9 else name
                change = device.change(name, record, {"push": f"{device.user}-{number}"}, space=space)
                changes.append({**change, "table": TABLES[i % 3]})
        chance.shuffle(changes)
        assert set(statuses(await push(changes))) <= {"applied", "superseded"}
        await asyncio.sleep(chance.uniform(0, 0.3))


async def write_all(server: Server, seed: int) -> None:
    """All writers, half of them over sockets."""
    async with AsyncExitStack() as stack:
        work = []
        for n in range(WRITERS):
            device = await stack.enter_async_context(Device(server, f"writer-{n}", f"writer-{n}-device"))
            push: Push = device.push
            if n % 2:
                socket = await stack.enter_async_context(socket_of(server, device.user, device.client))
                push = pushing(socket)
            work.append(write(device, push, seed + n))
        await asyncio.gather(*work)


def pushing(socket: Socket) -> Push:
    async def push(changes: list[Change]) -> dict[str, Any]:
        return await socket.push(*changes)

    return push


def listeners(server: Server, seed: int) -> list[Listener]:
    """All that are there from the beginning."""
    return [
        *(OnSocket(f"socket-{n}", server) for n in range(3)),
        *(OnStream(f"stream-{n}", server) for n in range(2)),
        OnSocket("narrow-socket", server, tables=("a", "mark")),
        OnStream("narrow-stream", server, tables=("b", "c", "mark")),
        OnSocket("restless-socket", server, restless=seed),
        OnStream("restless-stream", server, restless=seed + 1),
        OnSocket("restless-narrow", server, tables=("c", "mark"), restless=seed + 2),
    ]


async def ready(listeners: list[Listener]) -> None:
    """Waits until all stand where the log is empty."""
    for _ in range(6000):
        if all(listener.cursor for listener in listeners):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not all could subscribe")


@pytest.fixture(scope="module")
def pair(workspace: Path) -> Iterator[Server]:
    """A server with two workers."""
    with Server(workspace / "live-ordering", workers=2) as server:
        yield server


@pytest.fixture(scope="module")
async def run(pair: Server) -> dict[str, Any]:
    """Writers and listeners at once, and what the listeners were sent."""
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    async with Device(pair, "owner") as owner, Device(pair, "follower") as follower:
        names = {f"writer-{n}": "writer" for n in range(WRITERS)}
        for space in ("one", "two"):
            await owner.create_space(space, **names, follower="reader")
        there = listeners(pair, seed)
        late = [OnSocket("late-socket", pair), OnStream("late-stream", pair)]
        listening = [asyncio.create_task(listener.listen()) for listener in there]
        await ready(there)
        writing = asyncio.create_task(write_all(pair, seed))
        await asyncio.sleep(0.7)
        listening += [asyncio.create_task(listener.listen()) for listener in late]
        await writing
        for space in ("one", "two"):
            mark = owner.change(f"mark-{space}", f"mark-{space}", {"push": f"mark-{space}"}, space=space)
            await owner.push([{**mark, "table": "mark"}])
        await asyncio.gather(*listening)
        log, _ = await follower.drain(history=1)
        state, _ = await follower.drain()
    return {"there": there, "late": late, "log": log, "state": state}


def by_space(changes: list[Change]) -> dict[str, list[Change]]:
    """Changes by their space, in the order they came."""
    found: dict[str, list[Change]] = defaultdict(list)
    for change in changes:
        found[change["spaceId"]].append(change)
    return found


def once(changes: list[Change]) -> list[Change]:
    """The changes of one space by seq, each once, in the order of the first time that it came."""
    return list({change["seq"]: change for change in changes}.values())


def of_tables(changes: list[Change], tables: tuple[str, ...]) -> list[Change]:
    return [change for change in changes if not tables or change["table"] in tables]


def records(changes: list[Change]) -> dict[tuple[str, str, str], Any]:
    """What the changes make of the records when they are applied in order, as greater stamps win."""
    found: dict[tuple[str, str, str], dict[str, tuple[str, str, Any]]] = defaultdict(dict)
    for change in changes:
        record = found[change["spaceId"], change["table"], change["id"]]
        for field, register in change["fields"].items():
            stamp = (register["at"], register.get("clientId", change["clientId"]), register["value"])
            if field not in record or record[field][:2] <= stamp[:2]:
                record[field] = stamp
    return dict(found)


def test_who_was_there_from_the_beginning_heard_the_log_itself(run: dict[str, Any]) -> None:
    log = by_space(run["log"])
    assert min(len(changes) for changes in log.values()) > 100
    for listener in run["there"]:
        heard = by_space(listener.stream)
        for space, changes in log.items():
            found = once(heard[space])
            if isinstance(listener, OnStream):
                found.sort(key=lambda change: int(change["seq"]))  # its events have one table each
            assert found == of_tables(changes, listener.tables), (listener.name, space)


def after_the_sweep(seqs: list[int], cursor: str) -> list[int]:
    """What follows the state that a new device is sent, newest first; all of it for who came with a cursor."""
    swept = next((n for n in range(1, len(seqs)) if seqs[n] > seqs[n - 1]), len(seqs))
    return seqs if cursor or swept == 1 else seqs[:1] + seqs[swept:]


def test_seqs_ascend_in_every_connection_and_nothing_comes_twice_in_one(run: dict[str, Any]) -> None:
    for listener in (*run["there"], *run["late"]):
        for pages in listener.connections:
            heard = [change for changes, _, _ in pages for change in changes]
            for table in (*TABLES, "mark") if isinstance(listener, OnStream) else ("",):
                for changes in by_space(of_tables(heard, (table,) if table else ())).values():
                    seqs = [change["seq"] for change in changes]
                    assert len(seqs) == len(set(seqs)), listener.name
                    after = after_the_sweep(seqs, pages[0][1])
                    assert after == sorted(after), listener.name


def test_no_frame_splits_a_push(run: dict[str, Any]) -> None:
    sizes: dict[tuple[str, ...], Counter[Any]] = {}
    for listener in (one for one in run["there"] if isinstance(one, OnSocket)):
        whole = sizes.setdefault(listener.tables, size_of_pushes(of_tables(run["log"], listener.tables)))
        for changes, _, _ in listener.pages:
            for push, count in size_of_pushes(changes).items():
                assert count == whole[push], (listener.name, push)


def size_of_pushes(changes: list[Change]) -> Counter[tuple[str, str]]:
    """How many changes there are of each push in each space."""
    return Counter((change["spaceId"], change["fields"]["value"]["value"]["push"]) for change in changes)


def test_a_cursor_after_some_tables_of_a_push_is_the_one_before_it(run: dict[str, Any]) -> None:
    whole = size_of_pushes(run["log"])
    # One that is narrowed passes by what is not for it in silence, so its cursors tell this test less.
    for listener in (one for one in run["there"] if isinstance(one, OnStream) and not one.tables):
        for pages in listener.connections:
            pending: list[Change] = []
            last = pages[0][1]
            for changes, cursor, _ in pages[1:]:
                pending += changes
                if cursor != last:
                    assert all(n == whole[push] for push, n in size_of_pushes(pending).items()), listener.name
                    pending, last = [], cursor


def test_cursors_never_go_back(run: dict[str, Any]) -> None:
    for listener in (*run["there"], *run["late"]):
        cursors = [cursor[:27] for _, cursor, _ in listener.pages]
        assert cursors == sorted(cursors), listener.name


def test_everybody_ends_with_the_state_of_a_fresh_pull(run: dict[str, Any]) -> None:
    state = records(run["state"])
    assert len(state) > 200
    for listener in (*run["there"], *run["late"]):
        wanted = {name: record for name, record in state.items() if not listener.tables or name[1] in listener.tables}
        assert records(listener.stream) == wanted, listener.name


def test_they_listened_while_the_writers_wrote(run: dict[str, Any]) -> None:
    for listener in run["there"]:
        assert len([page for page in listener.pages if page[0]]) > 3, listener.name
        assert listener.restless or len(listener.connections) == 1, listener.name
    assert sum(len(listener.connections) for listener in run["there"] if listener.restless) > 5


# -- G6 ------------------------------------------------------------------------------------------------------------


async def test_what_one_worker_took_is_heard_on_the_other(pair: Server) -> None:
    user = unique("ann")
    async with Device(pair, user, "writer") as device, AsyncExitStack() as stack:
        with only(pair, 0):
            await device.pull()
        sockets = [await stack.enter_async_context(socket_on(pair, place, user, f"c{place}")) for place in (0, 1)]
        pushers = [await stack.enter_async_context(socket_on(pair, place, user, f"p{place}")) for place in (0, 1)]
        stream = await stream_on(pair, 1, user, stack)
        for socket in sockets:
            await socket.subscribe()
        took = []
        for n in range(10):
            began = time.monotonic()
            await device.push([device.change(f"c{n}", f"http-{n}", n)])
            for place, pusher in enumerate(pushers):
                await pusher.push(device.change(f"c{n}", f"{place}-{n}", n))
            heard: list[Socket | Stream] = [*sockets, stream]
            for listener in heard:
                for record in (f"http-{n}", f"0-{n}", f"1-{n}"):
                    await listener.brings(record)
            took.append(time.monotonic() - began)
        assert [c["seq"] for c in sockets[1].changes()] == list(range(1, 31))
        # Without a word from worker to worker each turn would wait for a look, every two seconds, from the last one on.
        assert statistics.median(took) < 1.5, took


async def stream_on(server: Server, place: int, user: str, stack: AsyncExitStack) -> Stream:
    """A user's stream from one of the workers."""
    with only(server, place):
        stream = await stack.enter_async_context(stream_of(server, user))
    port = stream.response.extensions["network_stream"].get_extra_info("client_addr")[1]
    assert port in connections_of(workers_of(server)[place])
    return stream


async def test_a_result_is_in_the_next_pull_and_the_next_subscription_everywhere(pair: Server) -> None:
    user = unique("ann")
    async with socket_on(pair, 0, user, "c0") as socket, Device(pair, user, "other") as device:
        with only(pair, 1):
            await device.pull()
        for n in range(5):
            await socket.push(device.change(f"c{n}", f"r{n}", n))
            assert f"r{n}" in {c["id"] for c in (await device.drain())[0]}
            async with await opened(pair) as fresh:
                await fresh.auth(user, f"fresh-{n}")
                assert f"r{n}" in {c["id"] for page in await fresh.subscribe() for c in page["changes"]}


async def keep_writing(device: Device, done: asyncio.Event) -> None:
    turn = 0
    while not done.is_set():
        turn += 1
        await device.push([device.change(f"c{turn}", f"{device.client}-{turn}", turn)])


async def subscribe_and_look(socket: Socket) -> None:
    """What comes from the start of a subscription on has no hole, where the state ends least of all."""
    for _ in range(30):
        await socket.fence()
        begin = len(socket.frames)
        await socket.send({"type": "subscribe", "appId": "notes", "since": ""})
        seqs = list[int]()
        while not seqs or len(socket.frames) < begin + 3 or seqs[-1] < seqs[0]:
            known = len(socket.frames)
            await socket.until(lambda: len(socket.frames) > known)  # noqa: B023
            seqs = [c["seq"] for frame in socket.frames[begin:] for c in frame.get("changes", ())]
        # The state comes newest first, and then what was written since.
        assert seqs == [*range(seqs[0], 0, -1), *range(seqs[0] + 1, len(seqs) + 1)]
        await socket.send({"type": "unsubscribe", "appId": "notes"})


async def test_who_subscribes_again_and_again_while_others_write_misses_nothing(pair: Server) -> None:
    user, done = unique("ann"), asyncio.Event()
    async with AsyncExitStack() as stack:
        writers = [await stack.enter_async_context(Device(pair, user, f"w{n}")) for n in range(4)]
        await writers[0].push([writers[0].change(f"p{n}", f"p{n}", "x" * 200) for n in range(500)])
        steady = [await stack.enter_async_context(socket_on(pair, place, user, f"s{place}")) for place in (0, 1)]
        sockets = [await stack.enter_async_context(socket_on(pair, n % 2, user, f"c{n}")) for n in range(4)]
        for socket in steady:
            await socket.subscribe()
        writing = [asyncio.create_task(keep_writing(device, done)) for device in writers]
        try:
            await asyncio.gather(*(subscribe_and_look(socket) for socket in sockets))
        finally:
            done.set()
            await asyncio.gather(*writing)
