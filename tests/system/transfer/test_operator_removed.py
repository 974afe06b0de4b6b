"""G16, P238: whom an owner removed from a space stays removed where an operator's export is imported."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.support.backups import undated
from tests.support.harness import Server
from tests.support.wire import Device
from tests.system.transfer.test_operator_backup import directory, syncd


def joined(owner: Device, user: Device) -> int:
    """What becomes of a user who comes by a new link."""
    link = owner.request("POST", "/spaces/club/invitations", json={"role": "writer"})
    assert link.status_code == 201, link.text
    return user.request("POST", "/invitations", json={"token": link.json()["token"]}).status_code


def test_who_was_removed_is_let_in_by_no_link_of_the_server_that_takes_over(folder: Path) -> None:
    first, again, new = folder / "all.jsonl", folder / "again.jsonl", {"SYNCD_DATA_DIR": str(folder / "new")}
    with Server(folder / "old") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, "ada")
        ada.create("club")
        for user in ("bob", "zoe"):
            ada.member("club", user)
            ada.remove("club", user)
        ada.member("club", "zoe")
        assert joined(ada, Device(http, server, "bob")) == 404
        syncd("export", "--all", "-o", first, env=directory(server))
    for _ in range(2):
        syncd("import", "--as-is", first, env=new)
    syncd("export", "--all", "-o", again, env=new)
    assert undated(again.read_bytes()) == undated(first.read_bytes())
    with Server(folder / "new") as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada, bob, eve, zoe = (Device(http, server, name) for name in ("ada", "bob", "eve", "zoe"))
        assert (joined(ada, bob), joined(ada, eve)) == (404, 200)
        ada.remove("club", "eve")
        assert joined(ada, eve) == 404
        assert zoe.request("GET", "/spaces/club").status_code == 200
        ada.member("club", "bob")
        assert bob.request("GET", "/spaces/club").json()["role"] == "writer"
