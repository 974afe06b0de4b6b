"""G19: what the first generation pushes and may not be written is held, and written by itself, once, when it may be."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from syncd.core.principal import Principal
from syncd.live.hub import Hub
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.protocol.first_generation import push_body
from syncd.protocol.normalize import Limits
from syncd.protocol.pull_messages import PullRequest
from syncd.service.aside import LEGACY_SMALL, aside
from syncd.service.event_ids import EventIds
from syncd.service.held import ChangedMembers, Releaser, ReleaseRound
from syncd.service.push import PushRequest, PushService
from syncd.service.spaces import SpaceService
from syncd.store.held import HeldChanges
from syncd.store.live import Live
from syncd.store.log import Log, cursor_key
from syncd.store.pool import Pool
from tests.support.harness import Server
from tests.support.holding import PATIENCE, change, held, outcomes, reasons, run, until_written
from tests.support.interleaved import SilentBus
from tests.support.legacy_devices import FIRST
from tests.support.wire import Device, Json, ahead, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture
def old(device: Make) -> Device:
    """A device of the first generation."""
    return device(unique("old"), legacy=True)


def log_of(reader: Device, space: str) -> list[Json]:
    return [change for change in reader.drain(history=1)[0] if change["spaceId"] == space]


def body(*changes: str, **members: Any) -> bytes:
    """A push of changes as texts, JSON or not."""
    more = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in members.items())
    return f'{{"changes":[{",".join(changes)}],"pull":false{more}}}'.encode()


def post(old: Device, content: bytes) -> Any:
    answer = old.request("POST", f"/sync/{old.app}", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestASpaceThatNobodyHasHeardOf:
    def test_the_change_is_held_with_the_rest_written_and_applied_when_the_space_comes_to_be(
        self, old: Device, device: Make
    ) -> None:
        space = unique("space")
        answer = old.push(change("r", space, when=5, n=1), change("s", n=2))
        assert outcomes(answer) == ["space_not_found", "applied"]
        [row] = held(old)
        assert (row["reason"], row["spaceId"], row["table"], row["id"]) == ("space_not_found", space, "t", "r")
        assert row["change"] == change("r", space, when=5, n=1)
        assert row["clientId"] == old.client
        old.create(space)
        until_written(old)
        [written] = log_of(device(old.user, "another"), space)
        assert (written["id"], written["clientId"], written["op"]) == ("r", old.client, "update")
        assert written["fields"] == {"n": {"value": 1, "at": at(5)}}

    def test_a_retry_is_held_once_and_found_when_it_was_written(self, old: Device, device: Make) -> None:
        space = unique("space")
        changes = [change("r", space, n=1), change("r", space, when=2, n=2), change("r", space, n=1)]
        for _ in range(3):
            assert outcomes(old.push(*changes)) == ["space_not_found"] * 3
        assert len(held(old)) == 2
        old.create(space)
        until_written(old)
        assert outcomes(old.push(*changes)) == ["duplicate"] * 3
        assert [row["fields"]["n"]["value"] for row in log_of(old, space)] == [1, 2]

    def test_what_was_without_times_or_ahead_of_the_clock_is_of_its_receipt(self, old: Device) -> None:
        space, before = unique("space"), ahead(0)
        untimed = {"table": "t", "id": "r", "op": "update", "fields": {"n": {"value": 1}}, "spaceId": space}
        deletion = {"table": "t", "id": "s", "op": "delete", "spaceId": space}
        early = {**edit("q", ahead(86400), change_id=None, n=1), "spaceId": space}
        old.push(untimed, deletion, early)
        after = ahead(0)
        old.create(space)
        until_written(old)
        written = {change["id"]: change for change in log_of(old, space)}
        stamps = [written["r"]["fields"]["n"]["at"], written["q"]["fields"]["n"]["at"], written["s"]["deletedAt"]]
        assert [before <= stamp <= after for stamp in stamps] == [True] * 3

    def test_a_record_that_others_wrote_meanwhile_is_merged_by_its_stamps(self, old: Device, device: Make) -> None:
        space, owner = unique("space"), device(unique("owner"))
        old.push(change("r", space, when=5, a=1, b=1))
        owner.create(space)
        owner.write({**edit("r", 9, b=2, c=2), "spaceId": space})
        owner.member(space, old.user)
        until_written(old)
        merged = values([change for change in owner.drain(history=1)[0] if change["spaceId"] == space])
        assert merged == {"r": {"a": 1, "b": 2, "c": 2}}


class TestAnAuthorWhoIsNoWriter:
    def test_what_a_former_member_writes_is_applied_when_the_member_is_back(self, old: Device, device: Make) -> None:
        space, owner = unique("space"), device(unique("owner"))
        owner.create(space)
        owner.member(space, old.user)
        assert outcomes(old.push(change("r", space, n=1))) == ["applied"]
        owner.remove(space, old.user)
        answer = old.push(change("r", space, when=2, n=2), change("mine", n=1))
        assert outcomes(answer) == ["space_not_found", "applied"]
        assert len(log_of(owner, space)) == 1
        owner.member(space, old.user)
        until_written(old)
        written = [(row["fields"]["n"]["value"], row["clientId"]) for row in log_of(owner, space)]
        assert written == [(1, old.client), (2, old.client)]

    def test_what_has_no_times_is_held_once_and_is_new_when_it_comes_after_it_was_written(
        self, old: Device, device: Make
    ) -> None:
        space, owner = unique("space"), device(unique("owner"))
        owner.create(space)
        untimed = {"table": "t", "id": "r", "op": "update", "fields": {"n": {"value": 1}}, "spaceId": space}
        for _ in range(2):
            for _ in range(2):
                assert outcomes(old.push(untimed, untimed, since=FIRST)) == ["space_not_found"] * 2
            assert len(held(old)) == 2
            owner.member(space, old.user)
            until_written(old)
            owner.remove(space, old.user)
        assert [row["fields"]["n"]["value"] for row in log_of(owner, space)] == [1] * 4

    def test_what_a_reader_writes_is_applied_when_the_reader_becomes_a_writer(self, old: Device, device: Make) -> None:
        space, owner = unique("space"), device(unique("owner"))
        owner.create(space)
        owner.member(space, old.user, "reader")
        assert outcomes(old.push(change("r", space, n=1))) == ["not_a_writer"]
        assert reasons(old) == ["not_a_writer"]
        owner.member(space, old.user, "writer")
        until_written(old)
        assert values(log_of(owner, space)) == {"r": {"n": 1}}


async def test_a_new_member_s_changes_are_written_without_the_slow_look(
    database: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held is looked at in an hour again; who came is told by the look at members."""
    monkeypatch.setattr("syncd.service.held.EVERY", 3600.0)
    apart = list[bool]()

    async def noted(large: bool, *work: Any) -> Any:
        apart.append(large)
        return await aside(large, *work)

    monkeypatch.setattr("syncd.service.held.aside", noted)
    pool = Pool(database.runtime_dsn, size=4)
    await pool.open()
    owner, author, space, written = (
        Principal(unique("owner")),
        Principal(unique("old")),
        unique("space"),
        asyncio.Event(),
    )
    spaces, log, key, now = SpaceService(pool, False, lambda: None), Log(pool), await cursor_key(pool), 1 << 50
    changed = ChangedMembers()
    hub = Hub(log, Live(pool), SilentBus(), key, on_members=changed.add)
    releaser = Releaser(log, HeldChanges(pool), key, Limits(), now, lambda *_: written.set())
    round_ = ReleaseRound(releaser, hub.counts, changed)
    await spaces.create(owner, space, space)
    sent = json.dumps({"changes": [change("r", space, n="x" * LEGACY_SMALL)], "pull": False}).encode()
    answer = await PushService(log, key, Limits(), now).push(
        PushRequest(author, "old", PullRequest("app", plain=True), sent, push_body(sent), now, EventIds(now))
    )
    assert [result.code for result in answer.results] == ["space_not_found"]
    await hub.open()
    hub.keep_doing(round_)
    try:
        async with asyncio.timeout(PATIENCE):
            while not hub.counts.held:  # noqa: ASYNC110 (it is counted by the first slow look)
                await asyncio.sleep(0.01)
            await spaces.put_member(owner, space, author.user, "writer")
            await written.wait()
    finally:
        await hub.close()
        await pool.close()
    # It is large: read, and made ready, beside the others' requests.
    assert apart == [True, True]


