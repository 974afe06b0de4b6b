"""G25: a user that is erased has no name, value or device left; with --anonymise what it wrote among others stays."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from syncd_client import Replica

from tests.support import command_line
from tests.support.erasing import (
    ask,
    checked,
    dead,
    erase,
    kill_while_it_waits,
    killed_at_each_step,
    outcomes,
    tables_with,
    until,
)
from tests.support.harness import Server
from tests.support.past import history
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

CANARY = "canary-of-a-user"
Make = Callable[..., Device]


@pytest.fixture
def alone(folder: Path) -> Iterator[Server]:
    with Server(folder / "erasing") as server:
        yield server


@pytest.fixture
def make(alone: Server) -> Iterator[Make]:
    with httpx.Client(base_url=alone.url, timeout=300) as http:
        yield lambda user, client="c1", **more: Device(http, alone, user, client, **more)


class Scene:
    """eve has a personal space, one of her own, and one of bob's where both write."""

    def __init__(self, server: Server, make: Make) -> None:
        self.server, self.name = server, unique("eve")
        self.eve, self.bob = make(self.name, unique("hers")), make(unique("bob"), unique("his"))
        self.space, self.own = self.bob.create(unique("space")), self.eve.create(unique(f"{CANARY}-own"))
        self.bob.member(self.space, self.name)
        # The audit has what a space was called.
        assert self.eve.request("PATCH", f"/spaces/{self.own}", json={"name": "hers"}).status_code == 200
        assert self.eve.request("POST", f"/spaces/{self.own}/invitations", json={"role": "reader"}).status_code == 201
        self.eve.write(edit("private", 50, text=CANARY))
        self.eve.write({**edit("own", 50, text=CANARY), "spaceId": self.own})
        self.write(self.eve, edit("hers", 50, a=CANARY, b=[CANARY]))
        self.write(self.eve, {**edit("both", 50, a=CANARY, b=CANARY), "actor": {"who": CANARY}, "origin": CANARY})
        self.write(self.bob, edit("both", 60, b="bob's", c="bob's"), edit("his", 50, a="bob's"))
        self.write(self.eve, edit("gone", 50, a=CANARY, b=CANARY))
        self.write(self.bob, {"table": "t", "id": "gone", "op": "delete", "deletedAt": at(70), "changeId": unique("k")})
        self.write(self.bob, edit("gone", 80, b="over a tombstone"))
        old = make(self.name, "old", legacy=True)
        old.push({**edit("stray", 1, change_id=None, text=CANARY), "spaceId": "nowhere-" + "x" * 300})

    def of(self, change: Json) -> Json:
        return {**change, "spaceId": self.space}

    def write(self, device: Device, *changes: Json) -> None:
        device.write(*map(self.of, changes))

    def shared(self) -> dict[str, Json]:
        found = values([change for change in self.bob.drain()[0] if change["spaceId"] == self.space])
        return {
            name: {key: value for key, value in record.items() if value is not None} for name, record in found.items()
        }


@pytest.fixture
def scene(alone: Server, make: Make) -> Scene:
    return Scene(alone, make)


def test_no_value_and_no_name_is_left_and_others_keep_theirs(scene: Scene) -> None:
    facts = checked(scene.server, erase(scene.server, "user", scene.name))
    assert tables_with(scene.server, CANARY) == []
    assert tables_with(scene.server, scene.name) == []
    assert CANARY not in str(facts)
    assert scene.name not in str(facts)
    assert scene.shared() == {"both": {"b": "bob's", "c": "bob's"}, "his": {"a": "bob's"}}
    assert values(scene.bob.drain(history=1)[0])["his"] == {"a": "bob's"}
    past = history(scene.bob, scene.space, "both")
    assert past[-1]["userId"].startswith("_erased:")
    assert past[-1]["fields"]["a"]["erased"] is True
    assert checked(scene.server, erase(scene.server, "user", scene.name)) == facts


def test_anonymised_it_leaves_what_it_wrote_among_others_and_nothing_else(scene: Scene) -> None:
    before = scene.shared()
    assert before["both"]["a"] == CANARY
    erase(scene.server, "user", scene.name, "--anonymise")
    assert scene.shared() == before
    assert set(tables_with(scene.server, CANARY)) == {"sync_changes", "sync_records"}
    assert tables_with(scene.server, scene.name) == []
    [first] = [change for change in history(scene.bob, scene.space, "both") if change["seq"] == 2]
    assert first["userId"].startswith("_erased:")
    assert "actor" not in first


