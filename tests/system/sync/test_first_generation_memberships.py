"""G11, G19: the membership service of a first-generation server is asked and read as it is, by settings alone."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.device import Device, statuses
from tests.support.first_generation import first_generation
from tests.support.harness import Server
from tests.support.provider import Provider
from tests.support.socket_device import socket_of
from tests.system.transfer.test_elsewhere import bring

pytestmark = pytest.mark.waits

NUMBERS = itertools.count()
SECRET = "a secret of more than thirty-two bytes"
KEY = "the service's own key"
ROLES = "admin:owner,member:writer,guest:reader"


@asynccontextmanager
async def started(folder: Path, provider: Provider, **settings: Any) -> AsyncIterator[Server]:
    """A server that asks a provider as the first generation's does."""
    settings = {
        "jwt_secret": SECRET, "memberships": "service", "memberships_header": f"x-service-key: {KEY}",
        "memberships_url": f"http://127.0.0.1:{provider.port}/users/{{user}}/memberships",
        "memberships_roles": ROLES, "log_level": "info", **settings,
    }  # fmt: skip
    server = Server(folder / "data", settings=settings, start=False)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[Provider]:
    async with Provider({"memberships": []}) as provider:
        provider.key = KEY
        yield provider


@pytest.fixture(scope="module")
async def asking(workspace: Path, service: Provider) -> AsyncIterator[Server]:
    folder = workspace / "first-generation-service"
    folder.mkdir(mode=0o755)
    async with started(folder, service) as server:
        yield server


@pytest.fixture
async def ann(asking: Server, service: Provider) -> AsyncIterator[Device]:
    """A user whom the service may say anything about. Her name needs quoting in an address."""
    async with Device(asking, f"ann/{next(NUMBERS)} ü?") as device:
        yield device
        service.pause = 0.0


def organisations(**roles: str) -> dict[str, Any]:
    """An answer of the service's."""
    entries = enumerate(roles.items())
    return {"memberships": [{"id": n, "organizationId": name, "role": role} for n, (name, role) in entries]}


async def spaces(device: Device) -> dict[str, str]:
    """The spaces that the server lets a device see, with its roles."""
    answer = await device.http.get("/spaces")
    assert answer.status_code == 200, answer.text
    return {space["id"]: space["role"] for space in answer.json()["spaces"] if not space["id"].startswith("_personal:")}


async def test_its_roles_are_taken_for_ours(ann: Device, service: Provider) -> None:
    n = next(NUMBERS)
    service.by_user[ann.user] = organisations(
        **{f"own-{n}": "owner", f"run-{n}": "admin", f"work-{n}": "member", f"look-{n}": "guest"}
    )
    assert await spaces(ann) == {f"own-{n}": "owner", f"run-{n}": "owner", f"work-{n}": "writer", f"look-{n}": "reader"}
    body = await ann.push([ann.change("w", "r", 1, space=f"work-{n}"), ann.change("l", "r", 1, space=f"look-{n}")])
    assert statuses(body) == ["applied", "rejected"]


@pytest.mark.parametrize("form", ["memberships", "spaces", "list"])
async def test_each_form_of_the_list_will_do(ann: Device, service: Provider, form: str) -> None:
    space = f"form-{next(NUMBERS)}"
    entries = [{"organizationId" if form == "memberships" else "id": space, "role": "member"}]
    service.by_user[ann.user] = entries if form == "list" else {form: entries}
    assert await spaces(ann) == {space: "writer"}


async def test_a_role_that_is_not_known_is_passed_over_and_told_once(
    ann: Device, service: Provider, asking: Server
) -> None:
    n, role = next(NUMBERS), f"billing-{next(NUMBERS)}"
    service.by_user[ann.user] = organisations(**{f"money-{n}": role, f"work-{n}": "member"})
    for _ in range(3):
        assert await spaces(ann) == {f"work-{n}": "writer"}
    assert asking.output().count(role) == 1


async def test_of_two_roles_in_a_space_the_stronger_counts(ann: Device, service: Provider) -> None:
    space = f"twice-{next(NUMBERS)}"
    entries = [{"organizationId": space, "role": role} for role in ("guest", "admin", "member", "billing")]
    service.by_user[ann.user] = {"memberships": entries}
    assert await spaces(ann) == {space: "owner"}


async def test_an_entry_without_a_role_is_passed_over_and_null_is_no_entries(ann: Device, service: Provider) -> None:
    space = f"some-{next(NUMBERS)}"
    service.by_user[ann.user] = {
        "memberships": [{"organizationId": "s"}, {"organizationId": space, "role": "member"}, {"role": None}, {}]
    }
    assert await spaces(ann) == {space: "writer"}
    service.by_user[ann.user] = {"memberships": None}
    assert await spaces(ann) == {}


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        ({"role": "member"}, "organizationId"), ({"organizationId": None, "role": "member"}, "organizationId"),
        ({"organizationId": 5, "role": "member"}, "organizationId"),
        ({"organizationId": "", "role": "member"}, "organizationId"),
        ({"organizationId": "s", "role": ["member"]}, "no text"), ({"organizationId": "s", "role": 7}, "no text"),
    ],
)  # fmt: skip
async def test_an_entry_that_cannot_be_read_is_passed_over_and_told_once(
    ann: Device, service: Provider, asking: Server, entry: Any, fault: str
) -> None:
    space = f"sound-{next(NUMBERS)}"
    service.by_user[ann.user] = {"memberships": [entry, {"organizationId": space, "role": "member"}, entry]}
    for _ in range(2):
        assert await spaces(ann) == {space: "writer"}
    told = [line for line in asking.output().splitlines() if "a membership is passed over" in line and fault in line]
    assert len(told) == 1
    assert ann.user not in told[0]


