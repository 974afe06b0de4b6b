"""G25: an erasure takes the user that it is of, and nobody who has the id since."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import syncd
from tests.support.erasing import ask, checked, erase, kill_while_it_waits, tables_with, while_it_waits
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique, values

CANARY = "canary-of-who-came-back"
Make = Callable[..., Device]


@pytest.fixture(scope="module")
def alone(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "coming-back") as server:
        yield server


@pytest.fixture
def make(alone: Server) -> Iterator[Make]:
    with httpx.Client(base_url=alone.url, timeout=300) as http:
        yield lambda name: Device(http, alone, unique(name), unique("c"))


def personal(user: str) -> str:
    """Locks the feeds of a user's personal space."""
    return (
        "SELECT FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) "
        f"WHERE s.space_id = '_personal:{user}' FOR UPDATE OF h"
    )


def interrupted(server: Server, eve: Device) -> None:
    """Begins to erase a user and is killed; somebody new has the id then."""
    eve.write(edit("old", 50, text=CANARY))
    kill_while_it_waits(server, personal(eve.user), "user", eve.user)
    eve.write(edit("back", text="the new one's"))


def test_one_that_was_interrupted_is_ended_and_who_has_the_id_since_stays(alone: Server, make: Make) -> None:
    eve = make("eve")
    interrupted(alone, eve)
    done = syncd("erase", "user", eve.user, "--database-url", alone.owner_dsn)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr
    assert "is in use again" in done.stderr
    assert tables_with(alone, CANARY) == []
    assert values(eve.drain()[0]) == {"back": {"text": "the new one's"}}
    assert checked(alone, erase(alone, "user", eve.user))["counts"]["spaces"] == 1
    assert eve.drain()[0] == []


@pytest.mark.parametrize("is_a_device_too", [False, True], ids=["a user's id alone", "a device's id as well"])
def test_what_was_under_way_when_it_began_goes_at_its_end(alone: Server, make: Make, is_a_device_too: bool) -> None:
    """A change is being held, and a device noted, while the erasure begins: it cannot see them yet."""
    eve = make("eve")
    if is_a_device_too:
        make("bob").push(edit("other", 50, x=1), client=eve.user)
    eve.write(edit("old", 50, text=CANARY))
    number = f"(SELECT name_no FROM syncd.sync_names WHERE name = '{eve.user}')"
    under_way = (
        "WITH held AS (INSERT INTO syncd.sync_held (user_no, client_id, app, reason, received_at, size, change) "
        f"SELECT {number}, 'c', 'app', 'space_not_found', now(), 1, '{{\"text\": \"{CANARY}\"}}'), "
        f"device AS (INSERT INTO syncd.sync_devices (user_no, client_no, incarnation) SELECT {number}, 1, '{CANARY}') "
    )
    code, said, wrong = while_it_waits(alone, under_way + personal(eve.user), lambda: None, "user", eve.user)
    assert code == 0, wrong
    assert checked(alone, said.strip())["counts"]["held"] == 1
    assert tables_with(alone, CANARY) == []


def test_who_never_asked_is_not_erased_for_who_did(alone: Server, make: Make) -> None:
    ann, bob = make("ann"), make("bob")
    for one in (ann, bob):
        one.write(edit("old", 50, text=CANARY))
        ask(alone, f"SELECT syncd.sync_erase_ask('{one.user}')")

    def bob_goes_and_comes_back() -> None:
        erase(alone, "user", bob.user)
        bob.write(edit("back", text="the new one's"))

    code, said, wrong = while_it_waits(alone, personal(ann.user), bob_goes_and_comes_back, "asked")
    assert (code, len(said.splitlines())) == (0, 1), wrong
    assert values(bob.drain()[0]) == {"back": {"text": "the new one's"}}
    assert tables_with(alone, CANARY) == []


def test_a_list_has_each_of_two_users_of_an_id_erased(alone: Server, make: Make, folder: Path) -> None:
    eve = make("eve")
    interrupted(alone, eve)
    eve.write(edit("own", text=CANARY))
    ask(alone, f"SELECT syncd.sync_erase_ask('{eve.user}')")
    listed = [json.loads(line) for line in erase(alone, "list").splitlines()]
    (folder / "list").write_text("".join(json.dumps({"done": one["asked"] + 1, **one}) + "\n" for one in listed))
    erase(alone, "again", str(folder / "list"))
    assert tables_with(alone, CANARY) == []
    assert tables_with(alone, eve.user) == []
    assert eve.drain()[0] == []


def test_what_was_never_begun_is_not_done(alone: Server, make: Make) -> None:
    eve = make("eve")
    eve.write(edit("own", text=1))
    ask(alone, f"SELECT syncd.sync_erase_ask('{eve.user}')")
    [(ordinal,)] = ask(alone, "SELECT max(ordinal) FROM syncd.sync_erasures")
    for step in ("clients", "end"):
        with pytest.raises(Exception, match="not_begun"):
            ask(alone, f"SELECT syncd.sync_erase_{step}({ordinal})")
    assert values(eve.drain()[0]) == {"own": {"text": 1}}
    assert len(erase(alone, "asked").splitlines()) == 1


def test_who_becomes_a_member_while_it_begins_has_it_refused(alone: Server, make: Make) -> None:
    eve, bob = make("eve"), make("bob")
    space = eve.create(unique("space"))
    bob.write(edit("own", text=1))
    joins = (
        "INSERT INTO syncd.sync_memberships (user_no, space_no, role) SELECT n.name_no, s.space_no, 'writer' "
        f"FROM syncd.sync_names n, syncd.sync_spaces s WHERE n.name = '{bob.user}' AND s.space_id = '{space}'"
    )
    code, _, wrong = while_it_waits(alone, joins, lambda: None, "user", eve.user)
    assert (code, space in wrong, "alone owns" in wrong) == (1, True, True)
    assert ask(alone, f"SELECT count(*) FROM syncd.sync_names WHERE name = '{eve.user}'") == [(1,)]


@pytest.mark.parametrize("table", ["sync_records", "sync_webhook_dead"])
def test_people_join_while_what_is_as_large_as_the_log_is_read(alone: Server, make: Make, table: str) -> None:
    eve, ada, bob = make("eve"), make("ada"), make("bob")
    eve.write(edit("own", text=CANARY))
    space = ada.create(unique("space"))
    lock, joined = f"LOCK TABLE syncd.{table} IN ACCESS EXCLUSIVE MODE", []

    def joins() -> None:
        with httpx.Client(base_url=alone.url, timeout=5) as http:
            Device(http, alone, ada.user, "c1").member(space, bob.user)
            joined.append(bob.user)

    code, _, wrong = while_it_waits(alone, lock, joins, "user", eve.user)
    assert (code, joined) == (0, [bob.user]), wrong
    assert tables_with(alone, CANARY) == []
