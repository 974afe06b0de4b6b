"""G25: what was read before an erasure is not handed out after its receipt, by a consumer, a command or a webhook."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from syncd.consumers import ConsumedChange, consume
from syncd.consumers import webhook_sender as sender_module
from syncd.consumers.consumer import Consumer, ConsumerOptions
from syncd.consumers.webhook_sender import WebhookOptions
from syncd.store.consumers import UnknownConsumer
from syncd.store.webhooks import WebhookOperator
from tests.support.command_line import syncd
from tests.support.compacting import compact
from tests.support.consuming import eventually, first_of
from tests.support.direct import run
from tests.support.erasing import checked, erase, until
from tests.support.harness import Server
from tests.support.hooks import hook, sending
from tests.support.receiver import Receiver, receiving
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
CANARY = b"canary-of-a-batch"
FAILED = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"
TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def running(dsn: str, *pauses: float) -> AbstractAsyncContextManager[None]:
    """Sends for webhooks; after these pauses a message is given up."""
    return sending(dsn, WebhookOptions(pauses, 9))


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
def ada(device: Make) -> Device:
    """Her personal space has three records, each of a push of its own."""
    ada = device(unique("ada"), app=unique("app"))
    for name in ("r1", "r2", "r3"):
        ada.write(edit(name, 1, title=f"{name} {CANARY.decode()}"))
    return ada


@pytest.fixture
def shared(device: Make) -> tuple[Device, Device, str]:
    """bob's space, in which eve wrote a record after his own."""
    app = unique("app")
    bob, eve = device(unique("bob"), unique("his"), app=app), device(unique("eve"), unique("hers"), app=app)
    space = bob.create(unique("space"))
    bob.member(space, eve.user)
    for who, name in ((bob, "his"), (eve, "hers")):
        who.write({**edit(name, 1, title=CANARY.decode()), "spaceId": space})
    return bob, eve, space


async def erased(server: Server, ada: Device, name: str) -> None:
    """Returns when the receipt is there."""
    receipt = await asyncio.to_thread(
        erase, server, "record", f"_personal:{ada.user}", "t", name, "--app", ada.app or ""
    )
    assert (await asyncio.to_thread(checked, server, receipt))["record_id"] == name


def titles(changes: list[ConsumedChange], name: str) -> list[str | None]:
    return [change.values.get("title") for change in changes if change.id == name]


async def test_a_batch_that_was_read_ahead_is_read_again(server: Server, ada: Device) -> None:
    options = ConsumerOptions([ada.app or ""], None, "beginning", 1, 15.0)
    consumer = Consumer(unique("c"), server.owner_dsn, options)
    await consumer.open()
    try:
        first = await consumer.next(wait=False)
        assert first is not None
        assert consumer._coming is not None
        await asyncio.wait([consumer._coming])
        await erased(server, ada, "r2")
        await first.ack()
        handed_out = []
        while (batch := await consumer.next(wait=False)) is not None:
            handed_out.append(batch.ndjson())
            await batch.ack()
    finally:
        await consumer.close()
    assert [line.count(CANARY) for line in b"".join(handed_out).splitlines()] == [0, 1, 0]


async def test_a_batch_that_comes_again_is_read_again(server: Server, ada: Device) -> None:
    batches = consume(unique("c"), database=server.owner_dsn, app=ada.app, start="beginning")
    async with aclosing(batches):
        first = await first_of(batches)
        assert titles(first.changes, "r1") == [f"r1 {CANARY.decode()}"]
        await erased(server, ada, "r1")
        again = await first_of(batches)
        assert titles(again.changes, "r1")[0] is None
        assert CANARY not in b"".join(line for line in again.ndjson().splitlines() if b'"id":"r1"' in line)
        assert titles(again.changes, "r2") == [f"r2 {CANARY.decode()}"]
        await again.ack()


