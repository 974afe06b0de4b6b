"""The page at /, for a browser: what this is, and the next three steps."""

from __future__ import annotations

import ipaddress
import re

from syncd.edge.answers import Answer
from syncd.edge.page import page, shell, text
from syncd.edge.requests import Request

HOST = re.compile(r"[A-Za-z0-9.-]+(:\d+)?|\[[0-9a-fA-F:.]+\](:\d+)?")
# What a proxy adds, besides those that begin with X-Forwarded-. One on this machine comes over the loopback as well.
FORWARDING = (b"forwarded", b"via", b"x-real-ip")
# It is made for who asks, and a program that asks at the same address is told something else.
HEADERS = [(b"cache-control", b"no-store"), (b"vary", b"accept")]
CHANGE = (
    '{"changes": [{"changeId": "c1", "table": "pages", "id": "p1", "op": "insert",\n'
    '  "fields": {"title": {"value": "Beds", "at": "2026-01-01T00:00:00Z"}}}]}'
)


class Welcome:
    """`token` is the command that prints a token for this server, "" where another service makes them, None where the
    application does without that it is mounted in. It names folders of the server, so it is shown on that machine
    alone."""

    def __init__(self, token: str | None, *, docs: bool, demo: bool) -> None:
        self._token, self._docs, self._demo = token, docs, demo

    def answer(self, request: Request) -> Answer:
        """The page, with the address at which the browser asked."""
        host = request.header(b"host")
        root = request.root
        address = f"{_scheme(request)}://{host if HOST.fullmatch(host) else 'localhost'}{root}"
        steps = [self._get_token(_is_here(request, host)), _write(address), self._go_on(root)]
        body = (
            "<p>This is an offline-first sync server, and it is running. Applications keep their records in a database "
            "on the device, and sync them here when they can.</p>"
            f"{''.join(f'<h2>{number}. {step}' for number, step in enumerate(steps, 1))}"
            f"<h2>More</h2><ul>{''.join(f'<li>{link}</li>' for link in self._links(root))}</ul>"
        )
        return page("syncd", body, headers=HEADERS)

    def _get_token(self, here: bool) -> str:
        if self._token is None:
            way = "This application says whose a request is: its sign-in is yours here, too. See its own documentation."
            return f"Sign in</h2><p>{text(way)}</p>"
        if not self._token:
            way = "Your identity provider makes the tokens of this server. Sign in there, and keep yours in a variable."
            return f"Get a token</h2><p>{text(way)}</p>{shell('export TOKEN=…')}"
        if not here:
            way = "The command `syncd token` prints one, on the server's machine. Keep the token in a variable."
            return f"Get a token</h2><p>{text(way)}</p>{shell('export TOKEN=…')}"
        way = "A token says who the user is. This command makes one for a user called ada, for an hour."
        if "…" in self._token:
            way += " Put the server's secret in place of the dots, or leave that part out in a terminal that has it."
        return f"Make a token</h2><p>{text(way)}</p>{shell(f'export TOKEN=$({self._token})')}"

    def _go_on(self, root: str) -> str:
        if self._docs:
            tutorial = f'<a href="{root}/docs/tutorial.html">tutorial</a>'
            way = f"<p>The {tutorial} goes from nothing to two devices that agree after "
            return f"Build an application</h2>{way}both were offline, in Python and in TypeScript.</p>"
        way = "The tutorial is part of the documentation, which was not built with this server: `make docs` builds it."
        return f"Build an application</h2><p>{text(way)}</p>"

    def _links(self, root: str) -> list[str]:
        links = [f'<a href="{root}/docs/">The documentation</a>'] if self._docs else []
        links += ['<a href="/demo/">The demonstration board</a>'] if self._demo else []
        links.append(f'<a href="{root}/docs/errors">Error codes</a>, each with its cause and what to do')
        links.append(f'<a href="{root}/openapi.json">/openapi.json</a>, the interface for programs')
        links.append(f'<a href="{root}/readyz">/readyz</a>, whether the server is ready')
        return links


def _write(address: str) -> str:
    headers = '-H "Authorization: Bearer $TOKEN" -H "X-Client-Id: laptop" -H "X-Sync-Protocol: 1"'
    push = f"curl {headers} {address}/sync/notes --json '{CHANGE}'"
    pull = f'curl {headers} "{address}/sync/notes/pull?since="'
    said = "The first command writes a record, as a device called laptop does. The second reads all records back."
    return f"Write a record, and read it back</h2><p>{said}</p>{shell(push)}{shell(pull)}"


def _scheme(request: Request) -> str:
    """As the browser has it, where a proxy says so."""
    secure = request.headers.get(b"x-forwarded-proto") == b"https" or request.scope.get("scheme") == "https"
    return "https" if secure else "http"


def _is_here(request: Request, host: str) -> bool:
    """Whether the browser is on the server's machine: it came over the loopback, by itself, and asked for that by name,
    and no page of another site had it ask."""
    name = host.rsplit(":", 1)[0].strip("[]") if HOST.fullmatch(host) else ""
    if not (_is_loopback(request.peer) and (name == "localhost" or _is_loopback(name))):
        return False
    headers = request.headers
    if any(header in FORWARDING or header.startswith(b"x-forwarded-") for header in headers):
        return False
    own = (b"", f"http://{host}".encode())
    return headers.get(b"sec-fetch-site") != b"cross-site" and headers.get(b"origin", b"") in own


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
