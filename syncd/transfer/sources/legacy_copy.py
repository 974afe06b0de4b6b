"""A collection as a device of the first generation holds it: what it makes of the changes that a server sends. Pure.

Its rules are those of the clients, not ours: they date the whole `data` of an insert by its `updatedAt`, else its
`createdAt`, else their own clock; of an update they read `fields`, and `data` only where they have no such record; a
field with a dot is the member of an object.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from syncd.transfer.sources.foreign import UnreadableRow, instant

DELETED = "deletedAt"


class Key(NamedTuple):
    """What names a record to such a device, which does not look at the space."""

    table: str
    record: str


class LegacyCopy:
    """The records of one server. `now`: the device's clock, an instant as text."""

    def __init__(self, now: str) -> None:
        self._now = now
        self._fields: dict[Key, dict[str, tuple[str, Any]]] = {}

    def apply(self, change: dict[str, Any]) -> None:
        """Takes a change as `serverChanges` has it. What is no change is left out, as the clients do."""
        table, record, op = change.get("table"), change.get("id"), change.get("op")
        if not isinstance(table, str) or not isinstance(record, str):
            return
        key = Key(table, record)
        data, fields = _members(change.get("data")), _members(change.get("fields"))
        if op == "delete":
            self._write(key, DELETED, self._dated(change.get(DELETED)), True)
        elif op == "insert":
            at = self._dated(data.get("updatedAt"), data.get("createdAt"))
            for name, value in data.items():
                self._write(key, name, at, value)
            self._write(key, DELETED, at, False)
        elif op == "update":
            if key not in self._fields:
                for name, value in data.items():
                    self._write(key, name, "", value)
            for name, register in fields.items():
                register = _members(register)
                at = self._dated(register.get("at"), register.get("updatedAt"))
                value = register.get("value")
                self._write(key, name, at, bool(value) if name == DELETED else value)

    def records(self) -> dict[Key, dict[str, Any]]:
        """The living records, with nested fields in their objects."""
        return {key: _nested(fields) for key, fields in self._fields.items() if not fields.get(DELETED, ("", False))[1]}

    def _write(self, key: Key, name: str, at: str, value: Any) -> None:
        fields = self._fields.setdefault(key, {})
        if name not in fields or at >= fields[name][0]:
            fields[name] = (at, value)

    def _dated(self, *candidates: Any) -> str:
        for candidate in candidates:
            try:
                return instant(candidate, "")
            except UnreadableRow:
                continue
        return self._now


def _members(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _nested(fields: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """Plain values; `cfg.theme` is laid into `cfg` where it is not older."""
    plain = {name: value for name, (_, value) in fields.items() if "." not in name and name != DELETED}
    for name, (at, value) in sorted(fields.items(), key=lambda field: field[1][0]):
        parent, dot, _ = name.partition(".")
        if not dot or at < fields.get(parent, ("", None))[0]:
            continue
        plain[parent] = _with(plain.get(parent), name.split(".")[1:], value)
    return plain


def _with(held: Any, path: list[str], value: Any) -> dict[str, Any]:
    """`held` with a member changed, and its objects on the way to it made where they are missing."""
    copy = dict(held) if isinstance(held, dict) else {}
    copy[path[0]] = value if len(path) == 1 else _with(copy.get(path[0]), path[1:], value)
    return copy


class Difference(NamedTuple):
    """A record that two servers give differently. `where`: "old" or "new" for one that only that has, else None."""

    key: Key
    where: str | None
    fields: tuple[str, ...] = ()

    def sentence(self) -> str:
        """It, for people, without a value."""
        record = f"{self.key.table} {self.key.record}"
        if self.where is not None:
            return f"{record} is on the {self.where} server only"
        return f"{record} differs in {', '.join(self.fields)}"


def compare(old: LegacyCopy, new: LegacyCopy) -> tuple[list[Difference], dict[str, int]]:
    """What differs, by table and record, and how many records of each table are the same."""
    before, after = old.records(), new.records()
    found, same = list[Difference](), dict[str, int]()
    for key in sorted(before.keys() | after.keys()):
        same.setdefault(key.table, 0)
        if key not in after or key not in before:
            found.append(Difference(key, "old" if key in before else "new"))
            continue
        names = sorted((before[key].keys() | after[key].keys()) - {"id"})  # which a device has from the change itself
        fields = tuple(name for name in names if before[key].get(name) != after[key].get(name))
        if fields:
            found.append(Difference(key, None, fields))
        else:
            same[key.table] += 1
    return found, same
