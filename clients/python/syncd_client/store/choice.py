"""What a replica keeps of the server: some spaces, some tables, or all; and what it has of that up to its cursor."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from ..data.change import PERSONAL, Key, space_key
from ..data.values import dump, parse
from ..error_codes import TEXTS
from ..errors import NotReplicated
from .restamp import resettle
from .store import get_meta, set_meta

CHOSEN, KNOWN, CHOICES = "chosen", "known", "choices"  # in `meta`; the last is how many were made
_FOLLOWED = "followed"  # in `meta`: up to where clients that know of the choice have read
Names = tuple[str, ...] | None  # sorted; None: all
_DELETE_CONFLICTS = """DELETE FROM conflicts WHERE tbl = ? AND space = ? AND NOT EXISTS (SELECT 1 FROM outbox o
WHERE o.tbl = conflicts.tbl AND o.space = conflicts.space AND o.id = conflicts.id AND o.state <> 'aside')"""


class Choice(NamedTuple):
    """Spaces as a replica names them, and tables."""

    spaces: Names = None
    tables: Names = None

    @property
    def whole(self) -> bool:
        """Whether it is all."""
        return self.spaces is None and self.tables is None

    @property
    def empty(self) -> bool:
        """Whether nothing is of it."""
        return self.spaces == () or self.tables == ()

    def has(self, table: str, space: str) -> bool:
        """Whether records of a table in a space are of it."""
        return (self.spaces is None or space in self.spaces) and (self.tables is None or table in self.tables)

    def names(self, space: str) -> bool:
        """Whether a space, by the server's name, is of it."""
        return self.spaces is None or space_key(space) in self.spaces

    def common(self, other: Choice) -> Choice:
        """What is of both."""
        return Choice(_common(self.spaces, other.spaces), _common(self.tables, other.tables))


def _common(some: Names, others: Names) -> Names:
    if some is None or others is None:
        return some if others is None else others
    return tuple(name for name in some if name in others)


def chosen(db: sqlite3.Connection) -> Choice:
    """What the replica keeps."""
    return _read(db, CHOSEN) or Choice()


def known(db: sqlite3.Connection) -> Choice | None:
    """What it has of what its cursor is for, where that is not all of it."""
    return _read(db, KNOWN)


def revision(db: sqlite3.Connection) -> tuple[int, int]:
    """Another one after each change of the choice, by whatever process, and after each beginning again. Where it is
    another, an answer is of what may be gone by now, also if the choice is the same again."""
    return get_meta(db, CHOICES, 0), get_meta(db, "round", 0)


def _read(db: sqlite3.Connection, name: str) -> Choice | None:
    held = get_meta(db, name)
    return None if held is None else Choice(*(None if names is None else tuple(names) for names in parse(held)))


def keep(db: sqlite3.Connection, name: str, choice: Choice | None) -> None:
    """Keeps one of the two; None: forgets it."""
    if choice is None:
        forget(db, name)
    else:
        set_meta(db, name, dump(list(choice)))


def forget(db: sqlite3.Connection, *names: str) -> None:
    """Forgets values of `meta`."""
    db.executemany("DELETE FROM meta WHERE key = ?", [(name,) for name in names])


def _place(db: sqlite3.Connection) -> str:
    return dump([get_meta(db, "round", 0), get_meta(db, "cursor", "")])


def follow(db: sqlite3.Connection) -> None:
    """The cursor was moved by a client that knows of the choice."""
    if not chosen(db).whole:
        set_meta(db, _FOLLOWED, _place(db))


def remove_strays(db: sqlite3.Connection) -> bool:
    """Removes what is not of the choice where a client moved the cursor that knows of none. Returns whether one did.

    Another process may have an older version of this package, which takes all that comes.
    """
    choice = chosen(db)
    if choice.whole or get_meta(db, _FOLLOWED) == _place(db):
        return False
    evict(db, choice)
    follow(db)
    return True


def check_kept(db: sqlite3.Connection, keys: Iterable[Key]) -> None:
    """Raises NotReplicated where one of these records is not kept here."""
    choice = chosen(db)
    for table, space, _ in keys:
        if not choice.has(table, space):
            raise NotReplicated(f"{told(choice, table, space)} Nothing was written.")


def told(choice: Choice, table: str, space: str) -> str:
    """A sentence that says what is not kept."""
    if choice.spaces is not None and space not in choice.spaces:
        where = "the personal space" if space == PERSONAL else f"the space {space!r}"
    else:
        where = f"the table {table!r}"
    return TEXTS[NotReplicated.code][0].replace("This", f"{where[0].upper()}{where[1:]}", 1)


def evict(db: sqlite3.Connection, choice: Choice) -> None:
    """Removes what is not of a choice. What is unsent stays, on top of nothing: what was confirmed is not followed.

    Conflicts go with their records: nobody would hear that their values were erased.
    """
    spaces = db.execute("SELECT id FROM spaces").fetchall()
    gone = [row for row in spaces if not choice.names(row[0])]
    db.executemany("DELETE FROM spaces WHERE id = ?", gone)
    db.executemany("DELETE FROM roles WHERE space = ?", gone)
    places = db.execute("SELECT DISTINCT tbl, space FROM records").fetchall()
    db.executemany("DELETE FROM records WHERE tbl = ? AND space = ?", [p for p in places if not choice.has(*p)])
    places = db.execute("SELECT DISTINCT tbl, space FROM conflicts").fetchall()
    db.executemany(_DELETE_CONFLICTS, [p for p in places if not choice.has(*p)])
    unsent: list[Key] = db.execute("SELECT DISTINCT tbl, space, id FROM outbox WHERE state <> 'aside'").fetchall()
    resettle(db, [key for key in unsent if not choice.has(key[0], key[1])])
