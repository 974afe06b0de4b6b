"""An export of a folded log says so; an operator's, imported elsewhere, knows as much as it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.compacting import ALL, compact_now, write_much
from tests.support.harness import Server
from tests.support.past import address, ask
from tests.support.wire import Device, Json, at, edit, unique, values
from tests.system.transfer.test_backup import parts
from tests.system.transfer.test_operator_backup import directory, syncd

# By what a stale cursor is answered: what a write from before the deletion is.
OLD = {None: ("applied", None), "cursor_lost": ("rejected", "record_forgotten")}


def looks(device: Device, upto: int) -> dict[tuple[str, int], Any]:
    """What is said of every record at every seq, and of its history."""
    found: dict[tuple[str, int], Any] = {}
    for record in "abcde":
        found[record, 0] = ask(device, address("garden", record, what="/history"), limit=1000).json()
        for seq in range(1, upto + 1, 9):
            answer = ask(device, address("garden", record), seq=seq)
            found[record, seq] = answer.status_code, answer.json().get("complete"), answer.json().get("fields")
    return found


def own(line: Json) -> Json:
    """A line as its device wrote it. A push ends with the last of its changes that is left, and where the deletion
    before it is missing, a record that comes back need not be repeated."""
    fields = {name: field for name, field in line["fields"].items() if "clientId" not in field}
    return {**line, "pushEnd": 0, "fields": fields}


class Origin:
    """A server whose only space was folded, and whose tombstones were forgotten. `stale`: a cursor from before that."""

    def __init__(self, server: Server, http: httpx.Client, *, forget: bool) -> None:
        self.server, self.http, self.ada = server, http, Device(http, server, "ada")
        self.ada.create("garden")
        self.ada.write({**edit("last", 1, x=1), "spaceId": "garden"})
        self.stale = self.ada.drain()[1]
        write_much(self.ada, "garden")
        gone = {"table": "t", "id": "last", "op": "delete", "deletedAt": at(60), "changeId": unique("k")}
        self.head = self.ada.push({**gone, "spaceId": "garden"})["results"][0]["seq"]
        self.current = self.ada.drain()[1]
        assert compact_now(server.owner_dsn, tombstones=ALL if forget else None).dropped > 100


@pytest.fixture
def origin(folder: Path, request: pytest.FixtureRequest) -> Iterator[Origin]:
    with Server(folder / "data") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        yield Origin(server, http, forget=request.param)


@pytest.mark.parametrize("origin", [False, True], ids=["folded", "forgotten"], indirect=True)
def test_the_past_is_the_same_elsewhere_and_so_is_who_lies_behind(origin: Origin, folder: Path) -> None:
    first, again = folder / "all.jsonl", folder / "again.jsonl"
    syncd("export", "--all", "-o", first, env=directory(origin.server))
    lines, manifest = parts(first.read_bytes())
    assert any(line.get("folded") for line in lines)
    assert [(feed["spaceId"], feed["head"]) for feed in manifest["folded"]] == [("garden", origin.head)]
    new = {"SYNCD_DATA_DIR": str(folder / "new")}
    for imported in (f"{len(lines)} changes imported", "0 changes imported"):
        said = syncd("import", "--as-is", first, env=new)
        assert imported in said
        assert "0 refused" in said
    syncd("export", "--all", "-o", again, env=new)
    ours, theirs = (parts(file.read_bytes()) for file in (first, again))
    assert [own(line) for line in theirs[0]] == [own(line) for line in ours[0]]
    assert theirs[1]["folded"] == ours[1]["folded"]
    with Server(folder / "new") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, "ada")
        assert looks(ada, origin.head) == looks(origin.ada, origin.head)
        assert values(ada.drain()[0]) == values(origin.ada.drain()[0])
        assert ada.drain(origin.current)[0] == []
        late = [one.ask(origin.stale).json() for one in (ada, origin.ada)]
        assert [answer.get("code") for answer in late] in ([None] * 2, ["cursor_lost"] * 2)
        assert ("last" in {c["id"] for c in late[0].get("serverChanges", ())}) == (late[0].get("code") is None)
        # Who wrote it meanwhile is answered alike: the deletion is known, or known to be forgotten.
        old = [one.push({**edit("last", 2, x=2), "spaceId": "garden"})["results"][0] for one in (ada, origin.ada)]
        assert [(result["status"], result.get("code")) for result in old] == [OLD[late[0].get("code")]] * 2
        compact_now(server.owner_dsn)
        assert values(ada.drain()[0]) == values(origin.ada.drain()[0])


@pytest.mark.parametrize("origin", [False], ids=["folded"], indirect=True)
def test_a_user_s_own_export_says_what_may_be_missing_and_nobody_else_s(origin: Origin, folder: Path) -> None:
    eve = Device(origin.http, origin.server, "eve")
    eve.write(edit("own", 1, x=1))
    told = [parts(one.request("GET", "/backup/export").content)[1] for one in (origin.ada, eve)]
    assert [(feed["spaceId"], feed["head"]) for feed in told[0]["folded"]] == [("garden", origin.head)]
    assert 0 < told[0]["folded"][0]["horizon"] <= origin.head
    assert "folded" not in told[1]
    syncd("export", "eve", "-o", folder / "eve.jsonl", env=directory(origin.server))
    syncd("export", "ada", "-o", folder / "ada.jsonl", env=directory(origin.server))
    assert "folded" not in parts((folder / "eve.jsonl").read_bytes())[1]
    assert parts((folder / "ada.jsonl").read_bytes())[1]["folded"] == told[0]["folded"]
    with Server(folder / "new") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, "ada")
        answer = ada.request("POST", "/backup/import", content=(folder / "ada.jsonl").read_bytes())
        assert answer.status_code == 200, answer.text
        assert answer.json()["refused"] == 0


@pytest.mark.parametrize("origin", [False], ids=["folded"], indirect=True)
def test_where_it_gets_other_seqs_it_claims_no_more_than_it_knows(origin: Origin, folder: Path) -> None:
    syncd("export", "--space", "garden", "-o", folder / "garden.jsonl", env=directory(origin.server))
    with Server(folder / "other") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, "ada")
        ada.create("garden")
        ada.write({**edit("own", 1, x=1), "spaceId": "garden"})
        held, cursor = ada.drain()
        assert "0 refused" in syncd("import", "--as-is", folder / "garden.jsonl", env=directory(server))
        wanted = values(origin.ada.drain()[0]) | {"own": {"x": 1}}
        assert values(ada.drain()[0]) == wanted
        assert values(held + ada.drain(cursor)[0]) == wanted
        head = ask(ada, address("garden", "e")).json()["seq"]
        for (record, seq), found in looks(ada, head).items():
            if seq == 0:
                assert found["complete"] is False, record
            elif seq < head - 12:
                assert found[0] in (404, 410) or found[1] is False, (record, seq, found)


def test_a_deletion_that_somebody_wrote_over_stays_in_the_log(server: Server, device: Callable[..., Device]) -> None:
    """What wrote over it repeats it as another's, which an import leaves to the deletion itself."""
    ada = device(unique("ada"))
    space = ada.create(unique("space"))
    gone = {"table": "t", "id": "r", "op": "delete", "deletedAt": at(2), "changeId": unique("k"), "spaceId": space}
    ada.write({**edit("r", 1, n=1), "spaceId": space}, gone)
    ada.write({**edit("r", 3, n=2), "spaceId": space})
    compact_now(server.owner_dsn, space)
    log = ada.drain(history=1)[0]
    assert [change["op"] for change in log] == ["delete", "update"]
    assert [name for name, register in log[1]["fields"].items() if "clientId" not in register] == ["n"]
