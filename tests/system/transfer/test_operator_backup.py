"""G16 for operators: `syncd export` and `syncd import`, of a user, a space, or everything."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import asyncpg
import httpx
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support import command_line
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique
from tests.system.transfer.test_backup import everything, export, live_through, parts, undated

Make = Callable[..., Device]


def syncd(*arguments: str | Path, env: Mapping[str, str] | None = None, ok: bool = True) -> str:
    """Runs `syncd`; what it said on standard error."""
    done = command_line.syncd(*arguments, env=env)
    assert (done.returncode == 0) == ok, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


class Town:
    """A server of its own with two users, a space of both, one that was left and one that was ended."""

    def __init__(self, server: Server, http: httpx.Client) -> None:
        def make(user: str, name: str = "c1", **more: object) -> Device:
            return Device(http, server, user, name, **more)  # type: ignore[arg-type]

        self.server, self.make, self.http = server, make, http
        self.ada, self.bob = live_through(make, "ada", 4)[0], live_through(make, "bob", 5)[0]
        self.space = self.ada.create("both")
        self.ada.member("both", "bob")
        self.ada.member("both", "reader", "reader")
        for n in range(20):
            (self.ada, self.bob)[n % 2].push({**edit("r", n * 7 % 11, x=n), "spaceId": "both"})
        gone = self.bob.create("gone")
        self.bob.write({**edit("r", 1, x=1), "spaceId": gone})
        self.bob.request("DELETE", f"/spaces/{gone}")
        self.cursors = {one.user: one.drain()[1] for one in (self.ada, self.bob)}


@pytest.fixture(scope="module")
def town(workspace: Path) -> Iterator[Town]:
    with Server(workspace / "town") as server, httpx.Client(base_url=server.url, timeout=500) as http:
        yield Town(server, http)


def directory(server: Server) -> dict[str, str]:
    """The environment that means a server's own database."""
    return {"SYNCD_DATA_DIR": str(server.data_dir)}


def test_everything_comes_back_and_devices_go_on_from_their_cursors(town: Town, folder: Path) -> None:
    first, again = folder / "all.jsonl", folder / "again.jsonl"
    said = syncd("export", "--all", "-o", first, env=directory(town.server))
    assert f"{parts(first.read_bytes())[1]['eventCount']:,} changes" in said
    assert first.stat().st_mode & 0o777 == 0o600
    new = {"SYNCD_DATA_DIR": str(folder / "new")}
    said = syncd("import", "--as-is", first, env=new)
    assert "devices go on from their cursors" in said
    assert "0 refused" in said
    syncd("export", "--all", "-o", again, env=new)
    assert undated(again.read_bytes()) == undated(first.read_bytes())
    assert "0 changes imported" in syncd("import", "--as-is", first, env=new)
    with Server(folder / "new") as server, httpx.Client(base_url=server.url, timeout=500) as http:
        for one in (town.ada, town.bob):
            there = Device(http, server, one.user, one.client)
            assert everything(there) == everything(one)
            assert there.pull(town.cursors[one.user])["serverChanges"] == []
            there.write(edit("next", 1, x=1))
            assert [c["id"] for c in there.pull(town.cursors[one.user])["serverChanges"]] == ["next"]
        # A cursor from a time that the export does not have is refused, also when the log has come so far.
        for n in range(3):
            town.ada.write({**edit(f"later{n}", 1, x=1), "spaceId": "both"})
        beyond = town.ada.drain()[1]
        assert there.http.get("/healthz").status_code == 200
        ada = Device(http, server, "ada", "phone")
        assert ada.ask(beyond).json()["code"] == "cursor_lost"
        for n in range(9):
            ada.write({**edit(f"other{n}", 1, x=1), "spaceId": "both"})
        assert ada.ask(beyond).json()["code"] == "cursor_lost"


def test_a_server_with_other_data_keeps_its_own_key_and_takes_the_rest(
    town: Town, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "template", None)  # copies of one database have one key
    syncd("export", "--all", "-o", folder / "all.jsonl", env=directory(town.server))
    with Server(folder / "other") as server, httpx.Client(base_url=server.url, timeout=500) as http:
        eve = Device(http, server, "eve")
        eve.create("hers")
        eve.write({**edit("r", 1, x=1), "spaceId": "hers"})
        cursor = eve.drain()[1]
        said = syncd("import", "--as-is", folder / "all.jsonl", env=directory(server))
        assert "devices will start again" in said
        assert eve.pull(cursor)["serverChanges"] == []
        ada = Device(http, server, "ada", "phone")
        assert everything(ada) == everything(town.ada)
        assert ada.ask(town.cursors["ada"]).json()["code"] == "bad_cursor"


