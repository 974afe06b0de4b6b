"""The owner of a file: one app, one device and one user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from ..data.change import check_id
from . import copied
from .copied import Incarnation
from .ids import new_id
from .store import Store, claim_meta, get_meta

log = logging.getLogger("syncd_client")
_COPY = "this file is a copy: it is the device %s from now on, no more %s"


def check_owner(client_id: str | None, users: Iterable[str | None]) -> list[str]:
    """The users that are known, checked with the client id before a file is made for them. Raises InvalidWrite."""
    if client_id is not None:
        check_id("the client id", client_id)
    return [check_id("the user", user) for user in users if user is not None]


class Identity:
    """The app, the device and the user of a file, claimed for good. Only a copy of a file takes another client id.

    `client_id`: the device's id. `copied_from`: the id that the file had before it was found to be a copy, else None.
    `user`: None before it is known; `users` are the names that it is known by. `incarnation` is None where the
    application names the client. Raises WrongReplica where the file is another app's, device's or user's.
    """

    def __init__(
        self, store: Store, app: str, client_id: str | None, wall: Callable[[], int], users: Iterable[str] = ()
    ) -> None:
        self._store = store
        self.incarnation = Incarnation() if client_id is None else None
        with store.write() as db:
            claim_meta(db, "app", app, "the app")
            self.user: str | None = get_meta(db, "user")
            own = client_id is not None
            self.copied_from = None if own else copied.rename_if_moved(db, store.place(), new_id(wall()))
            self.client_id = str(client_id or get_meta(db, "client") or new_id(wall()))
            claim_meta(db, "client", self.client_id, "the client")
        if self.copied_from is not None:
            log.warning(_COPY, self.client_id, self.copied_from)
        for name in users:
            self.claim_user(name)

    def rename(self, client: str) -> None:
        """The server knows of another copy of this file, so that it goes on under another client id."""
        self.copied_from, self.client_id = self.client_id, client
        log.warning(_COPY, client, self.copied_from)

    def claim_user(self, user: str) -> None:
        """Makes the file this user's. Raises WrongReplica when it is another's."""
        if self.user == user:
            return
        with self._store.write() as db:
            claim_meta(db, "user", user, "the user")
        self.user = user
