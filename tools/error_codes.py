"""Writes what is made from the table of error codes: `make error-codes`. A test compares the files with it."""

from __future__ import annotations

import json
from pathlib import Path

from syncd.core.error_codes import CLIENT_CODES, CLIENT_GROUPS, CLOSED, GROUPS, ErrorCode, Retry, close_code_of

ROOT = Path(__file__).resolve().parents[1]
NOT_FOR_CLIENTS = ("Imports of a backup", "`syncd import --from`")
# What TypeScript's core says by itself, where every byte counts.
SHOWN = ("space_left", "no_socket", "store_lost", "no_crypto")
FOR_CLIENTS = [row for name, rows in (GROUPS | CLIENT_GROUPS).items() if name not in NOT_FOR_CLIENTS for row in rows]
# Socket codes that pass by themselves are dealt with by reconnecting, not by sending the same again.
RETRYABLE = [row.code for row in GROUPS["What passes by itself"]]
NO_ACCESS = [row.code for rows in GROUPS.values() for row in rows if row.retry in (Retry.ACCESS, Retry.TOKEN)]
MADE = "Made by `make error-codes` from syncd/core/error_codes.py: change it there."

_INTRODUCTION = f"""# Error codes

{MADE}

A refusal is a problem ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)), `application/problem+json`:

```json
{{"type":"/docs/errors#space_not_found","title":"Space not found","status":404,"code":"space_not_found","detail":"…"}}
```

- `code` is stable and for programs. `detail` is for people and may change. `errors`, where there are any, point into
  the request: `[{{"pointer","detail","code"?}}]`, `code` where a change may not be written.
- `type` is the address of the code's paragraph. It is relative to the server, which serves these paragraphs at
  `/docs/errors`. Compare `code`, not `type`.
- A code without a status is that of a single change (`"status":"rejected"` in `results`), of a socket or of an import.
- On a WebSocket the same code comes as `{{"type":"error","code","detail","errors"?,"retryAfter"?}}`, or, where the
  connection cannot go on, as a close code.
"""


def markdown() -> str:
    """docs/reference/errors.md."""
    parts = [_INTRODUCTION]
    for name, rows in (GROUPS | CLIENT_GROUPS).items():
        parts += [f"## {name}\n", *(_paragraph(row) for row in rows)]
    closed = "\n".join(f"| {number} | [`{code}`](#{code}) |" for number, code in CLOSED.items())
    parts.append(f"## Close codes\n\n| closed with | means |\n|---|---|\n{closed}\n")
    return "\n".join(parts)


def _paragraph(row: ErrorCode) -> str:
    facts = [f"Status {row.status}" if row.status else "", f"Retry-After {row.retry_after}" if row.retry_after else ""]
    if row.close:
        facts.append(f"closes a socket with {close_code_of(row)}")
    said = ", ".join(fact for fact in facts if fact)
    head = f"{said[0].upper()}{said[1:]}. " if said else ""
    return f"### {row.code}\n\n{head}{row.cause} {row.remedy}\\\nRetry: {row.retry.value}.\n"


def python() -> str:
    """clients/python/syncd_client/error_codes.py."""
    texts = "".join(f"    {_q(r.code)}: (\n        {_q(r.cause)},\n        {_q(r.remedy)}),\n" for r in FOR_CLIENTS)
    return f'''"""Error codes: what they mean, and what to do.

{MADE}
"""

# fmt: off

# Refusals that pass by themselves.
RETRYABLE = frozenset({{
{_indented(RETRYABLE)}}})

# Refusals that pass when somebody gives access, or a new token.
NO_ACCESS = frozenset({{{_list(NO_ACCESS)}}})

# What a connection that was closed with this code is called.
CLOSED = {{
{_closed()}}}

# Cause and remedy, by code.
TEXTS = {{
{texts}}}
'''


def typescript() -> str:
    """clients/typescript/src/error-codes.ts."""
    texts = "".join(f"  {r.code}: [{_q(r.cause)},\n    {_q(r.remedy)}],\n" for r in FOR_CLIENTS)
    return f"""// biome-ignore-all format: made
/**
 * Error codes: what they mean, and what to do.
 *
 * {MADE}
 */

/** Refusals that pass by themselves. */
export const RETRYABLE: readonly string[] = [{_list(RETRYABLE)}];

/** Refusals that pass when somebody gives access, or a new token. */
export const NO_ACCESS: readonly string[] = [{_list(NO_ACCESS)}];

/** What a connection that was closed with this code is called. */
export const CLOSED: {{ readonly [code: number]: string }} = {{
{_closed()}}};

{_shown()}
/** Cause and remedy, by code. The client does not load them by itself. */
export const ERROR_TEXTS: {{ readonly [code: string]: readonly [cause: string, remedy: string] }} = {{
{texts}}};
"""


def _q(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _indented(codes: list[str]) -> str:
    return "".join(f"    {_q(code)},\n" for code in codes)


def _list(codes: list[str]) -> str:
    return ", ".join(map(_q, codes))


def _shown() -> str:
    return "".join(f"export const {code.upper()} = {_q(CLIENT_CODES[code].cause)};\n" for code in SHOWN)


def _closed() -> str:
    return "".join(f"  {number}: {_q(code)},\n" for number, code in CLOSED.items())


FILES = {
    "docs/reference/errors.md": markdown,
    "clients/python/syncd_client/error_codes.py": python,
    "clients/typescript/src/error-codes.ts": typescript,
}

if __name__ == "__main__":
    for path, made in FILES.items():
        (ROOT / path).write_text(made(), encoding="utf-8")
