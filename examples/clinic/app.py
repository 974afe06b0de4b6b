"""The application: `uvicorn examples.clinic.app:app`, with two logins of one PostgreSQL in its environment.

CLINIC_DATABASE owns the clinic's tables and is a member of syncd_writer and syncd_consumer; SYNC_DATABASE is a member
of syncd_runtime and serves the phones.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any
from uuid import uuid4

import asyncpg
from fastapi import Body, Depends, FastAPI, HTTPException, Request
from itsdangerous import BadSignature, Signer
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection

import syncd
from examples.clinic import rules
from syncd.asgi import Principal, create_app
from syncd.core.errors import NotFound

APP, PRICE = "clinic", 80
TABLES = """
CREATE TABLE IF NOT EXISTS staff (name text PRIMARY KEY, salt text NOT NULL, hash text NOT NULL);
CREATE TABLE IF NOT EXISTS patients (id text PRIMARY KEY, ward text NOT NULL, name text, insurance text);
CREATE TABLE IF NOT EXISTS invoices (visit text PRIMARY KEY, ward text NOT NULL, amount integer NOT NULL);
"""


def caller(scope: Any) -> Principal | None:
    """The user who is signed in on a page, or has the phone; None for nobody."""
    connection = HTTPConnection(scope)
    name = connection.session.get("name")
    with suppress(BadSignature):
        name = name or phones.unsign(connection.headers.get("authorization", "").removeprefix("Bearer ")).decode()
    return Principal(name) if name else None


phones = Signer(os.environ["CLINIC_SECRET"], salt="phone")
sync = create_app(
    os.environ["SYNC_DATABASE"], authenticate=caller, rules=[rules.visits, rules.only_the_office], erase_me=True
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with asyncpg.create_pool(os.environ["CLINIC_DATABASE"]) as pool, sync.lifespan():
        await pool.execute(TABLES)
        app.state.pool = pool
        billing = asyncio.create_task(keep_billing())
        yield
        billing.cancel()
        with suppress(asyncio.CancelledError):
            await billing


app = FastAPI(lifespan=lifespan)
app.add_middleware(SessionMiddleware, secret_key=os.environ["CLINIC_SECRET"])
app.mount("/sync", sync)


def signed_in(request: Request) -> str:
    if "name" not in request.session:
        raise HTTPException(401, "Sign in first.")
    return str(request.session["name"])


Name = Annotated[str, Depends(signed_in)]
# In the body: addresses are in the logs of servers and proxies.
Password = Annotated[str, Body(embed=True)]
Words = Annotated[str, Body()]


def hashed(password: str, salt: str) -> str:
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**14, r=8, p=1).hex()


@app.post("/staff/{name}")
async def sign_up(name: str, password: Password, request: Request) -> None:
    salt = uuid4().hex
    row = await request.app.state.pool.execute(
        "INSERT INTO staff VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", name, salt, hashed(password, salt)
    )
    if row != "INSERT 0 1":
        raise HTTPException(409, "There is somebody of this name.")


@app.post("/sign-in/{name}")
async def sign_in(name: str, password: Password, request: Request) -> None:
    row = await request.app.state.pool.fetchrow("SELECT salt, hash FROM staff WHERE name = $1", name)
    if row is None or not hmac.compare_digest(row["hash"], hashed(password, row["salt"])):
        raise HTTPException(401, "The name or the password is wrong.")
    request.session["name"] = name


@app.post("/phones")
async def phone(name: Name) -> str:
    """The token that a phone keeps."""
    return phones.sign(name).decode()


@app.post("/wards/{ward}/patients/{patient}")
async def admit(ward: str, patient: str, full_name: Words, insurance: Words, name: Name, request: Request) -> None:
    """A row of the clinic's own, and what the ward's phones see of it: both or neither."""
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute("INSERT INTO patients VALUES ($1, $2, $3, $4)", patient, ward, full_name, insurance)
        change = {"table": "patients", "id": patient, "spaceId": ward, "fields": {"name": full_name}}
        try:
            await syncd.write(connection, user=name, app=APP, changes=[change])
        except syncd.WriteRefused as why:
            raise HTTPException(403, why.detail) from None  # and the row is rolled back


async def keep_billing() -> None:
    """A batch that fails comes again, and a database that is away comes back."""
    while True:
        try:
            await write_invoices()
        except Exception:
            logging.exception("billing begins again")
            await asyncio.sleep(5)


async def write_invoices() -> None:
    """Each visit that is done gets its invoice, once: row, record and place in the log are one transaction."""
    async for batch in syncd.consume("billing", database=os.environ["CLINIC_DATABASE"], app=APP, tables=["visits"]):
        async with batch.transaction() as connection:
            for change in batch.changes:
                if change.values.get("state") != rules.DONE:
                    continue
                await connection.execute(
                    "INSERT INTO invoices VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", change.id, change.space_id, PRICE
                )
                if change.user_id is None:
                    continue  # compaction took who wrote it: there is nobody to write the record as
                place = {"table": "invoices", "id": change.id, "spaceId": change.space_id}
                invoice = {**place, "fields": {"amount": PRICE}}
                batch.write(user=change.user_id, app=APP, changes=[invoice], on_refused="return")


@app.get("/wards/{ward}/report")
async def report(ward: str, name: Name, request: Request) -> dict[str, Any]:
    """What the phones have said, beside the clinic's own rows."""
    async with request.app.state.pool.acquire() as connection, connection.transaction(readonly=True):
        try:
            visits = await syncd.read(connection, user=name, app=APP, space=ward, table="visits")
        except NotFound:
            raise HTTPException(404, "There is no such ward, or you are not in it.") from None
        billed = await connection.fetchval("SELECT coalesce(sum(amount), 0) FROM invoices WHERE ward = $1", ward)
    states = [record.fields.get("state", "open") for record in visits.records]
    return {"visits": len(states), "done": states.count(rules.DONE), "billed": billed}
