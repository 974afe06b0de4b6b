"""`syncd import --from sqlite, csv, ndjson`: rows of files become records."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import psutil
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.harness import Server
from tests.support.wire import Device, at, edit, unique, values
from tests.system.transfer.test_elsewhere import OF_USER, counted
from tests.system.transfer.test_operator_backup import directory, syncd

Make = Callable[..., Device]
ROWS = 7_000  # enough to be killed in the middle of
EPOCH = "1970-01-01T00:00:00.000000Z"


@pytest.fixture
def user() -> str:
    return unique("ada")


def bring(server: Server, kind: str, file: Path, user: str, *options: str | Path, ok: bool = True) -> str:
    """Imports a file for a user; what was said."""
    arguments = ["--from", kind, file, "--app", "app", "--user", user, *options]
    return syncd("import", *arguments, env=directory(server), ok=ok)


def plain(device: Device) -> dict[str, dict[str, object]]:
    """The live records of a device's user, without the tombstone register."""
    live = values(device.drain()[0])
    return {name: {k: v for k, v in record.items() if k != "deletedAt"} for name, record in live.items()}


def test_a_csv_with_a_mark_quotes_and_several_lines(server: Server, device: Make, folder: Path, user: str) -> None:
    file = folder / "tasks.csv"
    text = '\ufeffid,title,note,n,done,tags\r\n1,"a, ""b""","two\r\nlines",1.50,true,"[1, {""x"": null}]"\r\n\r\n'
    file.write_bytes(f"{text}ü,,,,,\r\n".encode())
    said = bring(server, "csv", file, user, *(f"--json-column={name}" for name in ("n", "done", "tags")))
    assert counted(said, "tasks") | {"imported": 2, "same": 2, "different": 0} == counted(said, "tasks")
    first = {"title": 'a, "b"', "note": "two\r\nlines", "n": 1.5, "done": True, "tags": [1, {"x": None}]}
    assert plain(device(user)) == {"1": first, "ü": {"title": "", "note": "", "n": None, "done": None, "tags": None}}
    assert {c["table"] for c in device(user).drain()[0]} == {"tasks"}


def test_a_csv_of_another_make(server: Server, device: Make, folder: Path, user: str) -> None:
    file = folder / "x.csv"
    file.write_bytes("key;name\n7;Zoë\n".encode("latin-1"))
    options = ["--delimiter", ";", "--encoding", "latin-1", "--id-column", "key", "--table", "people"]
    bring(server, "csv", file, user, *options)
    assert [(c["table"], c["id"]) for c in device(user).drain()[0]] == [("people", "7")]
    assert plain(device(user)) == {"7": {"name": "Zoë"}}


def test_lines_of_a_csv_that_are_no_rows(server: Server, device: Make, folder: Path, user: str) -> None:
    file = folder / "t.csv"
    lines = [b"id,a,j", b"1,x,1", b"2,x", b"3,x,1,9", b",x,1", b"5,\xff,1", b"6,\x00,1", b"7,x,nope", b"8,x,1e999",
             b'9,"x"y,1', b"10,x," + b"9" * 2_000_000, b"r" * 300 + b",x,1", b'11,x,"""\\ud800"""',
             b"12,x,2"]  # fmt: skip
    file.write_bytes(b"\n".join(lines))
    said = bring(server, "csv", file, user, "--json-column", "j")
    codes = {2: "invalid_row", 3: "invalid_row", 4: "invalid_row", 5: "invalid_value", 6: "invalid_value",
             7: "invalid_value", 8: "invalid_value", 9: "invalid_row", 10: "invalid_value", 11: "invalid_change",
             12: "invalid_value"}  # fmt: skip
    for place, code in codes.items():
        assert f"line {place + 1}: {code}: " in said, (place, said)
    assert "column a is not UTF-8" in said
    assert "column j is no JSON" in said
    assert (counted(said)["rows"], counted(said)["refused"]) == (len(lines) - 1, len(codes))
    assert plain(device(user)) == {"1": {"a": "x", "j": 1}, "12": {"a": "x", "j": 2}}
    bring(server, "csv", file, user, "--json-column", "j", "--strict", ok=False)