LONG = "x" * 256
DEEP = "[" * 70 + "]" * 70
DEEPEST = "[" * 5000 + "]" * 5000


class TestWhatCannotBeStored:
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (f'{{"table":"t","id":"{LONG}","op":"update","fields":{{"a":{{"value":1}}}}}}', "invalid_change"),
            ('{"table":"t","id":"..","op":"update","fields":{"a":{"value":1}}}', "invalid_change"),
            ('{"table":"","id":"r","op":"update","fields":{"a":{"value":1}}}', "invalid_change"),
            (f'{{"table":"t","id":"r","op":"update","fields":{{"{LONG}":{{"value":1}}}}}}', "invalid_change"),
            (f'{{"table":"t","id":"r","op":"insert","data":{{"a":1}},"spaceId":"{LONG}"}}', "invalid_change"),
            ('{"table":"t","id":"r","op":"insert","data":{"a":1},"schemaVersion":99999999999}', "invalid_change"),
            (f'{{"table":"t","id":"r","op":"insert","data":{{"a":{DEEP}}}}}', "invalid_value"),
            (f'{{"table":"t","id":"r","op":"insert","data":{{"a":{DEEPEST}}}}}', "invalid_change"),
            ('{"table":"t","id":"r","op":"insert","data":{"a":1e999}}', "invalid_value"),
            ('{"table":"t","id":"r","op":"insert","data":{"a":"\\u0000","updatedAt":"2026-01-01"}}', "invalid_value"),
            ('{"table":"t","id":"a\\u0000","op":"insert","data":{"a":1}}', "invalid_change"),
            ('{"table":"t","id":"r","op":"insert","data":{"a":"\\ud800"}}', "invalid_change"),
            ('{"table":"t","id":5,"op":"insert","data":{"a":1}}', "invalid_change"),
            ('{"table":"t","id":"r","op":"upsert","data":{"a":1}}', "invalid_change"),
            ('{"table":"t","op":"insert"}', "invalid_change"),
            ("5", "invalid_change"),
            ("null", "invalid_change"),
        ],
        ids=lambda value: value[:60] if isinstance(value, str) else None,
    )
    def test_it_is_held_as_it_came_and_the_others_are_written(self, old: Device, text: str, reason: str) -> None:
        others = [json.dumps(change(record, n=1)) for record in ("before", "after")]
        content = body(others[0], text, others[1], schemaVersion=3)
        assert outcomes(post(old, content)) == ["applied", reason, "applied"]
        assert outcomes(post(old, content)) == ["duplicate", reason, "duplicate"]
        [row] = held(old)
        assert row["reason"] == reason
        kept = row["text"] if "text" in row else json.dumps(row["change"], separators=(",", ":"))
        assert kept.startswith(text.rstrip("}")[:50].split("1e999")[0])
        assert set(values(old.drain()[0])) == {"before", "after"}

    def test_one_that_is_too_large_is_held_whole(self, old: Device) -> None:
        large = change("r", n="x" * 1_200_000)
        assert outcomes(old.push(large, change("s", n=1))) == ["change_too_large", "applied"]
        [row] = held(old)
        assert (row["reason"], row["change"]) == ("change_too_large", large)

    def test_a_body_that_is_not_json_is_refused_as_before(self, old: Device) -> None:
        for content in (b'{"changes":[{"id":5},{"id":]}', b'{"changes":[{"id":5}', b'{"changes":[5],"since":}', b"[1]"):
            answer = old.request("POST", "/sync/app", content=content)
            assert answer.status_code == 400, content
        assert held(old) == []

    def test_a_client_of_ours_is_refused_and_nothing_is_held(self, device: Make) -> None:
        ours = device(unique("new"))
        assert ours.send({**edit("r", n=1), "id": ".."}, edit("s", n=1)).status_code == 400
        result = ours.push({**edit("r", n=1), "spaceId": unique("space")})["results"][0]
        assert (result["code"], "held" in result) == ("space_not_found", False)
        assert held(ours) == []

    def test_an_atomic_push_holds_nothing(self, old: Device) -> None:
        assert old.send(change("r", unique("space"), n=1), change("s", n=1), atomic=True).status_code == 422
        assert held(old) == []

    def test_a_change_id_that_was_used_for_another_change_is_held_with_its_content(self, old: Device) -> None:
        old.push(edit("r", 1, change_id="c", n=1))
        for value in (2, 3, 2):
            assert outcomes(old.push(edit("r", 2, change_id="c", n=value))) == ["change_id_reused"]
        assert [row["change"]["fields"]["n"]["value"] for row in held(old)] == [2, 3]

    def test_in_a_push_of_several_parts_each_is_held_at_its_place(self, old: Device) -> None:
        space = unique("space")
        changes = [change(f"r{n}", None if n % 900 else space, when=n + 1, n=n) for n in range(1901)]
        assert outcomes(old.push(*changes)) == ["applied" if n % 900 else "space_not_found" for n in range(1901)]
        assert [row["id"] for row in held(old)] == ["r0", "r900", "r1800"]


