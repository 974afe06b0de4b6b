"""Many users' pushes in one transaction: what becomes of each is what becomes of it alone, and each row is its own
author's."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from syncd.core.clock import format_instant
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.store.log import Log, PushCall, Receipt
from syncd.store.pool import Pool, Refusal
from tests.support.direct import run, somebody_waits
from tests.support.wire import unique

NOW = 1_767_225_600_000_000
AHEAD = 32_503_680_000_000_000
ROLES = {"ann": ("owner", None), "bob": ("writer", "owner"), "eve": ("reader", "writer"), "tom": (None, None)}
PLACES = {"ann": [0], "bob": [0, 1], "eve": [1], "tom": [0]}
LOG = """
    SELECT c.seq, c.push_end, c.prev_seq, t.name, replace(u.name, $1, ''), d.name, c.op, c.record_id, c.change_id,
           c.schema_version, c.origin, c.actor::text, c.fields::jsonb::text, c.lost::jsonb::text
    FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no) JOIN syncd.sync_names u ON u.name_no = c.user_no
    JOIN syncd.sync_names d ON d.name_no = c.client_no JOIN syncd.sync_names t ON t.name_no = c.table_no
    WHERE starts_with(s.space_id, $1) ORDER BY s.space_id, c.app_no, c.seq"""
STATE = """
    SELECT q.seq, q.latest, t.name, d.name, q.schema_version, q.deleted, q.record_id, q.registers::text
    FROM syncd.sync_records q JOIN syncd.sync_spaces s USING (space_no)
    JOIN syncd.sync_names d ON d.name_no = q.client_no JOIN syncd.sync_names t ON t.name_no = q.table_no
    WHERE starts_with(s.space_id, $1) ORDER BY s.space_id, q.app_no, t.name, q.record_id"""
HEADS = """
    SELECT h.head FROM syncd.sync_feeds h JOIN syncd.sync_spaces s USING (space_no)
    WHERE starts_with(s.space_id, $1) ORDER BY s.space_id, h.app_no"""
REMOVAL = "DELETE FROM syncd.sync_memberships m USING syncd.sync_names n WHERE n.name_no = m.user_no AND n.name = $1"
FALLING = """
    SELECT count(*) FROM (
        SELECT c.created_at - lag(c.created_at) OVER (PARTITION BY c.space_no, c.app_no ORDER BY c.seq) AS step
        FROM syncd.sync_changes c JOIN syncd.sync_spaces s USING (space_no) WHERE starts_with(s.space_id, $1)) x
    WHERE x.step < interval '0'"""


class Recording(Pool):
    """A pool that remembers the seqs that the last group was given by the statements for all."""

    together: list[int]

    async def fetch(self, name: str, *arguments: Any, **more: Any) -> list[Any]:
        rows = await super().fetch(name, *arguments, **more)
        if name == "push_group":
            self.together = list(rows[0][0])
        return rows


class World:
    """Users and spaces of their own names, and a log over them."""

    def __init__(self, pool: Recording, owner_dsn: str) -> None:
        self.name, self.pool, self.log, self.owner_dsn = unique("w"), pool, Log(pool), owner_dsn

    async def make(self) -> None:
        """ann and bob own a space each; ROLES says who else is in them."""
        for n, owner in enumerate(("ann", "bob")):
            members = [(user, role) for user, roles in ROLES.items() if (role := roles[n]) and role != "owner"]
            put = "".join(
                f", syncd.sync_member_put('{self.name}{n}', '{self.name}{user}', '{role}')" for user, role in members
            )
            await run(
                self.owner_dsn,
                f"""DO $$ BEGIN PERFORM syncd.sync_act_as('{self.name}{owner}', true),
                syncd.sync_space_create('{self.name}{n}', 'Space'){put}; END $$""",
            )
        for user, space in (("ann", 0), ("bob", 1)):
            for _ in range(2):
                await self.log.push(
                    self.call({"user": user, "client": f"{user}-0", "space": space}, change()), alone=True
                )

    def call(self, head: dict[str, Any], *changes: dict[str, Any], single: bool | None = None) -> PushCall:
        """A push as the service hands it to the log."""
        space, n = f"{self.name}{head['space']}", len(changes)
        tables = sorted({c["table"] for c in changes})
        wave = [
            {**c["body"](head["client"]), "i": i, "s": 1, "t": tables.index(c["table"]) + 1}
            for i, c in enumerate(changes, 1)
        ]
        said = {
            "user": f"{self.name}{head['user']}", "client": head["client"], "app": head.get("app", "app"), "n": n,
            "spaces": [space], "tables": tables, "ids": [c.get("c") for c in wave], "hi": max(c["hi"] for c in wave),
            "skew": 60_000_000, "largest": head.get("largest", 16_777_216), "touched": 33_554_432,
        }  # fmt: skip
        if not head.get("twice"):
            said["apart"] = True
        return PushCall(
            json.dumps(said).encode(),
            [json.dumps(wave)],
            (space, said["app"]),
            single=n == 1 if single is None else single,
        )

    async def rows(self, query: str) -> list[Any]:
        conn = await asyncpg.connect(self.owner_dsn)
        try:
            return [tuple(row) for row in await conn.fetch(query, self.name)]
        finally:
            await conn.close()


def change(
    record: str = "r", *, at: int = NOW, op: int = 2, values: dict[str, Any] | None = None, table: str = "t",
    id_: str | None = None, more: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A change, whose registers get their client when it is put into a call."""
    stamp = format_instant(at)
    fields = {name: {"value": value, "at": stamp} for name, value in (values or {"x": at}).items()}
    if op != 2:
        fields["deletedAt"] = {"value": stamp if op == 3 else None, "at": stamp}

    def body(client: str) -> dict[str, Any]:
        registers = {name: {**register, "clientId": client} for name, register in fields.items()}
        return {
            "r": record,
            "o": op,
            "c": id_,
            "e": str(uuid4()),
            "f": fields,
            "g": registers,
            "lo": at,
            "hi": at,
            **(more or {}),
        }

    return {"table": table, "body": body}


