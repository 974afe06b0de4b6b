"""Pages are packed for who takes that, on the same socket on which everything else is as it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.edge.deflate import packed, payload
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.proxy import Proxy
from tests.support.raw_socket import HANDSHAKE, RawSocket
from tests.support.socket_device import opened
from tests.support.wire import edit, unique

OFFER = HANDSHAKE[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n"


@given(st.binary(max_size=200), st.binary(max_size=2000), st.sampled_from([b"", b"t", b"t" * 65_535, b"t" * 200_000]))
def test_a_message_is_what_it_was_made_of(head: bytes, middle: bytes, tail: bytes) -> None:
    whole = b"".join(payload(head, packed(middle), tail))
    assert zlib.decompressobj(wbits=-15).decompress(whole + b"\x00\x00\xff\xff") == head + middle + tail


async def fill(server: Server, user: str, count: int) -> None:
    """So many small records, a hundred a push."""
    async with Device(server, user, "elsewhere") as device:
        for start in range(0, count, 100):
            await device.push([edit(f"r{n}", title=f"Water tomato {n}", done=False) for n in range(start, start + 100)])


async def first_sync(server: Server, user: str, compression: str | None, **more: Any) -> tuple[list[Any], int]:
    """What a new device gets, and in how many bytes."""
    async with Proxy(server.port) as line:
        options = {"host": "127.0.0.1", "port": line.port, "compression": compression}
        async with await opened(server, **options, **more) as socket:
            await socket.auth(user, protocol=1)
            pages = await socket.subscribe()
            (link,) = line.links
            carried = link.passed["down"]
            async with Device(server, user, "elsewhere") as device:
                await device.push([edit("live", text="x" * 20_000)])
            await socket.brings("live")
            result = await socket.push(edit("mine", x="y" * 20_000))
            assert result["results"][0]["status"] == "applied"
    return [change for page in pages for change in page["changes"]], carried


async def test_a_first_sync_is_a_fraction_of_the_bytes_and_the_same(server: Server) -> None:
    user = unique("ann")
    await fill(server, user, 1_000)
    (plain, carried), (same, less) = [await first_sync(server, user, how) for how in (None, "deflate")]
    assert len(plain) == 1_000
    assert same[-900:] == plain[-900:]  # those that were written first come last, in both
    assert less * 4 < carried, (less, carried)


async def test_a_client_with_a_small_window_gets_pages_as_they_are(server: Server) -> None:
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

    user = unique("ann")
    await fill(server, user, 300)
    narrow = [ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=9)]
    found, carried = await first_sync(server, user, None, extensions=narrow)
    assert len(found) == 300
    assert carried > 50_000


async def raw(server: Server, user: str) -> RawSocket:
    socket = await RawSocket.opened(server.port, head=OFFER)
    await socket.auth(server, user)
    return socket


async def test_small_frames_and_what_everyone_gets_are_not_packed(server: Server) -> None:
    user = unique("ann")
    socket = await raw(server, user)
    async with Device(server, user, "elsewhere") as device:
        await device.push([edit("live", text="x" * 20_000)])
    while (frame := json.loads((await socket.frame())[1]))["type"] != "changes" or not frame["changes"]:
        pass
    assert frame["changes"][0]["id"] == "live"


def masked(payload_: bytes, first: int = 0xC1) -> bytes:
    """A frame of a client's; packed, unless it says otherwise."""
    assert len(payload_) < 65_536
    return bytes((first, 0xFE)) + len(payload_).to_bytes(2) + bytes(4) + payload_


@pytest.mark.parametrize("what", ["bomb", "garbage", "cut short", "packed pieces"])
async def test_packed_frames_that_make_no_sense_end_their_connection_alone(server: Server, what: str) -> None:
    packer = zlib.compressobj(wbits=-15)
    small = packer.compress(b'{"type":"ping"}' + b" " * 500) + packer.flush(zlib.Z_SYNC_FLUSH)
    packer = zlib.compressobj(9, wbits=-15)
    bomb = packer.compress(b" " * (30 << 20)) + packer.flush(zlib.Z_SYNC_FLUSH)
    frames = {
        "bomb": masked(bomb[:-4]),
        "garbage": masked(b"\xff" * 300),
        "cut short": masked(small[:7]),
        "packed pieces": masked(small[:9], 0x41) + masked(small[9:-4], 0xC0),
    }
    began = len(server.output())
    socket = await raw(server, unique("mallory"))
    await asyncio.get_running_loop().sock_sendall(socket.connection, frames[what])
    with contextlib.suppress(EOFError):
        while True:
            await socket.hear()
    assert socket.code in (1002, 1007, 1009, 4400), socket.code
    said = server.output()[began:]
    assert "failed" not in said
    assert "Traceback" not in said


async def test_packed_frames_of_a_client_are_read(server: Server) -> None:
    async with await opened(server, compression="deflate") as socket:
        await socket.auth(unique("ann"))
        result = await socket.push(edit("r", text="z" * 5_000))
        assert result["results"][0]["status"] == "applied"