class TestItsAuthor:
    def test_sees_and_drops_their_own_and_nobody_else_s(self, old: Device, device: Make) -> None:
        stranger = device(unique("stranger"), legacy=True)
        space = unique("space")
        old.push(*(change(f"r{n}", space, n=n) for n in range(3)))
        assert held(stranger) == []
        page = old.request("GET", "/sync/app/held", params={"limit": 2}).json()
        assert ([row["id"] for row in page["held"]], page["hasMore"]) == (["r0", "r1"], True)
        rest = old.request("GET", "/sync/app/held", params={"after": page["held"][-1]["heldId"]}).json()
        assert ([row["id"] for row in rest["held"]], rest["hasMore"]) == (["r2"], False)
        address = f"/sync/app/held/{page['held'][0]['heldId']}"
        assert stranger.request("DELETE", address).status_code == 404
        assert old.request("DELETE", address.replace("app", "other", 1)).status_code == 404
        assert [old.request("DELETE", address).status_code for _ in range(2)] == [204, 404]
        assert [row["id"] for row in held(old)] == ["r1", "r2"]

    @pytest.mark.parametrize("query", [{"limit": 0}, {"limit": "x"}, {"after": -1}, {"limit": 1001}], ids=str)
    def test_is_told_what_a_page_can_be(self, old: Device, query: Json) -> None:
        assert old.request("GET", "/sync/app/held", params=query).status_code == 400

    async def test_is_whom_the_database_shows_it_to(self, old: Device, device: Make, server: Server) -> None:
        device(stranger := unique("stranger")).write(edit("r", n=1))
        old.push(change("r", unique("space"), n=1))
        conn = await asyncpg.connect(server.runtime_dsn)
        counted = "SELECT count(*) FROM syncd.sync_held"
        write = """INSERT INTO syncd.sync_held (user_no, client_id, app, reason, received_at, size, change)
                   SELECT name_no, 'c', 'app', 'x', now(), 1, '{}' FROM syncd.sync_names WHERE name = $1"""
        try:
            for user, seen in ((None, 0), (stranger, 0), (old.user, 1)):
                async with conn.transaction():
                    if user is not None:
                        await conn.execute("SELECT syncd.sync_act_as($1)", user)
                    assert await conn.fetchval(counted) == seen
                    if user != old.user:
                        assert await conn.execute("DELETE FROM syncd.sync_held") == "DELETE 0"
                        assert await conn.execute("UPDATE syncd.sync_held SET reason = 'x'") == "UPDATE 0"
            async with conn.transaction():
                await conn.execute("SELECT syncd.sync_act_as($1)", stranger)
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with conn.transaction():
                        await conn.execute(write, old.user)
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await conn.execute("UPDATE syncd.sync_held SET change = 'x'")
        finally:
            await conn.close()
        assert len(held(old)) == 1