@pytest.fixture(scope="module")
async def pool(database: EmbeddedPostgres) -> AsyncIterator[Recording]:
    found = Recording(database.runtime_dsn, size=4)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def world(pool: Recording, database: EmbeddedPostgres) -> World:
    found = World(pool, database.owner_dsn)
    await found.make()
    return found


class Drawn:
    """Pushes that are mostly plain, and now and then everything else; two worlds are sent the same."""

    def __init__(self, seed: int) -> None:
        self.random, self.at, self.sent = random.Random(seed), NOW, list[tuple[dict[str, Any], dict[str, Any]]]()

    def push(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """A head and its changes."""
        r = self.random
        if self.sent and r.random() < 0.08:
            head, again = r.choice(self.sent)
            return head, [again] if r.random() < 0.7 else [change(again["record"], at=self.at, id_=again["id"])]
        user = r.choices(list(ROLES), [4, 4, 2, 1])[0]
        client = f"{user}-{r.randrange(6)}" if r.random() < 0.9 else f"shared-{r.randrange(2)}"
        head = {"user": user, "client": client, "space": r.choice(PLACES[user])}
        if r.random() < 0.08:
            head["space"] = r.choice([0, 1, "-nowhere"])
        if r.random() < 0.05:
            head["app"] = f"app-{r.randrange(3)}"
        if r.random() < 0.03:
            head["largest"] = 100
        changes = [self.change() for _ in range(2 if r.random() < 0.08 else 1)]
        changes = [c for n, c in enumerate(changes) if c["record"] not in {o["record"] for o in changes[:n]}]
        if len(changes) == 1 and changes[0]["id"]:
            self.sent.append((head, changes[0]))
        return head, changes

    def change(self) -> dict[str, Any]:
        r = self.random
        self.at += 1000
        at = AHEAD if r.random() < 0.004 else self.at - (r.randrange(40_000) if r.random() < 0.15 else 0)
        record, id_ = (
            f"r{r.randrange(12)}" if r.random() < 0.5 else f"n{self.at}",
            None if r.random() < 0.1 else f"c{self.at}",
        )
        values = {
            r.choice("xyz"): r.choice([r.randrange(9), "é\n", None, [1, {"a": 1e3}]]) for _ in range(r.randrange(1, 3))
        }
        op = r.choices([1, 2, 3], [5, 5, 1])[0]
        more = {"v": 3, "n": "import", "a": '{"id":"x"}'} if r.random() < 0.2 else None
        table = "t" if r.random() < 0.97 else f"t{r.randrange(9)}"
        return {
            **change(record, at=at, op=op, values=values, table=table, id_=id_, more=more),
            "record": record,
            "id": id_,
        }


def said(receipt: Receipt) -> Any:
    """A receipt, without event ids, which are drawn."""
    conflicts = [
        (i, [{k: bytes(v).decode() for k, v in c.items()} for c in lost])
        for i, lost in receipt.detail.conflicts
        if lost
    ]
    return list(receipt.seqs), receipt.marks, list(receipt.detail.events), conflicts


async def sent(world: World, calls: list[PushCall], order: list[int] | None) -> tuple[list[Any], list[int] | None]:
    """What became of pushes by place: as a group, or one by one in an order. The order in which a group was written."""
    try:
        if order is None:
            world.pool.together = []
            receipts = await world.log._append_together(calls, "9s")
            seqs = world.pool.together
            order = sorted(range(len(calls)), key=lambda i: (receipts[i] is None, not seqs[i]))
        else:
            ordered = await world.log._append([calls[i] for i in order], "9s")
            receipts = [r for _, r in sorted(zip(order, ordered, strict=True), key=lambda pair: pair[0])]
    except Refusal:
        receipts, order = [None] * len(calls), None
    found = [said(r) if r else None for r in receipts]
    for i in order or range(len(calls)):
        if found[i] is None:
            try:
                found[i] = said(await world.log._append_one(calls[i], "9s"))
            except Refusal as why:
                found[i] = why.state
    return found, order


@pytest.mark.parametrize("seed", range(4))
async def test_a_group_writes_what_its_pushes_write_one_by_one(
    pool: Recording, database: EmbeddedPostgres, seed: int
) -> None:
    drawn, worlds, plain, others = Drawn(seed), [World(pool, database.owner_dsn) for _ in range(2)], 0, 0
    for world in worlds:
        await world.make()
    for turn in range(12):
        pushes = sorted(
            (drawn.push() for _ in range(drawn.random.randrange(6, 24))),
            key=lambda p: (str(p[0]["space"]), p[0].get("app", "app")),
        )
        group, order = await sent(worlds[0], [worlds[0].call(head, *changes) for head, changes in pushes], None)
        plain, others = plain + sum(map(bool, pool.together)), others + pool.together.count(0)
        alone, _ = await sent(
            worlds[1], [worlds[1].call(head, *changes) for head, changes in pushes], order or list(range(len(pushes)))
        )
        assert group == alone, (turn, pushes)
        if turn == 8:  # from now on an unknown record may be one that was forgotten
            for world in worlds:
                await run(
                    database.owner_dsn,
                    f"""UPDATE syncd.sync_feeds SET forgotten = 1, forgotten_us = {drawn.at - 5000}
                    WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{world.name}1')""",
                )
        for query in (LOG, STATE, HEADS):
            assert await worlds[0].rows(query) == await worlds[1].rows(query), turn
    assert await worlds[0].rows(FALLING) == [(0,)]
    assert min(plain, others) > 20


def plain_of(world: World, count: int, *, space: int = 0, user: str = "ann") -> list[PushCall]:
    return [
        world.call(
            {"user": user, "client": f"{user}-0" if n == 0 else f"{user}-{n}", "space": space},
            change(f"p{n}", op=1, id_=f"p{n}"),
        )
        for n in range(count)
    ]


async def known(world: World, calls: list[PushCall]) -> None:
    """Makes the names that calls have, by a change of each device."""
    for call in calls:
        head = json.loads(call.head)
        user, client = head["user"].removeprefix(world.name), head["client"]
        await world.log.push(
            world.call({"user": user, "client": client, "space": head["spaces"][0][-1]}, change(f"of-{client}")),
            alone=True,
        )


async def test_the_same_pushes_twice_at_once_are_written_once(world: World) -> None:
    calls = plain_of(world, 6)
    await known(world, calls)
    before = len(await world.rows(LOG))
    both = await asyncio.gather(*(world.log._append_together(calls, "9s") for _ in range(3)))
    assert len({str([r and r.seqs for r in receipts]) for receipts in both}) == 1
    assert sorted("".join(r.marks if r else "?" for r in receipts) for receipts in both) == ["a" * 6, "d" * 6, "d" * 6]
    assert len(await world.rows(LOG)) == before + 6


async def test_a_removal_that_is_under_way_is_waited_for(world: World) -> None:
    calls = [*plain_of(world, 3), *plain_of(world, 2, user="bob")]
    await known(world, calls)
    removing = await asyncpg.connect(world.owner_dsn)
    try:
        async with removing.transaction():
            await removing.execute(
                REMOVAL,
                f"{world.name}bob",
            )
            pushing = asyncio.create_task(world.log._append_together(calls, "9s"))
            await somebody_waits(removing)
    finally:
        await removing.close()
    assert "".join(r.marks if r else "?" for r in await pushing) == "aaann"


async def test_a_member_is_not_removed_before_the_group_is_written(world: World, database: EmbeddedPostgres) -> None:
    calls = plain_of(world, 2, user="bob")
    await known(world, calls)
    pushing, removing = [await asyncpg.connect(dsn) for dsn in (database.runtime_dsn, database.owner_dsn)]
    try:
        async with pushing.transaction():
            heads, changes = (
                f"[{','.join(texts)}]"
                for texts in zip(*((c.head.decode(), c.waves[0][1:-1]) for c in calls), strict=True)
            )
            assert 0 not in await pushing.fetchval(
                "SELECT seqs FROM syncd.sync_push_group($1, $2, '{}', '{}', '9s')", heads, changes
            )
            gone = asyncio.create_task(
                removing.execute(
                    REMOVAL,
                    f"{world.name}bob",
                )
            )
            await somebody_waits(pushing)
        assert await gone == "DELETE 2"
    finally:
        await pushing.close()
        await removing.close()


async def test_nobody_acts_when_a_group_was_written(world: World, database: EmbeddedPostgres) -> None:
    calls = plain_of(world, 2)
    await known(world, calls)
    conn = await asyncpg.connect(database.runtime_dsn)
    try:
        async with conn.transaction():
            heads = f"[{','.join(c.head.decode() for c in calls)}]"
            assert 0 not in await conn.fetchval(
                "SELECT syncd.sync_push_together($1, $2)", heads, f"[{','.join(c.waves[0][1:-1] for c in calls)}]"
            )
            assert await conn.fetchval("SELECT coalesce(syncd.sync_user(), 0)") == 0
            assert await conn.fetchval("SELECT split_part(current_setting('backtrace_functions'), ',', 5)") == ""
            for table in ("sync_changes", "sync_records", "sync_memberships", "sync_spaces"):
                assert await conn.fetchval(f"SELECT count(*) FROM syncd.{table}") == 0
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await conn.fetchval("SELECT syncd.sync_group(5)")
    finally:
        await conn.close()


async def test_what_may_be_a_forgotten_record_is_refused_and_what_cannot_be_is_written(world: World) -> None:
    await known(world, plain_of(world, 4))
    await run(
        world.owner_dsn,
        f"""UPDATE syncd.sync_feeds SET forgotten = 1, forgotten_us = {NOW}
        WHERE space_no = (SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{world.name}0')""",
    )
    changes = [change(f"n{n}", op=1, at=NOW + 1, id_=f"n{n}") for n in range(4)]
    heads = [{"user": "ann", "client": f"ann-{n}", "space": 0} for n in range(4)]
    before = await world.rows(LOG)
    for wrong in (change("n0", op=2, at=NOW + 1, id_="n0"), change("n0", op=1, at=NOW, id_="n0")):
        calls = [world.call(head, one) for head, one in zip(heads, [wrong, *changes[1:]], strict=True)]
        with pytest.raises(Refusal) as refused:
            await world.log._append_together(calls, "9s")
        assert refused.value.state == "SY004"
        assert await world.rows(LOG) == before
    await world.log._append_together([world.call(head, one) for head, one in zip(heads, changes, strict=True)], "9s")
    assert 0 not in world.pool.together
