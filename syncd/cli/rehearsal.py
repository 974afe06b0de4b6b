"""`syncd import --from mana OLD --compare NEW`: both servers, read as one device of the first generation would."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from typing import Any

import click
import httpx2

from syncd.cli.options import progress
from syncd.core.clock import format_instant
from syncd.transfer.sources.legacy_copy import Difference, LegacyCopy, compare

TOKEN = "SYNCD_TOKEN"
BEGINNING = "1970-01-01T00:00:00.000Z"
SHOWN, PATIENCE, MOST_PAGES = 20, 60.0, 100_000


def rehearse(old: str, new: str, app: str, tables: tuple[str, ...]) -> int:
    """Reads both and says what differs; the exit code. Raises ClickException with a sentence."""
    token = os.environ.get(TOKEN)
    if not token:
        raise click.UsageError(f"{TOKEN} is not set: put the token of a user into it that both servers accept.")
    now = format_instant(time.time_ns() // 1000)
    copies = asyncio.run(_both(old, new, app, tables, token.strip(), now))
    found, same = compare(*copies)
    return _report(found, same)


async def _both(
    old: str, new: str, app: str, tables: tuple[str, ...], token: str, now: str
) -> tuple[LegacyCopy, LegacyCopy]:
    headers = {"authorization": f"Bearer {token}", "x-client-id": "rehearsal"}
    async with httpx2.AsyncClient(headers=headers, timeout=PATIENCE) as client:
        first, second = LegacyCopy(now), LegacyCopy(now)
        for server, copy in ((old, first), (new, second)):
            for table in tables or ("",):
                await _read(client, f"{server.rstrip('/')}/sync/{app}/pull", table, copy)
        return first, second


async def _read(client: httpx2.AsyncClient, url: str, table: str, copy: LegacyCopy) -> None:
    """One collection, from the beginning until nothing more comes."""
    since, count = BEGINNING, 0
    for _ in range(MOST_PAGES):
        page = await _page(client, url, {"since": since, **({"collection": table} if table else {})})
        changes = page.get("serverChanges")
        for change in changes if isinstance(changes, list) else []:
            copy.apply(change)
            count += 1
        until = page.get("syncedUntil")
        if not changes or not isinstance(until, str) or until == since:
            break
        since = until
    progress(f"{url.split('/sync/')[0]}: {count:,} changes{f' of {table}' if table else ''} read")


async def _page(client: httpx2.AsyncClient, url: str, query: dict[str, str]) -> dict[str, Any]:
    server = url.split("/sync/")[0]
    try:
        answer = await client.get(url, params=query)
    except (httpx2.HTTPError, httpx2.InvalidURL):
        raise click.ClickException(f"{server} cannot be reached.") from None
    if answer.status_code in (401, 403):
        raise click.ClickException(f"{server} does not accept the token in {TOKEN}.")
    try:
        page = answer.json() if answer.status_code == 200 else None
    except ValueError:
        page = None
    if answer.status_code == 400 and "collection" not in query:
        raise click.ClickException(f"{server} wants a collection with a pull (400): name each with --table NAME.")
    if not isinstance(page, dict):
        raise click.ClickException(f"{server} does not answer a pull ({answer.status_code}): is this its URL?")
    return page


def _report(found: list[Difference], same: dict[str, int]) -> int:
    for difference in found[:SHOWN]:
        progress(f"different: {difference.sentence()}")
    if len(found) > SHOWN:
        progress(f"and {len(found) - SHOWN:,} more")
    counts = {where: Counter(d.key.table for d in found if d.where == where) for where in ("old", "new", None)}
    width = max([5, *(len(table) for table in same)])
    progress(f"{'table':{width}} {'same':>10} {'different':>10} {'old only':>10} {'new only':>10}")
    for table in sorted(same):
        numbers = (same[table], counts[None][table], counts["old"][table], counts["new"][table])
        progress(" ".join([f"{table:{width}}", *(f"{number:>10,}" for number in numbers)]))
    return 1 if found else 0
