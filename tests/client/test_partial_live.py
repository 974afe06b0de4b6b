"""Partial replicas that are live, with the real server: they are sent what they have chosen, and keep it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from syncd_client import AsyncReplica

from tests.support.agreeing import create_space
from tests.support.harness import Server
from tests.support.quick_live import QUICK, until

pytestmark = pytest.mark.alone

Open = Callable[..., AsyncReplica]


@pytest.fixture
def user() -> str:
    return f"partial-user-{random.getrandbits(60):x}"


@pytest.fixture
async def device(server: Server, tmp_path: Path, user: str) -> AsyncIterator[Open]:
    """Opens devices of the user."""
    opened: list[AsyncReplica] = []

    def open_device(name: str, **options: Any) -> AsyncReplica:
        standard = {"app": "app", "url": server.url, "token": server.token(user), "durability": "normal"}
        replica = AsyncReplica(tmp_path / f"{name}.db", **(standard | options))
        opened.append(replica)
        return replica

    yield open_device
    for replica in opened:
        await replica.close()


async def test_a_partial_replica_is_sent_what_it_has_chosen(server: Server, device: Open, user: str) -> None:
    red, blue = create_space(server, user), create_space(server, user)
    whole, part = device("whole"), device("part", spaces=[red], tables=["cards"])
    await whole.put("cards", "before", {"n": 1}, space=red)
    await whole.put("lists", "before", {"n": 1}, space=red)
    await whole.put("cards", "before", {"n": 1}, space=blue)
    await whole.sync()
    async with part.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "it is live")
        for space, table in ((blue, "cards"), (red, "lists"), (red, "cards")):
            await whole.put(table, "after", {"n": 2}, space=space)
            await whole.sync()
        await until(lambda: part.local.get("cards", "after", space=red) == {"n": 2}, "what is chosen")
        await part.put("cards", "own", {"n": 3}, space=red)
        assert await live.wait_until_synced(60)
    assert {(r.table, r.space, r.id) for r in part.local.query("cards", space=red)} == {
        ("cards", red, name) for name in ("before", "after", "own")
    }
    assert part.local.query("lists", space=red) == part.local.query("cards", space=blue) == []
    assert part.local.verify().differences == 0
    await part.close()
    wider = device("part", spaces=[red, blue], tables="all")
    async with wider.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "it is live")
        assert len(wider.local.query("lists", space=red)) == 2
        assert len(wider.local.query("cards", space=blue)) == 2
        await whole.put("lists", "late", {"n": 4}, space=blue)
        await whole.sync()
        await until(lambda: wider.local.get("lists", "late", space=blue) == {"n": 4}, "what is chosen now")
    assert wider.local.verify().differences == 0


async def test_what_is_unsent_of_what_is_not_kept_any_more_is_sent_and_goes(
    server: Server, device: Open, user: str
) -> None:
    red = create_space(server, user)
    whole, part = device("whole"), device("part")
    await part.put("cards", "a", {"n": 1}, space=red)
    await part.close()
    part = device("part", spaces=[None])
    assert part.local.get("cards", "a", space=red) == {"n": 1}
    async with part.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "it is live")
        assert await live.wait_until_synced(60)
        await until(lambda: part.local.get("cards", "a", space=red) is None, "it is gone here")
    await whole.sync()
    assert whole.local.get("cards", "a", space=red) == {"n": 1}


async def test_a_choice_made_by_another_process_while_it_is_live_loses_nothing(
    server: Server, device: Open, user: str
) -> None:
    red = create_space(server, user)
    whole, part = device("whole"), device("part", spaces=[None, red])
    await whole.put("cards", "a", {"n": 1}, space=red)
    await whole.put("cards", "own", {"n": 1})
    await whole.sync()
    async with part.live(policy=QUICK) as live:
        await until(lambda: part.local.get("cards", "a", space=red) is not None, "what is chosen")
        await device("part", spaces=[None]).close()
        await device("part", spaces=[None, red]).close()
        assert part.local.get("cards", "a", space=red) is None
        await whole.put("cards", "late", {"n": 2})
        await whole.sync()
        await until(lambda: part.local.get("cards", "late") is not None, "what was written since")
        await until(lambda: part.local.get("cards", "a", space=red) is not None, "what was chosen again")
        await until(lambda: live.state.name == "live", "it is live again")


async def test_a_choice_that_another_process_makes_back_while_it_is_live_loses_nothing(device: Open) -> None:
    whole, part = device("whole"), device("part", tables=["cards"])
    await whole.put("cards", "early", {"n": 1})
    await whole.sync()
    async with part.live(policy=QUICK):
        await until(lambda: part.local.get("cards", "early") is not None, "what is chosen")
        await device("part", tables=["lists"]).close()
        await device("part", tables=["cards"]).close()
        await whole.put("cards", "late", {"n": 2})
        await whole.sync()
        await until(lambda: part.local.get("cards", "late") is not None, "what was written since", 30)
        await until(lambda: part.local.get("cards", "early") is not None, "what was removed in between", 30)
    assert part.local.verify().differences == 0


async def test_what_another_process_adds_to_the_choice_comes_while_nothing_else_happens(device: Open) -> None:
    whole, part = device("whole"), device("part", tables=["cards"])
    await whole.put("lists", "a", {"n": 1})
    await whole.sync()
    async with part.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "live", "it is live")
        await device("part", tables=["cards", "lists"]).close()
        await until(lambda: part.local.get("lists", "a") is not None, "what was added", 30)
