"""The bus over NATS: a server that is killed, frozen or replaced is noticed, and passwords stay where they are."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psutil
import pytest
import uvloop
from structlog.testing import capture_logs

from syncd.bus.hints import BusError, Hint
from syncd.bus.nats import NatsBus
from tests.store.listening import PROMISED, Listener, feed, until
from tests.support.nats_server import NatsServer
from tests.support.proxy import Proxy

pytestmark = pytest.mark.waits

Run = Callable[[Coroutine[Any, Any, None]], None]
INFO = b'INFO {"server_id":"x","version":"2.9.10","max_payload":1048576,"auth_required":true}\r\n'


@pytest.fixture
def server() -> Iterator[NatsServer]:
    with NatsServer() as running:
        yield running


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_server_that_is_killed_and_comes_back_is_found_again(server: NatsServer, run: Run) -> None:
    async def scenario() -> None:
        async with Listener(NatsBus(server.url, "test")) as one, Listener(NatsBus(server.url, "test")) as two:
            server.kill()
            await until(lambda: one.bus.state == two.bus.state == "down", PROMISED)
            await asyncio.sleep(2)
            one.publish(feed("meanwhile", 1))
            server.start()
            began = time.monotonic()
            await one.is_up(PROMISED)
            await two.is_up(PROMISED)
            print(f"restart: up after {time.monotonic() - began:.2f} s")
            two.publish(feed("after", 1))
            await one.hears(feed("after", 1), feed("meanwhile", 1))
            assert (one.bus.reconnects, two.bus.reconnects) == (1, 1)

    run(scenario())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_server_that_is_frozen_is_noticed_and_used_again_when_it_thaws(server: NatsServer, run: Run) -> None:
    async def scenario() -> None:
        async with Listener(NatsBus(server.url, "test")) as one, Listener(NatsBus(server.url, "test")) as two:
            server.freeze()
            began = time.monotonic()
            await until(lambda: one.bus.state == two.bus.state == "down", PROMISED)
            print(f"SIGSTOP: down after {time.monotonic() - began:.2f} s")
            await asyncio.sleep(3)
            assert one.bus.state == "down"
            server.thaw()
            began = time.monotonic()
            await one.is_up(PROMISED)
            await two.is_up(PROMISED)
            print(f"SIGCONT: up after {time.monotonic() - began:.2f} s")
            one.publish(feed("after", 1))
            await two.hears(feed("after", 1))
        await until(lambda: server.connections() == 0)

    run(scenario())


@pytest.mark.parametrize("directions", [("up",), ("down",)], ids="-".join)
async def test_a_way_that_swallows_everything_is_noticed(server: NatsServer, directions: tuple[str, ...]) -> None:
    # The other one's heartbeats, which may still come through, prove nothing.
    async with (
        Listener(NatsBus(server.url, "test")),
        Proxy(server.port) as way,
        Listener(NatsBus(f"nats://127.0.0.1:{way.port}", "test")) as one,
    ):
        way.faults.blackhole = set(directions)
        await until(lambda: one.bus.state == "down", PROMISED)
        way.heal()
        await one.is_up()
        one.publish(feed("after", 1))
        await one.hears(feed("after", 1))


@pytest.mark.parametrize("noticed", [False, True], ids=["at once", "while the line is given up"])
async def test_closing_does_not_wait_for_a_server_that_is_frozen(server: NatsServer, noticed: bool) -> None:
    before = asyncio.all_tasks()
    async with Listener(NatsBus(server.url, "test")) as one:
        server.freeze()
        # More than the sockets between them hold, so that it waits to be written.
        for turn in range(30):
            one.publish(*(feed(f"{turn} {n}", turn) for n in range(15000)))
            await asyncio.sleep(0.01)
        if noticed:
            await until(lambda: one.bus.state == "down", PROMISED)
        began = time.monotonic()
        await one.bus.close()
        assert time.monotonic() - began < 10
        await until(lambda: asyncio.all_tasks() <= before)
        # Not even a socket that waits for the server to read.
        await until(
            lambda: not [c for c in psutil.Process().net_connections() if c.raddr and c.raddr[1] == server.port]
        )


async def test_while_the_server_is_frozen_what_waits_is_bounded(server: NatsServer) -> None:
    async with Listener(NatsBus(server.url, "test")) as one:
        server.freeze()
        for turn in range(60):
            one.publish(*(feed(f"{turn} {n}", turn) for n in range(15000)))
            await asyncio.sleep(0.02)
        assert one.bus.dropped > 0


async def test_deployments_with_different_tags_do_not_mix(server: NatsServer) -> None:
    async with Listener(NatsBus(server.url, "blue")) as blue, Listener(NatsBus(server.url, "green")) as green:
        blue.publish(feed("shared", 1))
        green.publish(feed("shared", 2))
        await blue.hears(feed("shared", 1))
        await green.hears(feed("shared", 2))
        assert (blue.hints, green.hints) == ([feed("shared", 1)], [feed("shared", 2)])


async def test_of_several_servers_one_that_lives_is_enough(server: NatsServer) -> None:
    async with Listener(NatsBus(f"nats://127.0.0.1:1, {server.url}", "test")) as one:
        one.publish(Hint("m"))
        await one.hears(Hint("m"))


@pytest.mark.parametrize("tag", ["", "a.b", ">", "a b", "ä"])
def test_a_tag_that_is_no_word_is_refused(tag: str) -> None:
    with pytest.raises(BusError, match="tag"):
        NatsBus("nats://localhost", tag)


@pytest.mark.parametrize("address", ["127.0.0.1:{port}", "127.0.0.1:1", "no.such.host.invalid", "127.0.0.1:port"])
async def test_a_password_is_used_and_never_logged(address: str, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer("--user", "syncd", "--pass", "hunter2") as guarded:
        place = address.format(port=guarded.port)
        with capture_logs() as logged:
            async with Listener(NatsBus(f"nats://syncd:hunter3@{place}", "test"), wait=False) as one:
                await until(lambda: logged)
                assert one.bus.state == "down"
        assert "hunter3" not in f"{logged}{caplog.text}"
        assert ("Authorization Violation" in str(logged)) == ("{" in address)
        async with Listener(NatsBus(f"nats://syncd:hunter2@127.0.0.1:{guarded.port}", "test")) as one:
            assert one.bus.state == "up"


async def test_with_tls_in_the_url_nothing_is_told_to_a_server_without_it() -> None:
    told = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        while data := await reader.read(1000):
            told.extend(data)
        writer.close()

    plain = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{plain.sockets[0].getsockname()[1]}"
    async with Listener(NatsBus(f"nats://syncd:hunter2@{address}", "test"), wait=False):
        await until(lambda: b"hunter2" in told)
    told.clear()
    with capture_logs() as logged:
        async with Listener(NatsBus(f"tls://syncd:hunter2@{address}", "test"), wait=False):
            await until(lambda: logged)
    assert "no TLS" in logged[0]["error"]
    assert told == b""
    plain.close()
    await plain.wait_closed()


def test_without_the_library_it_says_what_to_install_and_nothing_else_needs_it() -> None:
    program = (
        "import sys; sys.modules['nats'] = None\n"
        "import syncd.bus.postgres\n"
        "from syncd.bus.nats import NatsBus\n"
        "NatsBus('nats://localhost', 'test')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "BusError" in done.stderr
    assert "pip install 'syncd[nats]'" in done.stderr