@pytest.mark.parametrize(
    "lie",
    [
        None, {}, "", {"memberships": {}}, {"memberships": ["s"]}, {"memberships": 0},
        {"memberships": [{"organizationId": 5, "role": "member"}]},
        {"memberships": [{"organizationId": "", "role": "member"}]}, {"memberships": [{"role": "member"}]},
        {"memberships": [{"organizationId": "s", "role": ["member"]}]},
        {"memberships": [{"organizationId": "s", "role": "member"}, "s"]},
    ],
    ids=str,
)  # fmt: skip
async def test_what_is_no_list_is_never_an_empty_one(ann: Device, service: Provider, lie: Any) -> None:
    service.by_user[ann.user] = lie
    for answer in (await ann.ask(), await ann.send([ann.change("c", "r", 1)])):
        assert (answer.status_code, answer.json()["code"]) == (503, "memberships_unavailable")


async def test_without_its_key_nothing_is_allowed(ann: Device, service: Provider, asking: Server) -> None:
    service.key = "another"
    try:
        assert (await ann.ask()).status_code == 503
    finally:
        service.key = KEY
    assert (await ann.ask()).status_code == 200
    assert KEY not in asking.output()


async def test_no_log_has_a_users_id_or_the_key(ann: Device, service: Provider, asking: Server) -> None:
    service.by_user[ann.user] = organisations(one="member")
    await ann.pull()
    assert ann.user not in asking.output()
    assert "/users/" not in asking.output()
    assert KEY not in asking.output()


class TestWhatItCosts:
    async def test_of_one_user_is_one_call_at_a_time_and_twenty_a_second(self, ann: Device, service: Provider) -> None:
        service.by_user[ann.user] = organisations()
        service.pause, service.at_once = 0.02, 0
        before, began = service.asked, time.monotonic()
        for _ in range(5):
            # So many of a user a worker always takes.
            for answer in await asyncio.gather(*(ann.ask() for _ in range(8))):
                assert answer.status_code == 200
        for _ in range(5):
            await ann.pull()
        assert service.at_once == 1
        assert service.asked - before <= 2 + (time.monotonic() - began) / 0.05

    async def test_of_one_who_is_only_connected_is_one_a_second(
        self, ann: Device, asking: Server, service: Provider
    ) -> None:
        service.by_user[ann.user] = organisations()
        token = asking.token(ann.user)
        async with socket_of(asking, ann.user, token=token) as one, socket_of(asking, ann.user, token=token) as two:
            await one.subscribe()
            await two.subscribe()
            before, began = service.asked, time.monotonic()
            await asyncio.sleep(3)
            async with asyncio.timeout(60):
                while service.asked == before:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            assert service.asked - before <= 2 + time.monotonic() - began

    async def test_what_it_says_counts_for_whoever_asks_after_it_was_said(self, ann: Device, service: Provider) -> None:
        """A call that is under way answers those that came before it began, and nobody else."""
        space = f"gone-{next(NUMBERS)}"
        service.by_user[ann.user] = organisations(**{space: "member"})
        assert await spaces(ann) == {space: "writer"}
        service.pause = 0.5
        early = asyncio.create_task(spaces(ann))
        await asyncio.sleep(0.2)
        service.by_user[ann.user] = organisations()
        late = await asyncio.gather(*(spaces(ann) for _ in range(5)))
        assert late == [{}] * 5
        await early


@pytest.mark.parametrize("asks", [True, False], ids=["she asks for her spaces", "her device is away"])
async def test_what_was_held_is_written_soon_after_the_service_says_so(
    ann: Device, asking: Server, service: Provider, asks: bool
) -> None:
    """The server hears of it by any request of hers, or by the slow look, which asks about those who wait."""
    space = f"back-{next(NUMBERS)}"
    service.by_user[ann.user] = organisations()
    async with Device(asking, f"bob-{space}") as bob, Device(asking, f"eve-{space}") as eve:
        service.by_user[bob.user] = organisations(**{space: "member"})
        assert (await bob.pull())["serverChanges"] == []
        for each in (eve, ann):
            del each.http.headers["X-Sync-Protocol"]
            (result,) = (await each.push([each.change("c", "r", 1, space=space)]))["results"]
            assert (result["status"], result["held"]) == ("rejected", True)
        service.by_user[eve.user] = "not a list"  # who keeps nobody
        service.by_user[ann.user] = organisations(**{space: "member"})
        if asks:
            assert await spaces(ann) == {space: "writer"}
        deadline = time.monotonic() + 60
        while not (found := (await bob.pull())["serverChanges"]):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        assert [change["id"] for change in found] == ["r"]


async def test_what_an_import_says_of_members_is_replaced_by_what_the_service_says(
    ann: Device, asking: Server, service: Provider
) -> None:
    space, other = f"then-{next(NUMBERS)}", f"now-{next(NUMBERS)}"
    async with first_generation(asking.owner_dsn) as log:
        await log.add("r", "insert", {"title": "x"}, user_id=ann.user, space_id=space)
        await asyncio.to_thread(bring, asking, log, "--members", "authors")
    service.by_user[ann.user] = organisations(**{other: "member"})
    assert await spaces(ann) == {other: "writer"}