@pytest.fixture(scope="module")
def strict(workspace: Path) -> Iterator[tuple[Server, Callable[[str], Device]]]:
    """A server that holds little, and makes first-generation devices."""
    settings = {"max_held": 3, "max_held_bytes": 4096, "max_schema_version": 2}
    with Server(workspace / "strict", settings=settings) as server, httpx.Client(timeout=60) as http:
        http.base_url = server.url
        yield server, lambda user: Device(http, server, user, "old", legacy=True)


class TestWithSettings:
    """Servers of their own."""

    def test_beyond_the_quota_a_push_is_told_to_come_later_and_nothing_of_it_is_written(self, strict: Any) -> None:
        old, other = strict[1]("ann"), strict[1]("bob")
        assert outcomes(old.push(*(change(f"r{n}", "nowhere", n=n) for n in range(3)))) == ["space_not_found"] * 3
        refused = old.send(change("r3", "nowhere", n=3), change("mine", n=1))
        assert (refused.status_code, refused.json()["code"]) == (429, "held_full")
        assert int(refused.headers["retry-after"]) > 0
        assert (len(held(old)), old.drain(history=1)[0]) == (3, [])
        again = old.push(change("r1", "nowhere", n=1), change("mine", n=1))
        assert outcomes(again) == ["space_not_found", "applied"]
        assert outcomes(other.push(change("r", "nowhere", n=1))) == ["space_not_found"]
        old.request("DELETE", f"/sync/app/held/{held(old)[0]['heldId']}")
        assert outcomes(old.push(change("r3", "nowhere", n=3))) == ["space_not_found"]

    def test_a_newer_schema_version_is_held_and_written_when_the_operator_takes_it(self, strict: Any) -> None:
        server, make = strict
        old, mine = make("cid"), ("retry", "--user", "cid")
        assert outcomes(old.push(change("r", n=1), schemaVersion=3)) == ["schema_too_new"]
        assert held(old)[0]["change"]["schemaVersion"] == 3
        assert "1 still held: schema_too_new" in syncd_held(server, *mine)
        assert "1 written" in syncd_held(server, *mine, "--max-schema-version", "3")
        [written] = old.drain(history=1)[0]
        assert (written["schemaVersion"], written["fields"]["n"]) == (3, {"value": 1, "at": at(1)})

    def test_the_quota_counts_bytes_too(self, strict: Any) -> None:
        old = strict[1]("dan")
        assert old.send(change("r", "nowhere", n="x" * 5000)).status_code == 429
        assert old.send(change("r", "nowhere", n="x" * 3000)).status_code == 200

    def test_a_space_that_nobody_has_heard_of_is_its_first_author_s_where_that_is_set(self, folder: Path) -> None:
        with running(folder, legacy_spaces="own") as make:
            ann, bob = make("ann"), make("bob")
            ours = ann.request("GET", "/spaces", headers={"x-sync-protocol": "1"})
            assert ours.json()["spaces"] == []
            made = ann.push(
                change("r", "garden", n=1), change("s", "attic", n=1), change("p", n=1), change("q", "garden", n=1)
            )
            assert outcomes(made) == ["applied"] * 4
            roles = {space["id"]: space["role"] for space in ann.request("GET", "/spaces").json()["spaces"]}
            assert (roles["garden"], roles["attic"]) == ("owner", "owner")
            assert outcomes(bob.push(change("r", "garden", n=2), change("q", "cellar", n=1))) == [
                "space_not_found", "applied",
            ]  # fmt: skip
            ann.request("DELETE", "/spaces/attic")
            asked = [change("r", "attic", n=2), change("r", "_personal:bob", n=1), change("r", "..", n=1)]
            assert outcomes(ann.push(*asked)) == ["space_not_found", "space_not_found", "invalid_change"]
            result = ann.push({**edit("r", n=1), "spaceId": "shed"})["results"][0]
            assert result["status"] == "applied"
            assert outcomes(ann.push(change("p", "loft", when=2, n=2))) == ["applied"]  # what was personal moves there
            assert {row["spaceId"] for row in ann.drain()[0] if row["id"] == "p"} == {"loft"}

    def test_two_workers_write_each_change_once_and_a_kill_loses_and_repeats_none(self, folder: Path) -> None:
        with Server(folder / "server", workers=2) as server, httpx.Client(timeout=60) as http:
            http.base_url = server.url
            old = Device(http, server, "ann", "old", legacy=True)
            for space in range(8):
                old.push(*(change(f"r{n % 20}", f"s{space}", when=n + 1, n=n) for n in range(40)))
            for space in range(8):
                old.create(f"s{space}")
                if space == 4:
                    server.kill()
                    server.start()
            until_written(old)
            for space in range(8):
                written = [row["fields"]["n"]["value"] for row in log_of(old, f"s{space}")]
                assert written == list(range(40)), space


