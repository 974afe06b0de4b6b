"""What a replica answers from its own store, without a word to anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .condition import Where
from .data.change import Key, check_asked, name_space
from .data.events import JoinedSpace
from .data.merge import Registers
from .data.record import Record
from .errors import InvalidQuery
from .query import QueryPlan, check_query, explain, find
from .store import indexes, records, roles
from .store import search as searching
from .store.identity import Identity
from .store.store import Store, get_meta

EVERY_SPACE: Final = "*\0every space"


class Reading:
    """The records of a replica, as this device sees them."""

    store: Store
    identity: Identity

    def get(self, table: str, id: str, *, space: str | None = None, deleted: bool = False) -> Record | None:
        """The record as this device sees it, own unsent writes included; None if there is none.

        A deleted one is returned only with `deleted=True`. Raises InvalidQuery for what can be no name, as all that
        looks for a record does.
        """
        key = self._key(table, id, space)
        with self.store.read() as db:
            return records.find_record(db, key, deleted=deleted)

    def query(
        self,
        table: str,
        where: Where = (),
        *,
        order: str | Sequence[str] = (),
        limit: int | None = None,
        offset: int = 0,
        after: Record | None = None,
        space: str | None = None,
        deleted: bool = False,
    ) -> list[Record]:
        """The records of a table that fulfil every condition.

        `where`: `{"done": False, "priority": (">=", 2), "place.city": "Oslo"}`, where `{">=": 2, "<": 5}` are two
        conditions, or `[("priority", ">=", 2), ("priority", "<", 5)]`, with =, !=, <, <=, >, >=, in, contains,
        startsWith, like, between; or what `and_`, `or_` and `not_` make of such. A missing field equals None; only
        numbers and text have an order, each among themselves. `order`: fields or paths, "-" in front for descending;
        null sorts first, then numbers (False as 0, True as 1), then text by code point, then lists and objects, which
        have none among themselves; ids break ties. `after`: a record of the same order that the answer begins behind,
        say the last one of the page before; it is as it was then. `space`: None for the personal one, or EVERY_SPACE.
        Raises InvalidQuery.
        """
        asked = None if space == EVERY_SPACE else self._named(space)
        query = check_query(table, asked, where, order, limit, offset, deleted, after)
        with self.store.read() as db:
            return find(db, query)

    def explain(
        self,
        table: str,
        where: Where = (),
        *,
        order: str | Sequence[str] = (),
        space: str | None = None,
        deleted: bool = False,
    ) -> QueryPlan:
        """How `query` would answer: by which declared index, if any. Raises InvalidQuery."""
        asked = None if space == EVERY_SPACE else self._named(space)
        query = check_query(table, asked, where, order, None, 0, deleted, None)
        with self.store.read() as db:
            held = {name: indexes.fields_of(sql) for name, sql in indexes.held(db).items()}
            return explain(db, query, held)

    def search(self, table: str, text: str, *, space: str | None = None, limit: int | None = 50) -> list[Record]:
        """The records of a table that have every word of a text in the fields that `search` declares, best first.

        Of the last word its beginning is enough, and case, accents and compatible forms make no difference. First are
        records whose words stand in an earlier field and as whole words, then those that have them more often; ids
        break ties. `space`: None for the personal one, or EVERY_SPACE. `limit`: None for all. Raises InvalidQuery.
        """
        asked = None if space == EVERY_SPACE else self._named(space)
        return searching.find(self.store, table, asked, text, limit)

    def registers(self, table: str, id: str, *, space: str | None = None) -> Registers:
        """Every register of a record with its stamp, the tombstone `deletedAt` included; empty if unknown."""
        key = self._key(table, id, space)
        with self.store.read() as db:
            return records.find_registers(db, key)

    def all_registers(self) -> dict[tuple[str | None, str, str], Registers]:
        """The whole replica, {(space, table, id): registers}: to compare two of them, or to export one."""
        with self.store.read() as db:
            return records.all_registers(db)

    def _key(self, table: str, id: str, space: str | None) -> Key:
        """The name of a record that is asked for. Raises InvalidQuery where there can be none."""
        return check_asked("the table", table), self._named(space), check_asked("the record id", id)

    def _named(self, space: str | None) -> str:
        return name_space(space, self.identity.user, InvalidQuery)

    def spaces(self) -> list[JoinedSpace]:
        """The shared spaces that the server said this user is in, with their names and the user's roles, as of the last
        sync."""
        with self.store.read() as db:
            return roles.listed(db)

    @property
    def cursor(self) -> str:
        """How far this replica has read, in the server's terms; "" before the first sync."""
        with self.store.read() as db:
            return str(get_meta(db, "cursor", ""))
