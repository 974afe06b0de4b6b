"""Tokens of services: made by an operator, good for what the database says, and gone within seconds when revoked."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jwt
import pytest

import syncd
from syncd.edge.service_identity import REMEMBERED
from tests.support import command_line
from tests.support.backups import export, line, restore, signed
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.holding import change, outcomes, until_written
from tests.support.past import address, history, restored
from tests.support.socket_device import socket_of, socket_on
from tests.support.stream_device import stream_of
from tests.support.wire import Device, ahead, edit, unique

# Two seconds are promised; what else runs on the machine gets its share.
SOON = 60.0


@pytest.fixture(scope="module")
def serving(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "services") as server:
        yield server


@pytest.fixture(scope="module")
def http(serving: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=serving.url, timeout=60) as client:
        yield client


async def command(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """`syncd token …` for this server."""
    return await asyncio.to_thread(command_line.syncd, "token", *words, "--database-url", server.owner_dsn)


async def made(server: Server, *words: str) -> tuple[str, str]:
    """A new token, and its number."""
    done = await command(server, *words)
    assert done.returncode == 0, done.stderr
    number = re.search(r"token (\d+) of", done.stderr)
    assert number is not None, done.stderr
    return done.stdout.strip(), number[1]


def with_token(http: httpx.Client, server: Server, token: str, **how: Any) -> Device:
    device = Device(http, server, "nobody", "worker", **how)
    device.headers["authorization"] = f"Bearer {token}"
    return device


async def test_a_service_acts_as_itself_where_it_was_made_a_member(serving: Server, http: httpx.Client) -> None:
    ada = Device(http, serving, unique("ada"))
    space, other = ada.create(unique("shop")), ada.create(unique("other"))
    name = unique("billing")
    token, _ = await made(serving, "--service", name, "--spaces", space)
    service = with_token(http, serving, token)
    service.write({**edit("r", ahead(0), x=1), "spaceId": space, "actor": {"job": 7}})
    [refused] = service.push({**edit("r", ahead(0), x=1), "spaceId": other})["results"]
    assert refused["code"] == "space_not_found"
    [change] = history(ada, space)
    assert (change["userId"], change["actor"]) == (f"_service:{name}", {"job": 7, "service": name})
    reader, _ = await made(serving, "--service", unique("report"), "--spaces", space, "--role", "reader")
    [refused] = with_token(http, serving, reader).push({**edit("r", ahead(0), x=1), "spaceId": space})["results"]
    assert refused["code"] == "not_a_writer"


async def test_a_service_acts_on_behalf_of_a_user_and_its_name_is_there(serving: Server, http: httpx.Client) -> None:
    ada = Device(http, serving, unique("ada"))
    space = ada.create(unique("shop"))
    token, _ = await made(serving, ada.user, "--service", "mailer")
    service = with_token(http, serving, token)
    service.write(
        {**edit("r", ahead(0), x=1), "spaceId": space}, {**edit("s", ahead(0), x=1), "spaceId": space, "actor": "robot"}
    )
    for record, actor in (("r", {"service": "mailer"}), ("s", {"said": "robot", "service": "mailer"})):
        [change] = history(ada, space, record)
        assert (change["userId"], change["actor"]) == (ada.user, actor)


async def test_no_door_leads_past_the_name_of_a_service(serving: Server, http: httpx.Client) -> None:
    """A restore, an import and what was held, each with an actor of the service's own invention."""
    ada = Device(http, serving, unique("ada"))
    space, later = ada.create(unique("shop")), unique("later")
    token, _ = await made(serving, ada.user, "--service", "mailer")
    service = with_token(http, serving, token)
    of_it = {"by": "ada", "service": "mailer"}

    ada.write({**edit("r", 1, x=1), "spaceId": space})
    ada.write({**edit("r", 2, x=2), "spaceId": space})
    first = history(ada, space)[-1]
    restored(service, address(space, what="/restore"), seq=first["seq"], clientId="worker", actor={"by": "ada"})
    assert history(ada, space)[0]["actor"] == of_it

    said = {"by": "ada", "service": "another"}
    lines = [line(ada.user, n, actor=actor) for n, actor in ((1, said), (2, "ada"), (3, None))]
    assert restore(service, signed(lines, userId=ada.user))["imported"] == 3
    personal = f"_personal:{ada.user}"
    named = [of_it, {"said": "ada", "service": "mailer"}, {"service": "mailer"}]
    assert [history(ada, personal, f"r{n}")[0]["actor"] for n in (1, 2, 3)] == named

    old = with_token(http, serving, token, legacy=True)
    assert outcomes(old.push({**change("h", later, x=1), "actor": said})) == ["space_not_found"]
    ada.create(later)
    until_written(ada)
    [written] = history(ada, later, "h")
    assert (written["userId"], written["actor"]) == (ada.user, of_it)

    export(service)
    noted = await run(
        serving.owner_dsn,
        "SELECT what, detail ->> 'service' FROM syncd.sync_audit a JOIN syncd.sync_names n ON n.name_no = a.actor_no"
        f" WHERE n.name = '{ada.user}' AND what IN ('restore', 'import', 'export') ORDER BY audit_no",
    )
    assert [tuple(row) for row in noted] == [("restore", "mailer"), ("import", "mailer"), ("export", "mailer")]