def test_tables_of_sqlite_with_their_types(server: Server, device: Make, folder: Path, user: str) -> None:
    file = folder / "old.db"
    with sqlite3.connect(file) as old:
        old.execute('CREATE TABLE "to ""do" (id INTEGER PRIMARY KEY, t TEXT, r REAL, i INTEGER, b BLOB, n, j TEXT)')
        old.execute("CREATE TABLE tags (id TEXT, j TEXT)")
        old.execute("CREATE VIEW both AS SELECT * FROM tags")
        rows = [(1, "é", 1.5, 2**53, b"\x00\xff", None, "[1]"), (2, "x", float("inf"), 1, None, None, "null")]
        old.executemany('INSERT INTO "to ""do" VALUES (?, ?, ?, ?, ?, ?, ?)', rows)
        old.execute('INSERT INTO "to ""do" (id, t) VALUES (3, CAST(? AS TEXT))', (b"\xff",))
        old.execute("INSERT INTO tags VALUES ('a', '{}')")
    old.close()
    said = bring(server, "sqlite", file, user, "--json-column", "j")
    assert 'to "do 2: invalid_value: column r is not a finite number' in said
    assert 'to "do 3: invalid_value: column t is not UTF-8' in said
    assert (counted(said, "tags")["imported"], counted(said, 'to "do')["imported"]) == (1, 1)
    one = {"t": "é", "r": 1.5, "i": 2**53, "b": "AP8=", "n": None, "j": [1]}
    assert plain(device(user)) == {"1": one, "a": {"j": {}}}
    assert (
        counted(bring(server, "sqlite", file, user, "--table", "both", "--json-column", "j"), "both")["imported"] == 1
    )
    assert "has no table nope; it has" in bring(server, "sqlite", file, user, "--table", "nope", ok=False)
    assert "no column key; it has id, j" in bring(
        server, "sqlite", file, user, "--table", "tags", "--id-column", "key", ok=False
    )
    (folder / "words.db").write_text("these are words, and no database at all " * 99)
    assert "cannot be read as a SQLite database" in bring(server, "sqlite", folder / "words.db", user, ok=False)


def test_lines_of_json(server: Server, device: Make, folder: Path, user: str) -> None:
    file = folder / "t.ndjson"
    lines = [b'\xef\xbb\xbf{"id": 1, "x": {"y": [1, 2.50]}}', b"", b'{"id": 2, "x": NaN}', b'{"id": 3, "x": "\\ud800"}',
             b'{"id": 4, "x": "\\u0000"}', b'{"id": 5, "x": "\xff"}', b"[1]", b'{"id": 6, "x": 1e999}', b'{"id": 7',
             b'{"x": 1}', b'{"id": true, "x": 1}', b'{"id": 8, "x": ' + b"[" * 200 + b"]" * 200 + b"}",
             b'{"id": 9, "x": "' + b"x" * (17 << 20) + b'"}',
             b'{"id": "10", "x": "\\u00e9\\ud83d\\ude00"}']  # fmt: skip
    file.write_bytes(b"\n".join(lines) + b"\n")
    said = bring(server, "ndjson", file, user)
    for place in range(3, 14):
        assert f"line {place}: " in said, (place, said)
    assert "byte 17 is not UTF-8" in said
    assert counted(said)["refused"] == 11
    assert plain(device(user)) == {"1": {"x": {"y": [1, 2.5]}}, "10": {"x": "é😀"}}


def test_whose_where_and_when_can_be_columns(server: Server, device: Make, folder: Path, user: str) -> None:
    bob, space, file = unique("bob"), unique("garden"), folder / "t.ndjson"
    rows = [{"id": 1, "u": user, "s": space, "w": at(5), "x": 1}, {"id": 2, "u": bob, "s": None, "w": 1767225600000},
            {"id": 3, "u": bob, "s": space, "w": "2026-01-01 00:00:00"}, {"id": 4, "u": bob, "w": "soon"},
            {"id": 5, "u": None}, {"id": 6, "u": bob, "s": "", "w": 1767225600}]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)))
    options = ["--from", "ndjson", file, "--app", "app", "--user-column", "u", "--space-column", "s",
               "--at-column", "w",
               "--leave-out", "u", "--leave-out", "s", "--leave-out", "w"]  # fmt: skip
    said = syncd("import", *options, "--members", "authors", env=directory(server))
    assert "line 4: invalid_instant: column w" in said
    assert "line 5: invalid_row: column u" in said
    changes = {c["id"]: c for c in device(bob).drain()[0]}
    assert {n: c["spaceId"] for n, c in changes.items()} == {
        "1": space,
        "3": space,
        **dict.fromkeys("26", f"_personal:{bob}"),
    }
    assert {n: c["fields"]["deletedAt"]["at"] for n, c in changes.items()} == {
        "1": at(5),
        **dict.fromkeys("236", at(0)),
    }
    assert changes["1"]["fields"]["x"]["value"] == 1
    assert "u" not in changes["1"]["fields"]


def test_without_a_time_any_edit_wins_and_a_newer_file_replaces_an_older(
    server: Server, device: Make, folder: Path, user: str
) -> None:
    file, ada = folder / "t.csv", device(user)
    file.write_text("id,x,y\n1,a,b\n")
    bring(server, "csv", file, user)
    assert ada.drain()[0][0]["fields"]["x"]["at"] == EPOCH
    ada.write(edit("1", 1, x="edited"))
    file.write_text("id,x,y\n1,c,d\n")
    counts = counted(bring(server, "csv", file, user))
    assert (counts["imported"], counts["newer"], counts["different"]) == (1, 1, 0)
    assert plain(ada) == {"1": {"x": "edited", "y": "d"}}
    bring(server, "csv", file, user, "--at", at(7))
    assert plain(ada) == {"1": {"x": "c", "y": "d"}}


