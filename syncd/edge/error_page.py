"""The page /docs/errors: a paragraph for each code, where a problem's `type` leads."""

from __future__ import annotations

from functools import cache

from syncd.core.error_codes import CLIENT_GROUPS, GROUPS, ErrorCode
from syncd.edge.answers import Answer
from syncd.edge.page import page, text


@cache
def error_page() -> Answer:
    """The page."""
    groups = (GROUPS | CLIENT_GROUPS).items()
    return page(
        "Error codes of syncd",
        "".join(f"<h2>{text(name)}</h2>{''.join(map(_paragraph, rows))}" for name, rows in groups),
    )


def _paragraph(row: ErrorCode) -> str:
    status = f" (status {row.status})" if row.status else ""
    said = f"{text(row.cause)} {text(row.remedy)}<br>Retry: {text(row.retry.value)}."
    return f'<section id="{row.code}"><h3><code>{row.code}</code>{status}</h3><p>{said}</p></section>'