CLAIMS: list[tuple[Any, Any]] = [
    ({"service": "mailer"}, {"said": {"service": "mailer"}}),
    ({"by": "ada", "service": None}, {"by": "ada", "said": {"service": None}}),
    ({"said": "x", "service": {"name": "mailer"}}, {"said": {"said": "x", "service": {"name": "mailer"}}}),
    ({"said": {"service": "mailer"}}, {"said": {"service": "mailer"}}),
    (["service"], ["service"]), ("service", "service"),
]  # fmt: skip


async def test_nobody_else_is_taken_for_a_service(serving: Server, http: httpx.Client) -> None:
    """A user's push, on either wire and of either generation, restore and import, and a back end's write."""
    ada = Device(http, serving, unique("ada"))
    space, later, personal = ada.create(unique("shop")), unique("later"), f"_personal:{ada.user}"
    for n, (said, kept) in enumerate(CLAIMS):
        ada.write({**edit(f"r{n}", ahead(0), x=1), "spaceId": space, "actor": said})
        assert history(ada, space, f"r{n}")[0]["actor"] == kept
    claim, kept = CLAIMS[0]
    escaped = {**edit("e", ahead(0), x=1), "spaceId": space, "actor": claim}
    body = json.dumps({"clientId": "c1", "changes": [escaped]}).replace('"service"', '"\\u0073ervice"')
    headers = {**ada.headers, "content-type": "application/json"}
    sent = await asyncio.to_thread(http.post, "/sync/app", content=body, headers=headers)
    assert sent.json()["results"][0]["status"] == "applied"
    async with socket_of(serving, ada.user) as socket:
        pushed = await socket.push({**edit("l", ahead(0), x=1), "spaceId": space, "actor": claim}, app="app")
        assert pushed["results"][0]["status"] == "applied"

    old = Device(http, serving, ada.user, "old", legacy=True)
    assert outcomes(old.push({**change("h", later, x=1), "actor": claim})) == ["space_not_found"]
    old.write({**change("g", space, x=1), "actor": claim})
    ada.create(later)
    until_written(ada)

    assert restore(ada, signed([line(ada.user, 1, actor=claim)], userId=ada.user))["imported"] == 1
    ada.write({**edit("e", ahead(0), x=2), "spaceId": space})
    before = history(ada, space, "e")[-1]["seq"]
    restored(ada, address(space, "e", what="/restore"), seq=before, clientId="c1", actor=claim)
    connection = await asyncpg.connect(serving.owner_dsn)
    try:
        put = {"table": "t", "id": "w", "op": "insert", "fields": {"x": 1}, "spaceId": space, "actor": claim}
        await syncd.write(connection, user=ada.user, app="app", changes=[put])
    finally:
        await connection.close()
    for where, record in [(space, one) for one in "elgw"] + [(later, "h"), (personal, "r1")]:
        assert history(ada, where, record)[0]["actor"] == kept, record
    assert history(ada, space, "e")[-1]["actor"] == kept


