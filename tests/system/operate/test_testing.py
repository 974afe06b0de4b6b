"""`syncd.testing`: what an application's tests get, without pytest and with it."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import httpx
import psutil
import psycopg
import pytest
from syncd_client import Offline, Replica

import syncd
from syncd.core.clock import format_instant
from syncd.settings import SettingsError
from syncd.testing import Clock, ServeError, Server
from tests.support.processes import runs
from tests.support.wire import unique


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One for the tests that need no other."""
    with Server(max_clock_skew="400d") as running:
        yield running


def title(replica: Replica, space: str | None = None) -> object:
    """Of the record that these tests write."""
    found = replica.get("pages", "p1", space=space)
    return None if found is None else found["title"]


def test_two_devices_of_a_user_and_a_member(server: Server) -> None:
    ada, bob = unique("ada"), unique("bob")
    garden = server.space(unique("garden"), members={ada: "owner", bob: "reader"})
    phone, laptop = server.user(ada).replica("notes"), server.replica(ada, app="notes")
    phone.put("pages", "p1", {"title": "Beds"})
    phone.put("pages", "p1", {"title": "Rows"}, space=garden)
    phone.sync()
    laptop.sync()
    reader = server.replica(bob, app="notes")
    reader.sync()
    assert (title(laptop), title(laptop, garden)) == ("Beds", "Rows")
    assert (title(reader), title(reader, garden)) == (None, "Rows")


def test_a_device_that_is_named_has_what_it_had(server: Server) -> None:
    ada = server.user(unique("ada"))
    with ada.replica("notes", device="phone") as phone:
        phone.put("pages", "p1", {"title": "Beds"})
    with ada.replica("notes", device="phone") as again:
        assert title(again) == "Beds"
    with ada.replica("notes", device="laptop") as other:
        assert title(other) is None


def test_what_the_server_refuses_is_said(server: Server) -> None:
    with pytest.raises(ValueError, match="has an owner"):
        server.space("garden", members={"ada": "writer"})
    with pytest.raises(RuntimeError, match="POST /spaces as ada: 4"):
        server.space("no such id as this one \n", members={"ada": "owner"})
    with pytest.raises(SettingsError, match="no setting called max_chnages"):
        Server(max_chnages=10)
    with pytest.raises(SettingsError, match="a database of its own"):
        Server(database_url="postgresql://localhost/shop")
    with pytest.raises(ServeError, match="not started"):
        _ = Server().url


def test_a_token_that_has_expired_and_one_with_claims(server: Server) -> None:
    def status(token: str) -> int:
        return httpx.get(f"{server.url}/spaces", headers={"authorization": f"Bearer {token}"}).status_code

    assert status(server.token("ada")) == 200
    assert status(server.token("ada", ttl=-60)) == 401
    assert status(server.token("ada", nbf=time.time() + 3600)) == 401


def test_the_line_is_cut_and_mended_for_all_or_for_one(server: Server) -> None:
    ada, own = unique("ada"), server.new_network()
    phone, laptop = server.replica(ada, app="notes", network=own), server.replica(ada, app="notes")
    phone.sync()
    laptop.sync()
    own.cut()
    phone.put("pages", "p1", {"title": "Beds"})
    with pytest.raises(Offline):
        phone.sync()
    assert laptop.sync().pushed == 0
    own.mend()
    assert phone.sync().pushed == 1
    with server.network.offline(), pytest.raises(Offline):
        laptop.sync()
    laptop.sync()
    assert title(laptop) == "Beds"


def test_an_answer_that_is_lost_leaves_what_was_pushed(server: Server) -> None:
    ada, line = unique("ada"), server.new_network()
    phone, laptop = server.replica(ada, app="notes", network=line), server.replica(ada, app="notes")
    phone.sync()
    phone.put("pages", "p1", {"title": "Beds"})
    line.drop_replies()
    with pytest.raises(Offline):
        phone.sync()
    laptop.sync()
    assert title(laptop) == "Beds"
    assert len(phone.pending()) == 1
    line.mend()
    assert phone.sync().duplicates == 1  # it counts once


def test_a_slow_line_takes_its_time_and_a_silent_one_says_nothing(server: Server) -> None:
    line = server.new_network()
    phone = server.replica(unique("ada"), app="notes", network=line)
    line.slow(delay=0.2)
    begun = time.monotonic()
    phone.sync()
    assert time.monotonic() - begun > 0.4
    line.silence()
    with pytest.raises(Offline):
        phone.sync(timeout=0.5)
    line.mend()
    phone.sync()


