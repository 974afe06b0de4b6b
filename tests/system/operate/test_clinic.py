"""The clinic of examples/clinic: its login, a row and a record in one transaction, rules, a webhook, a report."""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest
from syncd_client import Replica

from syncd.consumers.message import WebhookMessage, headers
from syncd.testing import Server
from tests.support import command_line
from tests.support.consuming import eventually
from tests.support.hosted import Hosted, hosted
from tests.support.programs import REPOSITORY
from tests.support.wire import unique

PASSWORD = "a long word"
CLINIC = REPOSITORY / "examples/clinic"


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
    await judged(clinic, ward, two)
    await told(clinic, "v1")
    stranger = await staff(clinic, unique("eve"))
    assert (await stranger.get(f"/wards/{ward}/report")).status_code == 404
    await reported(clinic, ward, ann)
    await forgotten(clinic, other, tokens[1], ben)
    for phone in (one, two):
        phone.close()
    for browser in (desk, other, stranger):
        await browser.aclose()
    await owner.close()


async def judged(clinic: Clinic, ward: str, nurse: Replica) -> None:
    """A writer of the ward gives no discount."""
    await asyncio.to_thread(syncd, clinic, "schema", "apply", str(CLINIC / "clinic.json"))

    async def refused() -> list[str]:
        nurse.put("visits", unique("v"), {"discount": 10}, space=ward)
        await asyncio.to_thread(nurse.sync)
        return [change.detail for change in nurse.rejected() if "discount" in (change.detail or "")]

    assert "owner" in (await eventually(refused, bool))[0]


async def told(clinic: Clinic, visit: str) -> None:
    """The accounts book what a message says, once, whoever else sends it again."""
    secret, name = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}", unique("accounts")
    os.environ["ACCOUNTS_SECRET"] = secret
    accounts = importlib.reload(importlib.import_module("examples.clinic.accounts"))
    async with hosted(accounts.app, lifespan="off") as host:
        key = Path(tempfile.mkdtemp()) / "key"
        key.write_text(secret)
        there = (f"{host.url}/invoices", "--private", "--app", "clinic", "--table", "invoices", "--start", "beginning")
        await asyncio.to_thread(syncd, clinic, "webhooks", "add", name, *there, "--secret-file", str(key))
        sending = started(clinic, "webhooks", "run")
        try:
            await eventually(booked_by(accounts), bool)
        finally:
            sending.terminate()
            assert await asyncio.to_thread(sending.wait, 60) == 0
        assert accounts.booked == {visit: 80}
        body = json.dumps({"data": {"changes": [{"id": "forged", "values": {"amount": 1}}]}})
        forged = {"webhook-id": "m", "webhook-timestamp": "x", "webhook-signature": "v1,x"}
        async with httpx.AsyncClient(base_url=host.url) as http:
            assert (await http.post("/invoices", content=body)).status_code == 401
            assert (await http.post("/invoices", content=body, headers=forged)).status_code == 401
            old = signed(secret, body, int(time.time()) - 3600)
            assert (await http.post("/invoices", content=body, headers=old)).status_code == 401
            now = signed(secret, body, int(time.time()))
            assert (await http.post("/invoices", content=body, headers=now)).status_code == 204
        assert accounts.booked == {visit: 80, "forged": 1}


async def forgotten(clinic: Clinic, browser: httpx.AsyncClient, token: str, nurse: str) -> None:
    """A nurse who leaves asks for it, and an operator's timer does it."""
    asked = await browser.delete("/sync/me", headers={"authorization": f"Bearer {token}"})
    assert asked.status_code == 202, asked.text
    await asyncio.to_thread(syncd, clinic, "erase", "asked")
    owner = await asyncpg.connect(clinic.owner)
    assert await owner.fetchval("SELECT count(*) FROM syncd.sync_names WHERE name = $1", nurse) == 0
    await owner.close()


async def reported(clinic: Clinic, ward: str, nurse: str) -> None:
    """A login that may read one ward has its report, and nothing of another."""
    reader, nobody = (f"reports_{secrets.token_hex(4)}" for _ in range(2))
    owner = await asyncpg.connect(clinic.owner)
    for login in (reader, nobody):
        await owner.execute(f"CREATE ROLE {login} LOGIN")
    await owner.close()
    commands = (
        ["views", "apply"],
        ["views", "grant", reader, "--space", ward],
        ["views", "grant", nobody, "--user", "a stranger"],
    )
    for words in commands:
        await asyncio.to_thread(syncd, clinic, *words)
    for login, rows in ((reader, f"{ward}\t{nurse}\t1\n"), (nobody, "")):
        command = [sys.executable, "-m", "examples.clinic.report"]
        assert await asyncio.to_thread(said, command, CLINIC_REPORTS=of_login(clinic.owner, login)) == rows


def booked_by(accounts: Any) -> Callable[[], Awaitable[bool]]:
    async def booked() -> bool:
        return bool(accounts.booked)

    return booked


def signed(secret: str, body: str, at: int) -> dict[str, str]:
    """The headers of a message that was sent then."""
    one = WebhookMessage("m", body.encode(), body.encode())
    return headers(base64.b64decode(secret.removeprefix("whsec_")), one, at)


def test_it_is_less_than_200_lines_of_its_own() -> None:
    files = [*CLINIC.glob("*.py"), *CLINIC.glob("*.json")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(files) == 6
    assert len(lines) < 200


def started(clinic: Clinic, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "syncd", *words, "--database-url", clinic.owner], cwd=REPOSITORY)


def syncd(clinic: Clinic, *words: str) -> str:
    """A command of an operator's."""
    done = command_line.syncd(*words, "--database-url", clinic.owner)
    assert done.returncode == 0, done.stderr
    return done.stdout


def said(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_login(url: str, login: str) -> str:
    return url.replace("://postgres@", f"://{login}@")
