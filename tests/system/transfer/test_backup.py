"""G16: an export is whole, and its import reproduces the log; whose export is looked at is always the caller's."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from tests.edge.test_openapi import SCHEMA
from tests.support.backups import (
    NDJSON,
    ZIP,
    Make,
    everything,
    export,
    line,
    live_through,
    parts,
    pushes,
    restore,
    signed,
    undated,
)
from tests.support.harness import Server
from tests.support.wire import Device, at, edit, unique


@pytest.fixture(scope="module")
def elsewhere(workspace: Path) -> Iterator[Make]:
    """Makes devices of another server, where nobody has been yet."""
    with Server(workspace / "elsewhere") as other, httpx.Client(base_url=other.url, timeout=60) as client:
        yield lambda user, name="c1", **more: Device(client, other, user, name, **more)


def test_an_import_into_an_empty_server_reproduces_everything(device: Make, elsewhere: Make) -> None:
    user = unique("ada")
    mine = live_through(device, user)
    first = export(mine[0])
    changes, manifest = parts(first)
    assert manifest["userId"] == user
    assert manifest["eventCount"] == len(changes) > 100
    assert manifest["apps"] == ["app", "other"]
    assert manifest["eventsSha256"] == hashlib.sha256(first[: first.rindex(b'{"manifest":')]).hexdigest()
    assert any(change.get("superseded") for change in changes)
    assert sum("base" in register for change in changes for register in change["fields"].values()) >= 4
    report = restore(elsewhere(user), first)
    assert (report["imported"], report["refused"]) == (len(changes), 0)
    assert undated(export(elsewhere(user))) == undated(first)
    for one in mine:
        for theirs, ours in zip(
            everything(elsewhere(user, one.client, app=one.app, legacy=one is mine[2])), everything(one), strict=True
        ):
            assert theirs == ours
    assert pushes(elsewhere(user)) == pushes(mine[0])


def test_a_zip_is_the_same_and_ordinary_programs_read_it(device: Make, elsewhere: Make, tmp_path: Path) -> None:
    user = unique("ada")
    mine = live_through(device, user, 2)[0]
    lines, packed = export(mine), export(mine, ZIP)
    (tmp_path / "x.zip").write_bytes(packed)
    subprocess.run(["unzip", "-q", tmp_path / "x.zip", "-d", tmp_path], check=True)
    events, manifest = (tmp_path / "events.jsonl").read_bytes(), (tmp_path / "manifest.json").read_bytes()
    assert undated(events + b'{"manifest":' + manifest.strip() + b"}\n") == undated(lines)
    assert restore(elsewhere(user), packed, ZIP)["imported"] == len(events.splitlines())
    assert undated(export(elsewhere(user))) == undated(lines)


def test_importing_again_changes_nothing_here_or_there(device: Make, elsewhere: Make) -> None:
    user = unique("ada")
    mine = live_through(device, user, 3)[0]
    first = export(mine)
    count = parts(first)[1]["eventCount"]
    restore(elsewhere(user), first)
    for there in (mine, elsewhere(user)):
        before = everything(there)
        report = restore(there, first)
        assert (report["imported"], report["duplicates"], report["refused"]) == (0, count, 0)
        assert everything(there) == before
        assert undated(export(there)) == undated(first)


def test_an_export_goes_into_a_feed_with_other_changes_as_new_commits(device: Make, elsewhere: Make) -> None:
    user = unique("ada")
    here, there = device(user), elsewhere(user, "c2")
    here.write(edit("r", 5, x="here", change_id="a"), edit("s", 5, x="here", change_id="b"))
    there.write(edit("r", 9, x="there"))
    cursor = there.drain()[1]
    first = export(here)
    assert restore(there, first)["imported"] == 2
    came = there.pull(cursor)["serverChanges"]
    assert [(c["seq"], c["id"]) for c in came] == [(3, "s")]  # what lost is kept, and not sent
    assert [c["eventId"] for c in came] == [parts(first)[0][1]["eventId"]]
    state = {c["id"]: c["fields"]["x"]["value"] for c in there.drain()[0]}
    assert state == {"r": "there", "s": "here"}
    assert restore(there, first)["duplicates"] == 2
    there.write(edit("t", 1, x=1))
    assert restore(there, first)["duplicates"] == 2
    # The device itself comes, and pushes again what it does not know to be there.
    assert elsewhere(user, "c1").push(edit("r", 5, x="here", change_id="a"))["results"][0]["status"] == "duplicate"


def test_what_a_device_pushed_anew_is_not_there_twice(device: Make, elsewhere: Make) -> None:
    user = unique("ada")
    same, other = edit("r", 5, x=1, change_id="same"), edit("r", 6, x=2, change_id="other")
    device(user).write(same, other)
    elsewhere(user).write(same, edit("r", 6, x=3, change_id="other"))
    report = restore(elsewhere(user), export(device(user)))
    assert (report["imported"], report["duplicates"], report["refused"]) == (0, 1, 1)
    assert report["refusals"][0]["code"] == "change_id_reused"


def test_an_export_has_nothing_of_others(device: Make, elsewhere: Make) -> None:
    ada, bob, eve = (device(unique(name)) for name in ("ada", "bob", "eve"))
    space = ada.create(unique("garden"))
    ada.member(space, bob.user)
    hers = eve.create(unique("shed"))
    canaries = {one.user: unique("canary") for one in (ada, bob, eve)}
    for one in (ada, bob):
        one.write({**edit(one.user, 1, x=canaries[one.user]), "spaceId": space})
    eve.write({**edit("r", 1, x=canaries[eve.user]), "spaceId": hers})
    for one in (ada, bob, eve):
        text = export(one).decode()
        assert [name for name, canary in canaries.items() if canary in text] == [one.user]
        assert (space in text, hers in text) == (one is not eve, one is eve)
    ada.remove(space, bob.user)
    assert canaries[bob.user] not in export(bob).decode()
    assert space not in export(bob).decode()
    assert parts(export(device(unique("nobody"))))[1]["eventCount"] == 0
    # A part of a shared log keeps its places: others may bring theirs.
    ada.member(space, bob.user)
    bob.write({**edit("b", 2, x=1), "spaceId": space})
    ada.write({**edit("a", 3, x=1), "spaceId": space})
    first, his = export(ada), export(bob)
    assert [c["seq"] for c in parts(first)[0]] == [1, 4]
    assert restore(elsewhere(bob.user), his)["spaces"]["missing"] == [space]
    assert restore(elsewhere(ada.user), first)["spaces"]["created"] == [space]
    assert undated(export(elsewhere(ada.user))) == undated(first)
    assert restore(elsewhere(bob.user), his)["imported"] == 2
    assert everything(elsewhere(ada.user))[2:] == everything(ada)[2:]


def test_foreign_changes_and_spaces_are_refused(device: Make) -> None:
    ada, bob, eve = (device(unique(name)) for name in ("ada", "bob", "eve"))
    space = ada.create(unique("garden"))
    ada.member(space, bob.user, "reader")
    ada.write({**edit("r", 1, x=1), "spaceId": space})
    stolen = restore(eve, export(ada))
    assert (stolen["imported"], stolen["refused"]) == (0, 1)
    assert stolen["refusals"][0]["code"] == "foreign_author"
    assert stolen["spaces"]["missing"] == [space]
    for one, where, code in (
        (eve, space, "space_not_found"),
        (eve, f"_personal:{ada.user}", "space_not_found"),
        (bob, space, "not_a_writer"),
    ):
        report = restore(one, signed([line(one.user, 7, spaceId=where)]))
        assert [(r["line"], r["code"]) for r in report["refusals"]] == [(1, code)]
    assert eve.request("GET", f"/spaces/{space}").status_code == 404
    assert len([c for c in ada.drain(history=1)[0] if c["spaceId"] == space]) == 1


@pytest.mark.parametrize("role", ["writer", "reader", None])
def test_a_space_comes_back_only_with_who_owned_it(device: Make, role: str | None) -> None:
    user, space = unique("ada"), unique("garden")
    members = [{"userId": "x", "role": "owner", "joinedAt": at(0)}]
    members += [] if role is None else [{"userId": user, "role": role, "joinedAt": at(0)}]
    spaces = [{"id": space, "name": "n", "createdAt": at(0), "members": members}]
    spaces.append({**spaces[0], "id": "_personal:x", "members": [{"userId": user, "role": "owner", "joinedAt": at(0)}]})
    report = restore(device(user), signed([], spaces=spaces))
    assert report["spaces"] == {"created": [], "missing": [space, "_personal:x"]}
    assert device(user).request("GET", "/spaces").json()["spaces"] == []


@pytest.mark.parametrize("name", ["_erased:x", "ada\u200b", " ada"])
def test_a_backup_makes_no_member_whom_no_owner_could_add(device: Make, name: str) -> None:
    ada, bob, space = device(unique("ada")), unique("bob"), unique("garden")
    joined = {"joinedAt": at(0)}
    members = [
        {"userId": ada.user, "role": "owner", **joined},
        {"userId": name, "role": "writer", **joined},
        {"userId": bob, "role": "writer", **joined},
    ]
    spaces = [{"id": space, "name": "n", "createdAt": at(0), "members": members}]
    assert restore(ada, signed([], spaces=spaces))["spaces"] == {"created": [space], "missing": []}
    there = ada.request("GET", f"/spaces/{space}/members").json()["members"]
    assert sorted(member["userId"] for member in there) == sorted([ada.user, bob])


@pytest.mark.parametrize("deleted", [False, True])
def test_who_says_to_own_a_space_that_is_another_s_gets_nothing_of_it(device: Make, deleted: bool) -> None:
    ada, eve = device(unique("ada")), device(unique("eve"))
    space = ada.create(unique("garden"))
    ada.write({**edit("r", 1, x=1), "spaceId": space})
    if deleted:
        assert ada.request("DELETE", f"/spaces/{space}").status_code in (200, 204)
    members = [{"userId": eve.user, "role": "owner", "joinedAt": at(0)}]
    claimed = [{"id": space, "name": "mine", "createdAt": at(0), "members": members}]
    report = restore(eve, signed([line(eve.user, 7, spaceId=space)], spaces=claimed))
    assert report["spaces"] == {"created": [], "missing": [space]}
    assert [(r["line"], r["code"]) for r in report["refusals"]] == [(1, "space_not_found")]
    assert eve.request("GET", f"/spaces/{space}").status_code == 404
    assert eve.request("GET", "/spaces").json()["spaces"] == []
    if not deleted:
        assert [member["userId"] for member in ada.request("GET", f"/spaces/{space}/members").json()["members"]] == [
            ada.user
        ]


def test_a_backup_brings_no_member_back_who_was_removed(device: Make) -> None:
    ada, bob = device(unique("ada")), device(unique("bob"))
    space = ada.create(unique("garden"))
    ada.member(space, bob.user)
    first = export(ada)
    ada.remove(space, bob.user)
    assert restore(ada, first)["spaces"] == {"created": [], "missing": []}
    assert bob.request("GET", f"/spaces/{space}").status_code == 404


def test_wrong_clocks_and_bad_changes_are_refused_alone(device: Make) -> None:
    ada = device(unique("ada"))
    good, personal = line(ada.user, 1), f"_personal:{ada.user}"
    bad = [
        (line(ada.user, 2, fields={"x": {"value": 1, "at": "9999-01-01T00:00:00Z"}}), "stamp_ahead"),
        (line(ada.user, 3, fields={"x": {"value": 1, "at": "yesterday"}}), "invalid_change"),
        (line(ada.user, 4, fields={}), "empty_change"),
        (line(ada.user, 5, fields={"x": {"value": "\u0000", "at": at(1)}}), "invalid_value"),
        (line(ada.user, 6, eventId="x"), "invalid_change"),
        (line(ada.user, 7, table=""), "invalid_change"),
        (line(ada.user, 8, op="merge"), "invalid_change"),
        (line(ada.user, 9, contentId="../"), "invalid_change"),
        (line(ada.user, 1 << 60), "invalid_change"),
        (line(ada.user, 10, pushEnd=9), "invalid_change"),
        (line(ada.user, 11, createdAt="now"), "invalid_change"),
        (line(ada.user, 1), "invalid_change"),
        (line(ada.user, 12, spaceId="a"), "space_not_found"),
        ({"not": "a change"}, "invalid_change"),
        (line("somebody else", 13), "foreign_author"),
    ]
    report = restore(ada, signed([good, *(change for change, _ in bad), line(ada.user, 50, spaceId="zz", pushEnd=60)]))
    codes = {refusal["line"]: refusal["code"] for refusal in report["refusals"]}
    expected = {n: code for n, (_, code) in enumerate(bad, 2)}
    assert codes == {**expected, len(bad) + 2: "space_not_found"} or codes == expected, codes
    assert report["imported"] == 1
    assert [c["id"] for c in ada.drain()[0]] == ["r1"]
    assert personal in ada.ask().text
    ada.write(edit("next", 1, x=1))


@pytest.mark.parametrize(("seq", "kept"), [((1 << 20) - 1, True), (1 << 20, False), ((1 << 53) - 1, False)])
def test_a_leap_in_the_numbers_is_bounded(device: Make, seq: int, kept: bool) -> None:
    """Many such imports use no feed's numbers up."""
    ada = device(unique("ada"))
    data = signed([line(ada.user, seq)])
    assert restore(ada, data)["imported"] == 1
    assert ada.drain()[0][0]["seq"] == (seq if kept else 1)
    assert restore(ada, data)["duplicates"] == 1


