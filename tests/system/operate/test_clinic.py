"""The clinic of examples/clinic: its own login, rows and records in one transaction, a rule, invoices, a report."""

from __future__ import annotations

import asyncio
import importlib
import os
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from syncd_client import Replica

from syncd.testing import Server
from tests.support.hosted import Hosted, hosted
from tests.support.programs import REPOSITORY
from tests.support.wire import unique

PASSWORD = "a long word"


class Clinic(NamedTuple):
    """It serves; `owner` is the database as its superuser."""

    host: Hosted
    owner: str


@pytest.fixture
async def clinic(syncd_server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Clinic]:
    monkeypatch.setenv("CLINIC_DATABASE", syncd_server.database_url)
    monkeypatch.setenv("SYNC_DATABASE", syncd_server.runtime_url)
    monkeypatch.setenv("CLINIC_SECRET", "s" * 32)
    owner = await asyncpg.connect(syncd_server.owner_url)
    await owner.fetchval("SELECT syncd.sync_consumer_add('billing', 'application', '{clinic}', '{visits}', 'now')")
    await owner.close()
    module = importlib.reload(importlib.import_module("examples.clinic.app"))
    async with hosted(module.app) as host:
        yield Clinic(host, syncd_server.owner_url)


async def staff(clinic: Clinic, name: str) -> httpx.AsyncClient:
    """A browser in which somebody has signed in."""
    browser = httpx.AsyncClient(base_url=clinic.host.url, timeout=60)
    (await browser.post(f"/staff/{name}", json={"password": PASSWORD})).raise_for_status()
    assert (await browser.post(f"/sign-in/{name}", json={"password": "a guess"})).status_code == 401
    (await browser.post(f"/sign-in/{name}", json={"password": PASSWORD})).raise_for_status()
    return browser


def phone_of(clinic: Clinic, user: str, token: str, folder: Path) -> Replica:
    return Replica(folder / f"{user}.db", app="clinic", url=f"{clinic.host.url}/sync", token=token, user=user)


async def test_a_ward_s_day(clinic: Clinic, folder: Path) -> None:
    ann, ben = unique("ann"), unique("ben")
    desk, other = await staff(clinic, ann), await staff(clinic, ben)
    tokens = [(await browser.post("/phones")).json() for browser in (desk, other)]
    as_ann = {"authorization": f"Bearer {tokens[0]}"}
    ward = (await desk.post("/sync/spaces", json={"name": "North"}, headers=as_ann)).json()["id"]
    (await desk.put(f"/sync/spaces/{ward}/members/{ben}", json={"role": "writer"}, headers=as_ann)).raise_for_status()

    admission = {"full_name": "Ada", "insurance": "X-1"}
    assert (await desk.post(f"/wards/{ward}/patients/p1", json=admission)).status_code == 200
    assert (await desk.post("/wards/nowhere/patients/p2", json=admission)).status_code == 403
    owner = await asyncpg.connect(clinic.owner)
    assert await owner.fetchval("SELECT array_agg(id) FROM public.patients") == ["p1"]

    def offline() -> tuple[Replica, Replica]:
        one, two = (phone_of(clinic, user, token, folder) for user, token in zip((ann, ben), tokens, strict=True))
        for phone in (one, two):
            phone.sync()
            assert phone.get("patients", "p1", space=ward)["name"] == "Ada"
        # Both are offline now.
        one.put("visits", "v1", {"patient": "p1", "reason": "Cough"}, space=ward)
        two.put("visits", "v2", {"patient": "p1"}, space=ward)
        two.patch("visits", "v2", {"state": "done"}, space=ward)
        two.patch("patients", "p1", {"name": "Eve"}, space=ward)
        one.patch("visits", "v1", {"state": "done"}, space=ward)
        one.sync()
        two.sync()
        return one, two

    one, two = await asyncio.to_thread(offline)
    assert {change.detail for change in two.rejected()} == {
        "Say the reason for the visit first.",
        "The office writes this.",
    }

    async def billed() -> dict[str, Any]:
        found: dict[str, Any] = (await desk.get(f"/wards/{ward}/report")).json()
        return found

    async with asyncio.timeout(60):
        while (said := await billed())["billed"] == 0:  # noqa: ASYNC110 (a page that is loaded again)
            await asyncio.sleep(0.1)
    assert said == {"visits": 2, "done": 1, "billed": 80}
    await asyncio.to_thread(one.sync)
    assert one.get("visits", "v1", space=ward)["seen_by"] == ann
    assert one.get("invoices", "v1", space=ward)["amount"] == 80
    stranger = await staff(clinic, unique("eve"))
    assert (await stranger.get(f"/wards/{ward}/report")).status_code == 404
    await reported(clinic, ward, ann)
    for phone in (one, two):
        phone.close()
    for browser in (desk, other, stranger):
        await browser.aclose()
    await owner.close()


async def reported(clinic: Clinic, ward: str, nurse: str) -> None:
    """A login that may read one ward has its report, and nothing of another."""
    reader, nobody = (f"reports_{secrets.token_hex(4)}" for _ in range(2))
    owner = await asyncpg.connect(clinic.owner)
    for login in (reader, nobody):
        await owner.execute(f"CREATE ROLE {login} LOGIN")
    await owner.close()
    commands = (
        ["schema", "apply", str(REPOSITORY / "examples/clinic/clinic.json")],
        ["views", "apply"],
        ["views", "grant", reader, "--space", ward],
        ["views", "grant", nobody, "--user", "a stranger"],
    )
    for words in commands:
        await asyncio.to_thread(said, [sys.executable, "-m", "syncd", *words, "--database-url", clinic.owner])
    for login, rows in ((reader, f"{ward}\t{nurse}\t1\n"), (nobody, "")):
        command = [sys.executable, "-m", "examples.clinic.report"]
        assert await asyncio.to_thread(said, command, CLINIC_REPORTS=of_login(clinic.owner, login)) == rows


def said(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_login(url: str, login: str) -> str:
    return url.replace("://postgres@", f"://{login}@")
