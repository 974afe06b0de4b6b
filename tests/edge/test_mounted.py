"""syncd in an application of somebody else's: below a path, with the host's own users."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from itsdangerous import TimestampSigner
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection
from syncd_client import Replica
from websockets.exceptions import InvalidStatus

from syncd.asgi import External, Principal, SettingsError, SyncApplication, Unauthorized, create_app
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.hosted import Hosted, hosted
from tests.support.socket_device import opened, refusal, socket_of
from tests.support.stream_device import stream_of
from tests.support.wire import edit, unique

PATH = "/own/sync"
SECRET = "s" * 32


def bearer(scope: Any) -> Principal | None:
    """The host of most tests takes a user's name for a token."""
    user = HTTPConnection(scope).headers.get("authorization", "").removeprefix("Bearer ")
    return Principal(user) if user else None


def host_of(sync: SyncApplication) -> FastAPI:
    host = FastAPI(lifespan=sync.lifespan)
    host.mount(PATH, sync)
    return host


@pytest.fixture(scope="module")
async def host(database: EmbeddedPostgres) -> AsyncIterator[Hosted]:
    async with hosted(host_of(create_app(database.runtime_dsn, authenticate=bearer)), PATH) as served:
        yield served


@pytest.fixture
async def http(host: Hosted) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=host.url, timeout=30) as client:
        yield client


def as_user(user: str, client: str = "c1") -> dict[str, str]:
    return {"authorization": f"Bearer {user}", "x-client-id": client, "x-sync-protocol": "1"}


async def test_what_is_pushed_below_a_path_is_pulled_and_comes_live(host: Hosted, http: httpx.AsyncClient) -> None:
    ann = unique("ann")
    async with socket_of(host, ann, "c2", protocol=1) as socket, stream_of(host, ann) as stream:
        await socket.subscribe("notes")
        pushed = await http.post("/sync/notes", headers=as_user(ann), json={"changes": [edit("r1", title="x")]})
        assert pushed.status_code == 200, pushed.text
        assert (await socket.brings("r1"))["fields"]["title"]["value"] == "x"
        assert (await stream.brings("r1"))["id"] == "r1"
        assert (await socket.push(edit("r2", title="y")))["results"][0]["status"] == "applied"
    pulled = (await http.get("/sync/notes/pull", headers=as_user(ann))).json()
    assert {change["id"] for change in pulled["serverChanges"]} == {"r1", "r2"}


async def test_addresses_and_links_have_the_path(host: Hosted, http: httpx.AsyncClient) -> None:
    nothing = await http.get("/nothing")
    assert (nothing.status_code, nothing.json()["type"]) == (404, f"{PATH}/docs/errors#not_found")
    assert (await http.get(f"{PATH}/docs/errors")).status_code == 404
    page = await http.get("/", headers={"accept": "text/html"})
    assert f'href="{PATH}/docs/errors"' in page.text
    assert f"{host.url}/sync/notes" in page.text
    assert (await http.get("/openapi.json")).json()["servers"] == [{"url": PATH}]
    refused = await refusal(host, "/ws/..")
    assert (refused.status_code, refused.json()["type"]) == (400, f"{PATH}/docs/errors#invalid_request")


def answers(returned: Any) -> Any:
    """An `authenticate` that returns or raises the same whatever is asked."""

    async def authenticate(scope: Any) -> Any:
        if isinstance(returned, Exception):
            raise returned
        return returned

    return authenticate


