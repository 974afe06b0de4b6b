"""What a browser is shown: the page at /, and the documentation at /docs."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from syncd.cli.token import token_command_line
from syncd.core.errors import NotFound
from syncd.edge.bytes_held import BytesHeld
from syncd.edge.docs import Docs
from syncd.edge.files import Files
from syncd.edge.requests import Request
from syncd.edge.welcome import Welcome
from syncd.settings import Settings
from tests.support.documentation import site
from tests.support.harness import Server
from tests.support.wire import unique

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SECRET = "a secret that is long enough to be one"


@pytest.fixture(scope="module")
def browser(workspace: Path) -> Iterator[httpx.Client]:
    """A browser, as far as headers go, of a server with the documentation."""
    site()
    with Server(workspace / "with-docs") as server, httpx.Client(base_url=server.url, headers=BROWSER) as client:
        yield client


def commands(page: str) -> list[str]:
    """What the page shows to be typed."""
    return [unescape(block) for block in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", page, re.DOTALL)]


def request(path: str = "/", host: str = "localhost", client: str = "127.0.0.1", **headers: str) -> Request:
    """One that no server has seen."""
    named = {b"host": host.encode(), **{name.encode(): value.encode() for name, value in headers.items()}}
    scope: dict[str, Any] = {
        "method": "GET", "headers": list(named.items()), "query_string": b"", "client": (client, 1),
        "raw_path": path.encode(),
    }  # fmt: skip
    return Request(scope, lambda: None, BytesHeld(1 << 20))  # type: ignore[arg-type,return-value]


def shown(page: Any) -> str:
    return bytes(page.body).decode()


def test_the_commands_of_the_first_page_work_as_they_are_shown(browser: httpx.Client, tmp_path: Path) -> None:
    page = browser.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    typed = "\n".join(commands(page.text)).replace(" token ada", f" token {unique('ada')}").replace("curl ", "curl -s ")
    done = subprocess.run(["bash", "-ec", typed], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"status":"applied"' in done.stdout
    assert '"Beds"' in done.stdout


def test_the_first_page_leads_on(browser: httpx.Client) -> None:
    links = re.findall(r'href="(/[^"]*)"', browser.get("/").text)
    assert {"/docs/", "/docs/tutorial.html", "/openapi.json"} <= {*links}
    assert [link for link in links if browser.get(link).status_code != 200] == []


@pytest.mark.parametrize("accept", ["*/*", "application/json", ""])
def test_a_program_is_told_at_the_root_what_it_was_told_before(browser: httpx.Client, accept: str) -> None:
    answer = browser.get("/", headers={"accept": accept})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("host", "client"), [("sync.example.org", "127.0.0.1"), ("localhost:3050", "192.0.2.7"), ("[2001:db8::1]", "::1")]
)
def test_the_server_s_folders_are_named_on_its_own_machine_alone(host: str, client: str) -> None:
    welcome = Welcome("syncd token ada --data-dir /srv/syncd", docs=True, demo=False)
    assert "/srv/syncd" in shown(welcome.answer(request()))
    assert "/srv/syncd" in shown(welcome.answer(request(host="[::1]:3050", client="::1")))
    assert "/srv/syncd" not in shown(welcome.answer(request(host=host, client=client)))


@pytest.mark.parametrize(
    "header",
    [
        {"forwarded": "for=192.0.2.7"}, {"via": "1.1 proxy"}, {"x-forwarded-for": "127.0.0.1"}, {"x-real-ip": "::1"},
        {"x-forwarded-host": "localhost"}, {"x-forwarded-proto": "http"}, {"sec-fetch-site": "cross-site"},
        {"origin": "http://evil.example"}, {"origin": "http://localhost:8080"}, {"origin": "null"},
    ],
    ids=str,
)  # fmt: skip
def test_they_are_named_to_nobody_through_a_proxy_or_from_another_site(
    header: dict[str, str], browser: httpx.Client
) -> None:
    assert "--data-dir" in browser.get("/", headers={"sec-fetch-site": "none"}).text
    assert "--data-dir" in browser.get("/", headers={"origin": str(browser.base_url).rstrip("/")}).text
    assert "--data-dir" not in browser.get("/", headers=header).text


def test_a_host_that_is_none_is_not_shown() -> None:
    welcome = Welcome("", docs=False, demo=True)
    assert "<script>" not in shown(welcome.answer(request(host="x<script>alert()</script>")))
    assert "http://localhost/sync/notes" in shown(welcome.answer(request(host="a b")))
    assert "https://a.example/sync/notes" in shown(
        welcome.answer(request(host="a.example", **{"x-forwarded-proto": "https"}))
    )


@pytest.mark.parametrize(
    "given",
    [
        {"SYNCD_DATA_DIR": "some where"},
        {"SYNCD_JWT_SECRET": SECRET},
        {"SYNCD_DATA_DIR": "x", "SYNCD_JWT_ISSUER": "an issuer", "SYNCD_JWT_AUDIENCE": "notes"},
        {"SYNCD_DATA_DIR": "x", "SYNCD_MEMBERSHIPS": "token"},
    ],
    ids=["data-dir", "secret", "claims", "memberships"],
)
def test_the_command_for_a_token_is_one_for_how_the_server_was_started(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.load(given)
    settings.data_dir.mkdir(exist_ok=True)
    (settings.data_dir / "jwt_secret").write_text(SECRET)
    command = token_command_line(settings).replace("SYNCD_JWT_SECRET=…", f"SYNCD_JWT_SECRET={shlex.quote(SECRET)}")
    done = subprocess.run(["bash", "-ec", command], cwd="/", capture_output=True, text=True, check=True)
    claims = jwt.decode(
        done.stdout.strip(), SECRET, ["HS256"], audience=settings.jwt_audience, issuer=settings.jwt_issuer
    )
    assert claims["sub"] == "ada"
    assert ("spaces" in claims) == (settings.memberships == "token")


def test_where_another_service_makes_the_tokens_no_command_is_shown() -> None:
    assert token_command_line(Settings.load({"SYNCD_JWKS_URL": "https://id.example/keys"})) == ""
    page = shown(Welcome("", docs=False, demo=False).answer(request()))
    assert "identity provider" in page
    assert "syncd token" not in page


def test_a_page_of_the_documentation_is_kept_until_it_changes(browser: httpx.Client) -> None:
    assert browser.get("/docs").headers["location"] == "/docs/"
    first = browser.get("/docs/")
    assert (first.status_code, first.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in first.headers["content-security-policy"]
    assert first.headers["x-content-type-options"] == "nosniff"
    again = browser.get("/docs/", headers={"if-none-match": f'"x", {first.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert browser.head("/docs/index.html").headers["etag"] == first.headers["etag"]


@pytest.mark.parametrize(
    ("path", "media"),
    [
        ("/docs/search.html", "text/html; charset=utf-8"),
        ("/docs/searchindex.js", "text/javascript; charset=utf-8"),
        ("/docs/_static/syncd.css", "text/css"),
        ("/docs/llms.txt", "text/plain; charset=utf-8"),
        ("/docs/operate/running.md", "text/markdown; charset=utf-8"),
    ],
)
def test_each_kind_of_file_says_what_it_is(browser: httpx.Client, path: str, media: str) -> None:
    answer = browser.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, media)


@pytest.mark.parametrize(
    "path",
    ["/docs/%2e%2e/app.py", "/docs/..%2fapp.py", "/docs/guide%2f..%2f..%2f..%2fMakefile", "/docs/a%00b", "/docs/a%5cb",
     "/docs/%2fetc%2fpasswd", "/docs//etc/passwd", "/docs/operate", "/docs/nothing.html", "/docs/index.html/x"],
)  # fmt: skip
def test_nothing_but_the_documentation_is_served_there(browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code in (400, 404)
    assert "root:" not in answer.text
    assert "STAMP" not in answer.text


@pytest.mark.parametrize("path", ["a" * 300, "a/" * 2500, "ä" * 200], ids=["segment", "path", "not-ascii"])
def test_what_is_too_long_to_be_a_file_is_not_there(path: str, browser: httpx.Client, tmp_path: Path) -> None:
    assert browser.get(f"/docs/{path}").status_code == 404
    assert browser.get(f"/docs/{path}", headers={"accept": "*/*"}).json()["code"] == "not_found"
    with pytest.raises(NotFound):
        Files(tmp_path, []).answer(request(), tuple(path.split("/")))


def test_the_documentation_is_only_read(browser: httpx.Client) -> None:
    assert {browser.request(method, "/docs/").status_code for method in ("POST", "PUT", "DELETE")} == {405}


def test_where_it_was_not_built_a_browser_and_a_program_are_told_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("syncd.edge.docs.FOLDERS", (Path("/nowhere"),))
    docs = Docs()
    page = docs.handle(request(accept="text/html"), ("docs",))
    assert page.status == 404
    assert "<code>make docs</code>" in shown(page)
    with pytest.raises(NotFound, match="make docs"):
        docs.handle(request(), ("docs", "index.html"))
    assert docs.handle(request(), ("docs", "errors")).status == 200
