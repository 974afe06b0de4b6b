"""G25, G19: a record is erased in the space where it was; another space that has the id since is another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.command_line import syncd
from tests.support.erasing import ask, checked, dead, erase, tables_with
from tests.support.harness import Server
from tests.support.holding import outcomes as held_outcomes
from tests.support.wire import Device, Json, ahead, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture(scope="module")
def alone(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "incarnations") as server:
        yield server


@pytest.fixture
def make(alone: Server) -> Iterator[Make]:
    with httpx.Client(base_url=alone.url, timeout=300) as http:
        yield lambda name, **more: Device(http, alone, unique(name), unique("c"), **more)


class Scene:
    """A record of a space was erased, the space was deleted, and its owner made another of the id."""

    def __init__(self, server: Server, make: Make) -> None:
        self.server, self.ada = server, make("ada")
        self.old, self.new = unique("canary-of-old"), unique("of-new")
        self.space = self.ada.create(unique("space"))
        self.ada.write(self.of("r", 50, text=self.old))
        self.first = checked(server, self.erase())
        self.ada.request("DELETE", f"/spaces/{self.space}")
        self.ada.create(self.space)

    def of(self, record: str, when: int, change_id: str | None = "", **fields: str) -> Json:
        named = {} if change_id == "" else {"change_id": change_id}
        return {**edit(record, when, **named, **fields), "spaceId": self.space}

    def erase(self, record: str = "r") -> str:
        return erase(self.server, "record", self.space, "t", record, "--app", "app")


@pytest.fixture
def scene(alone: Server, make: Make) -> Scene:
    return Scene(alone, make)


def test_what_is_held_of_another_record_of_the_names_is_kept(scene: Scene, make: Make) -> None:
    bob = make("bob", legacy=True)
    assert held_outcomes(bob.push(scene.of("r", 60, change_id=None, text=scene.new))) == ["space_not_found"]
    assert tables_with(scene.server, scene.new) == ["sync_held"]


def test_another_record_of_the_names_is_erased_as_well(scene: Scene) -> None:
    scene.ada.write(scene.of("r", 60, text=scene.new))
    facts = checked(scene.server, scene.erase())
    assert (facts["counts"]["records"], facts["ordinal"] > scene.first["ordinal"]) == (1, True)
    assert tables_with(scene.server, scene.new) == []
    assert checked(scene.server, scene.erase()) == facts


def test_an_import_leaves_another_record_of_the_names_as_it_is(scene: Scene, folder: Path) -> None:
    scene.ada.write(scene.of("r", 60, text=scene.new))
    for command in ("export --all -o", "import --as-is"):
        done = syncd(*command.split(), folder / "new.jsonl", "--data-dir", scene.server.data_dir)
        assert done.returncode == 0, done.stderr
    assert values(scene.ada.drain()[0]) == {"r": {"text": scene.new}}


def test_a_message_of_another_record_of_the_names_is_kept(scene: Scene) -> None:
    scene.ada.write(scene.of("r", 60, text=scene.new), scene.of("other", 60, text="x"))
    dead(scene.server, scene.new, space=scene.space, app="app", table="t", id="r", user=scene.ada.user, seq=1)
    dead(scene.server, scene.old, space=scene.space, app="app", table="t", id="r", user=scene.ada.user, seq=1)
    scene.erase("other")
    assert "sync_webhook_dead" in tables_with(scene.server, scene.new)
    assert tables_with(scene.server, scene.old) == []


def test_a_list_has_each_of_two_records_of_the_names_erased(scene: Scene, folder: Path) -> None:
    scene.ada.write(scene.of("r", 60, text=scene.new))
    second = checked(scene.server, scene.erase())["ordinal"]
    (folder / "list").write_text(erase(scene.server, "list"))
    # As a dump of between the two has it, which a restore brings back.
    ask(
        scene.server,
        f"WITH g AS (DELETE FROM syncd.sync_erasures WHERE ordinal = {second} RETURNING 1) SELECT count(*) FROM g",
    )
    erase(scene.server, "again", str(folder / "list"))
    assert len(ask(scene.server, f"SELECT 1 FROM syncd.sync_erasures WHERE space_id = '{scene.space}'")) == 2


def test_a_personal_space_s_name_goes_with_its_user_and_a_new_one_is_another(scene: Scene, make: Make) -> None:
    eve = make("eve")
    eve.write(edit("settings", 50, text=scene.old))
    record = ("record", f"_personal:{eve.user}", "t", "settings", "--app", "app")
    erase(scene.server, *record)
    erase(scene.server, "user", eve.user)
    assert tables_with(scene.server, eve.user) == []
    eve.write(edit("settings", ahead(1), text="the new one's"))
    assert values(eve.drain()[0]) == {"settings": {"text": "the new one's"}}