async def test_what_is_handed_out_when_a_receipt_is_given_may_be_acknowledged(server: Server, ada: Device) -> None:
    batches = consume(unique("c"), database=server.owner_dsn, app=ada.app, start="beginning")
    async with aclosing(batches):
        first = await first_of(batches)
        await erased(server, ada, "r1")
        await first.ack()
        told = await first_of(batches)
        assert [(change.id, change.op) for change in told.changes] == [("r1", "delete")]


def test_a_command_is_given_nothing_that_was_erased_since(server: Server, ada: Device, folder: Path) -> None:
    script = """
    if [ -e erased ]; then cat >> after; exit 0; fi
    cat > before; until [ -e erased ]; do sleep 0.05; done; exit 1"""
    command = [sys.executable, "-m", "syncd", "consume", unique("c"), "--app", ada.app or "", "--start", "beginning"]
    process = subprocess.Popen([*command, "--once", "--exec", script, "--database-url", server.owner_dsn], cwd=folder)
    try:
        until(lambda: (folder / "before").exists() and (folder / "before").read_bytes().count(CANARY) == 3)
        asyncio.run(erased(server, ada, "r2"))
        (folder / "erased").touch()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    assert (folder / "after").read_bytes().count(CANARY) == 2


async def logged_in(server: Server, how: str) -> str:
    """A superuser's URL, or that of a login which row security binds."""
    if how == "superuser":
        return server.owner_dsn
    name = f"hooks_{os.urandom(4).hex()}"
    await run(server.owner_dsn, f"CREATE ROLE {name} LOGIN IN ROLE syncd_owner")
    return server.owner_dsn.replace("postgres@", f"{name}@", 1)


@pytest.mark.parametrize("login", ["superuser", "owner"])
@pytest.mark.parametrize("what", ["record", "user"])
async def test_a_message_that_is_sent_again_has_nothing_that_was_erased_since(
    server: Server, shared: tuple[Device, Device, str], receiver: Receiver, login: str, what: str
) -> None:
    bob, eve, space = shared
    receiver.answers = [FAILED, TAKEN]
    receiver.may_answer.clear()
    one = await hook(server, receiver.url, bob.app or "")
    async with running(await logged_in(server, login), 0.05):
        (first,) = await receiver.until(1)
        assert first.body.count(CANARY) == 2
        arguments = ("user", eve.user) if what == "user" else ("record", space, "t", "hers", "--app", bob.app or "")
        await asyncio.to_thread(erase, server, *arguments)
        receiver.may_answer.set()
        second = (await receiver.until(2))[1]
        await eventually(one.behind, lambda behind: not behind)
    assert second.headers["webhook-id"] == first.headers["webhook-id"]
    assert second.is_signed_with(one.secret)
    his, hers = second.data["changes"][0], second.data["changes"][1]
    assert (his["id"], his["values"]) == ("his", {"title": CANARY.decode()})
    assert (hers["id"], hers["values"], hers["erased"]) == ("hers", {}, True)
    assert what == "record" or eve.user.encode() not in second.body


@pytest.mark.parametrize("login", ["superuser", "owner"])
async def test_a_message_that_is_given_up_is_kept_without_what_was_erased_since(
    server: Server, shared: tuple[Device, Device, str], receiver: Receiver, login: str
) -> None:
    bob, eve, _ = shared
    receiver.answers = [FAILED]
    receiver.may_answer.clear()
    one = await hook(server, receiver.url, bob.app or "")
    async with running(await logged_in(server, login)):
        await receiver.until(1)
        await asyncio.to_thread(erase, server, "user", eve.user)
        receiver.may_answer.set()
        async with one.operator() as operator:
            letter = (await eventually(lambda: operator.dead(one.name), bool))[0]
    assert [change["values"] for change in json.loads(letter.body)["data"]["changes"]] == [
        {"title": CANARY.decode()},
        {},
    ]
    assert eve.user.encode() not in letter.body


