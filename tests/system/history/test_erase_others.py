"""G25: what is not in plain sight: ids that are something else too, what compaction dropped, messages, deletions."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from syncd_client import Replica

from tests.support.compacting import compact_now
from tests.support.erasing import ask, checked, dead, erase, kill_while_it_waits, outcomes, tables_with
from tests.support.harness import Server
from tests.support.past import history
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

CANARY = "canary-of-others"
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
    """bob has a space where eve writes too."""

    def __init__(self, server: Server, make: Make) -> None:
        self.server = server
        self.eve, self.bob = make(unique("eve"), unique('her "s_%\\')), make(unique("bob"), unique("his"))
        self.space = self.bob.create(unique("space"))
        self.bob.member(self.space, self.eve.user)

    def of(self, change: Json) -> Json:
        return {**change, "spaceId": self.space}

    def write(self, device: Device, *changes: Json) -> None:
        device.write(*map(self.of, changes))

    def delete(self, device: Device, record: str, when: int) -> None:
        deletion = {"table": "t", "id": record, "op": "delete", "deletedAt": at(when), "changeId": unique("k")}
        self.write(device, deletion)

    def shared(self) -> dict[str, Json]:
        found = values([change for change in self.bob.drain()[0] if change["spaceId"] == self.space])
        return {name: {k: v for k, v in record.items() if v is not None} for name, record in found.items()}

    def lock(self) -> str:
        return (
            "SELECT FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no) "
            f"WHERE s.space_id = '{self.space}' FOR UPDATE OF h"
        )


@pytest.fixture
def scene(alone: Server, make: Make) -> Scene:
    return Scene(alone, make)


def take_the_name(name: str, what: str, make: Make) -> Device:
    """Somebody uses a user's id for something else."""
    mallory = make(unique("mallory"), name if what == "device" else "m1", app=name if what == "app" else "app")
    mallory.write({**edit("m", x="mallory's"), "table": name if what == "table" else "t"})
    return mallory


@pytest.mark.parametrize("anonymise", [False, True])
@pytest.mark.parametrize("what", ["device", "table", "app"])
def test_no_use_of_an_id_keeps_its_user_from_being_erased(scene: Scene, make: Make, what: str, anonymise: bool) -> None:
    eve = scene.eve
    eve.write(edit("private", 50, text=CANARY))
    scene.write(eve, edit("hers", 50, a=CANARY), edit("both", 50, a=CANARY))
    scene.write(scene.bob, edit("both", 60, b="bob's"))
    cursor = eve.drain()[1]
    mallory = take_the_name(eve.user, what, make)
    named = mallory.drain()[0]
    facts = checked(scene.server, erase(scene.server, "user", eve.user, *(["--anonymise"] if anonymise else [])))
    assert facts["counts"]["spaces"] == 1
    if anonymise:
        assert scene.shared() == {"hers": {"a": CANARY}, "both": {"a": CANARY, "b": "bob's"}}
        assert set(tables_with(scene.server, CANARY)) == {"sync_changes", "sync_records"}
    else:
        assert scene.shared() == {"both": {"b": "bob's"}}
        assert tables_with(scene.server, CANARY) == []
    authors = {change["userId"] for change in history(scene.bob, scene.space, "both")}
    assert eve.user not in authors
    assert any(author.startswith("_erased:") for author in authors)
    # What the other is called stays, and so does what is in it.
    assert mallory.drain()[0] == named
    assert named != []
    assert checked(scene.server, erase(scene.server, "user", eve.user)) == facts
    # Who comes again is somebody new.
    assert eve.ask(cursor).json()["code"] == "cursor_lost"
    assert eve.drain()[0] == []
    assert outcomes(eve.push(scene.of(edit("both", ahead(1), a=1)))) == ["space_not_found"]
    eve.write(edit("new", x=1))
    assert values(eve.drain()[0]) == {"new": {"x": 1}}