class TestAnOperator:
    def test_lists_exports_retries_and_drops(self, folder: Path) -> None:
        with Server(folder / "server") as server, httpx.Client(base_url=server.url, timeout=60) as http:
            ann, bob = (Device(http, server, user, "old", legacy=True) for user in ("ann", "bob"))
            large = change("r", when=7, n="x" * 1_200_000)
            ann.push(large, change("r", "nowhere", n=1), change("..", n=1))
            bob.push(change("r", "nowhere", n=1))
            listed = syncd_held(server, "list")
            assert ["ann", "app", "nowhere", "space_not_found", "1"] in [
                line.split()[:5] for line in listed.splitlines()
            ]
            lines = [json.loads(line) for line in syncd_held(server, "export", "--user", "ann").splitlines()]
            assert {line["reason"] for line in lines} == {"change_too_large", "space_not_found", "invalid_change"}
            assert large in [line["change"] for line in lines]
            assert {line["userId"] for line in lines} == {"ann"}
            said = syncd_held(server, "retry", "--max-change", "2MiB")
            assert "1 written" in said
            assert "2 still held: space_not_found" in said
            [written] = ann.drain(history=1)[0]
            assert written["fields"] == large["fields"]
            assert sorted(reasons(ann)) == ["invalid_change", "space_not_found"]
            assert "1 changes dropped" in syncd_held(server, "drop", "--yes", "--reason", "invalid_change")
            assert (reasons(ann), reasons(bob)) == (["space_not_found"], ["space_not_found"])
            doctor = run(server, "doctor")
            assert "2 of 2 users may not be written" in doctor
            ann.create("garden")  # the next look is at once
            deadline = time.monotonic() + PATIENCE
            while "syncd_held 2.0" not in (text := http.get("/metrics").text):
                assert time.monotonic() < deadline, text
                time.sleep(0.2)


def syncd_held(server: Server, *arguments: str) -> str:
    return run(server, "held", *arguments)


@contextmanager
def running(folder: Path, **settings: Any) -> Iterator[Callable[[str], Device]]:
    """Makes first-generation devices of a server of its own."""
    with Server(folder / "server", settings=settings) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        yield lambda user: Device(http, server, user, "old", legacy=True)
