"""A replica that keeps some spaces or tables: what it chooses, what it asks for, and what an answer is to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple
from urllib.parse import quote, urlencode

from ..data.change import check_asked, name_space
from ..errors import InvalidQuery
from ..store.choice import (
    CHOICES,
    CHOSEN,
    KNOWN,
    Choice,
    Names,
    chosen,
    evict,
    follow,
    forget,
    keep,
    known,
    remove_strays,
    revision,
)
from ..store.store import Store, get_meta, set_meta
from .reply import Page

_MOST = 100  # spaces, and tables
_MOST_BYTES = 6500  # of their names in an address, of the 8 KiB that a server takes
All = Literal["all"]


def choose(
    store: Store, spaces: Sequence[str | None] | All | None, tables: Sequence[str] | All | None, user: str | None
) -> None:
    """Keeps these spaces and tables from now on; None leaves what was chosen, "all" is all. Raises InvalidQuery.

    What is no longer chosen goes at once, but for what is unsent. What is new comes with the next sync.
    """
    named = spaces if spaces is None or spaces == "all" else _checked_spaces(spaces, user)
    listed = tables if tables is None or tables == "all" else _checked_tables(tables)
    with store.write() as db:
        remove_strays(db)
        before = chosen(db)
        wanted = Choice(_wanted(named, before.spaces), _wanted(listed, before.tables))
        if len(urlencode(params(_members(wanted, wanted)), doseq=True, quote_via=quote)) > _MOST_BYTES:
            raise InvalidQuery("the names of the chosen spaces and tables are too long together.")
        if wanted != before:
            _change(db, before, wanted)
            follow(db)


def _wanted(given: Names | All, before: Names) -> Names:
    return before if given is None else None if given == "all" else given


def _checked_spaces(spaces: Sequence[str | None], user: str | None) -> tuple[str, ...]:
    _check_many("spaces", spaces)
    return tuple(sorted({name_space(space, user, InvalidQuery) for space in spaces}))


def _checked_tables(tables: Sequence[str]) -> tuple[str, ...]:
    _check_many("tables", tables)
    for table in tables:
        if "," in check_asked("the table", table):
            raise InvalidQuery(f"the table {table!r} has a comma in its name, and cannot be chosen.")
    return tuple(sorted(set(tables)))


def _check_many(name: str, given: object) -> None:
    if isinstance(given, str) or not isinstance(given, Sequence) or not 1 <= len(given) <= _MOST:
        raise InvalidQuery(f'{name} is a list of 1 to {_MOST} names, or "all".')


def _change(db: sqlite3.Connection, before: Choice, wanted: Choice) -> None:
    had = known(db) or before
    rest, cursor = had.common(wanted), get_meta(db, "cursor", "")
    set_meta(db, CHOICES, get_meta(db, CHOICES, 0) + 1)
    keep(db, CHOSEN, None if wanted.whole else wanted)
    keep(db, KNOWN, rest if cursor else None)
    if rest.spaces != wanted.spaces:
        set_meta(db, "roles", "")  # so that those that are new are named
    if cursor and rest.empty:
        begin_restart(db)
    evict(db, wanted)


def begin_restart(db: sqlite3.Connection) -> None:
    """The server does not know the cursor: everything is asked for again. The outbox stays as it is."""
    remove_strays(db)
    set_meta(db, "cursor", "")
    set_meta(db, "acknowledged", "[]")
    set_meta(db, "roles", "")
    set_meta(db, "restarting", 1)
    set_meta(db, "round", get_meta(db, "round", 0) + 1)
    forget(db, KNOWN)
    db.execute("DELETE FROM spaces")
    follow(db)


class Baseline(NamedTuple):
    """What a replica had as it asked: another process may choose, and another answer come, before its own does."""

    revision: tuple[int, int] = (0, 0)
    known: Choice | None = None


def baseline(db: sqlite3.Connection) -> Baseline:
    """What it has now."""
    return Baseline(revision(db), known(db))


def asked(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The members with which the replica asks for what it has chosen, as a subscription has them."""
    return _members(chosen(db), known(db) or Choice())


def _members(choice: Choice, had: Choice) -> dict[str, list[str]]:
    lists = {
        "spaces": choice.spaces, "collections": choice.tables, "knownSpaces": had.spaces,
        "knownCollections": had.tables,
    }  # fmt: skip
    return {name: list(names) for name, names in lists.items() if names is not None}


def params(asked_for: dict[str, list[str]]) -> dict[str, Any]:
    """The same, as a query has them."""
    return {name.replace("ollections", "ollection"): names for name, names in asked_for.items()}


def only(page: Page, choice: Choice) -> Page:
    """What of a page is of a choice."""
    changes = [change for change in page.changes if choice.has(change.table, change.space)]
    joined, unreadable = (list(filter(choice.names, names)) for names in (page.joined, page.unreadable))
    return replace(page, changes=changes, joined=joined, unreadable=unreadable)


def current(db: sqlite3.Connection, page: Page, base: Baseline) -> Page:
    """A page as it is; of one that the replica cannot go on from, what it says of the own changes, after which it asks
    again. `base`: what the replica had as it asked for it.

    A server that does not filter has moved its cursor past what is chosen and not known: there all is asked for again.
    """
    if page.cursor is None:
        return page
    if revision(db) == base.revision:
        if page.partial or base.known in (None, chosen(db)):
            forget(db, KNOWN)
            return page
        begin_restart(db)
    return replace(
        page, changes=(), cursor=None, more=True, joined=(), left=(), unreadable=(), roles=(), roles_until=None,
        partial=False, until="",
    )  # fmt: skip