def test_what_somebody_new_of_the_same_number_writes_meanwhile_stays(scene: Scene, make: Make) -> None:
    scene.write(scene.eve, edit("hers", 50, a=CANARY))
    take_the_name(scene.eve.user, "device", make)
    kill_while_it_waits(scene.server, scene.lock(), "user", scene.eve.user)
    scene.bob.member(scene.space, scene.eve.user)
    scene.write(scene.eve, edit("fresh", 70, a="the new eve's"))
    assert len(erase(scene.server, "asked").splitlines()) == 1
    assert tables_with(scene.server, CANARY) == []
    assert scene.shared() == {"fresh": {"a": "the new eve's"}}
    [change] = history(scene.bob, scene.space, "fresh")
    assert (change["userId"], change["fields"]["a"]["value"]) == (scene.eve.user, "the new eve's")


def test_what_others_carry_goes_where_compaction_dropped_the_user_s_own_change(scene: Scene) -> None:
    scene.eve.push(scene.of(edit("gone", 50, a=CANARY, b="hers")), incarnations=["1.firstfirst"])
    scene.delete(scene.bob, "gone", 70)
    scene.write(scene.bob, edit("gone", 80, b="over a tombstone"))
    compact_now(scene.server.owner_dsn, scene.space)
    own = "SELECT count(*) FROM syncd.sync_changes c JOIN syncd.sync_names n ON n.name_no = c.user_no WHERE n.name = "
    assert ask(scene.server, f"{own}'{scene.eve.user}'") == [(0,)]
    assert tables_with(scene.server, CANARY) == ["sync_changes"]
    erase(scene.server, "user", scene.eve.user)
    assert tables_with(scene.server, CANARY) == []
    assert "sync_changes" in tables_with(scene.server, "over a tombstone")


def test_a_device_that_somebody_else_writes_with_hides_nothing_and_loses_nothing(scene: Scene, make: Make) -> None:
    mallory = make(unique("mallory"), scene.eve.client)
    scene.bob.member(scene.space, mallory.user)
    scene.write(scene.eve, edit("gone", 50, a=CANARY), edit("went", 50, a="hers"))
    scene.write(mallory, edit("gone", 55, c="mallory wrote"), edit("went", 60, a="mallory too"))
    for record in ("gone", "went"):
        scene.delete(scene.bob, record, 70)
        scene.write(scene.bob, edit(record, 80, b="over a tombstone"))
    erase(scene.server, "user", scene.eve.user)
    assert tables_with(scene.server, CANARY) == []
    for text in ("mallory wrote", "mallory too"):
        kept = (
            "SELECT n.name FROM syncd.sync_changes c JOIN syncd.sync_names n ON n.name_no = c.user_no "
            f"WHERE strpos(c.fields::text, '{text}') > 0"
        )
        assert {name for (name,) in ask(scene.server, kept)} >= {scene.bob.user, mallory.user}


def test_what_stands_goes_where_compaction_dropped_the_user_s_own_change(scene: Scene) -> None:
    """Compaction goes as far as the deletion; what was written over that is behind it: the record keeps its values."""
    scene.eve.push(scene.of(edit("gone", 50, a=CANARY)), incarnations=["1.firstfirst"])
    scene.delete(scene.bob, "gone", 70)
    feed = f"h.space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{scene.space}') AND h.head > 0"
    [(space, app, head)] = ask(
        scene.server, f"SELECT h.space_no, h.app_no, h.head FROM syncd.sync_feeds h WHERE {feed}"
    )
    scene.write(scene.bob, edit("gone", 80, b="over a tombstone"))
    ask(scene.server, f"SELECT syncd.sync_raise_horizon({space}, {app}, {head})")
    assert ask(scene.server, f"SELECT dropped FROM syncd.sync_fold({space}, {app}, {head}, 1000, false)") == [(1,)]
    assert set(tables_with(scene.server, CANARY)) == {"sync_changes", "sync_records"}
    erase(scene.server, "user", scene.eve.user)
    assert tables_with(scene.server, CANARY) == []


