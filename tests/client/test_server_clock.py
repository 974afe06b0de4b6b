"""A worker whose clock goes three years forward, and back, under live devices: nothing is lost, and all agree."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from syncd_client import AsyncReplica

from tests.support.agreeing import check_same
from tests.support.device import Device
from tests.support.harness import Server
from tests.support.quick_live import QUICK, until
from tests.support.wire import unique

pytestmark = [pytest.mark.waits]
YEARS = 3 * 365 * 86_400

SHIFTED = Path(__file__).parents[1] / "clock"


async def test_it_goes_three_years_forward_and_back_while_devices_are_live(folder: Path, tmp_path: Path) -> None:
    clock, user, seen = folder / "clock", unique("years"), 0
    clock.write_text("0")
    with Server(folder / "data", env={"PYTHONPATH": str(SHIFTED), "TEST_CLOCK": str(clock)}) as server:
        token = server.token(user, ttl=2 * YEARS)
        one, two, by_hand = opened = [
            AsyncReplica(tmp_path / name, app="app", url=server.url, token=token, durability="normal")
            for name in ("one", "two", "by-hand")
        ]
        raw = Device(server, user, "raw", app="app", token=token)

        async def writes(device: AsyncReplica) -> None:
            nonlocal seen
            seen += 1
            await device.put("t", "r", {"n": seen})
            await device.put("t", f"own-{seen}", {"n": seen})
            if device is by_hand:
                await device.sync()
            await until(lambda: all(live.local.get("t", "r") == {"n": seen} for live in (one, two)), f"{seen}", 60)

        async with one.live(policy=QUICK), two.live(policy=QUICK), raw:
            for turn, shift in enumerate((0, YEARS, 0, -YEARS, 0)):
                clock.write_text(str(shift))
                made = (await raw.push([raw.change(f"c{turn}", f"c{turn}", turn)]))["results"][0]["eventId"]
                assert abs(int(made.replace("-", "")[:12], 16) / 1000 - time.time() - shift) < 86_400
                for device in (one, two, by_hand):
                    await writes(device)
        for each in opened:
            assert not (await each.sync()).restarted
        for each in (one, two):
            check_same(each.local, by_hand.local)
            assert len(each.local.query("t")) == 1 + seen
        for each in opened:
            await each.close()
