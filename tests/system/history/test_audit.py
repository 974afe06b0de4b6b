"""The audit: what was done to a space is said to its owners, refusals are counted, and nobody rewrites it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.service.compact import Compaction, Policy
from syncd.store.compaction import Compactor
from tests.support.compacting import ALL, compact_now
from tests.support.direct import run
from tests.support.harness import Server
from tests.support.wire import Device, Json, ahead, edit, unique

WITHIN = 30.0
Make = Callable[..., Device]


@pytest.fixture(scope="module")
def server(workspace: Path) -> Iterator[Server]:
    """A server that writes what it has counted all the time, and where two records are too many."""
    with Server(workspace / "audit", settings={"quota_every": 0.1, "quota_space_records": 1}) as running:
        yield running


@pytest.fixture(scope="module")
def make(server: Server) -> Iterator[Make]:
    with httpx.Client(base_url=server.url, timeout=60) as http:

        def made(name: str, client: str = "c1", **more: Any) -> Device:
            return Device(http, server, unique(name), client, **more)

        yield made


def audit(device: Device, space: str, **query: Any) -> Json:
    answer = device.request("GET", f"/spaces/{space}/audit", params=query)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def said(device: Device, space: str, *left_out: str) -> list[tuple[Any, ...]]:
    """What was done, by whom, to whom, and what matters of it."""
    rows = audit(device, space)["audit"]
    return [
        (row["what"], row.get("actorId"), row.get("userId"), row["detail"])
        for row in rows
        if row["what"] not in left_out
    ]


def listed(server: Server, *arguments: str) -> list[Json]:
    done = subprocess.run(
        [*server.command(), "audit", *arguments],
        env=server.environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


def rows_of(server: Server, condition: str) -> list[Any]:
    query = f"SELECT what, detail ->> 'why', count FROM syncd.sync_audit a WHERE {condition} ORDER BY audit_no"
    return asyncio.run(run(server.owner_dsn, query))


def until(holds: Callable[[], Any], shown: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WITHIN
    while not holds():
        assert time.monotonic() < deadline, shown()
        time.sleep(0.02)


def test_members_that_come_go_and_change_are_noted_with_who_did_it(make: Make) -> None:
    ann, bob, eve = make("ann"), make("bob"), make("eve")
    space, table = ann.create(unique("s")), {"source": "table"}
    ann.member(space, bob.user, "writer")
    ann.member(space, bob.user, "writer")
    ann.member(space, bob.user, "owner")
    bob.member(space, eve.user, "reader")
    eve.remove(space, eve.user)
    assert said(ann, space) == [
        ("member_added", ann.user, ann.user, {"role": "owner", **table}),
        ("member_added", ann.user, bob.user, {"role": "writer", **table}),
        ("role_changed", ann.user, bob.user, {"role": "owner", "was": "writer"}),
        ("member_added", bob.user, eve.user, {"role": "reader", **table}),
        ("member_removed", eve.user, eve.user, {"role": "reader", **table}),
    ]


def test_nobody_but_an_owner_sees_it(make: Make, server: Server) -> None:
    ann, bob, eve = make("ann"), make("bob"), make("eve")
    space, other = ann.create(unique("s")), eve.create(unique("s"))
    ann.member(space, bob.user, "writer")
    for device, status, code in ((bob, 403, "forbidden"), (eve, 404, "space_not_found")):
        refused = device.request("GET", f"/spaces/{space}/audit")
        assert (refused.status_code, refused.json()["code"]) == (status, code)
    ann.request("DELETE", f"/spaces/{space}")
    assert ann.request("GET", f"/spaces/{space}/audit").status_code == 404
    what = [row["what"] for row in listed(server, "--space", space)]
    assert (what[0], what[2], sorted(what[2:])) == (
        "member_added", what[2], ["member_removed", "member_removed", "space_deleted"]
    )  # fmt: skip
    assert said(eve, other) == [("member_added", eve.user, eve.user, {"role": "owner", "source": "table"})]


async def test_by_sql_each_sees_only_what_was_done_in_spaces_that_are_its_own(make: Make, server: Server) -> None:
    ann, bob = make("ann"), make("bob")
    space = ann.create(unique("s"))
    ann.member(space, bob.user, "writer")
    conn = await asyncpg.connect(server.runtime_dsn)
    seen = {}
    for name in (ann.user, bob.user, unique("none")):
        async with conn.transaction():
            await conn.execute("SELECT syncd.sync_act_as($1)", name)
            spaces = "SELECT DISTINCT s.space_id FROM syncd.sync_audit a LEFT JOIN syncd.sync_spaces s USING (space_no)"
            seen[name] = [row[0] for row in await conn.fetch(spaces)]
    assert list(seen.values()) == [[space], [], []]
    assert await conn.fetch("SELECT FROM syncd.sync_audit") == []
    await conn.close()


@pytest.mark.parametrize("role", ["syncd_runtime", "syncd_owner", "syncd_compactor"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO syncd.sync_audit (what) VALUES ('forged')",
        "UPDATE syncd.sync_audit SET what = 'forged' WHERE hour IS NULL",
        "DELETE FROM syncd.sync_audit",
        "TRUNCATE syncd.sync_audit",
        "SELECT syncd.sync_audit_note('forged', 1)",
    ],
)
async def test_nobody_rewrites_it(make: Make, server: Server, role: str, statement: str) -> None:
    """The owner of the tables adds; the role that compacts removes; nobody changes."""
    may = {"syncd_owner": ("INSERT", "SELECT", "TRUNCATE"), "syncd_compactor": ("DELETE", "SELECT")}
    conn = await asyncpg.connect(server.owner_dsn)
    rows = "SELECT audit_no, at, what, space_no, actor_no, user_no, detail FROM syncd.sync_audit WHERE hour IS NULL"
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("SELECT syncd.sync_audit_note('noted', 1)")
    before = await conn.fetch(f"{rows} ORDER BY audit_no")
    await conn.execute(f"SET LOCAL ROLE {role}")
    try:
        await conn.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        assert not statement.startswith(may.get(role, ()))
    else:
        await conn.execute("RESET ROLE")
        after = await conn.fetch(f"{rows} ORDER BY audit_no")
        assert statement.startswith(may.get(role, ())) or after == before
        if statement.startswith(("INSERT", "UPDATE", "SELECT")):
            assert after[: len(before)] == before
    await transaction.rollback()
    await conn.close()


async def test_invitations_are_noted(make: Make, server: Server) -> None:
    ann, bob = make("ann"), make("bob")
    space = ann.create(unique("s"))
    bob.write(edit("r", x=1))
    await run(
        server.owner_dsn,
        "INSERT INTO syncd.sync_invitations (user_no, space_no, role, invited_by)"
        " SELECT b.name_no, s.space_no, 'writer', a.name_no"
        " FROM syncd.sync_names a, syncd.sync_names b, syncd.sync_spaces s"
        f" WHERE a.name = '{ann.user}' AND b.name = '{bob.user}' AND s.space_id = '{space}'",
    )
    assert bob.request("DELETE", f"/invitations/{space}").status_code == 204
    assert said(ann, space, "member_added") == [
        ("invited", None, bob.user, {"role": "writer"}),
        ("invitation_ended", bob.user, bob.user, {"role": "writer"}),
    ]


def test_it_is_read_in_pages(make: Make) -> None:
    ann = make("ann")
    space = ann.create(unique("s"))
    for n in range(4):
        ann.member(space, f"member-{n}")
    first = audit(ann, space, limit=3)
    second = audit(ann, space, limit=3, after=first["audit"][-1]["auditId"])
    assert ([len(page["audit"]) for page in (first, second)], first["hasMore"], second["hasMore"]) == (
        [3, 2], True, False
    )  # fmt: skip
    assert [row.get("userId") for row in first["audit"] + second["audit"]] == [
        ann.user, *(f"member-{n}" for n in range(4))
    ]  # fmt: skip
    for wrong in ({"limit": 0}, {"limit": 1001}, {"after": -1}, {"after": "x"}, {"after": 1 << 63}):
        assert ann.request("GET", f"/spaces/{space}/audit", params=wrong).status_code == 400


def test_refused_tokens_are_counted_by_the_hour_and_not_one_by_one(make: Make, server: Server) -> None:
    def counted(why: str) -> list[int]:
        condition = f"hour IS NOT NULL AND what = 'refused_tokens' AND a.detail ->> 'why' = '{why}'"
        return [row[2] for row in rows_of(server, condition)]

    def refuse(token: str) -> None:
        assert http.get("/spaces", headers={"authorization": f"Bearer {token}"}).status_code == 401

    large = f"{'x' * 9000}.{'y' * 9000}.z"
    with httpx.Client(base_url=server.url) as http:
        for burst in range(1, 5):
            for _ in range(5):
                refuse(large)
            until(lambda burst=burst: sum(counted("token_too_large")) == 5 * burst, lambda: counted("token_too_large"))
        # What is written later than those shows that they were not written again.
        refuse("none")
        until(lambda: sum(counted("unauthorized")) >= 1, lambda: counted("unauthorized"))
    assert sum(counted("token_too_large")) == 20
    assert len(counted("token_too_large")) <= 2  # at the turn of an hour


async def test_no_count_makes_the_next_one_fail(server: Server) -> None:
    """Such an `n` used to be taken as it is, and each count of that hour after it failed."""
    why = "".join(letter for letter in unique("why") if letter.isalpha())
    count = """SELECT syncd.sync_audit_count('[{{"what":"refused_tokens","why":"{}","n":{}}}]')"""
    for n in (2**63 - 1, -(2**63), 0, 3):
        await run(server.runtime_dsn, count.format(why, n))
    find = f"FROM syncd.sync_audit a WHERE hour IS NOT NULL AND a.detail ->> 'why' = '{why}'"
    [(counted,)] = await run(server.owner_dsn, f"SELECT sum(count) {find}")
    assert counted == 1_000_003
    # One that was there before stays at the end of what JSON's numbers are exact to.
    await run(
        server.owner_dsn, f"UPDATE syncd.sync_audit AS a SET count = {2**63 - 1} WHERE a.detail ->> 'why' = '{why}'"
    )
    await run(server.runtime_dsn, count.format(why, 5))
    assert (2**53,) in await run(server.owner_dsn, f"SELECT count {find}") or datetime.now(UTC).minute == 0


async def test_where_refusals_cannot_be_noted_the_look_is_not_begun_anew(make: Make, server: Server) -> None:
    def failed() -> float:
        with httpx.Client(base_url=server.url) as http:
            [line] = [
                row for row in http.get("/metrics").text.splitlines() if row.startswith("syncd_failed_looks_total")
            ]
        return float(line.split()[-1])

    find = "SELECT count(*) FROM syncd.sync_audit a WHERE a.what = 'quota_hits' AND a.space_no = {}"
    ann = make("ann")
    space = ann.create(unique("s"))
    [(number,)] = await run(server.owner_dsn, f"SELECT space_no FROM syncd.sync_spaces WHERE space_id = '{space}'")
    check = f"CHECK (NOT (what = 'quota_hits' AND space_no = {number}))"
    await run(server.owner_dsn, f"ALTER TABLE syncd.sync_audit ADD CONSTRAINT not_noted {check}")
    before = failed()
    try:
        ann.write({**edit("a", x=1), "spaceId": space}, {**edit("b", x=1), "spaceId": space})
        until(lambda: refused(ann, space), lambda: "not full")
        # A look that finds another full space comes after one that could not note this refusal.
        for _ in range(2):
            other = ann.create(unique("s"))
            ann.write({**edit("a", x=1), "spaceId": other}, {**edit("b", x=1), "spaceId": other})
            until(lambda other=other: refused(ann, other), lambda: "not full")
        assert failed() == before
    finally:
        await run(server.owner_dsn, "ALTER TABLE syncd.sync_audit DROP CONSTRAINT not_noted")
    for _ in range(300):
        if (await run(server.owner_dsn, find.format(number)))[0][0]:
            break
        await asyncio.sleep(0.1)
    assert (await run(server.owner_dsn, find.format(number)))[0][0] == 1


def refused(device: Device, space: str) -> bool:
    """Whether a space takes no more records."""
    result = device.push({**edit(unique("r"), x=1), "spaceId": space})["results"][0]
    return bool(result["status"] == "rejected")


def test_a_quota_that_was_met_is_counted_where_its_owner_sees_it(make: Make) -> None:
    ann = make("ann")
    space = ann.create(unique("s"))
    ann.write({**edit("a", x=1), "spaceId": space}, {**edit("b", x=1), "spaceId": space})

    def full() -> bool:
        return bool(ann.push({**edit("a", ahead(0), x=2), "spaceId": space})["results"][0].get("quota"))

    def hits() -> int:
        rows = [row for row in audit(ann, space)["audit"] if row["what"] == "quota_hits"]
        assert [row["detail"] for row in rows] == [{"why": "space_records"}] * len(rows)
        return sum(row["count"] for row in rows)

    until(full, lambda: "never full")
    until(lambda: hits() >= 1, lambda: audit(ann, space))
    before = hits()
    for _ in range(5):
        assert full()
    until(lambda: hits() >= before + 5, lambda: audit(ann, space))


def test_restores_compactions_exports_and_imports_are_noted(make: Make, server: Server) -> None:
    ann = make("ann")
    space = ann.create(unique("s"))
    ann.write(*[{**edit("r", n + 1, x=n), "spaceId": space} for n in range(3)])
    body = {"seq": 1, "changeId": unique("u")}
    for _ in range(2):
        undone = ann.request("POST", f"/sync/app/spaces/{space}/restore", json=body)
        assert undone.status_code == 200, undone.text
    compact_now(server.owner_dsn, space)
    assert ann.request("GET", "/backup/export").status_code == 200
    exported = ann.request("GET", "/backup/export").content
    back = ann.request("POST", "/backup/import", content=exported, headers={"content-type": "application/x-ndjson"})
    assert back.status_code == 200, back.text
    subprocess.run(
        [*server.command(), "export", "--space", space], env=server.environment(), stdout=subprocess.DEVNULL, check=True
    )
    noted = said(ann, space, "member_added")
    assert noted[0] == ("restore", ann.user, None, {"app": "app", "changes": 1})
    assert (noted[1][:3], list(noted[1][3])) == (("compaction", None, None), ["folded"])
    assert noted[2:] == [("export", None, None, {"by": "operator"})]
    mine = [(row["what"], row["detail"]) for row in listed(server, "--user", ann.user) if "spaceId" not in row]
    assert [what for what, _ in mine] == ["export", "export", "import"]
    assert mine[-1][1]["refused"] == 0
    assert [row["what"] for row in listed(server, "--space", space, "--what", "restore")] == ["restore"]


async def test_compaction_removes_what_is_older_than_it_should_be(make: Make, server: Server) -> None:
    ann = make("ann")
    space = ann.create(unique("s"))
    # An audit's `what` has no digits: each of those of a name becomes a letter of its own, or two names could be one.
    letters = str.maketrans("0123456789-", "ghijklmnop_")
    [old, new] = (unique(name).translate(letters) for name in ("old", "new"))
    await run(
        server.owner_dsn,
        f"SELECT syncd.sync_audit_note('{old}', 1), syncd.sync_audit_note('{new}', 1)",
        f"UPDATE syncd.sync_audit SET at = now() - interval '11 days' WHERE what = '{old}'",
        f"UPDATE syncd.sync_audit SET at = now() - interval '9 days' WHERE what = '{new}'",
    )
    connection = await asyncpg.connect(server.owner_dsn)
    compactor = Compactor(connection)
    assert await compactor.take()
    policy = Policy(timedelta(days=1000), audit=timedelta(days=10))
    await Compaction(compactor, policy, datetime.now(UTC), rest=0).run([])
    await connection.close()
    kept = await run(server.owner_dsn, f"SELECT what FROM syncd.sync_audit WHERE what IN ('{old}', '{new}')")
    assert kept == [(new,)]
    assert said(ann, space)
    assert timedelta(0) > ALL