def test_a_clock_is_moved_for_all_devices_or_wrong_on_one(server: Server) -> None:
    ada = unique("ada")
    slow = server.replica(ada, app="notes", clock=Clock(ahead=-3600))
    phone, laptop = server.replica(ada, app="notes"), server.replica(ada, app="notes")
    phone.put("pages", "p1", {"title": "first"})
    slow.put("pages", "p1", {"title": "an hour late"})
    laptop.put("pages", "p1", {"title": "second"})
    for replica in (laptop, phone, slow, laptop, phone):
        replica.sync()
    assert {title(replica) for replica in (phone, laptop, slow)} == {"second"}
    server.clock.forward(datetime.timedelta(days=300))
    phone.put("pages", "p1", {"title": "next year"})
    phone.sync()
    server.clock.back(datetime.timedelta(days=300))
    laptop.put("pages", "p1", {"title": "this year"})
    laptop.sync()
    assert title(laptop) == "next year"


def test_a_clock_never_stands_still() -> None:
    clock = Clock()
    clock.stop()
    first = clock()
    assert [clock(), clock()] == [first + 1, first + 2]
    clock.forward(1)
    assert clock() == first + 1_000_002
    moment = datetime.datetime(2027, 1, 1, tzinfo=datetime.UTC)
    clock.set(moment)
    assert format_instant(clock()) == "2027-01-01T00:00:00.000000Z"
    clock.run()
    time.sleep(0.001)
    assert clock.now() - moment >= datetime.timedelta(milliseconds=1)
    clock.back(3600)
    assert clock.now() < moment
    with pytest.raises(ValueError, match="time zone"):
        clock.set(datetime.datetime(2027, 1, 1))


async def test_a_backend_writes_reads_and_has_tables_of_its_own(server: Server) -> None:
    ada = unique("ada")
    connection = await asyncpg.connect(server.database_url)
    async with connection.transaction():
        await connection.execute("CREATE TABLE orders (id text)")
        change = {"table": "pages", "id": "p1", "fields": {"title": "Beds"}}
        await syncd.write(connection, user=ada, app="notes", changes=[change])
    await connection.close()
    with psycopg.connect(server.database_url) as other:
        record = syncd.read(other, user=ada, app="notes", table="pages", id="p1")
    assert record.fields == {"title": "Beds"}
    with psycopg.connect(server.owner_url) as owner:
        assert owner.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)


def test_it_starts_again_where_it_was_and_its_devices_come_back() -> None:
    with Server() as server:
        phone = server.replica("ada", app="notes")
        for number, end in enumerate((server.restart, server.kill, server.stop)):
            phone.put("pages", f"p{number}", {"title": "Beds"})
            end()
            if end != server.restart:
                with pytest.raises(Offline):
                    phone.sync()
                server.start()
            assert phone.sync().pushed == 1
        server.restart(max_changes=1)
        assert server.request("ada", "GET", "/healthz")


def test_it_takes_another_secret_when_it_starts_again() -> None:
    def status(token: str) -> int:
        return httpx.get(f"{server.url}/spaces", headers={"authorization": f"Bearer {token}"}).status_code

    with Server() as server:
        before = server.token("ada")
        server.restart(jwt_secret="another secret of more than 32 bytes")
        assert (status(before), status(server.token("ada"))) == (401, 200)


def test_each_begins_with_nothing_and_leaves_nothing() -> None:
    def processes() -> set[psutil.Process]:
        return set(psutil.Process().children(recursive=True))

    before = processes()
    with Server() as one, Server() as other:
        phone = one.replica("ada", app="notes")
        phone.put("pages", "p1", {"title": "Beds"})
        phone.sync()
        laptop = other.replica("ada", app="notes")
        laptop.sync()
        assert title(laptop) is None
        folders, own = (one.folder, other.folder), processes() - before
        assert len(own) > 4
    assert not any(folder.exists() for folder in folders)
    assert not any(runs(process) for process in own)


LEFT = """
import sys
from syncd.testing import Server
server = Server()
server.start()
print(server.folder, flush=True)
sys.stdin.read()
"""


def test_it_ends_with_the_tests_that_started_it() -> None:
    tests = subprocess.Popen([sys.executable, "-c", LEFT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert tests.stdout is not None
    assert tests.stdin is not None
    folder = Path(tests.stdout.readline().strip())
    own = psutil.Process(tests.pid).children(recursive=True)
    assert folder.exists()
    assert own
    tests.kill()
    tests.wait()
    gone, alive = psutil.wait_procs(own, timeout=60)
    assert (len(gone), alive) == (len(own), [])
    assert not folder.exists()
    tests.stdin.close()
    tests.stdout.close()


def test_settings_of_the_developer_s_are_none_of_a_test_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SYNCD_DATABASE_URL": "postgresql://nowhere/shop", "PGHOST": "nowhere",
                        "SYNCD_MAX_CHANGES": "wrong", "PYTHONWARNINGS": "error"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with Server() as server:
        server.replica("ada", app="notes").sync()


def test_what_the_server_said_is_in_the_error_of_one_that_does_not_start() -> None:
    with pytest.raises(ServeError, match=r"SYNCD_RULES=no\.such\.rules"), Server(rules="no.such.rules"):
        pass
