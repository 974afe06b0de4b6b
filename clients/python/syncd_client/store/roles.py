"""The shared spaces of the user: their names and the user's roles, as the server told them last."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

from ..data.change import PERSONAL, space_key
from ..data.events import JoinedSpace
from ..errors import NotAllowed


def listed(db: sqlite3.Connection) -> list[JoinedSpace]:
    """The shared spaces that the server named, by their ids; what it has not told of one is None."""
    rows = db.execute("SELECT s.id, r.name, r.role FROM spaces s LEFT JOIN roles r ON r.space = s.id ORDER BY s.id")
    return [JoinedSpace(*row) for row in rows if space_key(row[0]) != PERSONAL]


def keep(
    db: sqlite3.Connection, told: Iterable[JoinedSpace], unreadable: Sequence[str] = ()
) -> tuple[JoinedSpace, ...]:
    """Keeps what the server told of spaces that it has named, or names when it can read them (`unreadable`); returns
    what is otherwise than it was of the former."""
    changed: list[JoinedSpace] = []
    for space in told:
        row = db.execute("SELECT name, role FROM roles WHERE space = ?", (space.id,)).fetchone()
        named = db.execute("SELECT 1 FROM spaces WHERE id = ?", (space.id,)).fetchone()
        if (named or space.id in unreadable) and row != (space.name, space.role):
            db.execute("INSERT OR REPLACE INTO roles VALUES (?, ?, ?)", space)
            if named:
                changed.append(space)
    return tuple(changed)


def forget(db: sqlite3.Connection, space: str) -> None:
    """Forgets a space that was left."""
    db.execute("DELETE FROM roles WHERE space = ?", (space,))


def forget_others(db: sqlite3.Connection, unreadable: Sequence[str] = ()) -> None:
    """Forgets the spaces that the server does not name any more, but those that it cannot read for now."""
    unnamed = db.execute("SELECT space FROM roles WHERE space NOT IN (SELECT id FROM spaces)").fetchall()
    for (space,) in unnamed:
        if space not in unreadable:
            forget(db, space)


def check_writer(db: sqlite3.Connection, spaces: Sequence[str]) -> None:
    """Raises NotAllowed where the user is known to be a reader of one of them."""
    for space in dict.fromkeys(spaces):
        if (
            space != PERSONAL
            and db.execute("SELECT 1 FROM roles WHERE space = ? AND role = 'reader'", (space,)).fetchone()
        ):
            raise NotAllowed(f"you may read the space {space!r}, not write in it.", code="not_a_writer")
