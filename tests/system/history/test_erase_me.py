"""A user asks to be erased, where the operator lets users; an operator's command does it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.erasing import ask, erase, tables_with
from tests.support.harness import Server
from tests.support.wire import Device, edit, values

CANARY = "canary-of-me"


@pytest.fixture(scope="module")
def letting(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "letting", settings={"erase_me": "true"}) as server:
        yield server


@pytest.fixture
def http(letting: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=letting.url, timeout=60) as client:
        yield client


def erasures(server: Server, user: str) -> int:
    """How many there are that are not done of a user."""
    found = ask(
        server,
        "SELECT count(*) FROM syncd.sync_erasures e JOIN syncd.sync_names n ON n.name_no = e.user_no "
        f"WHERE n.name = '{user}' AND e.done_at IS NULL",
    )
    return int(found[0][0])


def test_who_asked_is_erased_by_the_command(letting: Server, http: httpx.Client) -> None:
    ann, bob = Device(http, letting, "ann"), Device(http, letting, "bob", "c2")
    ann.write(edit("own", x=CANARY))
    bob.write(edit("own", x="bob's"))
    first = ann.request("DELETE", "/me")
    assert first.status_code == 202, first.text
    assert ann.request("DELETE", "/me").json() == first.json()
    assert values(ann.drain()[0]) == {"own": {"x": CANARY}}
    assert len(erase(letting, "asked").splitlines()) == 1
    assert tables_with(letting, CANARY) == []
    assert ann.drain()[0] == []
    assert values(bob.drain()[0]) == {"own": {"x": "bob's"}}
    assert erase(letting, "asked") == ""
    assert ann.request("DELETE", "/me").status_code == 202
    assert erase(letting, "asked") == ""


def test_nobody_asks_for_another(letting: Server, http: httpx.Client) -> None:
    eve, mallory = Device(http, letting, "eve"), Device(http, letting, "mallory", "c3")
    eve.write(edit("own", x=1))
    mallory.write(edit("own", x=1))
    assert http.delete("/me").status_code == 401
    command = [sys.executable, "-m", "syncd", "token", "--service", "robot", "eve", "--database-url", letting.owner_dsn]
    token = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    refused = http.delete("/me", headers={"authorization": f"Bearer {token}"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert mallory.request("DELETE", "/me/eve").status_code == 404
    assert mallory.request("GET", "/me").status_code == 405
    assert mallory.request("DELETE", "/me").status_code == 202
    assert (erasures(letting, "eve"), erasures(letting, "mallory")) == (0, 1)


def test_a_space_is_not_left_without_an_owner(letting: Server, http: httpx.Client) -> None:
    carl, dora = Device(http, letting, "carl"), Device(http, letting, "dora", "c4")
    space = carl.create("garden")
    carl.member(space, "dora")
    refused = carl.request("DELETE", "/me")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_owner")
    assert erasures(letting, "carl") == 0
    assert dora.request("DELETE", "/me").status_code == 202


def test_it_is_off_unless_the_operator_lets_users(server: Server) -> None:
    with httpx.Client(base_url=server.url) as http:
        assert Device(http, server, "ann").request("DELETE", "/me").status_code == 404


def test_the_role_that_serves_only_asks(letting: Server) -> None:
    found = ask(
        letting,
        "SELECT proname FROM pg_proc WHERE proname ~ '^sync_erase' "
        "AND has_function_privilege('syncd_runtime', oid, 'EXECUTE')",
    )
    assert sorted(found) == [("sync_erase_ask",), ("sync_erased_in",), ("sync_erased_only",), ("sync_erased_stays",)]