async def test_no_part_of_a_message_names_a_user_who_was_erased(
    server: Server, shared: tuple[Device, Device, str]
) -> None:
    bob, eve, space = shared
    eve.write(edit("private", 2, title=CANARY.decode()))
    told = {"app": bob.app, "table": "t", "user": eve.user, "values": {"title": CANARY.decode()}}
    hers = {**told, "space": space, "id": "hers", "seq": 2}
    private = {**told, "space": f"_personal:{eve.user}", "id": "private", "seq": 1}
    for arguments in (("record", space, "t", "hers", "--app", bob.app or ""), ("user", eve.user)):
        await asyncio.to_thread(erase, server, *arguments)
    body = json.dumps({"data": {"changes": [hers, private]}}).encode()
    found = await run(server.owner_dsn, f"SELECT convert_from(syncd.sync_letter('\\x{body.hex()}'), 'UTF8')")
    assert eve.user not in found[0][0]
    changes = json.loads(found[0][0])["data"]["changes"]
    assert [(change["values"], change["erased"]) for change in changes] == [({}, True)] * 2


async def cleaned(server: Server, body: bytes) -> list[dict[str, Any]]:
    """The changes of a message as it may be sent now."""
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        kept = await connection.fetchval("SELECT syncd.sync_letter($1)", body)
    finally:
        await connection.close()
    changes: list[dict[str, Any]] = json.loads(kept)["data"]["changes"]
    return changes


async def sent(server: Server, receiver: Receiver, app: str | None) -> bytes:
    """The first message of a webhook, which was taken."""
    one = await hook(server, receiver.url, app or "")
    async with running(server.owner_dsn):
        await receiver.until(1)
        await eventually(one.behind, lambda behind: not behind)
    return receiver.posted[0].body


async def test_a_message_of_a_user_who_was_erased_and_came_again_has_nothing_of_before(
    server: Server, ada: Device, receiver: Receiver
) -> None:
    body = await sent(server, receiver, ada.app)
    await asyncio.to_thread(erase, server, "user", ada.user)
    ada.write(edit("r1", 2, title="of another ada"))
    changes = await cleaned(server, body)
    told = [(change["values"], change["user"], change["space"]) for change in changes]
    assert told == [({}, "_erased", "_erased")] * 3
    later = await cleaned(server, await sent_of(ada))
    assert [change["values"] for change in later] == [{"title": "of another ada"}]


async def sent_of(ada: Device) -> bytes:
    """A message of the change that a device wrote last."""
    change = ada.drain(history=1)[0][-1]
    told = {"app": ada.app, "table": "t", "user": ada.user, "space": f"_personal:{ada.user}", "id": change["id"]}
    values = {name: register["value"] for name, register in change["fields"].items() if name != "deletedAt"}
    more = {"at": datetime.now(UTC).isoformat(), "seq": change["seq"], "eventId": change["eventId"], "values": values}
    return json.dumps({"timestamp": "2099-01-01T00:00:00.000000Z", "data": {"changes": [{**told, **more}]}}).encode()


@pytest.mark.parametrize("first", ["compacted", "erased"])
async def test_a_message_has_no_values_of_which_the_log_does_not_know_any_more_whose_they_were(
    server: Server, shared: tuple[Device, Device, str], receiver: Receiver, first: str
) -> None:
    bob, eve, space = shared
    body = await sent(server, receiver, bob.app)
    bob.write({**edit("hers", 2, title="bob's"), "spaceId": space})
    if first == "compacted":
        await compact(server.owner_dsn, space)
    await asyncio.to_thread(erase, server, "user", eve.user)
    if first == "erased":
        await compact(server.owner_dsn, space)
    told = {change["id"]: change for change in await cleaned(server, body)}
    assert (told["hers"]["values"], told["hers"]["erased"]) == ({}, True)
    assert CANARY.decode() in json.dumps(told["his"])
    assert eve.user not in json.dumps(told)


