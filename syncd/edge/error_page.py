"""The page /docs/errors: a paragraph for each code, where a problem's `type` leads."""

from __future__ import annotations

import re
from functools import cache
from html import escape

from syncd.core.error_codes import CLIENT_GROUPS, GROUPS, ErrorCode

_HEAD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>Error codes of syncd</title>"
    "<style>body{font:1rem/1.5 sans-serif;max-width:45rem;margin:2rem auto;padding:0 1rem}"
    ":target{background:#ff9}</style>"
    "<h1>Error codes of syncd</h1>"
)


@cache
def error_page() -> bytes:
    """The page, as HTML in UTF-8."""
    groups = (GROUPS | CLIENT_GROUPS).items()
    parts = (f"<h2>{_text(name)}</h2>{''.join(map(_paragraph, rows))}" for name, rows in groups)
    return f"{_HEAD}{''.join(parts)}</html>".encode()


def _paragraph(row: ErrorCode) -> str:
    status = f" (status {row.status})" if row.status else ""
    said = f"{_text(row.cause)} {_text(row.remedy)}<br>Retry: {_text(row.retry.value)}."
    return f'<section id="{row.code}"><h3><code>{row.code}</code>{status}</h3><p>{said}</p></section>'


def _text(text: str) -> str:
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