def test_a_space_goes_to_another_server_as_it_is(town: Town, server: Server, device: Make, folder: Path) -> None:
    syncd("export", "--space", "both", "-o", folder / "both.zip", env=directory(town.server))
    with zipfile.ZipFile(folder / "both.zip") as packed:
        assert packed.testzip() is None
        manifest = json.loads(packed.read("manifest.json"))
        authors = {json.loads(line)["userId"] for line in packed.read("events.jsonl").splitlines()}
    assert (manifest["scope"], manifest["userId"], authors) == ("space", None, {"ada", "bob"})
    assert "cursorKey" not in manifest
    assert "--as-is" in syncd("import", folder / "both.zip", env=directory(server), ok=False)
    assert device("ada").request("GET", "/spaces/both").status_code == 404
    syncd("import", "--as-is", folder / "both.zip", env=directory(server))
    ours, theirs = (
        [sorted(m["userId"] for m in one.request("GET", "/spaces/both/members").json()["members"]),
         [c for c in one.drain(history=1)[0] if c["spaceId"] == "both"]]
        for one in (town.make("ada", "phone"), device("ada", "phone"))
    )  # fmt: skip
    assert ours == theirs


def test_a_user_s_export_is_that_of_the_user_and_comes_back_as_the_user(town: Town, folder: Path) -> None:
    file = folder / "bob.jsonl"
    syncd("export", "bob", "-o", file, env=directory(town.server))
    assert undated(file.read_bytes()) == undated(export(town.bob))
    piped = subprocess.run(
        [sys.executable, "-m", "syncd", "export", "bob"],
        capture_output=True, env={**os.environ, **directory(town.server)}, check=True,
    ).stdout  # fmt: skip
    assert undated(piped) == undated(file.read_bytes())
    new = {"SYNCD_DATA_DIR": str(folder / "new")}
    said = syncd("import", file, env=new, ok=False)  # the space of both is ada's to put back
    assert "space_not_found" in said
    with Server(folder / "new") as server, httpx.Client(base_url=server.url, timeout=500) as http:
        bob = Device(http, server, "bob", "phone")
        spaces = {c["spaceId"] for c in bob.drain()[0]}
        assert len(spaces) == 2
        assert "both" not in spaces
        forged = file.read_text().replace('"userId":"bob"', '"userId":"ada"', 1)
        (folder / "forged.jsonl").write_text(forged)
        assert "not those" in syncd("import", folder / "forged.jsonl", env=directory(server), ok=False)


