"""How a live sync comes back: after a goodbye, silence, a refused token, a blocked socket. The server is scripted."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from syncd_client import (
    AsyncReplica,
    LiveState,
)

from tests.support.live_replicas import EARLY, LATE, Open, is_live
from tests.support.scripted import Script, page, wire
from tests.support.scripted_live import QUICK, LiveScript, refuse, until

YEARS_ON = "Thu, 01 Jan 2099 00:00:00 GMT"
BUSY = {
    "a date by the server's clock": {"Retry-After": YEARS_ON, "Date": YEARS_ON},
    "a date by no clock that it tells": {"Retry-After": YEARS_ON, "Date": "soon"},
    "seconds without end": {"Retry-After": "9" * 400},
}
# Who takes a silence for the end at once, which a busy machine has too.
HASTY = replace(QUICK, open_timeout=1.0, ping_timeout=0.3, answer_timeout=0.5)


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 1013, 4408, 4429, 4999])
async def test_it_comes_back_after_every_kind_of_goodbye(
    replica: AsyncReplica, live_script: LiveScript, code: int
) -> None:
    async with replica.live(policy=QUICK) as live:
        for n in range(1, 4):
            await until(lambda n=n: len(live_script.sockets) == n and live.state.name == "live")  # type: ignore[misc]
            await live_script.sockets[-1].close(code)


@pytest.mark.parametrize("said", BUSY.values(), ids=BUSY)
async def test_a_time_to_come_again_keeps_no_live_device_away_for_ever(
    replica: AsyncReplica, live_script: LiveScript, said: dict[str, str]
) -> None:
    live_script.refuse_with, live_script.refuse_saying = 503, said
    async with replica.live(policy=replace(QUICK, patience=60.0 if said.get("Date") == YEARS_ON else 0.05)) as live:
        await until(lambda: live.state.code == "http_503")
        live_script.refuse_with = None
        await until(is_live(live), patience=20.0)


async def test_a_held_push_comes_again_however_long_it_is_to_wait(
    replica: AsyncReplica, live_script: LiveScript
) -> None:
    live_script.once("push", lambda frame, socket: refuse(frame, "too_many_requests") | {"retryAfter": 10**9})
    async with replica.live(policy=replace(QUICK, patience=0.05)) as live:
        await until(is_live(live))
        await replica.put("t", "a", {"n": 1})
        await until(lambda: len(live_script.frames("push")) == 2, patience=20.0)
        assert await live.wait_until_synced(60)


async def test_a_cut_connection_is_offline_until_it_is_back(replica: AsyncReplica, live_script: LiveScript) -> None:
    async with replica.live(policy=QUICK) as live:
        await until(is_live(live))
        live_script.refuse_with = 404
        script_down = httpx2.MockTransport(lambda request: (_ for _ in ()).throw(httpx2.ConnectError("down")))
        http = replica._send._client  # type: ignore[attr-defined]
        before, http._transport = http._transport, script_down
        live_script.sockets[-1].transport.abort()
        await replica.put("t", "a", {"n": 1})
        await until(lambda: live.state.name == "offline")
        await until(lambda: replica.local.why("t", "a").state == "offline")
        http._transport = before
        live_script.refuse_with = None
        assert await live.wait_until_synced(60)
        assert (await replica.why("t", "a")).state == "synced"


@pytest.mark.waits
async def test_silence_is_noticed(replica: AsyncReplica, live_script: LiveScript) -> None:
    async with replica.live(policy=HASTY) as live:
        await until(is_live(live))
        live_script.sockets[-1].transport.pause_reading()  # no pong comes back any more
        await until(lambda: len(live_script.sockets) > 1 and live.state.name == "live")


def jwt(sub: str, exp: float) -> str:
    part = base64.urlsafe_b64encode(json.dumps({"sub": sub, "exp": exp}).encode()).decode().rstrip("=")
    return f"x.{part}.x"


@pytest.mark.waits
async def test_a_refused_token_is_asked_for_once_then_slowly(open_async: Open, live_script: LiveScript) -> None:
    asked: list[float] = []

    async def token() -> str:
        asked.append(time.monotonic())
        return f"token-{len(asked)}"

    replica = open_async(token=token)
    live_script.on["auth"] = live_script.closing(4401)
    async with replica.live(policy=replace(QUICK, refused_interval=6.0)) as live:
        await until(lambda: live.state.name == "refused")
        assert live.state.code == "unauthorized"
        await replica.put("t", "a", {"n": 1})
        assert (await replica.why("t", "a")).state == "no_permission"
        await until(lambda: len(asked) >= 3)
        assert asked[1] - asked[0] < 2.9 < asked[2] - asked[1], asked
        del live_script.on["auth"]
        live.retry_now()
        assert await live.wait_until_synced(60)
        assert (await replica.why("t", "a")).state == "synced"


@pytest.mark.waits
async def test_a_token_is_renewed_in_place_before_it_ends(open_async: Open, live_script: LiveScript) -> None:
    base = 4_070_908_800.0  # what the scripted server takes for now, far from this machine's clock
    live_script.time = LATE
    tokens = iter([jwt("u", base + 2.5), jwt("u", base + 3600)])
    replica = open_async(token=lambda: next(tokens))
    async with replica.live(policy=QUICK) as live:
        await until(lambda: len(live_script.frames("auth")) == 2)
        await until(is_live(live))
        assert len(live_script.sockets) == 1


async def test_a_token_of_somebody_else_never_gets_the_file(open_async: Open, live_script: LiveScript) -> None:
    replica = open_async(token=jwt("ann", 9e9))
    async with replica.live(policy=QUICK) as live:
        await until(lambda: live.state.name == "refused")
        assert live.state.code == "wrong_replica"
    assert live_script.frames("subscribe") == []


@pytest.mark.waits
async def test_a_token_provider_that_fails_is_asked_again(open_async: Open, live_script: LiveScript) -> None:
    asked: list[int] = []

    def token() -> str:
        asked.append(1)
        if len(asked) < 6:
            raise OSError("no network")
        return "t"

    async with open_async(token=token).live(policy=QUICK) as live:
        await until(is_live(live))


@pytest.mark.waits
@pytest.mark.parametrize("blocked", [403, 404, 426, 502, "mute"])
async def test_blocked_sockets_are_replaced_by_polling_until_they_work(
    replica: AsyncReplica, live_script: LiveScript, script: Script, blocked: Any
) -> None:
    live_script.mute = blocked == "mute"
    live_script.refuse_with = None if blocked == "mute" else blocked
    states: list[LiveState] = []
    async with replica.live(policy=HASTY, on_state=states.append) as live:
        await until(lambda: live.state.name == "polling")
        change_id = await replica.put("t", "a", {"n": 1})
        await until(lambda: replica.local.pending() == [])
        assert script.pushes[0]["changes"][0]["changeId"] == change_id
        assert (await replica.why("t", "a")).state == "synced"
        script.answers = [page(wire("b", n=(1, EARLY)))]
        await until(lambda: replica.local.get("t", "b") is not None)
        await until(lambda: len(live_script.paths) > 4, "sockets are tried again")
        assert live.state.name == "polling"
        live_script.mute, live_script.refuse_with = False, None
        await until(is_live(live))
    assert [state.name for state in states].count("polling") == 1
