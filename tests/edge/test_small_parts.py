"""What costs a server more than its bytes: frames that are no message, chunks of a byte, a token's other spellings."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from syncd.core.errors import Unauthorized
from syncd.edge import incoming_frames
from syncd.edge.incoming_frames import PartsAllowance
from syncd.edge.tokens import Tokens
from tests.support.harness import Server
from tests.support.processes import workers_of
from tests.support.raw_socket import CLOSE, HANDSHAKE, RawSocket
from tests.support.wire import edit, unique

LARGEST = 1 << 20
SECRET = "s" * 40


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "parts", settings={"max_body": LARGEST}) as server:
        yield server


def frame(opcode: int, data: bytes = b"", *, last: bool = True, packed: bool = False) -> bytes:
    """A client's frame, masked with zeros."""
    size = bytes((0x80 | len(data),)) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
    return bytes((opcode | last << 7 | packed << 6,)) + size + bytes(4) + data


def unpacks_to(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(b" " * size) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


OFFER = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
FLOODS = {
    "pings": (b"", frame(9)),
    "pongs": (b"", frame(10)),
    "parts of nothing": (frame(1, b"{", last=False), frame(0, last=False)),
    "parts of a byte": (frame(1, b"{", last=False), frame(0, b" ", last=False)),
}


async def flooded(server: Server, *, user: str | None, before: bytes, one: bytes, count: int) -> tuple[int, int]:
    """The close code, and how many frames came, of a socket that sends the same again and again."""
    raw = await RawSocket.opened(server.port, head=HANDSHAKE.removesuffix(b"\r\n\r\n") + OFFER)
    if user is not None:
        await raw.auth(server, user, None)
    loop, answers = asyncio.get_running_loop(), 0

    async def pour() -> None:
        for part in [before, *[one * 1000] * (count // 1000)]:
            await loop.sock_sendall(raw.connection, part)

    pouring = asyncio.ensure_future(pour())
    try:
        while True:
            opcode, text = await raw.frame()
            if opcode == CLOSE:
                return int.from_bytes(text[:2]), answers
            answers += 1
    finally:
        pouring.cancel()
        await asyncio.wait({pouring})
        raw.close()


@pytest.mark.parametrize("known", [False, True], ids=["before auth", "afterwards"])
@pytest.mark.parametrize(("before", "one"), FLOODS.values(), ids=FLOODS)
async def test_frames_that_are_no_message_are_counted(served: Server, before: bytes, one: bytes, known: bool) -> None:
    code, answers = await flooded(served, user=unique("ann") if known else None, before=before, one=one, count=40_000)
    assert code == 4429
    # What came in one piece with the one too many is answered too.
    assert answers <= incoming_frames.MOST_PARTS + 2 * incoming_frames.PIECE / len(one)


async def test_small_frames_before_auth_are_counted_too(served: Server) -> None:
    for one in (frame(1, b"1"), frame(1, unpacks_to(10_000), packed=True)):
        assert (await flooded(served, user=None, before=b"", one=one, count=4000))[0] in (4400, 4429)


async def test_a_message_in_parts_is_one_message(served: Server) -> None:
    raw = await RawSocket.opened(served.port)
    await raw.auth(served, unique("ann"), None)
    change = edit("r", text="x" * 700_000)
    text = json.dumps({"type": "push", "requestId": "p", "appId": "notes", "changes": [change]}).encode()
    parts = [text[start : start + 300] for start in range(0, len(text), 300)]
    sent = b"".join(frame(0 if n else 1, part, last=n == len(parts) - 1) for n, part in enumerate(parts))
    await asyncio.get_running_loop().sock_sendall(raw.connection, sent)
    said = await raw.hear()
    raw.close()
    assert (said["type"], said["results"][0]["status"]) == ("push-result", "applied")


async def test_what_comes_after_too_much_is_not_unpacked(served: Server) -> None:
    """All that one read brings was unpacked before anything of it was looked at."""
    worker = workers_of(served)[0]
    peak_of = Path(f"/proc/{worker.pid}/status")

    def peak() -> int:
        return next(int(line.split()[1]) for line in peak_of.read_text().splitlines() if line.startswith("VmHWM"))

    await asyncio.to_thread(Path(f"/proc/{worker.pid}/clear_refs").write_text, "5")  # the peak is counted from here on
    before = peak()
    one = frame(1, unpacks_to(LARGEST), packed=True)
    code, _ = await flooded(served, user=unique("ann"), before=b"", one=one, count=1000)
    assert code == 4429
    assert peak() - before < 32 * LARGEST // 1024


def test_what_was_asked_may_be_answered() -> None:
    """Devices answer two pings a page, however many there are."""
    allowance = PartsAllowance(0.0)
    for n in range(20_000):
        allowance.asked(2)
        allowance.came(24, n / 1e6, known=True)
        assert allowance.take()
        assert allowance.take()


# -- chunks -------------------------------------------------------------------------------------------------------


async def chunked(server: Server, chunks: list[bytes], *, token: bool = True) -> tuple[int, dict[str, Any]]:
    """The answer to a push whose body comes in these chunks."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [
        "POST /sync/notes HTTP/1.1",
        "Host: x",
        "X-Client-Id: c",
        "X-Sync-Protocol: 1",
        "Transfer-Encoding: chunked",
    ]
    lines += [f"Authorization: Bearer {server.token(unique('ann'))}"] if token else []
    writer.write("\r\n".join([*lines, "", ""]).encode())
    writer.write(b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
    size = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    said = json.loads(await reader.readexactly(size))
    writer.close()
    return int(head.split()[1]), said


async def test_a_body_of_chunks_of_a_byte_is_refused(served: Server) -> None:
    status, said = await chunked(served, [b" "] * 100_000)
    assert (status, said["code"]) == (400, "invalid_request")
    assert "chunks" in said["detail"]


async def test_a_body_of_small_chunks_is_taken(served: Server) -> None:
    body = json.dumps({"changes": [edit("r", text="x" * 200_000)]}).encode()
    status, said = await chunked(served, [body[start : start + 200] for start in range(0, len(body), 200)])
    assert (status, said["results"][0]["status"]) == (200, "applied")
    small = json.dumps({"changes": [edit("s", text="x" * 2_000)]}).encode()
    assert (await chunked(served, [small[n : n + 1] for n in range(len(small))]))[0] == 200


# -- tokens -------------------------------------------------------------------------------------------------------


async def test_the_spellings_of_a_token_are_remembered_as_one() -> None:
    known = Tokens(secret=SECRET)
    token = jwt.encode({"sub": "ann", "exp": 4e9}, SECRET, algorithm="HS256").encode()
    ways = (b"Bearer %b", b"bearer %b", b"BEARER   %b", b"Bearer %b!!", b"Bearer %b==")
    spellings = [way % token for way in ways]
    assert {(await known.identity(spelling)).user for spelling in spellings} == {"ann"}
    assert len(known._known) == 1


async def test_another_signature_is_not_taken_for_the_one_that_is_remembered() -> None:
    known = Tokens(secret=SECRET)
    token = jwt.encode({"sub": "ann", "exp": 4e9}, SECRET, algorithm="HS256").encode()
    await known.identity(b"Bearer " + token)
    head, claims, signature = token.split(b".")
    other = jwt.encode({"sub": "bob", "exp": 4e9}, "t" * 40, algorithm="HS256").encode()
    for wrong in (
        other,
        b".".join((head, claims, other.split(b".")[2])),
        b".".join((head, other.split(b".")[1], signature)),
    ):
        with pytest.raises(Unauthorized):
            await known.identity(b"Bearer " + wrong)