async def test_one_that_is_revoked_is_refused_and_what_is_open_with_it_ends(
    serving: Server, http: httpx.Client
) -> None:
    ada = Device(http, serving, unique("ada"))
    space = ada.create(unique("shop"))
    name = unique("billing")
    token, number = await made(serving, "--service", name, "--spaces", space)
    kept, _ = await made(serving, "--service", name)
    service = with_token(http, serving, token)
    service.write({**edit("r", ahead(0), x=1), "spaceId": space})
    async with (
        socket_on(serving, 0, "nobody", "phone", token=token) as socket,
        stream_of(serving, "nobody", token=token) as stream,
    ):
        await socket.subscribe("app")
        assert (await command(serving, "revoke", number)).returncode == 0
        begun = time.monotonic()
        while service.ask().status_code != 401:
            assert time.monotonic() - begun < SOON
            await asyncio.sleep(0.05)
        assert await socket.ends() == 4401
        await stream.ends()
    # The other token of the service goes on, with the same memberships.
    with_token(http, serving, kept).write({**edit("r2", ahead(0), x=1), "spaceId": space})
    assert (await command(serving, "revoke", number)).returncode == 1


async def test_with_its_last_token_a_service_is_a_member_of_nothing(serving: Server, http: httpx.Client) -> None:
    ada = Device(http, serving, unique("ada"))
    space = ada.create(unique("shop"))
    name = unique("billing")
    _, number = await made(serving, "--service", name, "--spaces", space)
    members = f"/spaces/{space}/members"
    assert len(ada.request("GET", members).json()["members"]) == 2
    await command(serving, "revoke", number)
    assert len(ada.request("GET", members).json()["members"]) == 1


async def test_what_is_no_token_of_a_service_is_refused(serving: Server, http: httpx.Client) -> None:
    secret = (serving.data_dir / "jwt_secret").read_text().strip()
    signed = jwt.encode({"sub": "_service:billing", "exp": time.time() + 60}, secret, algorithm="HS256")
    short, _ = await made(serving, "--service", "short", "--ttl", "1s")
    await asyncio.sleep(1.1)
    for token in ("syncds_", "syncds_guess", "syncds_" + "x" * 600, signed, short):
        assert with_token(http, serving, token).ask().status_code == 401, token


async def test_they_are_listed_and_noted_and_are_nowhere_themselves(serving: Server) -> None:
    name = unique("billing")
    token, number = await made(serving, "--service", name, "--ttl", "30d")
    assert re.search(rf"{number}\s+{name}\s+_service:{name}", (await command(serving, "list")).stdout)
    await command(serving, "revoke", number)
    assert re.search(rf"{number}\s+{name}.*revoked", (await command(serving, "list")).stdout)
    noted = await run(
        serving.owner_dsn, f"SELECT what FROM syncd.sync_audit WHERE detail ->> 'service' = '{name}' ORDER BY audit_no"
    )
    assert [row[0] for row in noted] == ["service_token_made", "service_token_revoked"]
    dumped = await run(serving.owner_dsn, "SELECT t::text FROM syncd.sync_service_tokens t")
    assert token not in str(dumped)


async def test_the_serving_role_sees_no_tokens(serving: Server) -> None:
    await made(serving, "--service", unique("billing"))
    for statement in ("SELECT * FROM syncd.sync_service_tokens", "SELECT syncd.sync_service_revoke(1)"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await run(serving.runtime_dsn, statement)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--service", ""], "must not be empty"),
        (["--service", "a\x01b"], "control"),
        (["--service", "x", "--spaces", "no-such-space"], "not there"),
        (["ada", "--service", "x", "--spaces", "s"], "on behalf of USER"),
        (["_service:x", "--service", "x"], "acts as itself"),
        (["_erased:x", "--service", "x"], "_erased:"),
        (["--ttl", "1h"], "Name a USER"),
        (["--service", "x", "--ttl", "soon"], "--ttl"),
    ],
)
async def test_a_call_that_is_wrong_says_so(serving: Server, words: list[str], said: str) -> None:
    done = await command(serving, *words)
    assert done.returncode != 0
    assert said in done.stderr


async def test_tokens_that_are_invented_do_not_reach_the_database_without_end_nor_keep_a_service_out(
    serving: Server, http: httpx.Client
) -> None:
    name = unique("billing")
    token, _ = await made(serving, "--service", name)
    service = with_token(http, serving, token)
    assert service.ask().status_code == 200
    statuses = [with_token(http, serving, f"syncds_{unique('invented')}").ask().status_code for _ in range(300)]
    assert set(statuses) == {401, 429}
    assert statuses[:50] == [401] * 50
    await asyncio.sleep(REMEMBERED + 0.1)  # its own answer counts no more, so it is looked up again
    assert {with_token(http, serving, f"syncds_{unique('more')}").ask().status_code for _ in range(100)} == {401, 429}
    assert service.ask().status_code == 200