@pytest.mark.parametrize("anonymise", [False, True])
def test_messages_that_a_webhook_never_took_do_not_name_it(scene: Scene, anonymise: bool) -> None:
    here = {"space": scene.space, "app": "app", "table": "t"}
    his = history(scene.bob, scene.space, "his")[0]["seq"]
    dead(scene.server, CANARY, **here, id="both", user=scene.name, seq=2)
    dead(scene.server, "bob's", **here, id="his", user=scene.bob.user, seq=his)
    erase(scene.server, "user", scene.name, *(["--anonymise"] if anonymise else []))
    assert tables_with(scene.server, scene.name) == []
    assert ("sync_webhook_dead" in tables_with(scene.server, CANARY)) == anonymise
    assert "sync_webhook_dead" in tables_with(scene.server, "bob's")


def test_devices_of_others_and_its_own_drop_it(scene: Scene, folder: Path) -> None:
    def opened(name: str, user: str) -> Replica:
        return Replica(folder / name, app="app", url=scene.server.url, token=scene.server.token(user))

    with (
        opened("live", scene.bob.user) as live,
        opened("later", scene.bob.user) as later,
        opened("hers", scene.name) as hers,
    ):
        later.sync()
        hers.sync()
        with live.live():
            until(lambda: live.get("t", "both", space=scene.space) is not None)
            erase(scene.server, "user", scene.name)
            until(lambda: live.get("t", "hers", space=scene.space) is None)
            until(lambda: (live.get("t", "both", space=scene.space) or {"a": 1})["a"] is None)
        for device in (later, hers):
            device.sync()
        assert later.all_registers() == live.all_registers()
        assert hers.all_registers() == {}
        assert later.verify().differences == 0
    left = {file.name for file in folder.iterdir() if file.is_file() and CANARY.encode() in file.read_bytes()}
    assert left == set()


def test_who_comes_again_is_somebody_new(scene: Scene, make: Make) -> None:
    cursor = scene.eve.drain()[1]
    erase(scene.server, "user", scene.name)
    assert scene.eve.ask(cursor).json()["code"] == "cursor_lost"
    assert scene.eve.drain()[0] == []
    assert outcomes(scene.eve.push(scene.of(edit("both", ahead(1), a=CANARY)))) == ["space_not_found"]
    scene.eve.write(edit("new", x=1))
    assert values(scene.eve.drain()[0]) == {"new": {"x": 1}}
    assert outcomes(scene.bob.push(scene.of(edit("hers", ahead(1), a="back")))) == ["record_forgotten"]
    erase(scene.server, "user", scene.name)
    assert scene.eve.drain()[0] == []


def test_a_space_is_not_left_without_an_owner(scene: Scene) -> None:
    scene.eve.member(scene.own, scene.bob.user)
    said = erase(scene.server, "user", scene.name, ok=False)
    assert scene.own in said
    assert "alone owns" in said
    assert values(scene.eve.drain()[0]) != {}
    scene.eve.member(scene.own, scene.bob.user, "owner")
    erase(scene.server, "user", scene.name)


def test_a_name_that_is_no_user_s_is_not_erased(scene: Scene, make: Make) -> None:
    make("zoe", "c9").write(edit("x", x=1))
    said = "no such user"
    for name in ("t", "app", "c9", "nobody", "_server:erasure"):
        assert said in erase(scene.server, "user", name, ok=False)


def test_killed_in_the_middle_it_ends_the_same(scene: Scene) -> None:
    lock = (
        "SELECT FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) "
        f"WHERE s.space_id = '{scene.space}' FOR UPDATE OF h"
    )
    kill_while_it_waits(scene.server, lock, "user", scene.name)
    assert ask(scene.server, "SELECT count(*) FROM syncd.sync_erasures WHERE done_at IS NULL") == [(1,)]
    erase(scene.server, "user", scene.name)
    assert tables_with(scene.server, CANARY) == []
    assert scene.shared() == {"both": {"b": "bob's", "c": "bob's"}, "his": {"a": "bob's"}}


