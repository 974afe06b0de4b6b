"""G26 for webhooks: each message comes at least once, signed, in order; a slow or wrong receiver harms nobody."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from syncd.consumers import delivery
from syncd.consumers.delivery import UnusableAddress, check_url, deliver
from syncd.consumers.webhook_sender import WebhookOptions, revive, webhook_line
from tests.support.consuming import eventually
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.hooks import hook, sending
from tests.support.receiver import Receiver, receiving
from tests.support.wire import Device, edit, unique

Make = Callable[..., Device]
QUICK = WebhookOptions((0.05, 0.05), 2)
FAILED = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"


def running(server: Server, options: WebhookOptions = QUICK) -> AbstractAsyncContextManager[None]:
    return sending(server.owner_dsn, options)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as one:
        yield one


@pytest.fixture
def ada(device: Make) -> Device:
    return device(unique("ada"), app=unique("app"))


async def test_what_happens_is_posted_and_signed(server: Server, ada: Device, receiver: Receiver) -> None:
    ada.write(edit("r1", 1, title="Water the plants"), edit("r2", 2, title="Feed the cat"))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        (first,) = await receiver.until(1)
        assert first.is_signed_with(one.secret)
        assert first.headers["content-type"] == "application/json"
        assert abs(int(first.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
        assert [(c["id"], c["op"], c["user"], c["values"]) for c in first.data["changes"]] == [
            ("r1", "update", ada.user, {"title": "Water the plants"}),
            ("r2", "update", ada.user, {"title": "Feed the cat"}),
        ]
        assert b'\n   "id": "r1"' in first.body.replace(b"    ", b"   ")  # for a person
        await asyncio.to_thread(ada.write, edit("r1", 3, title="Water the ferns"))
        _, second = await receiver.until(2)
        assert second.data["changes"][0]["values"] == {"title": "Water the ferns"}
        assert second.headers["webhook-id"] != first.headers["webhook-id"]
    assert (await one.now()).said == "answered 204"


async def test_what_is_not_taken_is_sent_again_with_its_id(server: Server, ada: Device, receiver: Receiver) -> None:
    receiver.answers = [FAILED, FAILED, *receiver.answers]
    ada.write(edit("r", 1, x=1))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        posted = await receiver.until(3)
        await eventually(one.behind, lambda behind: not behind)
    assert len({post.headers["webhook-id"] for post in posted}) == 1
    assert all(post.is_signed_with(one.secret) for post in posted)
    async with one.operator() as operator:
        count = next(count for count in await operator.counts() if count.name == one.name)
    assert (count.sent, count.failed, count.retries, count.dead, sum(count.buckets)) == (1, 2, 2, 0, 3)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(server: Server, ada: Device, receiver: Receiver, status: int) -> None:
    async with receiving() as elsewhere:
        there = b"HTTP/1.1 %d There\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, elsewhere.url.encode())
        receiver.answers = [there, *receiver.answers]
        ada.write(edit("r", 1, x=1))
        one = await hook(server, receiver.url, ada.app)
        async with running(server):
            posted = await receiver.until(2)
            await eventually(one.behind, lambda behind: not behind)
        assert [post.headers["webhook-id"] for post in posted] == [posted[0].headers["webhook-id"]] * 2
        assert elsewhere.posted == []
    async with one.operator() as operator:
        count = next(count for count in await operator.counts() if count.name == one.name)
    assert (count.sent, count.failed) == (1, 1)


async def test_what_is_never_taken_is_kept_apart_and_sent_later(
    server: Server, ada: Device, receiver: Receiver
) -> None:
    receiver.answers = [FAILED]
    ada.write(edit("r", 1, x=1))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        await receiver.until(3)
        async with one.operator() as operator:
            letters = await eventually(partial(operator.dead, one.name), bool)
        assert (letters[0].attempts, letters[0].reason) == (3, "answered 500")
        assert letters[0].body == receiver.posted[0].body
        # The second in a row opens the circuit.
        await asyncio.to_thread(ada.write, edit("r", 2, x=2))
        now = await one.until(lambda now: now.state == "paused")
        assert now.reason == "2 messages in a row were not taken: answered 500"
        receiver.answers = [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
        await asyncio.to_thread(ada.write, edit("r", 3, x=3))
        await one.into("active")
        posted = await receiver.until(7)
        assert posted[6].data["changes"][0]["values"] == {"x": 3}
    async with one.operator() as operator, webhook_line(server.owner_dsn) as line:
        for letter in await operator.dead(one.name):
            assert (await revive(await one.now(), letter, line)).taken
        assert await operator.dead(one.name) == []
    again = receiver.posted[7:]
    assert [post.data["changes"][0]["values"]["x"] for post in again] == [1, 2]
    assert again[0].headers["webhook-id"] == receiver.posted[0].headers["webhook-id"]


def nested(ones: int) -> Any:
    """A value that is some thousand bytes when it is stored, and 35 times as long where each number has a line."""
    value: Any = [1] * ones
    for _ in range(60):
        value = [value]
    return value


async def test_nested_values_are_sent_as_large_as_they_are_and_batches_are_bounded(
    server: Server, ada: Device, receiver: Receiver
) -> None:
    value = nested(240_000)
    for n in range(12):
        ada.write(edit(f"r{n:02}", n + 1, deep=value))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        await eventually(one.behind, lambda behind: not behind)
    told = [post.data["changes"] for post in receiver.posted]
    assert [change["id"] for changes in told for change in changes] == [f"r{n:02}" for n in range(12)]
    assert max(len(post.body) for post in receiver.posted) < 4.5e6, [len(post.body) for post in receiver.posted]
    assert told[0][0]["values"] == {"deep": value}


async def test_a_message_that_an_erasure_changes_stays_as_large_as_it_is(server: Server, ada: Device) -> None:
    ada.write(edit("r", 1, x=1))
    here = {"space": f"_personal:{ada.user}", "app": ada.app, "table": "t", "id": "r", "seq": 1}
    changes = [{**here, "space": "nowhere", "values": {"x": "erased"}}, {**here, "values": {"deep": nested(240_000)}}]
    body = json.dumps({"data": {"changes": changes}}).encode()
    connection = await asyncpg.connect(server.owner_dsn)
    kept = await connection.fetchval("SELECT syncd.sync_letter($1)", body)
    await connection.close()
    assert [change.get("erased") for change in json.loads(kept)["data"]["changes"]] == [True, None]
    assert len(kept) < 2 * len(body)


async def test_only_what_was_asked_for_is_sent(server: Server, ada: Device, receiver: Receiver) -> None:
    ada.write(edit("r1", 1, x=1), edit("r2", 1, title="a"), {**edit("r3", 1, title="a"), "table": "other"})
    ada.write({"table": "t", "id": "r1", "op": "delete", "deletedAt": "2026-01-02T00:00:00.000000Z"})
    one = await hook(server, receiver.url, ada.app, tables=["t"], fields=["title"], ops=["update"])
    async with running(server):
        await receiver.until(1)
        await eventually(one.behind, lambda behind: not behind)
    assert [change["id"] for post in receiver.posted for change in post.data["changes"]] == ["r2"]


async def test_one_that_never_answers_holds_up_no_other(
    server: Server, ada: Device, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "WITHIN", 1.0)
    ada.write(edit("r", 1, x=1))
    async with receiving() as silent:
        silent.answers = [b""]
        held = await hook(server, silent.url, ada.app)
        quick = await hook(server, receiver.url, ada.app)
        async with running(server):
            await asyncio.gather(silent.until(1), receiver.until(1))
            await quick.until(lambda now: now.said == "answered 204")
            await held.until(lambda now: now.said == "no answer within 1 s")
            await eventually(quick.behind, lambda behind: not behind)
            assert await held.behind() == 1


async def test_an_answer_without_end_is_not_read(receiver: Receiver) -> None:
    receiver.answers, receiver.endless = [b"HTTP/1.1 200 OK\r\n\r\n"], True
    async with asyncio.timeout(10):
        found = await deliver(receiver.url, {}, b"{}", private=True)
    assert found.taken


async def test_one_that_is_gone_is_paused(server: Server, ada: Device, receiver: Receiver) -> None:
    receiver.answers = [b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"]
    ada.write(edit("r", 1, x=1))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        assert "410" in ((await one.until(lambda now: now.state == "paused")).reason or "")
    assert len(receiver.posted) == 1
    assert await one.behind() == 1


async def test_pausing_draining_and_replaying(server: Server, ada: Device, receiver: Receiver) -> None:
    ada.write(edit("r", 1, x=1))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        await receiver.until(1)
        await one.until(lambda now: now.said is not None)
        await one.into("paused")
        await asyncio.sleep(2)
        between = datetime.now(UTC)
        await asyncio.to_thread(ada.write, edit("r", 2, x=2))
        await asyncio.sleep(1)
        assert len(receiver.posted) == 1
        await one.into("draining")
        now = await one.until(lambda now: now.state == "paused")
        assert now.reason == "drained"
        assert [post.data["changes"][0]["values"]["x"] for post in receiver.posted] == [1, 2]
        async with one.operator() as operator:
            assert await operator.rewind(one.name, between)
        await one.into("active")
        posted = await receiver.until(3)
        assert posted[2].data["changes"][0]["values"] == {"x": 2}


async def test_two_runners_send_each_message_once(server: Server, ada: Device, receiver: Receiver) -> None:
    one = await hook(server, receiver.url, ada.app)
    async with running(server), running(server):
        for n in range(1, 6):
            await asyncio.to_thread(ada.write, edit("r", n, x=n))
        await eventually(one.behind, lambda behind: not behind)
    found = [change["values"]["x"] for post in receiver.posted for change in post.data["changes"]]
    assert found == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "ftp://example.com/",
        "https://",
        "https://a:b@example.com/",
        "https://x:99999/",
        "file:///etc",
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(UnusableAddress):
        check_url(url, False)


async def test_a_name_is_looked_up_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that answers differently the next time leads nowhere else: the connection goes to what was judged."""
    asked = list[str]()
    loop = asyncio.get_running_loop()
    genuine = loop.getaddrinfo

    async def rebinding(host: Any, port: Any, **how: Any) -> Any:
        if host == "rebinding.example":
            asked.append(host)
            host = "127.0.0.1" if len(asked) == 1 else "127.0.0.2"
        return await genuine(host, port, **how)

    monkeypatch.setattr(loop, "getaddrinfo", rebinding)
    url = receiver.url.replace("127.0.0.1", "rebinding.example")
    assert (await deliver(url, {}, b"{}", private=True)).taken
    assert asked == ["rebinding.example"]
    assert receiver.posted[0].headers["host"].startswith("rebinding.example:")
    asked.clear()
    assert "private network" in (await deliver(url.replace("http", "https"), {}, b"{}", private=False)).said
    assert len(receiver.posted) == 1


