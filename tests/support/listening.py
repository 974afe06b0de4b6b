"""A member who is listening on one worker while somebody acts on another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import asyncpg

from tests.support.device import Device
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.socket_device import Socket, connections_of, only, socket_on
from tests.support.stream_device import Stream, stream_of

# A second is promised; what else runs on the machine gets its share.
SOON = 60.0


class Listening:
    """A member's socket and stream."""

    def __init__(self, socket: Socket, stream: Stream) -> None:
        self.socket, self.stream = socket, stream

    def ids(self) -> set[str]:
        """All records that either was sent."""
        return {change["id"] for change in (*self.socket.changes(), *self.stream.changes())}

    async def bring(self, record: str) -> None:
        await self.socket.brings(record, within=SOON)
        await self.stream.brings(record, within=SOON)

    def told(self, what: str, space: str) -> tuple[int, int]:
        """How often each was told that a space was joined or left."""
        frames = [f for f in self.socket.all("changes") if space in f["spaces"][what]]
        return len(frames), len([e for e in self.stream.all("spaces") if space in e.data[what]])

    async def are_told(self, what: str, space: str, more_than: tuple[int, int] = (0, 0)) -> None:
        await self.socket.until(lambda: self.told(what, space)[0] > more_than[0], SOON)
        await self.stream.until(lambda: self.told(what, space)[1] > more_than[1], SOON)

    async def settled(self) -> None:
        """Returns when what was sent to them before has come."""
        await self.socket.fence()
        await asyncio.sleep(0.05)


@asynccontextmanager
async def listening(server: Server, user: str, token: str = "") -> AsyncIterator[Listening]:
    """A member's subscribed socket and stream, both on the second worker."""
    token = token or server.token(user)
    async with AsyncExitStack() as stack:
        socket = await stack.enter_async_context(socket_on(server, 1, user, "phone", token=token))
        with only(server, 1):
            stream = await stack.enter_async_context(stream_of(server, user, token=token))
        port = stream.response.extensions["network_stream"].get_extra_info("client_addr")[1]
        assert port in connections_of(workers_of(server)[1])
        await socket.subscribe()
        await stream.until(lambda: stream.events)
        yield Listening(socket, stream)


@asynccontextmanager
async def on_the_first(server: Server, user: str, token: str = "") -> AsyncIterator[Device]:
    """A device whose requests go to the first worker."""
    async with Device(server, user, "desk", token=token) as device:
        with only(server, 0):
            await device.pull()
        yield device


async def unheard(server: Server, space: str, user: str) -> None:
    """Removes a member as no worker does, so that none is told: whoever delivers has to notice by itself."""
    connection = await asyncpg.connect(server.owner_dsn)
    await connection.execute(
        "DELETE FROM syncd.sync_memberships m USING syncd.sync_spaces s, syncd.sync_names n"
        " WHERE s.space_no = m.space_no AND n.name_no = m.user_no AND s.space_id = $1 AND n.name = $2",
        space, user,
    )  # fmt: skip
    await connection.close()
