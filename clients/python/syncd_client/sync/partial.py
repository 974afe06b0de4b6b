"""A replica that keeps some spaces or tables: what it chooses, what it asks for, and what an answer is to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import quote

from ..data.change import check_asked, name_space
from ..errors import InvalidQuery
from ..store.choice import CHOSEN, KNOWN, PARTIAL, Choice, Names, chosen, evict, forget, keep, known
from ..store.store import Store, get_meta, set_meta
from .reply import Page

_MOST = 100  # spaces, and tables
_MOST_BYTES = 3500  # of their names in an address, in which they may stand twice
All = Literal["all"]


def choose(
    store: Store, spaces: Sequence[str | None] | All | None, tables: Sequence[str] | All | None, user: str | None
) -> None:
    """Keeps these spaces and tables from now on; None leaves what was chosen, "all" is all. Raises InvalidQuery.

    What is no longer chosen goes at once, but for what is unsent. What is new comes with the next sync.
    """
    if spaces is None and tables is None:
        return
    named = spaces if spaces is None or spaces == "all" else _checked_spaces(spaces, user)
    listed = tables if tables is None or tables == "all" else _checked_tables(tables)
    with store.write() as db:
        before = chosen(db)
        wanted = Choice(_wanted(named, before.spaces), _wanted(listed, before.tables))
        if sum(len(quote(name, safe="")) + 8 for names in wanted for name in names or ()) > _MOST_BYTES:
            raise InvalidQuery("the names of the chosen spaces and tables are too long together.")
        if wanted != before:
            _change(db, before, wanted)


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
    keep(db, CHOSEN, None if wanted.whole else wanted)
    keep(db, KNOWN, rest if cursor else None)
    if rest.spaces != wanted.spaces:
        set_meta(db, "roles", "")  # so that those that are new are named
    # A server that does not filter has moved the cursor past what was left out.
    if cursor and (rest.empty or (rest.spaces != wanted.spaces and not get_meta(db, PARTIAL))):
        begin_restart(db)
    evict(db, wanted)


def begin_restart(db: sqlite3.Connection) -> None:
    """The server does not know the cursor: everything is asked for again. The outbox stays as it is."""
    set_meta(db, "cursor", "")
    set_meta(db, "acknowledged", "[]")
    set_meta(db, "roles", "")
    set_meta(db, "restarting", 1)
    set_meta(db, "round", get_meta(db, "round", 0) + 1)
    forget(db, KNOWN)
    db.execute("DELETE FROM spaces")


def asked(db: sqlite3.Connection) -> dict[str, list[str]]:
    """The members with which the replica asks for what it has chosen, as a subscription has them."""
    choice, had = chosen(db), known(db) or Choice()
    lists = {
        "spaces": choice.spaces, "collections": choice.tables, "knownSpaces": had.spaces,
        "knownCollections": had.tables,
    }  # fmt: skip
    return {name: list(names) for name, names in lists.items() if names is not None}


def params(asked_for: dict[str, list[str]]) -> dict[str, Any]:
    """The same, as a query has them."""
    return {name.replace("ollections", "ollection"): names for name, names in asked_for.items()}


def note_asked(store: Store) -> dict[str, list[str]]:
    """Takes note that a connection is asked, whose first page alone says whether it filters."""
    with store.write() as db:
        forget(db, PARTIAL)
        return asked(db)


def note_unfiltered(db: sqlite3.Connection) -> None:
    """Takes note of a page of a server that does not filter spaces; of tables it has sent all again where it had to."""
    forget(db, PARTIAL)
    had = known(db)
    if had is not None and had.spaces is None:
        forget(db, KNOWN)


def only(page: Page, choice: Choice) -> Page:
    """What of a page is of a choice."""
    changes = [change for change in page.changes if choice.has(change.table, change.space)]
    joined, unreadable = (list(filter(choice.names, names)) for names in (page.joined, page.unreadable))
    return replace(page, changes=changes, joined=joined, unreadable=unreadable)


def note_answer(db: sqlite3.Connection, page: Page) -> None:
    """Takes note of a page that goes on from what the replica had."""
    if page.partial:
        set_meta(db, PARTIAL, 1)
        forget(db, KNOWN)


def current(db: sqlite3.Connection, page: Page, asked_for: Mapping[str, Sequence[str]]) -> Page:
    """A page as it is; of one that was `asked_for` before another process opened the file with another choice, what it
    says of the own changes. Its cursor is of what may be gone by now: the rest is asked for again."""
    if page.cursor is None or asked(db) == asked_for:
        return page
    return replace(
        page, changes=(), cursor=None, more=True, joined=(), left=(), unreadable=(), roles=(), roles_until=None,
        partial=False, until="",
    )  # fmt: skip
