"""A replica's file that was copied is another device: two that stamp under one name could not be told apart.

Where the place of the file does not tell it, the server does. Each push names the *incarnations* that the file may have
pushed as: the one of the last push that was answered, and those since. Each opening of the file adds one of its own. A
copy does not have the one that the other copy has pushed as meanwhile.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from dataclasses import dataclass

from ..data.values import dump, parse
from . import outbox, restamp
from .store import get_meta, set_meta

MOST = 32
_LASTS = 30.0  # seconds; an image of a running machine has the one that it was taken with


class Incarnation:
    """Tells this opening of the file from every other one, and from every copy of it."""

    def __init__(self) -> None:
        self._nonce, self._made = "", 0.0

    def present(self, db: sqlite3.Connection, *, renew: bool = False) -> list[str]:
        """The incarnations that a push names, kept in the file before it is sent. `renew`: with a new one at their end.

        One that was not answered yet is kept, so that they do not become many.
        """
        names = incarnations(db) or [f"1.{_nonce()}"]
        renew = renew or time.monotonic() - self._made > _LASTS
        if not self._nonce or (renew and len(names) == 1):
            self._nonce, self._made = _nonce(), time.monotonic()
        number, _, nonce = names[-1].partition(".")
        if nonce != self._nonce:
            names = [*names[1 - MOST :], f"{int(number) + 1}.{self._nonce}"]
            set_meta(db, "incarnations", dump(names))
        return names


def _nonce() -> str:
    return secrets.token_urlsafe(9)


def incarnations(db: sqlite3.Connection) -> list[str]:
    """Those that this file may have pushed as, oldest first."""
    return list(parse(get_meta(db, "incarnations", "[]")))


def acknowledge(db: sqlite3.Connection) -> None:
    """A push was answered: the server knows the last of them."""
    names = incarnations(db)
    if len(names) > 1:
        set_meta(db, "incarnations", dump(names[-1:]))


@dataclass(frozen=True, slots=True)
class Sender:
    """The device that a push names as its sender."""

    client: str
    incarnations: tuple[str, ...] = ()


def rename(db: sqlite3.Connection, fresh: str) -> str:
    """Goes on under the client id `fresh`, with what is unsent. Returns the id that the file had."""
    client = str(get_meta(db, "client"))
    set_meta(db, "client", fresh)
    set_meta(db, "incarnations", "[]")
    set_meta(db, "acknowledged", "[]")
    restamp.resettle(db, outbox.keys_of(outbox.listed(db)))
    return client


def rename_if_unchanged(db: sqlite3.Connection, sender: Sender, fresh: str) -> None:
    """The server has heard of another copy of this file: it takes the client id `fresh`.

    Not where the file has gone on since that push was sent, by another process that was renamed, or had an answer.
    """
    if get_meta(db, "client") == sender.client and tuple(incarnations(db)) == sender.incarnations:
        rename(db, fresh)


def rename_if_moved(db: sqlite3.Connection, place: str | None, fresh: str) -> str | None:
    """Takes the client id `fresh` where the file is not at the `place` where it was opened last.

    What is unsent goes on under the new name. Returns the id that the file had, or None where it was not copied.
    """
    known, client = get_meta(db, "place"), get_meta(db, "client")
    if place is None or known == place:
        return None
    set_meta(db, "place", place)
    return None if known is None or client is None else rename(db, fresh)
