"""The applications of docs/guide/mounting.md, made as the page says, serve."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from syncd.postgres.cluster import PORT
from syncd.postgres.embedded import EmbeddedPostgres
from tests.support.programs import REPOSITORY, psql
from tests.support.wire import unique

PAGE = (REPOSITORY / "docs/guide/mounting.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^```python\n# (\S+\.py)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = [shlex.split(line) for block in re.findall(r"(?ms)^```sh\n(.*?)^```", PAGE) for line in block.splitlines()]
OWNER_URL, APP_URL = "postgresql://postgres@localhost/shop", "postgresql://syncd_app:secret@localhost/shop"

pytestmark = pytest.mark.timeout(300)


class Application:
    """A folder with an application of the page's, its database, and what is typed there."""

    def __init__(self, folder: Path, database: EmbeddedPostgres) -> None:
        self.folder, self._database = folder, database
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.name = unique("shop").replace("-", "_")
        self._sql(database.owner_dsn, f'CREATE DATABASE "{self.name}"')
        self.owner = database.dsn(database.owner_dsn.split("//")[1].split("@")[0], self.name)
        self.environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def _sql(self, dsn: str, statement: str) -> str:
        return psql("-d", dsn, "-c", statement)

    def here(self, text: str) -> str:
        """What the page says, with the test's database and port."""
        role, at = self.owner.split("//")[1].split("@")[0], f'"{self._database.socket_dir}", "PORT": "{PORT}"'
        text = text.replace(OWNER_URL, self.owner).replace(APP_URL, self._database.dsn("syncd_app", self.name))
        text = text.replace('"localhost"', at).replace('"NAME": "shop"', f'"NAME": "{self.name}"')
        return text.replace('"USER": "postgres"', f'"USER": "{role}"').replace(
            "localhost:8000", f"127.0.0.1:{self.port}"
        )

    def write(self, name: str, *, append: bool = False) -> None:
        """A file of the page's."""
        path = self.folder / name
        before = path.read_text(encoding="utf-8") if append else ""
        path.write_text(before + self.here(FILES[name]), encoding="utf-8")

    def type(self, command: list[str]) -> str:
        """A command, to its end; what it printed."""
        command = [self.here(word) for word in command]
        if command[0] == "psql":
            self._sql(self._database.owner_dsn, "DROP ROLE IF EXISTS syncd_app")
            return psql("-d", *command[1:])
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    @contextlib.contextmanager
    def served(self, command: list[str]) -> Iterator[httpx.Client]:
        """A server, until the end of the block, which it does not outlive."""
        with (self.folder / "log").open("w+") as log:
            process = subprocess.Popen(
                [*command, "--port", str(self.port)], cwd=self.folder, env=self.environment, stdout=log, stderr=log
            )
            try:
                with httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30) as http:
                    while True:
                        assert process.poll() is None, (self.folder / "log").read_text()
                        with contextlib.suppress(httpx.HTTPError):
                            assert http.get("/sync/readyz").json() == {"status": "ready"}
                            break
                        time.sleep(0.05)
                    yield http
            finally:
                process.terminate()
                process.wait(40)


@pytest.fixture
def application(folder: Path, database: EmbeddedPostgres) -> Application:
    return Application(folder, database)


def commands(program: str) -> list[list[str]]:
    return [command for command in COMMANDS if program in " ".join(command)]


def test_a_fastapi_and_a_starlette_application_sync_devices(application: Application) -> None:
    for command in (commands("syncd migrate")[0], commands("psql")[0]):
        application.type(command)
    for name in ("app.py", "device.py", "lifespan.py", "starlette_app.py", "notes_rules.py", "two_devices.py"):
        application.write(name)
    app = application.folder / "app.py"
    ruled = app.read_text().replace("authenticate=caller)", "authenticate=caller, rules=[titled])")
    app.write_text(f"from notes_rules import titled\n{ruled}")
    with application.served(commands("app:app")[0]) as http:
        assert application.type([sys.executable, "device.py"]).splitlines() == ["1"]
        said = application.type([sys.executable, "two_devices.py"]).splitlines()
        assert said == re.findall(r"  # (.*)$", FILES["two_devices.py"], re.MULTILINE)
        assert http.get("/sync/spaces").status_code == 401
        assert http.post("/sign-in/ada").status_code == 200
        page = http.get("/sync/sync/notes/pull", params={"since": ""}, headers={"x-sync-protocol": "1"})
        assert {change["id"] for change in page.json()["serverChanges"]} == {"p1", "p2"}
    application.type([sys.executable, "-c", "import lifespan"])
    with application.served(["uvicorn", "starlette_app:app"]) as http:
        assert http.get("/sync/spaces").json()["code"] == "unauthorized"


SIGN_IN = """
from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
ada = User.objects.create_user("ada")
session = SessionStore()
session[SESSION_KEY], session[HASH_SESSION_KEY] = ada.pk, ada.get_session_auth_hash()
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session.save()
print("session", session.session_key)
"""


def test_a_django_project_syncs_its_signed_in_users(application: Application) -> None:
    application.type(["django-admin", "startproject", "shop", "."])
    application.write("shop/settings.py", append=True)
    settings = application.folder / "shop/settings.py"
    settings.write_text(settings.read_text() + 'SYNCD = {"recheck": 0.3}\nALLOWED_HOSTS = ["*"]\n')
    application.write("shop/asgi.py")
    migrate, check = commands("manage.py migrate")[0], commands("manage.py check")[0]
    assert "functions" in application.type(migrate)
    assert "syncd" not in application.type(migrate)  # nothing more to do
    application.type(commands("psql")[1])
    assert "no issues" in application.type(check)
    shell = ["python", "manage.py", "shell", "-c"]
    key = re.search(r"session (\w+)", application.type([*shell, SIGN_IN]))
    assert key is not None
    cookie = {"cookie": f"sessionid={key[1]}"}
    device = {**cookie, "x-client-id": "phone", "x-sync-protocol": "1"}
    with application.served(commands("shop.asgi")[0]) as http:
        assert http.get("/admin/login/").status_code == 200
        assert http.get("/sync/spaces").status_code == 401
        change = {"table": "pages", "id": "p1", "op": "insert", "changeId": "c1"}
        change |= {"fields": {"title": {"value": "Beds", "at": "2026-01-01T00:00:00Z"}}}
        pushed = http.post("/sync/sync/notes", headers=device, json={"changes": [change]})
        assert pushed.json()["results"][0]["status"] == "applied", pushed.text
        with connect(f"ws://127.0.0.1:{application.port}/sync/ws/notes", additional_headers=cookie) as live:
            live.send('{"type":"auth","token":"","clientId":"tablet","protocol":1}')
            assert '"userId":"1"' in str(live.recv(30))
            application.type(
                [*shell, "from django.contrib.sessions.models import Session; Session.objects.all().delete()"]
            )
            with pytest.raises(ConnectionClosed, match="4401"):
                list(live)  # a heartbeat may be under way
        assert http.get("/sync/spaces", headers=cookie).status_code == 401


def test_all_of_the_page_s_python_is_a_file() -> None:
    assert PAGE.count("```python\n") == len(FILES)
