"""A page of the server's own, whole in one answer: light and dark, and as wide as a phone is."""

from __future__ import annotations

import re
from html import escape

from syncd.edge.answers import Answer
from syncd.edge.files import safe
from syncd.edge.requests import Request

# It has no script, and its one style is in it.
_POLICY = (
    b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'"
)
_STYLE = (
    ":root{color-scheme:light dark;--text:#1c2128;--ground:#fff;--link:#0550ae;--code:#f3f4f6;--mark:#fff3bf}"
    "@media(prefers-color-scheme:dark){"
    ":root{--text:#e6e8eb;--ground:#14171b;--link:#7cb7ff;--code:#22272e;--mark:#4d3d00}}"
    "body{font:1rem/1.55 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem;color:var(--text);"
    "background:var(--ground)}"
    "h1,h2,h3{line-height:1.25}a{color:var(--link)}:focus-visible{outline:3px solid var(--link);outline-offset:2px}"
    "code,pre{font:.9em/1.5 ui-monospace,monospace;background:var(--code);border-radius:4px}"
    "code{padding:.1em .3em;overflow-wrap:anywhere}pre{padding:.8rem;overflow-x:auto}"
    "pre code{padding:0;overflow-wrap:normal}:target{background:var(--mark)}"
)
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='7' fill='%230550ae'/%3E%3C/svg%3E"
)


def page(title: str, body: str, status: int = 200, headers: list[tuple[bytes, bytes]] | None = None) -> Answer:
    """`body` is HTML, `title` text, which is the heading too."""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<link rel="icon" href="{_ICON}"><title>{escape(title)}</title><style>{_STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )
    return Answer(html.encode(), status, b"text/html; charset=utf-8", [*safe(_POLICY), *(headers or [])])


def text(words: str) -> str:
    """Text as HTML, with code where it stands between backticks."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(words, quote=False))


def shell(command: str) -> str:
    """A command as a block, which the keyboard can scroll."""
    return f'<pre tabindex="0"><code>{escape(command, quote=False)}</code></pre>'


def reads_html(request: Request) -> bool:
    """Whether it is a browser that asks: it names HTML before anything else that is read here."""
    return b"text/html" in request.headers.get(b"accept", b"")