def test_a_dry_run_needs_no_server(folder: Path) -> None:
    (folder / "t.csv").write_text("id,x\n1,a\n1,b,c\n")
    env = {"SYNCD_DATA_DIR": str(folder / "none")}
    options = ["--from", "csv", folder / "t.csv", "--app", "a", "--user", "u", "--dry-run"]
    assert counted(syncd("import", *options, env=env)) == {
        "rows": 2,
        "held": 0,
        "refused": 1,
        "lowered": 0,
        "changes": 1,
    }
    syncd("import", *options, "--strict", env=env, ok=False)
    assert not (folder / "none").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "csv", "FILE", "--user", "u"], "--app NAME"),
        (["--from", "csv", "FILE", "--app", "a"], "--user ID or --user-column"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--user-column", "id"], "one of them"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--at", "soon"], "--at is no instant"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--at", at(1), "--at-column", "x"], "one of them"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--delimiter", "ab"], "one character"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--encoding", "x-none"], "unknown encoding"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--since", at(1)], "--since is for --from mana"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--members", "all"], "there is no file all"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--as-is"], "--as-is is for exports"),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--dry-run", "--verify-only"], "give one of them"),
        (
            ["--from", "csv", "FILE", "--app", "a", "--user", "u", "--id-column", "k", "--dry-run"],
            "line 1 has no column k",
        ),
        (["--from", "csv", "FILE", "--app", "a", "--user", "u", "--json-column", "k", "--dry-run"], "no column k"),
        (["--from", "csv", "TWICE", "--app", "a", "--user", "u", "--dry-run"], "has the column x twice"),
        (["--from", "ndjson", "FILE", "--app", "a", "--user", "u", "--encoding", "ascii"], "is for --from csv"),
        (["--from", "ndjson", "none", "--app", "a", "--user", "u"], "there is no file none"),
        (["--from", "mana", "x", "--app", "a"], "--app is for --from sqlite or csv or ndjson"),
        (["--from", "mana", "x", "--table", "a", "--table", "b"], "give --table once"),
        (["FILE", "--dry-run"], "--dry-run is for --from"),
        (["none"], "there is no file none"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_sentence(folder: Path, options: list[str], said: str) -> None:
    (folder / "FILE").write_text("id,x\n1,a\n")
    (folder / "TWICE").write_text("id,x,x\n1,a,b\n")
    arguments = [str(folder / one) if one in ("FILE", "TWICE") else one for one in options]
    assert said in " ".join(syncd("import", *arguments, ok=False).split())


async def test_a_file_whose_import_was_killed_is_whole_after_another(server: Server, folder: Path, user: str) -> None:
    file = folder / "t.csv"
    with file.open("w") as lines:
        lines.write("id,x\n")
        lines.writelines(f"r{n},{n}\n" for n in range(ROWS))
    command = [sys.executable, "-m", "syncd", "import", "--from", "csv", str(file), "--app", "app", "--user", user]
    env = {**os.environ, **directory(server)}
    connection = await asyncpg.connect(server.owner_dsn)
    try:
        for goal in (1, ROWS // 3):
            running = await asyncio.create_subprocess_exec(*command, env=env, stderr=subprocess.DEVNULL)
            deadline = time.monotonic() + 90
            while await connection.fetchval(OF_USER.format(what="count(*)"), user) < goal:
                assert running.returncode is None
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            running.send_signal(signal.SIGKILL)
            assert await running.wait() == -signal.SIGKILL
        counts = counted(await asyncio.to_thread(bring, server, "csv", file, user))
        assert 0 < counts["imported"] < ROWS
        assert (counts["imported"] + counts["there"], counts["same"], counts["different"]) == (ROWS, ROWS, 0)
        assert await connection.fetchval(OF_USER.format(what="count(*)"), user) == ROWS
    finally:
        await connection.close()


@pytest.mark.alone
def test_a_long_file_is_imported_in_flat_memory(folder: Path) -> None:
    peaks = []
    with EmbeddedPostgres(folder / "data") as database:
        syncd("migrate", "--database-url", database.owner_dsn)
        for rows in (20_000, 70_000):  # the first is long enough for what its batches take
            file = folder / f"t{rows}.csv"
            with file.open("w") as lines:
                lines.write("id,x\n")
                lines.writelines(f"{rows}-{n},{'x' * 1000}{n}\n" for n in range(rows))
            options = ["--app", "app", "--user", "ada", "--database-url", database.owner_dsn]
            command = [sys.executable, "-m", "syncd", "import", "--from", "csv", str(file), *options]
            running = psutil.Popen(command, stderr=subprocess.PIPE)
            peak = 0
            while running.poll() is None:
                peak = max(peak, running.memory_info().rss)
                time.sleep(0.02)
            assert running.wait() == 0, running.stderr.read()
            running.stderr.close()
            peaks.append(peak)
    assert peaks[1] < peaks[0] + (40 << 20), f"{peaks}: the rows that are more take 40 MB as text alone"
