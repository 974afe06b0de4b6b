"""G26 for webhooks: kill -9 of what sends, at every step, loses no message, and a dead letter is kept once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.support.consuming import eventually
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.hooks import Hook, hook
from tests.support.receiver import Receiver, receiving
from tests.support.sending import NEVER_TAKEN, TAKEN, sending
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
FAILED = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
CHANGES = 4

pytestmark = pytest.mark.waits


@asynccontextmanager
async def killed_and_begun_again(
    server: Server, device: Make, step: str, answers: list[bytes]
) -> AsyncIterator[tuple[Receiver, Hook]]:
    """A webhook with some changes to send, of which a process died at a step; another one has sent the rest."""
    ada = device(unique("ada"), app=unique("app"))
    for n in range(CHANGES):
        ada.write(edit(f"r{n}", n + 1, n=n))
    async with receiving() as receiver:
        receiver.answers = answers or receiver.answers
        one = await hook(server, receiver.url, ada.app)
        dying = sending(server.owner_dsn, step, 1 if step == "taken by it" else 2)
        heir = None
        try:
            assert await asyncio.to_thread(dying.wait, 60) == -signal.SIGKILL
            heir = sending(server.owner_dsn)
            await eventually(one.behind, lambda behind: not behind)
        finally:
            for process in [dying, heir] if heir else [dying]:
                process.kill()
                process.wait()
            # What is left would be sent by the next one.
            await run(server.owner_dsn, "UPDATE syncd.sync_webhooks SET state = 'paused' WHERE state <> 'paused'")
        yield receiver, one


def numbers(receiver: Receiver) -> list[int]:
    """What came, in its order."""
    return [change["values"]["n"] for post in receiver.posted for change in post.data["changes"]]


@pytest.mark.parametrize("step", TAKEN)
async def test_what_was_not_taken_when_it_died_is_sent_in_order_and_with_its_id(
    server: Server, device: Make, step: str
) -> None:
    async with killed_and_begun_again(server, device, step, []) as (receiver, one):
        came = numbers(receiver)
        # One may come twice: the one that was under way.
        assert list(dict.fromkeys(came)) == list(range(CHANGES))
        assert came == sorted(came)
        assert len(came) <= CHANGES + 1
        ids = {(post.headers["webhook-id"], n) for post, n in zip(receiver.posted, came, strict=True)}
        assert len(ids) == CHANGES
        assert all(post.is_signed_with(one.secret) for post in receiver.posted)


@pytest.mark.parametrize("step", NEVER_TAKEN)
async def test_of_what_is_never_taken_each_message_is_kept_once(server: Server, device: Make, step: str) -> None:
    async with killed_and_begun_again(server, device, step, [FAILED]) as (receiver, one):
        assert numbers(receiver) == sorted(numbers(receiver))
        async with one.operator() as operator:
            letters = await operator.dead(one.name)
        assert sorted({post.headers["webhook-id"] for post in receiver.posted}) == sorted(
            letter.message_id for letter in letters
        )
        assert len(letters) == CHANGES