def test_a_deletion_that_is_no_instant_has_no_value_left_and_stays_one(scene: Scene, folder: Path) -> None:
    scene.write(scene.bob, edit("his", 50, a="bob's"))
    said = scene.of(edit("his", 60, deletedAt=f"{CANARY} said so"))
    assert outcomes(scene.eve.push(said)) == ["applied"]
    scene.write(scene.eve, edit("hers", 50, a="hers", deletedAt=CANARY))
    token = scene.server.token(scene.bob.user)
    with Replica(folder / "bob", app="app", url=scene.server.url, token=token) as replica:
        replica.sync()
        erase(scene.server, "user", scene.eve.user)
        assert tables_with(scene.server, CANARY) == []
        replica.sync()
        assert replica.get("t", "his", space=scene.space) is None
        assert replica.verify().differences == 0
        assert CANARY not in str(replica.all_registers())
    scene.write(scene.bob, edit("his", ahead(1), deletedAt=None))
    assert scene.shared() == {"his": {"a": "bob's"}}


def test_an_erased_record_s_deletion_has_no_value_left_and_a_repeated_push_is_known(scene: Scene) -> None:
    said = scene.of(edit("r", 60, a=1, deletedAt=f"{CANARY} said so"))
    assert outcomes(scene.eve.push(said)) == ["applied"]
    scene.write(scene.bob, edit("r", 70, deletedAt=None))
    erase(scene.server, "record", scene.space, "t", "r", "--app", "app")
    assert tables_with(scene.server, CANARY) == []
    assert outcomes(scene.eve.push(said)) == ["duplicate"]


def test_a_receipt_that_the_serving_role_could_sign_is_none(scene: Scene) -> None:
    scene.write(scene.bob, edit("r", 60, a=1))
    facts = checked(scene.server, erase(scene.server, "record", scene.space, "t", "r", "--app", "app"))
    [(key,)] = ask(scene.server, "SELECT cursor_key FROM syncd.sync_server")
    for signing in (key, hmac.digest(key, b"syncd erasure receipt", hashlib.sha256)):
        forged = jwt.encode({"iat": 1, "erasure": facts}, signing, headers={"typ": "syncd-erasure+jwt"})
        assert "no receipt" in erase(scene.server, "check", forged, ok=False)


def seq_of(scene: Scene, record: str) -> int:
    return int(history(scene.bob, scene.space, record)[0]["seq"])


def test_messages_have_no_value_that_another_s_change_carried_and_no_erased_space(scene: Scene) -> None:
    eve, server = scene.eve, scene.server
    eve.write(edit("private", 50, text="x"))
    scene.write(eve, edit("gone", 50, a=CANARY))
    scene.delete(scene.bob, "gone", 70)
    scene.write(scene.bob, edit("gone", 80, b="over"))
    scene.write(scene.bob, edit("his", 80, b="kept"))
    here = {"space": scene.space, "app": "app", "table": "t", "user": scene.bob.user}
    both, over = {"a": CANARY, "b": "over"}, seq_of(scene, "gone")
    dead(server, "", **here, id="gone", seq=over, values=both)
    dead(server, "", **here, id="gone", seq=over, state=True, values=both)
    dead(server, "kept", **here, id="his", seq=seq_of(scene, "his"))
    own = {**here, "space": f"_personal:{eve.user}"}
    dead(server, CANARY, **own, id="private", seq=1)
    erase(server, "user", eve.user)
    letters = [
        json.loads(bytes(body)) for (body,) in ask(server, "SELECT body FROM syncd.sync_webhook_dead ORDER BY 1")
    ]
    found = sorted(str(letter["data"]["changes"][0]["values"]) for letter in letters)
    assert found == ["{'b': 'over'}", "{'text': 'kept'}", "{}", "{}"]
    assert tables_with(server, CANARY) == []
    assert tables_with(server, eve.user) == []
    # One that is given up later may have been read before.
    dead(server, CANARY, **own, id="private", seq=1)
    dead(server, "", **here, id="gone", seq=over, values=both)
    assert tables_with(server, CANARY) == []
    assert tables_with(server, eve.user) == []