@pytest.mark.waits
@pytest.mark.parametrize("how", ["after", "within"])
def test_killed_at_each_step_it_ends_the_same(scene: Scene, how: str) -> None:
    kills, receipt = killed_at_each_step(scene.server, how, "user", scene.name)
    # It begins, asks for devices and feeds, goes through letters and three feeds twice, and ends.
    assert kills >= 10
    assert checked(scene.server, receipt)["what"] == "user"
    assert tables_with(scene.server, CANARY) == []
    assert tables_with(scene.server, scene.name) == []
    assert scene.shared() == {"both": {"b": "bob's", "c": "bob's"}, "his": {"a": "bob's"}}
    assert ask(scene.server, "SELECT count(*), count(done_at) FROM syncd.sync_erasures") == [(1, 1)]


def test_what_a_list_says_was_only_asked_for_is_asked_for_again_and_nothing_is_erased(
    scene: Scene, folder: Path
) -> None:
    ask(scene.server, f"SELECT syncd.sync_erase_ask('{scene.name}')")
    (folder / "list").write_text(erase(scene.server, "list"))
    ask(scene.server, "WITH gone AS (DELETE FROM syncd.sync_erasures RETURNING 1) SELECT count(*) FROM gone")
    erase(scene.server, "again", str(folder / "list"))
    assert values(scene.eve.drain()[0]) != {}
    assert ask(scene.server, "SELECT done_at, anonymise FROM syncd.sync_erasures") == [(None, False)]
    assert len(erase(scene.server, "asked", "--anonymise").splitlines()) == 1
    assert scene.shared() != {}


def test_a_space_whose_members_are_known_elsewhere_is_not_erased_with_the_one_who_came(folder: Path) -> None:
    garden = [{"id": "garden", "role": "writer"}]
    with (
        Server(folder / "outside", settings={"memberships": "token"}) as server,
        httpx.Client(base_url=server.url, timeout=300) as http,
    ):
        ada, bob = Device(http, server, "ada"), Device(http, server, "bob", "c2")
        for one in (ada, bob):
            one.headers["authorization"] = f"Bearer {server.token(one.user, garden)}"
        ada.write(edit("own", text=CANARY), {**edit("hers", 50, a=CANARY, n=1), "spaceId": "garden"})
        erase(server, "user", "ada")
        assert tables_with(server, CANARY) == []
        # Bob had not come yet, and finds the space as it was, without what Ada wrote.
        assert [change["id"] for change in bob.drain(history=1)[0] if change["spaceId"] == "garden"] != []
        named = "SELECT space_id FROM syncd.sync_spaces WHERE space_id = 'garden' AND deleted_at IS NULL"
        assert ask(server, named) == [("garden",)]


def test_an_export_comes_back_the_same_and_keeps_what_is_erased(scene: Scene, folder: Path) -> None:
    erase(scene.server, "record", scene.space, "t", "his", "--app", "app")
    erase(scene.server, "user", scene.name)
    files = [folder / "one.jsonl", folder / "two.jsonl"]
    new = Server(folder / "new", start=False)

    def syncd(*arguments: str | Path, data_dir: Path) -> None:
        done = command_line.syncd(*arguments, "--data-dir", data_dir)
        assert done.returncode == 0, done.stderr

    syncd("export", "--all", "-o", files[0], data_dir=scene.server.data_dir)
    syncd("import", "--as-is", files[0], data_dir=new.data_dir)
    syncd("export", "--all", "-o", files[1], data_dir=new.data_dir)
    lines = [file.read_text().splitlines()[:-1] for file in files]
    assert lines[0] == lines[1]
    assert CANARY not in files[0].read_text()
    assert scene.name not in files[0].read_text()
    assert any(json.loads(line)["fields"].get("deletedAt", {}).get("erased") for line in lines[0])
    new.start()
    with new, httpx.Client(base_url=new.url) as http:
        bob = Device(http, new, scene.bob.user, "c7")
        assert outcomes(bob.push(scene.of(edit("his", ahead(1), a=1)))) == ["record_forgotten"]
        assert values(bob.drain()[0]) == values(scene.bob.drain()[0])