def test_an_interrupted_export_goes_on_to_the_same_bytes(town: Town, folder: Path) -> None:
    whole, file = folder / "whole.jsonl", folder / "cut.jsonl"
    for arguments in (["--all"], ["ada"], ["--space", "both"]):
        syncd("export", *arguments, "-o", whole, env=directory(town.server))
        data = whole.read_bytes()
        for cut in (0, 100, len(data) // 2, len(data) - 40) if arguments == ["--all"] else (len(data) // 2,):
            killed = subprocess.Popen(
                [sys.executable, "-c", KILLED_AT, str(cut), *arguments, "-o", str(file)],
                env={**os.environ, **directory(town.server)}, stderr=subprocess.PIPE,
            )  # fmt: skip
            assert killed.wait(60) == -signal.SIGKILL, killed.stderr.read()  # type: ignore[union-attr]
            killed.stderr.close()  # type: ignore[union-attr]
            assert not file.exists()
            town.bob.push({**edit(unique("more"), 1, x=1), "spaceId": "both"})
            assert "going on" in syncd("export", *arguments, "-o", file, env=directory(town.server))
            assert undated(file.read_bytes()) == undated(data)
            assert sorted(path.name for path in folder.glob("cut*")) == ["cut.jsonl"]
            file.unlink()
            syncd("export", *arguments, "-o", whole, env=directory(town.server))
            data = whole.read_bytes()


# `syncd export` that is killed when so many bytes are in the part.
KILLED_AT = """
import os, sys, signal
from syncd.transfer import export_file
limit = int(sys.argv.pop(1))
opened = export_file._private
class Cut:
    def __init__(self, file): self.file, self.size = file, 0
    def __getattr__(self, name): return getattr(self.file, name)
    def __iter__(self): return iter(self.file)
    def __enter__(self): return self
    def __exit__(self, *why): self.file.close()
    def write(self, data):
        self.file.write(data[: limit - self.size])
        self.size += len(data)
        if self.size >= limit:
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
export_file._private = lambda path, mode: Cut(opened(path, mode)) if path.name.endswith(".part") else opened(path, mode)
from syncd.cli import main
sys.argv.insert(1, "export")
main()
"""


def test_an_import_that_was_killed_goes_on_to_the_same_log(town: Town, folder: Path) -> None:
    file, again = folder / "all.jsonl", folder / "again.jsonl"
    syncd("export", "--all", "-o", file, env=directory(town.server))
    new = {"SYNCD_DATA_DIR": str(folder / "new")}
    syncd("import", "--as-is", file, env={**new, "SYNCD_DATA_DIR": str(folder / "warm")})
    with EmbeddedPostgres(folder / "new") as database:
        url = ["--database-url", database.owner_dsn]
        syncd("migrate", *url)
        for wait in (0.6, 0.9, 1.2):
            running = subprocess.Popen([sys.executable, "-m", "syncd", "import", "--as-is", str(file), *url], stderr=-3)
            time.sleep(wait)
            running.kill()
            running.wait()
        syncd("import", "--as-is", file, *url)
        syncd("export", "--all", "-o", again, *url)
    assert undated(again.read_bytes()) == undated(file.read_bytes())


async def test_who_is_bound_by_row_security_exports_one_user_only(town: Town, folder: Path) -> None:
    for option in (["--all"], ["--space", "both"]):
        said = syncd("export", *option, "--database-url", town.server.runtime_dsn, "-o", folder / "x", ok=False)
        assert "connect as a superuser" in said
    syncd("export", "ada", "--database-url", town.server.runtime_dsn, "-o", folder / "ada.jsonl")
    said = syncd("import", "--as-is", folder / "ada.jsonl", "--database-url", town.server.runtime_dsn, ok=False)
    assert "connect as a superuser" in said
    # As a superuser it is still written as its user.
    connection = await asyncpg.connect(town.server.owner_dsn)
    before = await connection.fetchval("SELECT count(*) FROM syncd.sync_changes")
    stolen = (folder / "ada.jsonl").read_text().replace('"userId":"ada"', '"userId":"bob"')
    (folder / "ada.jsonl").write_text(stolen)
    syncd("import", folder / "ada.jsonl", "--database-url", town.server.owner_dsn, ok=False)
    assert await connection.fetchval("SELECT count(*) FROM syncd.sync_changes") == before
    await connection.close()


@pytest.mark.parametrize("arguments", [[], ["ada", "--all"], ["--all", "--space", "x"], ["ada", "--format", "tar"]])
def test_one_thing_at_a_time(arguments: list[str]) -> None:
    assert "Usage" in syncd("export", *arguments, ok=False)


def test_a_folder_without_a_database_is_said_so(folder: Path) -> None:
    assert "there is no database" in syncd("export", "--all", env={"SYNCD_DATA_DIR": str(folder / "none")}, ok=False)


def test_invitations_and_blocks_and_who_may_make_a_space_again_come_along(folder: Path) -> None:
    first, again, new = folder / "all.jsonl", folder / "again.jsonl", {"SYNCD_DATA_DIR": str(folder / "new")}
    settings = {"invitations": "ask"}
    with Server(folder / "asking", settings=settings) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada, bob, eve = (Device(http, server, name) for name in ("ada", "bob", "eve"))
        for space in ("club", "gone"):
            ada.create(space)
        for user, role in (("bob", "reader"), ("zoe", "owner")):
            assert ada.request("PUT", f"/spaces/club/members/{user}", json={"role": role}).status_code == 202
        assert eve.request("PUT", "/blocks/ada").status_code == 204
        assert ada.request("DELETE", "/spaces/gone").status_code == 204
        invited = bob.request("GET", "/invitations").json()
        blocked = eve.request("GET", "/blocks").json()
        syncd("export", "--all", "-o", first, env=directory(server))
    syncd("import", "--as-is", first, env=new)
    syncd("import", "--as-is", first, env=new)
    syncd("export", "--all", "-o", again, env=new)
    assert undated(again.read_bytes()) == undated(first.read_bytes())
    with Server(folder / "new", settings=settings) as server, httpx.Client(base_url=server.url, timeout=60) as http:
        ada, bob, eve = (Device(http, server, name) for name in ("ada", "bob", "eve"))
        assert bob.request("GET", "/invitations").json() == invited
        assert eve.request("GET", "/blocks").json() == blocked
        assert (
            ada.request("PUT", "/spaces/club/members/eve", json={"role": "writer"}).json()["code"] == "member_refused"
        )
        assert bob.request("POST", "/invitations/club/accept").json()["role"] == "reader"
        assert eve.request("POST", "/spaces", json={"id": "gone", "name": "Hers"}).json()["code"] == "conflict"
        ada.create("gone")
