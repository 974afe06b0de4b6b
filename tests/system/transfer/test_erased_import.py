"""G25: an operator's import of an older export does not bring back what the database knows to be erased."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support import command_line
from tests.support.erasing import erase, tables_with
from tests.support.harness import Server
from tests.support.wire import Device, Json, edit, values

CANARY = "canary-of-an-export"


def syncd(server: Server, *arguments: str | Path) -> tuple[int, str]:
    done = command_line.syncd(*arguments, "--data-dir", server.data_dir)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


class House:
    """A server with an export from before two erasures: of a record, and of eve, who wrote in ann's space too."""

    def __init__(self, server: Server, http: httpx.Client, folder: Path) -> None:
        self.server, self.file = server, folder / "before.jsonl"
        self.ann, self.eve = Device(http, server, "ann", "c1"), Device(http, server, "eve-of-old", "c2")
        self.ann.create("garden")
        self.ann.member("garden", self.eve.user)
        self.eve.create(f"{CANARY}-space")
        self.ann.write(self.of("kept", 5, x="ann's"), self.of("secret", 5, x=CANARY))
        self.eve.write(self.of("kept", 6, y=CANARY), self.of("hers", 6, y=CANARY), edit("own", 5, x=CANARY))
        self.eve.write({**edit("r", 5, x=CANARY), "spaceId": f"{CANARY}-space"})
        assert syncd(server, "export", "--all", "-o", self.file)[0] == 0
        erase(server, "record", "garden", "t", "secret", "--app", "app")
        erase(server, "user", self.eve.user)

    def of(self, record: str, when: int, **fields: str) -> Json:
        return {**edit(record, when, **fields), "spaceId": "garden"}


@pytest.fixture
def house(folder: Path) -> Iterator[House]:
    with Server(folder / "syncd-data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        yield House(server, http, folder)


def test_nothing_of_an_older_export_comes_back(house: House) -> None:
    before = house.ann.drain()[0]
    code, said = syncd(house.server, "import", "--as-is", house.file)
    assert (code, "record_forgotten" in said) == (1, True)
    assert tables_with(house.server, CANARY) == []
    assert tables_with(house.server, house.eve.user) == []
    assert house.ann.drain()[0] == before
    assert house.eve.drain()[0] == []


def test_a_user_who_is_back_has_what_was_written_since(house: House, folder: Path) -> None:
    house.eve.write(edit("new", 7, x="the new eve's"))
    after = folder / "after.jsonl"
    assert syncd(house.server, "export", "--all", "-o", after)[0] == 0
    assert syncd(house.server, "import", "--as-is", after)[0] == 0
    assert syncd(house.server, "import", "--as-is", house.file)[0] == 1
    assert values(house.eve.drain()[0]) == {"new": {"x": "the new eve's"}}
    assert tables_with(house.server, CANARY) == []


def test_an_empty_server_that_knows_of_the_erasures_takes_the_rest(house: House, folder: Path) -> None:
    (folder / "list").write_text(erase(house.server, "list"))
    with Server(folder / "new") as new, httpx.Client(base_url=new.url, timeout=60) as http:
        erase(new, "again", str(folder / "list"))
        assert syncd(new, "import", "--as-is", house.file)[0] == 1
        assert tables_with(new, CANARY) == []
        assert tables_with(new, house.eve.user) == []
        ann = Device(http, new, "ann", "c9")
        assert values(ann.drain()[0]) == {"kept": {"x": "ann's"}}
