"""`syncd doctor` as its users meet it: what it finds, and what it says to do."""

from __future__ import annotations

import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.command_line import doctor, syncd
from tests.support.harness import Server


class TestDoctor:
    def test_a_running_server_is_well(self, server: Server) -> None:
        code, found = doctor("--data-dir", server.data_dir)
        # Other tests leave held changes on this server, of which it warns.
        assert [each for each in found.values() if each["status"] != "ok" and each["check"] != "held changes"] == []
        assert code == 0
        assert {"migrations", "runtime role", "row security", "durability", "clock", "secret", "socket"} <= set(found)

    def test_people_get_lines_and_what_mends_them(self, server: Server) -> None:
        done = syncd("doctor", "--data-dir", server.data_dir, env={"SYNCD_JWT_SECRET": "short", "SYNCD_PROT": "1"})
        assert done.returncode == 1
        assert "FAIL  secret: 5 bytes can be guessed" in done.stdout
        assert "fix it: export SYNCD_JWT_SECRET=" in done.stdout
        assert "fix it: perhaps SYNCD_PORT" in done.stdout

    def test_before_the_first_start(self, folder: Path) -> None:
        code, found = doctor("--data-dir", folder / "new")
        assert code == 0
        assert "will be made" in found["data directory"]["detail"]
        assert not (folder / "new").exists()

    def test_a_stopped_server(self, folder: Path) -> None:
        with EmbeddedPostgres(folder / "data"):
            pass
        code, found = doctor("--data-dir", folder / "data")
        assert (code, found["database"]["status"]) == (0, "warn")

    def test_a_database_that_is_not_there(self) -> None:
        url = "postgresql://me:hidden@127.0.0.1:1/nothing"
        code, found = doctor(env={"SYNCD_DATABASE_URL": url})
        assert (code, found["database"]["status"]) == (1, "FAIL")
        assert "hidden" not in str(found)

    @pytest.mark.parametrize(
        ("break_it", "restore", "said"),
        [
            ("ALTER TABLE syncd.sync_changes NO FORCE ROW LEVEL SECURITY",
             "ALTER TABLE syncd.sync_changes FORCE ROW LEVEL SECURITY", "not forced on sync_changes"),
            ("ALTER TABLE syncd.sync_records DISABLE ROW LEVEL SECURITY",
             "ALTER TABLE syncd.sync_records ENABLE ROW LEVEL SECURITY", "off on sync_records"),
            ("ALTER POLICY members_read ON syncd.sync_records RENAME TO members_peek",
             "ALTER POLICY members_peek ON syncd.sync_records RENAME TO members_read", "lacks the policy members_read"),
            ("CREATE POLICY everybody ON syncd.sync_changes USING (true)",
             "DROP POLICY everybody ON syncd.sync_changes", "not syncd's: everybody"),
        ],
    )  # fmt: skip
    async def test_tampered_row_security(
        self, database: EmbeddedPostgres, break_it: str, restore: str, said: str
    ) -> None:
        conn = await asyncpg.connect(database.owner_dsn)
        await conn.execute(break_it)
        try:
            code, found = doctor(env={"SYNCD_DATABASE_URL": database.runtime_dsn})
        finally:
            await conn.execute(restore)
            await conn.close()
        assert code == 1
        assert said in found["row security"]["detail"]
        assert "FORCE ROW LEVEL SECURITY" in found["row security"]["remedy"]

    async def test_a_database_that_forgets(self, folder: Path) -> None:
        with EmbeddedPostgres(folder / "data") as database:
            conn = await asyncpg.connect(database.owner_dsn)
            await conn.execute("ALTER ROLE syncd_runtime SET synchronous_commit = off")
            await conn.close()
            code, found = doctor(env={"SYNCD_DATABASE_URL": database.runtime_dsn})
        assert found["durability"]["status"] == "warn"
        assert "synchronous_commit is off" in found["durability"]["detail"]
        assert found["migrations"]["status"] == "FAIL"
        assert code == 1

    async def test_an_encoding_that_cannot_hold_every_text(self, database: EmbeddedPostgres) -> None:
        conn = await asyncpg.connect(database.dsn("postgres", "postgres"))
        name = f"latin_{os.urandom(3).hex()}"
        await conn.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        )
        try:
            _, found = doctor(env={"SYNCD_DATABASE_URL": database.dsn("postgres", name)})
        finally:
            await conn.execute(f"DROP DATABASE {name}")
            await conn.close()
        assert found["encoding"]["status"] == "FAIL"
        assert found["runtime role"]["status"] == "FAIL"

    def test_the_services_that_it_asks(self, folder: Path) -> None:
        answers = {"/keys": b'{"keys": []}', "/bad": b"[]", "/spaces?userId=syncd-doctor": b"[]"}

        class Service(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = answers.get(self.path)
                self.send_response(500 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *arguments: Any) -> None:
                """Quietly."""

        with HTTPServer(("127.0.0.1", 0), Service) as service:
            threading.Thread(target=service.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{service.server_port}"
            env = {"SYNCD_MEMBERSHIPS": "service", "SYNCD_DATA_DIR": str(folder / "new")}
            good = {"SYNCD_JWKS_URL": f"{url}/keys", "SYNCD_MEMBERSHIPS_URL": f"{url}/spaces"}
            bad = {"SYNCD_JWKS_URL": f"{url}/bad", "SYNCD_MEMBERSHIPS_URL": f"{url}/broken"}
            code, found = doctor(env=env | good)
            assert (code, found["JWKS"]["status"], found["memberships"]["status"]) == (0, "ok", "ok")
            code, found = doctor(env=env | bad)
            assert (code, found["JWKS"]["status"], found["memberships"]["status"]) == (1, "FAIL", "FAIL")
            service.shutdown()

    def test_folders_and_files_that_others_can_get_at(self, folder: Path) -> None:
        (folder / "jwt_secret").write_text("x" * 40)
        (folder / "jwt_secret").chmod(0o644)
        folder.chmod(0o777)
        code, found = doctor("--data-dir", folder)
        assert (code, found["data directory"]["status"], found["secret"]["status"]) == (1, "warn", "FAIL")

    def test_a_path_too_long_for_a_socket(self, folder: Path) -> None:
        path = folder / ("long" * 30)
        with EmbeddedPostgres(path) as database:
            pass
        _, found = doctor("--data-dir", path)
        assert (found["socket"]["status"], str(database.socket_dir) in found["socket"]["detail"]) == ("warn", True)
        shutil.rmtree(database.socket_dir)