async def test_a_whole_record_is_kept_where_it_stands_as_it_was(
    server: Server, shared: tuple[Device, Device, str]
) -> None:
    bob, eve, space = shared
    seqs = {change["id"]: change["seq"] for change in bob.drain()[0] if change.get("spaceId") == space}
    told = {"app": bob.app, "table": "t", "space": space, "values": {"title": CANARY.decode()}, "state": True}
    places = [("his", seqs["his"]), ("hers", seqs["hers"]), ("his", seqs["his"] - 1)]
    body = json.dumps({"data": {"changes": [{**told, "id": id_, "seq": seq} for id_, seq in places]}}).encode()
    await asyncio.to_thread(erase, server, "user", eve.user)
    assert [bool(change["values"]) for change in await cleaned(server, body)] == [True, False, False]


async def test_a_message_that_is_given_up_while_an_erasure_ends_is_waited_for(
    server: Server, shared: tuple[Device, Device, str]
) -> None:
    bob, eve, space = shared
    one = await hook(server, "http://127.0.0.1:9/", bob.app or "")
    told = {"app": bob.app, "table": "t", "user": eve.user, "values": {"title": CANARY.decode()}}
    change = {**told, "space": space, "id": "hers", "seq": 2}
    body = json.dumps({"data": {"changes": [change]}}).encode()
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        async with connection.transaction():
            await WebhookOperator(connection).bury(one.name, "msg_1", body, 1, "said no")
            erasing = asyncio.create_task(asyncio.to_thread(erase, server, "user", eve.user))
            await until_somebody_waits(server, connection)
            assert not erasing.done()
        await erasing
        (letter,) = await WebhookOperator(connection).dead(one.name)
    finally:
        await connection.close()
    assert CANARY not in letter.body
    assert eve.user.encode() not in letter.body


async def until_somebody_waits(server: Server, connection: asyncpg.Connection) -> None:
    """For what this connection has locked."""
    query = "SELECT count(*) FROM pg_stat_activity a WHERE $1::integer = ANY (pg_blocking_pids(a.pid))"
    other = await asyncpg.connect(server.owner_dsn)
    try:
        async with asyncio.timeout(30):
            while not await other.fetchval(query, connection.get_server_pid()):  # noqa: ASYNC110 (it tells nobody)
                await asyncio.sleep(0.05)
    finally:
        await other.close()


async def test_a_message_of_a_webhook_that_is_gone_has_no_body(server: Server) -> None:
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        with pytest.raises(UnknownConsumer):
            await WebhookOperator(connection).letter(unique("none"), b"{}")
    finally:
        await connection.close()


async def test_a_dead_letter_is_read_when_it_is_sent(
    server: Server, ada: Device, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "CHANGES", 1)
    receiver.answers = [FAILED]
    one = await hook(server, receiver.url, ada.app or "")
    async with running(server.owner_dsn), one.operator() as operator:
        await eventually(lambda: operator.dead(one.name), lambda letters: len(letters) == 3)
    receiver.answers = [TAKEN]
    receiver.may_answer.clear()
    retrying = asyncio.create_task(
        asyncio.to_thread(syncd, "webhooks", "retry", one.name, "--database-url", server.owner_dsn)
    )
    await receiver.until(4)
    await erased(server, ada, "r2")
    receiver.may_answer.set()
    assert (await retrying).returncode == 0
    assert [post.body.count(CANARY) for post in receiver.posted[3:]] == [1, 0, 1]


async def test_an_erasure_that_ends_is_another_one(server: Server, ada: Device) -> None:
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        seen = [await connection.fetchval("SELECT syncd.sync_last_erasure()")]
        for name in ("r1", "r2"):
            await erased(server, ada, name)
            seen.append(await connection.fetchval("SELECT syncd.sync_last_erasure()"))
    finally:
        await connection.close()
    assert len(set(seen)) == 3