def spoilt(data: bytes) -> list[tuple[str, bytes, str, str]]:
    """What, the bytes, their media type, and the code they are refused with."""
    lines, manifest = data.splitlines(keepends=True)[:-1], json.loads(data.splitlines()[-1])["manifest"]

    def ending(**members: Any) -> bytes:
        return b"".join(lines) + json.dumps({"manifest": {**manifest, **members}}).encode() + b"\n"

    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("events.jsonl", "x")
    return [
        ("empty", b"", NDJSON, "export_cut_short"),
        ("no manifest", b"".join(lines), NDJSON, "export_cut_short"),
        ("half a manifest", data[:-9], NDJSON, "export_cut_short"),
        ("half a line", data[: len(data) // 3], NDJSON, "export_cut_short"),
        ("another value", data.replace(b'"value":1', b'"value":2', 1), NDJSON, "export_damaged"),
        ("a line less", b"".join(data.splitlines(keepends=True)[1:]), NDJSON, "export_damaged"),
        ("a line twice", lines[0] + data, NDJSON, "export_damaged"),
        ("another count", ending(eventCount=manifest["eventCount"] + 1), NDJSON, "export_damaged"),
        ("another hash", ending(eventsSha256="0" * 64), NDJSON, "export_damaged"),
        ("another hash of spaces", ending(spacesSha256="0" * 64), NDJSON, "export_damaged"),
        ("a format of the future", ending(formatVersion=2), NDJSON, "export_too_new"),
        ("no count", b'{"manifest":{"formatVersion":1}}', NDJSON, "invalid_export"),
        ("spaces that are none", ending(spaces=[{"id": 1}], spacesSha256=None), NDJSON, "invalid_export"),
        ("words", b"hello", NDJSON, "export_cut_short"),
        ("lines as a zip", data, ZIP, "export_cut_short"),
        ("a zip without a manifest", archive.getvalue(), ZIP, "invalid_export"),
        ("half a zip", archive.getvalue()[:-30], ZIP, "export_cut_short"),
    ]


def test_what_is_not_whole_is_refused_before_anything_is_written(device: Make, elsewhere: Make) -> None:
    user = unique("ada")
    device(user).write(*(edit(f"r{n}", n, x=1) for n in range(9)))
    for what, data, media, code in spoilt(export(device(user))):
        answer = elsewhere(user).request("POST", "/backup/import", content=data, headers={"content-type": media})
        assert (answer.status_code, answer.json()["code"]) == (400, code), what
    assert elsewhere(user).drain()[0] == []
    packed = export(device(user), ZIP)
    for n in range(30, len(packed) - 30, 7):  # one bit at a time, through names, data, sizes and directory
        spoiled = packed[:n] + bytes([packed[n] ^ 4]) + packed[n + 1 :]
        answer = elsewhere(user).request("POST", "/backup/import", content=spoiled, headers={"content-type": ZIP})
        # Some bits say that it is larger than may be, and some mean nothing: dates, attributes.
        if answer.status_code not in (400, 413):
            assert answer.json()["duplicates"] + answer.json()["imported"] == 9


def test_with_memberships_from_tokens_the_token_decides(folder: Path) -> None:
    settings = {"memberships": "token", "jwt_secret": "a secret of more than thirty-two bytes"}
    with Server(folder / "data", settings=settings) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada = Device(http, server, "ada")

        def claims(*spaces: str) -> None:
            token = server.token("ada", [{"id": space, "role": "owner"} for space in spaces])
            ada.headers["authorization"] = f"Bearer {token}"

        claims("garden", "shed")
        ada.write(*({**edit("r", 1, x=1), "spaceId": space} for space in ("garden", "shed")))
        first = export(ada)
        assert [c["spaceId"] for c in parts(first)[0]] == ["garden", "shed"]
        time.sleep(1.1)
        claims("garden")
        assert [c["spaceId"] for c in parts(export(ada))[0]] == ["garden"]
        report = restore(ada, first)
        assert (report["duplicates"], report["refusals"][0]["code"], report["spaces"]) == (1, "space_not_found", {})


def test_what_is_answered_is_as_the_document_says(device: Make) -> None:
    ada = device(unique("ada"))
    data = signed([line(ada.user, 1), line(ada.user, 2, fields={}), line("x", 3)])
    for content, media, status in ((data, NDJSON, 200), (data, ZIP, 400), (data, "text/plain", 415)):
        answer = ada.request("POST", "/backup/import", content=content, headers={"content-type": media})
        assert answer.status_code == status
        SCHEMA["/backup/import"]["POST"].validate_response(answer)
    SCHEMA["/backup/export"]["GET"].validate_response(ada.request("GET", "/backup/export"))


def test_the_wrong_way_to_ask(device: Make) -> None:
    ada = device(unique("ada"))
    for method, path, more, status in (
        ("POST", "export", {}, 405),
        ("GET", "import", {}, 405),
        ("GET", "other", {}, 404),
        ("POST", "import", {"content": b"{}", "headers": {"content-type": "application/json"}}, 415),
        ("POST", "import", {"content": b"{}", "headers": {"content-type": NDJSON, "content-encoding": "gzip"}}, 415),
        ("GET", "export", {"headers": {"authorization": "Bearer x"}}, 401),
        ("POST", "import", {"headers": {"authorization": "Bearer x"}}, 401),
    ):
        answer = ada.request(method, f"/backup/{path}", **more)
        assert answer.status_code == status, (method, path, answer.text)


OPERATORS = {
    'SELECT syncd.sync_space_remake(\'{"id": "x"}\', NULL)',
    "SELECT syncd.sync_take(1, 1, 1)",
    "SELECT syncd.sync_import_spaces('[]', NULL, NULL)",
    "SELECT syncd.sync_import_settle()",
    "SELECT syncd.sync_import_folded('[]', true)",
}
AS_OPERATOR = """
SELECT marks FROM syncd.sync_import(
    jsonb_build_object('largest', 1000, 'names', '["x"]'::jsonb, 'feeds',
                       jsonb_build_array(jsonb_build_object('s', $1::text, 'a', 1, 'after', 0))),
    '{1}', '{1}', '{1}', '{2026-01-01}', ARRAY[gen_random_uuid()], '{c}', '{1}', '{1}', ARRAY['[]'::json])
"""


SEEN = """
SELECT coalesce(sum(p.events), 0) FROM unnest($1::integer[], $2::integer[]) AS f (space, app)
CROSS JOIN LATERAL syncd.sync_export_page(f.space, f.app, 0, 9, NULL, 9, 9) p
"""


async def test_the_role_that_serves_is_no_operator(server: Server, device: Make) -> None:
    ada = device(unique("ada"))
    space = ada.create(unique("garden"))
    ada.write({**edit("r", 1, x=1), "spaceId": space})
    superuser = await asyncpg.connect(server.owner_dsn)
    feeds = await superuser.fetchrow("SELECT array_agg(space_no), array_agg(app_no) FROM syncd.sync_feeds")
    await superuser.close()
    connection = await asyncpg.connect(server.runtime_dsn)
    try:
        for statement in OPERATORS:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        for user in (ada.user, "somebody else"):
            async with connection.transaction():
                await connection.execute("SELECT syncd.sync_act_as($1)", user)
                # Who sees the space may not move its feed; for others it is not there.
                with nullcontext() if user != ada.user else pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with connection.transaction():
                        assert await connection.fetchval(AS_OPERATOR, space) == "n"
                assert await connection.fetchval(SEEN, *feeds) == (1 if user == ada.user else 0)
    finally:
        await connection.close()
