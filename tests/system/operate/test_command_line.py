"""The command line as its users meet it: subprocesses, their output, and their exit codes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import asyncpg
import httpx
import jwt
import pytest

from syncd import __version__
from syncd.cli import COMMANDS
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.command_line import syncd
from tests.support.direct import somebody_waits
from tests.support.harness import Server

SECRET = "a secret of more than thirty-two bytes"


def test_the_version() -> None:
    done = syncd("--version")
    assert (done.returncode, done.stdout) == (0, f"syncd {__version__}\n")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command: str) -> None:
    done = syncd(*command.split(), "--help")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) > 5
    assert done.stderr == ""


def test_help_and_tokens_do_not_import_what_they_do_not_need() -> None:
    script = (
        "import sys; from syncd.cli import main; main(['--help'], standalone_mode=False)\n"
        "heavy = {'asyncpg', 'uvicorn', 'starlette', 'httpx', 'rich', 'cryptography', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode == 0


def test_a_secret_that_can_be_guessed_is_not_served_with(folder: Path) -> None:
    done = syncd("serve", "--data-dir", folder / "data", env={"SYNCD_JWT_SECRET": "x" * 31, "SYNCD_PORT": "0"})
    assert done.returncode == 1
    assert "SYNCD_JWT_SECRET has 31 bytes, which can be guessed" in done.stderr
    assert not (folder / "data").exists()


class TestToken:
    def test_it_says_who_and_until_when(self) -> None:
        done = syncd("token", "ann", "--ttl", "15m", env={"SYNCD_JWT_SECRET": SECRET})
        claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])
        assert claims["sub"] == "ann"
        assert claims["exp"] - claims["iat"] == 900
        assert abs(claims["iat"] - time.time()) < 30
        assert "spaces" not in claims

    def test_it_carries_spaces_issuer_and_audience(self) -> None:
        env = {"SYNCD_JWT_SECRET": SECRET, "SYNCD_JWT_ISSUER": "me", "SYNCD_JWT_AUDIENCE": "syncd"}
        done = syncd("token", "ann", "--space", "a:b:owner", "--space", "c:reader", env=env)
        claims = jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], issuer="me", audience="syncd")
        assert claims["spaces"] == [{"id": "a:b", "role": "owner"}, {"id": "c", "role": "reader"}]

    def test_it_takes_the_data_directorys_secret(self, folder: Path) -> None:
        (folder / "jwt_secret").write_text(SECRET + "\n")
        done = syncd("token", "ann", "--data-dir", folder)
        assert jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"])["sub"] == "ann"

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["ann", "--data-dir", "/nowhere"], "set SYNCD_JWT_SECRET, or start `syncd serve --data-dir /nowhere`"),
            (["ann", "--ttl", "soon"], "a duration such as 90s"),
            (["ann", "--space", "s1"], "'s1' is not ID:ROLE"),
            (["ann", "--space", "s1:king"], "owner, writer, reader"),
            (["--ttl", "1h"], "Name a USER, or a service"),
        ],
    )
    def test_a_mistake_is_explained(self, arguments: list[str], said: str) -> None:
        done = syncd("token", *arguments)
        assert done.returncode != 0
        assert said in done.stderr
        assert done.stdout == ""


class TestMigrate:
    def test_it_applies_once_and_says_so(self, folder: Path) -> None:
        with EmbeddedPostgres(folder / "data") as database:
            first = syncd("migrate", "--database-url", database.owner_dsn)
            second = syncd("migrate", env={"SYNCD_MIGRATE_URL": database.owner_dsn, "SYNCD_DATABASE_URL": "x"})
        assert first.returncode == 0
        assert first.stdout.startswith("applied 0014_pre_baseline\n")
        assert "\napplied functions\napplied 0015_post_baseline\n" in first.stdout
        assert (second.returncode, second.stdout) == (0, "nothing to do: the schema is current\n")

    async def test_in_a_data_directory_it_goes_back_to_older_functions_only_on_purpose(self, folder: Path) -> None:
        with EmbeddedPostgres(folder / "data") as database:
            assert syncd("migrate", "--data-dir", folder / "data").returncode == 0
            conn = await asyncpg.connect(database.owner_dsn)
            await conn.execute(
                "INSERT INTO syncd.sync_functions (sha256, release, server, fingerprints)"
                " SELECT 'newer', release, server, fingerprints FROM syncd.sync_functions"
            )
            await conn.close()
        refused = syncd("migrate", "--data-dir", folder / "data")
        assert refused.returncode == 1
        assert "the database has the functions of a newer syncd" in refused.stderr
        assert "syncd migrate --older-functions" in refused.stderr
        done = syncd("migrate", "--data-dir", folder / "data", "--older-functions")
        assert done.stdout == "applied functions\nthe schema is current\n"
        assert syncd("migrate", "--data-dir", folder / "data").stdout == "nothing to do: the schema is current\n"

    def test_it_emits_files_without_a_database(self, folder: Path) -> None:
        done = syncd("migrate", "--emit", folder / "sql")
        assert done.returncode == 0
        assert done.stdout.split() == [str(path) for path in sorted((folder / "sql").iterdir())]

    def test_without_a_database_it_asks_for_one(self) -> None:
        done = syncd("migrate")
        assert done.returncode == 1
        assert "--database-url" in done.stderr

    def test_an_unreachable_database_is_one_sentence(self) -> None:
        done = syncd("migrate", "--database-url", "postgresql://me@127.0.0.1:1/nothing")
        assert done.returncode == 1
        assert "cannot be reached" in done.stderr
        assert "Traceback" not in done.stderr


class TestServeRefuses:
    async def test_a_superuser(self, database: EmbeddedPostgres) -> None:
        done = syncd("serve", "--port", "0", env={"SYNCD_DATABASE_URL": database.owner_dsn})
        assert done.returncode == 1
        assert "postgres is a superuser" in done.stderr
        assert "CREATE ROLE syncd_app LOGIN" in done.stderr

    @pytest.mark.parametrize(
        ("arrange", "said"),
        [
            ("ALTER ROLE {role} BYPASSRLS", "ALTER ROLE {role} NOBYPASSRLS;"),
            ("GRANT syncd_owner TO {role}", "{role} owns, or can act as the owner of, sync_"),
            ("GRANT pg_write_all_data TO {role}", "can change or delete what is in the log"),
            ("GRANT UPDATE (fields) ON syncd.sync_changes TO {role}", "can change or delete what is in the log"),
            ("GRANT CREATE ON SCHEMA syncd TO {role}", "REVOKE CREATE ON SCHEMA syncd"),
            ("REVOKE syncd_runtime FROM {role}", "GRANT syncd_runtime TO {role};"),
        ],
    )
    async def test_a_role_that_row_security_does_not_bind(
        self, database: EmbeddedPostgres, arrange: str, said: str
    ) -> None:
        role = f"app_{os.urandom(3).hex()}"
        conn = await asyncpg.connect(database.owner_dsn)
        await conn.execute(f"CREATE ROLE {role} LOGIN IN ROLE syncd_runtime")
        try:
            await conn.execute(arrange.format(role=role))
            done = syncd("serve", "--port", "0", env={"SYNCD_DATABASE_URL": database.dsn(role)})
            assert done.returncode == 1
            assert said.format(role=role) in done.stderr
        finally:
            await conn.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
            await conn.close()

    async def test_a_database_without_the_schema_or_with_a_newer_one(self, database: EmbeddedPostgres) -> None:
        conn = await asyncpg.connect(database.owner_dsn)
        name = f"newer_{os.urandom(3).hex()}"
        await conn.execute(f"CREATE DATABASE {name}")
        env = {"SYNCD_DATABASE_URL": database.dsn("syncd_runtime", name)}
        try:
            done = syncd("serve", "--port", "0", env=env)
            assert done.returncode == 1
            assert "syncd migrate --database-url" in done.stderr
            assert syncd("migrate", "--database-url", database.dsn("postgres", name)).returncode == 0
            other = await asyncpg.connect(database.dsn("postgres", name))
            await other.execute("INSERT INTO syncd.sync_migrations VALUES (9999, 'future', 'x')")
            await other.close()
            done = syncd("serve", "--port", "0", env=env)
            assert done.returncode == 1
            assert "9999_future, which this syncd does not know" in done.stderr
        finally:
            await conn.execute(f"DROP DATABASE {name} WITH (FORCE)")
            await conn.close()

    def test_a_taken_port(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            done = syncd("serve", "--port", str(taken.getsockname()[1]), "--data-dir", folder / "data")
        assert done.returncode == 1
        assert "Choose another --host or --port" in done.stderr
        assert not (folder / "data").exists()

    def test_a_bad_setting(self) -> None:
        done = syncd("serve", "--workers", "many")
        assert done.returncode == 1
        assert "--workers 'many' cannot be used" in done.stderr

    def test_a_key_that_is_none(self, folder: Path) -> None:
        key = "-----BEGIN PUBLIC KEY-----\nnonsense\n-----END PUBLIC KEY-----\n"
        done = syncd("serve", "--port", "0", "--data-dir", folder / "data", env={"SYNCD_JWT_PUBLIC_KEY": key})
        assert done.returncode == 1
        assert "SYNCD_JWT_PUBLIC_KEY: not a public key in PEM" in done.stderr


class TestServe:
    def test_a_second_one_is_refused_at_once(self, server: Server) -> None:
        started = time.monotonic()
        done = syncd("serve", "--port", "0", "--data-dir", server.data_dir)
        assert done.returncode == 1
        assert f"{server.data_dir} is in use by another syncd" in done.stderr
        assert time.monotonic() - started < 14, "it waits 15 s for one that is on its way out"

    def test_its_secret_is_private_and_its_tokens_are_valid(self, server: Server) -> None:
        assert (server.data_dir / "jwt_secret").stat().st_mode & 0o777 == 0o600
        token = syncd("token", "ann", "--data-dir", server.data_dir).stdout.strip()
        answer = httpx.get(f"{server.url}/spaces", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert httpx.get(f"{server.url}/spaces").status_code == 401

    def test_it_does_not_name_its_software(self, server: Server) -> None:
        assert "server" not in httpx.get(f"{server.url}/healthz").headers

    async def test_sigterm_finishes_what_is_in_flight(self, folder: Path) -> None:
        with Server(folder / "data") as server:
            conn = await asyncpg.connect(server.owner_dsn)
            transaction = conn.transaction()
            await transaction.start()
            await conn.execute("LOCK TABLE syncd.sync_changes IN SHARE MODE")
            answers: list[httpx.Response] = []
            pusher = threading.Thread(target=lambda: answers.append(push(server, "ann", "in flight")))
            pusher.start()
            await somebody_waits(conn)
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            assert server.process.poll() is None
            await transaction.commit()
            pusher.join()
            await conn.close()
            assert [answer.status_code for answer in answers] == [200]
            assert answers[0].json()["results"][0]["status"] == "applied"
            assert server.stop() == 0

    def test_sigint_stops_it_too_and_during_the_start_as_well(self, folder: Path) -> None:
        server = Server(folder / "data", start=False)
        for moment in (0.3, 0.6, 1.0):
            began = len(server.output()) if server.log.exists() else 0
            server.launch()
            assert server.process is not None
            time.sleep(moment)
            server.process.send_signal(signal.SIGINT)
            status = server.process.wait(60)
            # Before it reads its settings it is like any other command: interrupted, where a machine is slow also while
            # Python reads its modules, or aborted.
            said = server.output()[began:]
            early = "KeyboardInterrupt" in said and "database" not in said
            assert early or status in (0, -signal.SIGINT) or set(said.split()) == {"Aborted!"}, said
            server.stop()
        server.start()
        assert server.process is not None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0
        server.stop()

    async def test_it_serves_a_database_of_yours_and_migrates_it_as_the_owner(self, folder: Path) -> None:
        with EmbeddedPostgres(folder / "yours") as database:
            settings = {"database_url": database.runtime_dsn, "migrate_url": database.owner_dsn}
            with Server(folder / "data", settings=settings) as server:
                assert push(server, "ann", "hello").status_code == 200
                assert not (folder / "data" / "pgdata").exists()
                assert server.stop() == 0

    async def test_it_waits_for_a_database_that_is_still_starting(self, folder: Path) -> None:
        with EmbeddedPostgres(folder / "yours") as database:
            syncd("migrate", "--database-url", database.owner_dsn)
            database.stop()
            server = Server(folder / "data", settings={"database_url": database.runtime_dsn}, start=False)
            server.launch()
            async with asyncio.timeout(60):
                while "waiting for the database" not in server.output():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            database.start()
            server.wait_until_ready()
            server.stop()


def push(server: Server, user: str, title: str) -> httpx.Response:
    """One insert into the user's personal space."""
    return httpx.post(
        f"{server.url}/sync/todo",
        headers={"Authorization": f"Bearer {server.token(user)}", "X-Client-Id": f"{user}-1"},
        json={
            "clientId": f"{user}-1",
            "changes": [{"changeId": os.urandom(8).hex(), "table": "t", "id": "1", "op": "insert",
                         "fields": {"title": {"value": title, "at": "2026-01-01T00:00:00Z"}}}],
        },
        timeout=500,
    )  # fmt: skip
