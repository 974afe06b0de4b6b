"""G25: a backup from before an erasure does not bring it back where the erasure is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.erasing import erase, outcomes, tables_with
from tests.support.harness import Server
from tests.support.wire import Device, ahead, edit, values
from tests.system.transfer.test_restored_by_recipe import recipe, run, until_there

CANARY = "canary-of-a-backup"


class House:
    """A server with a dump of it from before two erasures, and ann, who is there before and after."""

    def __init__(self, server: Server, http: httpx.Client, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.ann, self.eve = Device(http, server, "ann"), Device(http, server, "eve", "c2")
        self.ann.create("garden")
        self.ann.member("garden", "eve")
        self.ann.write(
            {**edit("kept", 5, x="ann's"), "spaceId": "garden"}, {**edit("secret", 5, x=CANARY), "spaceId": "garden"}
        )
        self.eve.write({**edit("kept", 6, y=CANARY), "spaceId": "garden"}, edit("own", 5, x=CANARY))
        run(recipe("pg_dump"), folder)
        erase(server, "record", "garden", "t", "secret", "--app", "app")
        erase(server, "user", "eve")


@pytest.fixture
def house(folder: Path) -> Iterator[House]:
    with Server(folder / "syncd-data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        yield House(server, http, folder)


def test_what_a_dump_still_has_is_erased_again(house: House) -> None:
    house.eve.write(edit("new", x="back"))
    said = run("syncd restore syncd.dump --data-dir syncd-data", house.folder)
    assert "erased again: 2 of 2" in said
    assert values(until_there(house.ann)) == {"kept": {"x": "ann's", "y": None}}
    assert tables_with(house.server, CANARY) == []
    assert outcomes(house.ann.push({**edit("secret", ahead(1), x=1), "spaceId": "garden"})) == ["record_forgotten"]
    # eve comes back, and a dump of now is restored: it knows what was done
    house.eve.write(edit("new", x="back"))
    run(recipe("pg_dump"), house.folder)
    assert "erased again: 0 of 2" in run("syncd restore syncd.dump --data-dir syncd-data", house.folder)
    until_there(house.ann)
    assert values(house.eve.drain()[0]) == {"new": {"x": "back"}}


def test_a_list_that_was_kept_does_it_where_the_database_is_lost(house: House) -> None:
    (house.folder / "erased.jsonl").write_text(erase(house.server, "list"))
    with Server(house.folder / "other") as other:
        command = [sys.executable, "-m", "syncd", "restore", "syncd.dump", "--data-dir", "other"]
        done = subprocess.run(command, cwd=house.folder, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        assert tables_with(other, CANARY) != []
        erase(other, "again", str(house.folder / "erased.jsonl"))
        assert tables_with(other, CANARY) == []
        (house.folder / "wrong.jsonl").write_text("{}\n")
        assert "is not what" in erase(other, "again", str(house.folder / "wrong.jsonl"), ok=False)
