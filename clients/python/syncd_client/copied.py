"""A replica's file that was copied is another device: two that stamp under one name could not be told apart."""

from __future__ import annotations

import sqlite3

from . import outbox
from .store import get_meta, set_meta


def notice(db: sqlite3.Connection, place: str | None, fresh: str) -> str | None:
    """Takes the client id `fresh` where the file is not at the `place` where it was opened last.

    What is unsent goes on under the new name. Returns the id that the file had, or None where it was not copied.
    """
    known, client = get_meta(db, "place"), get_meta(db, "client")
    if place is None or known == place:
        return None
    set_meta(db, "place", place)
    if known is None or client is None:
        return None
    set_meta(db, "client", fresh)
    outbox.resettle(db, outbox.keys_of(outbox.listed(db)))
    return str(client)
