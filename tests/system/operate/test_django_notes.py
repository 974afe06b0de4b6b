"""The project of examples/django_notes: Django's login, a row and a record in one transaction, offline phones."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from syncd_client import Replica, spaces

from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.programs import REPOSITORY, psql

PROJECT = REPOSITORY / "examples/django_notes"
PASSWORD = "a long word"
# A commit that fails behind the write of the record.
LATE = """
CREATE FUNCTION public.late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE unique_violation; END $$;
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON public.notes_link DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.slug = 'late') EXECUTE FUNCTION public.late();
"""
ROLES = ("notes", "syncd_app")


class Notes:
    """The project in a new database, made as its settings say."""

    def __init__(self, database: EmbeddedPostgres, log: Path) -> None:
        self._database, self._log, self._name = database, log, f"notes_{secrets.token_hex(4)}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        host = {"PGHOST": str(database.socket_dir), "PGDATABASE": self._name, "NOTES_SECRET": secrets.token_hex(32)}
        self._serving = {**os.environ, **host}
        self._owning = {**self._serving, "PGUSER": "postgres"}

    def manage(self, *words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(command, cwd=PROJECT, env=self._owning, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def sql(self, statement: str) -> str:
        return psql("-At", "-d", self._database.dsn("postgres", self._name), "-c", statement).strip()

    def administer(self, *statements: str) -> None:
        psql("-d", self._database.owner_dsn, *(word for one in statements for word in ("-c", one)))

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        # Roles are the whole cluster's, and another test may have left one of these names.
        for role in ROLES:
            self.administer(f"DROP ROLE IF EXISTS {role}", f"CREATE ROLE {role} LOGIN")
        self.administer(f'CREATE DATABASE "{self._name}" OWNER notes')
        try:
            assert "notes.0001_initial" in self.manage("migrate")
            assert "Running syncd's migrations" in self.manage("migrate", "--database", "owner")
            self.sql("GRANT syncd_writer TO notes; GRANT syncd_runtime TO syncd_app")
            assert "no issues" in self.manage("check", "--database", "syncd")
            yield
        finally:
            self.administer(f'DROP DATABASE "{self._name}" WITH (FORCE)', *(f"DROP ROLE {role}" for role in ROLES))

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        command = [sys.executable, "-m", "uvicorn", "notes.asgi:application", "--port", str(self._port)]
        with self._log.open("w") as log:
            process = subprocess.Popen(command, cwd=PROJECT, env=self._serving, stdout=log, stderr=log)
        try:
            while True:
                assert process.poll() is None, self._log.read_text()
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{self.url}/sync/readyz", timeout=30).is_success:
                        break
                time.sleep(0.05)
            yield
        finally:
            process.terminate()
            process.wait(40)


@pytest.fixture
def notes(database: EmbeddedPostgres, folder: Path) -> Iterator[Notes]:
    notes = Notes(database, folder / "log")
    with notes.made(), notes.served():
        yield notes


class Browser(httpx.Client):
    """Fills in forms. `user`: the primary key, once a phone was asked for."""

    def __init__(self, notes: Notes, name: str) -> None:
        super().__init__(base_url=notes.url, timeout=60)
        assert self.fill("/sign-up/", username=name, password1=PASSWORD, password2=PASSWORD).status_code == 302
        assert self.fill("/sign-in/", username=name, password="a guess").status_code == 200
        assert self.get("/").status_code == 302
        assert self.fill("/sign-in/", username=name, password=PASSWORD).status_code == 302
        self.phone = self.post("/phones/", headers={"x-csrftoken": self.cookies["csrftoken"]}).json()

    def fill(self, path: str, **fields: str) -> httpx.Response:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', self.get(path).text)
        assert found is not None
        return self.post(path, data={"csrfmiddlewaretoken": found[1], **fields})

    def replica(self, path: Path) -> Replica:
        return Replica(path, app="notes", url=f"{self.base_url}/sync", **self.phone)


def test_notes_sync_and_are_published_in_one_transaction(notes: Notes, folder: Path) -> None:
    notes.sql(LATE)
    with (
        contextlib.closing(Browser(notes, "ann")) as ann,
        contextlib.closing(Browser(notes, "ben")) as ben,
        ann.replica(folder / "phone") as phone,
        ann.replica(folder / "tablet") as tablet,
        ben.replica(folder / "ben") as other,
    ):
        two_devices_agree(phone, tablet)
        for path in ("/", "/sync/spaces"):
            assert httpx.get(notes.url + path).status_code == (302 if path == "/" else 401)
        # A cookie can spell characters that no database takes in a key.
        odd = {"cookie": 'sessionid="aaaa\\000bbb"'}
        assert httpx.get(f"{notes.url}/sync/spaces", headers=odd).status_code == 401
        # Neither phone nor page of another user's shows them.
        other.sync()
        assert other.query("notes") == []
        assert "Milk" in ann.get("/").text
        assert "Milk" not in ben.get("/").text
        assert "There is no such note" in ben.fill("/publish/", slug="mine", note="n1").text
        the_team_shares(ann, ben, phone, other)
        a_row_and_a_record(notes, ann, phone)
        ann.cookies.clear()
        assert ann.get("/sync/spaces", headers={"authorization": f"Bearer {ann.phone['token']}x"}).status_code == 401


def two_devices_agree(phone: Replica, tablet: Replica) -> None:
    phone.put("notes", "n1", {"text": "Milk"})
    phone.sync()
    tablet.sync()
    # Both are offline now.
    phone.patch("notes", "n1", {"text": "Milk & bread"})
    tablet.patch("notes", "n1", {"done": True})
    tablet.put("notes", "n2", {"text": "Call Ben"})
    for device in (phone, tablet, phone):
        device.sync()
    assert phone.query("notes") == tablet.query("notes")
    assert phone.get("notes", "n1") == {"text": "Milk & bread", "done": True}


def the_team_shares(ann: Browser, ben: Browser, phone: Replica, other: Replica) -> None:
    spaces.create_space(phone, "Team", "team")
    spaces.put_member(phone, "team", ben.phone["user"])
    phone.put("notes", "t1", {"text": "Ours"}, space="team")
    phone.sync()
    other.sync()
    assert other.get("notes", "t1", space="team") == {"text": "Ours"}
    assert "Ours" in ann.get("/").text
    assert "Ours" in ben.get("/").text
    spaces.put_member(phone, "team", ben.phone["user"], "reader")
    assert ben.fill("/publish/", slug="ours", note="t1", space="team").status_code == 200
    assert ann.fill("/publish/", slug="ours", note="t1", space="team").status_code == 302
    assert "Ours" in httpx.get(f"{ann.base_url}/n/ours/").text


def a_row_and_a_record(notes: Notes, ann: Browser, phone: Replica) -> None:
    assert "This address is taken" in ann.fill("/publish/", slug="late", note="n1").text
    phone.sync()
    assert "link" not in phone.get("notes", "n1")
    assert ann.fill("/publish/", slug="milk", note="n1").status_code == 302
    assert notes.sql("SELECT string_agg(slug, ' ' ORDER BY slug) FROM public.notes_link") == "milk ours"
    phone.sync()
    assert phone.get("notes", "n1")["link"] == "milk"
    assert "Milk &amp; bread" in httpx.get(f"{ann.base_url}/n/milk/").text
    phone.delete("notes", "n1")
    phone.sync()
    assert httpx.get(f"{ann.base_url}/n/milk/").status_code == 404