@pytest.mark.parametrize(
    ("returned", "status", "code"),
    [
        (Principal("ann"), 200, None),
        (None, 401, "unauthorized"),
        (Unauthorized("The trial is over."), 401, "unauthorized"),
        (RuntimeError("password=hunter2"), 503, "keys_unavailable"),
        ("ann", 500, "internal"),
        (Principal(""), 500, "internal"),
        (Principal("_service:invoices"), 500, "internal"),
        (Principal("_erased:ann"), 500, "internal"),
        (Principal("ann", service="invoices"), 500, "internal"),
        (Principal("ann", ([], 0)), 500, "internal"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
async def test_what_the_application_says_of_a_caller_is_answered(
    database: EmbeddedPostgres, returned: Any, status: int, code: str | None
) -> None:
    sync = create_app(database.runtime_dsn, authenticate=answers(returned))
    async with hosted(host_of(sync), PATH) as host, httpx.AsyncClient(base_url=host.url) as http:
        answer = await http.get("/spaces")
        assert (answer.status_code, answer.json().get("code")) == (status, code)
        assert "hunter2" not in answer.text
        async with await opened(host) as socket:
            await socket.send({"type": "auth", "token": "t", "clientId": "c1", "protocol": 1})
            if status == 200:
                assert (await socket.next("auth-ok"))["userId"] == "ann"
            else:
                assert await socket.ends() == {401: 4401, 503: 1013, 500: 1013}[status]


async def test_a_function_that_is_not_async_runs_in_a_thread(database: EmbeddedPostgres) -> None:
    def authenticate(scope: Any) -> Principal:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return Principal("ann")

    sync = create_app(database.runtime_dsn, authenticate=authenticate)
    async with hosted(host_of(sync), PATH) as host, httpx.AsyncClient(base_url=host.url) as http:
        assert (await http.get("/spaces")).status_code == 200


async def test_a_session_of_the_host_is_the_caller_and_pages_of_others_cannot_use_it(
    database: EmbeddedPostgres,
) -> None:
    def session(scope: Any) -> Principal | None:
        user = HTTPConnection(scope).session.get("user")
        return Principal(user) if user else None

    sync = create_app(database.runtime_dsn, authenticate=session)
    host_app = host_of(sync)

    host_app.add_middleware(SessionMiddleware, secret_key=SECRET)
    ann = unique("ann")
    cookie = {"cookie": f"session={signed_session(ann)}"}
    device = {"x-client-id": "c1", "x-sync-protocol": "1"}
    async with hosted(host_app, PATH) as host, httpx.AsyncClient(base_url=host.url) as http:
        change = {"changes": [edit("r1", title="x")]}
        assert (await http.post("/sync/notes", headers=device, json=change)).status_code == 401
        assert (await http.post("/sync/notes", headers={**device, **cookie}, json=change)).status_code == 200
        strange = {**device, **cookie, "origin": "https://evil.example"}
        assert (await http.post("/sync/notes", headers=strange, json=change)).status_code == 403
        own = {**device, **cookie, "origin": f"http://127.0.0.1:{host.port}"}
        assert (await http.post("/sync/notes", headers=own, json=change)).status_code == 200
        async with await opened(host, additional_headers=cookie) as socket:
            said = await socket.ask({"type": "auth", "token": "", "clientId": "c1", "protocol": 1}, "auth-ok")
            assert said["userId"] == ann
            assert [change["id"] for page in await socket.subscribe("notes") for change in page["changes"]] == ["r1"]
        assert (await refusal(host, additional_headers={**cookie, "origin": "https://evil.example"})).status_code == 403


def signed_session(user: str) -> str:
    """A cookie as Starlette's middleware makes it."""
    return TimestampSigner(SECRET).sign(base64.b64encode(json.dumps({"user": user}).encode())).decode()


async def test_a_session_that_ends_takes_its_live_connections_along(database: EmbeddedPostgres) -> None:
    signed_in = {"ann", "bob"}

    async def authenticate(scope: Any) -> Principal | None:
        found = bearer(scope)
        return found if found is not None and found.user in signed_in else None

    sync = create_app(database.runtime_dsn, authenticate=authenticate, recheck=0.2)
    async with (
        hosted(host_of(sync), PATH) as host,
        socket_of(host, "ann", protocol=1) as ann, socket_of(host, "bob", protocol=1) as bob,
        stream_of(host, "ann") as stream,
    ):  # fmt: skip
        signed_in.discard("ann")
        assert await ann.ends() == 4401
        await stream.ends()
        await bob.fence()


async def test_an_application_that_was_not_opened_says_how(database: EmbeddedPostgres) -> None:
    host = FastAPI()
    host.mount(PATH, create_app(database.runtime_dsn, authenticate=bearer))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(host), base_url="http://host") as http:
        with pytest.raises(RuntimeError, match=r"lifespan=sync\.lifespan"):
            await http.get(f"{PATH}/healthz")


async def test_one_that_opens_lazily_does_so_with_a_request(
    database: EmbeddedPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    sync = create_app(database.runtime_dsn, authenticate=bearer, lazily=True)
    host = FastAPI()
    host.mount(PATH, sync)
    async with hosted(host, PATH) as served, httpx.AsyncClient(base_url=served.url) as http:
        found = await asyncio.gather(*(http.get("/spaces", headers=as_user("ann")) for _ in range(5)))
        assert {answer.status_code for answer in found} == {200}
        await sync.close()


async def test_it_can_be_opened_again_after_its_end(database: EmbeddedPostgres) -> None:
    host = host_of(create_app(database.runtime_dsn, authenticate=bearer))

    async def serve() -> None:
        async with hosted(host, PATH) as served, httpx.AsyncClient(base_url=served.url) as http:
            assert (await http.get("/spaces", headers=as_user("ann"))).status_code == 200

    await serve()
    await asyncio.to_thread(asyncio.run, serve())


async def test_a_role_that_row_security_does_not_bind_serves_nobody(database: EmbeddedPostgres) -> None:
    sync = create_app(database.owner_dsn, authenticate=bearer)
    with pytest.raises(RuntimeError, match=r"does not serve like this.*CREATE ROLE"):
        await sync.open()


async def test_a_database_that_is_away_is_answered_with_503(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    sync = create_app("postgresql://nobody@127.0.0.1:9/nothing", authenticate=bearer)
    async with hosted(host_of(sync), PATH) as host, httpx.AsyncClient(base_url=host.url) as http:
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/spaces", headers=as_user("ann"))
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert (await refusal(host)).status_code == 503


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, "which database"),
        ({"settings": "postgresql://localhost/x"}, "whose a request is"),
        ({"settings": "postgresql://localhost/x", "jwt_secret": "short"}, "32 bytes"),
        ({"settings": "postgresql://localhost/x", "authenticate": bearer, "prefix": "sync/"}, "like /sync"),
        ({"settings": "postgresql://localhost/x", "jwt_secret": SECRET, "demo": "true"}, "SYNCD_DEMO"),
        ({"settings": "postgresql://localhost/x", "authenticate": bearer, "recheck": 0}, "more than 0"),
    ],
)
def test_what_cannot_be_mounted_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        create_app(**wrong)


async def test_sockets_and_streams_of_an_address_are_bounded(database: EmbeddedPostgres) -> None:
    sync = create_app(database.runtime_dsn, authenticate=bearer, max_connections_per_address=2)
    async with hosted(host_of(sync), PATH) as host, httpx.AsyncClient(base_url=host.url) as http:
        async with await opened(host), stream_of(host, "ann"):
            refused = await refusal(host)
            assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
            assert (await http.get("/sync/notes/stream", headers=as_user("bob"))).status_code == 429
            # Requests are the host's server's to count.
            assert (await http.get("/spaces", headers=as_user("bob"))).status_code == 200
        for _ in range(600):
            if await two_are_taken(host):
                return
            await asyncio.sleep(0.1)
        raise AssertionError("they count still")


async def two_are_taken(host: Hosted) -> bool:
    """Whether those of before count no more."""
    try:
        async with await opened(host), await opened(host):
            return True
    except InvalidStatus:
        return False


async def test_a_host_says_who_is_in_which_space(database: EmbeddedPostgres) -> None:
    """With a database that takes the lists over, as `migrate_url` has it do."""
    spaces = {"garden": "writer"}

    async def authenticate(scope: Any) -> Principal:
        listed = [{"id": space, "role": role} for space, role in spaces.items()]
        return Principal("ann", External(listed, time.time_ns() // 1000))

    name = unique("lists").replace("-", "_")
    owner = await asyncpg.connect(database.owner_dsn)
    await owner.execute(f'CREATE DATABASE "{name}"')
    await owner.close()
    role = database.owner_dsn.split("//")[1].split("@")[0]
    runtime = database.runtime_dsn.split("//")[1].split("@")[0]
    sync = create_app(
        database.dsn(runtime, name), migrate_url=database.dsn(role, name), memberships="token",
        authenticate=authenticate, recheck=0.3,
    )  # fmt: skip
    async with hosted(host_of(sync), PATH) as host, httpx.AsyncClient(base_url=host.url) as http:
        assert [space["id"] for space in (await http.get("/spaces")).json()["spaces"] if space["id"] == "garden"]
        async with await opened(host) as socket:
            await socket.ask({"type": "auth", "token": "", "clientId": "c1", "protocol": 1}, "auth-ok")
            await socket.subscribe("notes")
            del spaces["garden"]
            await socket.until(lambda: [f for f in socket.all("changes") if "garden" in f["spaces"]["left"]])
    await drop(database, name)


async def drop(database: EmbeddedPostgres, name: str) -> None:
    """Raises where anything of it is left that holds the database."""
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        await owner.execute(f'DROP DATABASE "{name}"')
    finally:
        await owner.close()


async def test_a_device_whose_session_has_ended_is_told_to_sign_in(database: EmbeddedPostgres, tmp_path: Path) -> None:
    nobody = create_app(database.runtime_dsn, authenticate=answers(None))
    async with hosted(host_of(nobody), PATH) as served:
        replica = Replica(tmp_path / "one.db", app="notes", url=served.url, user="ann", token="session")
        told = threading.Event()
        with replica, replica.live(on_state=lambda state: state.name == "refused" and told.set()) as live:
            assert await asyncio.to_thread(told.wait, 60)
            assert (live.state.code, live.state.login) == ("unauthorized", "signed_out"), live.state
