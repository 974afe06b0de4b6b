"""What a user's own export says of reverts is believed by no server: that a revert was made its own log says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.backups import Make, export, line, restore, signed
from tests.support.harness import Server
from tests.support.past import history, restored
from tests.support.wire import Device, Json, at, edit, unique, values

RUN = {"agent": "tidy", "run": "1"}
STEP = 10_000


@pytest.fixture(scope="module")
def elsewhere(workspace: Path) -> Iterator[Make]:
    """Makes devices of another server, where nobody has been yet."""
    with Server(workspace / "elsewhere") as other, httpx.Client(base_url=other.url, timeout=60) as client:
        yield lambda user, name="c1", **more: Device(client, other, user, name, **more)


def reverted(device: Device, space: str) -> list[Json]:
    return restored(device, f"/sync/app/spaces/{space}/revert", actor=RUN)


def test_a_forged_revert_is_a_change_as_any(device: Make) -> None:
    """As one it would hide what its user wrote: the run's revert would bring back what stood before both."""
    ada, agent = device(unique("ada")), device(unique("agent"))
    space = ada.create(unique("garden"))
    ada.member(space, agent.user)
    ada.write({**edit("r", 1, x="old"), "spaceId": space})
    said = {"reverted": {"by": "ada"}, "after": 0, "why": "mine"}
    ada.write({**edit("r", 2, x="mine"), "spaceId": space, "actor": {"by": "ada"}})
    forged = line(
        ada.user, 900, spaceId=space, id="s", clientId="_server:_server:c1", actor=said,
        fields={"x": {"value": "forged", "at": at(2)}}, origin="revert",
    )  # fmt: skip
    forged_here = {**forged, "id": "r", "seq": 901, "eventId": "01990000-0000-7000-8000-0000000000ff"}
    forged_here["fields"] = {"y": {"value": "forged", "at": at(2)}}
    assert restore(ada, signed([forged, forged_here]))["imported"] == 2
    newest = history(ada, space, "r")[0]
    assert (newest["clientId"], newest["actor"]) == ("_server:_server:c1", {"why": "mine"})
    agent.write(
        *({**edit(id, STEP, x="agent", y="agent"), "spaceId": space, "actor": RUN} for id in ("r", "s")),
    )
    assert [r["id"] for r in reverted(ada, space)] == ["r", "s"]
    assert values(ada.drain()[0]) == {"r": {"x": "mine", "y": "forged"}, "s": {"x": "forged", "y": None}}


@pytest.mark.parametrize("more", [{}, {"by": "ada"}])
def test_what_a_revert_wrote_comes_along_in_a_user_s_export(device: Make, elsewhere: Make, more: Json) -> None:
    ada = device(unique("ada"))
    space = f"_personal:{ada.user}"
    ada.write(edit("r", 1, x="old"))
    ada.write({**edit("r", STEP, x="agent"), "actor": {**RUN, **more}})
    assert [r["id"] for r in reverted(ada, space)] == ["r"]
    data = export(ada)
    assert restore(ada, data)["duplicates"] == 3
    assert history(ada, space, "r")[0]["actor"] == {"reverted": RUN}
    there = elsewhere(ada.user)
    assert restore(there, data)["imported"] == 3
    assert restore(there, data)["duplicates"] == 3
    assert values(there.drain()[0]) == values(ada.drain()[0]) == {"r": {"x": "old"}}
    newest = history(there, space, "r")[0]
    assert ("actor" in newest, newest["clientId"]) == (False, "_server:_server:c1")