def certificate(name: str) -> tuple[bytes, bytes]:
    """A certificate of a name, which vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False).sign(key, hashes.SHA256())
    )  # fmt: skip
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    return made.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)


@pytest.mark.parametrize(("name", "taken"), [("hook.example", True), ("other.example", False)])
async def test_the_certificate_has_to_be_the_name_s(
    name: str, taken: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection goes to an address, and is proved to be with the name."""
    pem, key = certificate("hook.example")
    (folder / "certificate").write_bytes(pem)
    (folder / "key").write_bytes(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "certificate", folder / "key")
    trusted = ssl.create_default_context(cafile=folder / "certificate")
    monkeypatch.setattr(delivery, "trusted", lambda: trusted)
    loop = asyncio.get_running_loop()
    genuine = loop.getaddrinfo

    async def here(host: Any, port: Any, **how: Any) -> Any:
        return await genuine("127.0.0.1" if str(host).endswith(".example") else host, port, **how)

    monkeypatch.setattr(loop, "getaddrinfo", here)
    receiver = Receiver()
    server = await asyncio.start_server(receiver.handle, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        found = await deliver(f"https://{name}:{port}/", {}, b"{}", private=True)
    assert (found.taken, len(receiver.posted)) == (taken, int(taken)), found.said


async def test_the_role_that_serves_sees_no_secret(server: Server, receiver: Receiver) -> None:
    await hook(server, receiver.url, unique("app"))
    for role in ("syncd_runtime", "syncd_compactor"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(server.dsn(role), "SELECT secret FROM syncd.sync_webhooks")
    assert await run(server.runtime_dsn, "SELECT name FROM syncd.sync_webhook_counts()")


async def test_metrics_say_what_was_sent(server: Server, ada: Device, receiver: Receiver) -> None:
    ada.write(edit("r", 1, x=1))
    one = await hook(server, receiver.url, ada.app)
    async with running(server):
        await one.until(lambda now: now.said is not None)
    wanted = f'syncd_webhook_processed_total{{status="sent",webhook="{one.name}"}} 1.0'
    async with httpx.AsyncClient(base_url=server.url) as client:
        text = (await eventually(lambda: client.get("/metrics"), lambda answer: wanted in answer.text)).text
    assert f'syncd_webhook_duration_seconds_count{{webhook="{one.name}"}} 1.0' in text
    assert f'syncd_webhook_dead_letters{{webhook="{one.name}"}} 0.0' in text
