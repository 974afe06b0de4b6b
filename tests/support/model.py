"""What the server promises, as forty lines of dictionaries: spaces, roles, records, and who may see what. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from tests.support.wire import Json


class Cell(NamedTuple):
    """A register: its value, and the stamp that decides."""

    value: Any
    at: str
    client: str

    def beats(self, other: Cell | None) -> bool:
        """Whether it replaces the other: text of one width, ids by their UTF-8 bytes."""
        return other is None or (self.at, self.client.encode()) >= (other.at, other.client.encode())


Cells = dict[str, Cell]


def cells_of(change: Json, client: str) -> Cells:
    """The registers that a change holds. All instants are canonical."""
    cells = {n: Cell(f["value"], f["at"], f.get("clientId", client)) for n, f in change.get("fields", {}).items()}
    if change["op"] == "delete" and "deletedAt" not in cells:
        cells["deletedAt"] = Cell(change["deletedAt"], change["deletedAt"], client)
    return cells


def written_by(change: Json, client: str) -> Cells:
    """What the server makes of it: an insert also says that the record is there."""
    cells = cells_of(change, client)
    if change["op"] == "insert" and "deletedAt" not in cells:
        cells["deletedAt"] = Cell(None, max(cell.at for cell in cells.values()), client)
    return cells


def merge(held: Cells, incoming: Cells) -> bool:
    """Merges into `held`; says whether anything was taken."""
    won = {name: cell for name, cell in incoming.items() if cell.beats(held.get(name))}
    held.update(won)
    return bool(won)


def alive(records: dict[str, Cells]) -> dict[str, Cells]:
    """Those that are not deleted, as an application sees them: without their tombstone register."""
    found = {id_: cells for id_, cells in records.items() if cells.get("deletedAt", Cell(None, "", "")).value is None}
    return {id_: {n: cell for n, cell in cells.items() if n != "deletedAt"} for id_, cells in found.items()}


class Model:
    """The whole server."""

    def __init__(self) -> None:
        self.roles: dict[str, dict[str, str]] = {}
        self.records: dict[str, dict[str, Cells]] = {}
        self.taken: set[tuple[str, str, str]] = set()

    def create(self, user: str, space: str) -> None:
        self.roles[space] = {user: "owner"}
        self.records.setdefault(space, {})

    def role(self, user: str, space: str) -> str | None:
        return self.roles.get(space, {}).get(user)

    def last_owner(self, user: str, space: str) -> bool:
        return [u for u, role in self.roles[space].items() if role == "owner"] == [user]

    def put(self, actor: str, space: str, user: str, role: str) -> int:
        """Adds a member or changes a role. The HTTP status."""
        if self.role(actor, space) != "owner":
            return 403 if self.role(actor, space) else 404
        if role != "owner" and self.last_owner(user, space):
            return 409
        self.roles[space][user] = role
        return 200

    def remove(self, actor: str, space: str, user: str) -> int:
        """Removes a member. The HTTP status."""
        mine, theirs = self.role(actor, space), self.role(user, space)
        if mine is None:
            return 404
        if mine != "owner" and actor != user:
            return 403
        if theirs is None:
            return 404
        if self.last_owner(user, space):
            return 409
        del self.roles[space][user]
        return 204

    def drop(self, actor: str, space: str) -> int:
        """Deletes a space. The HTTP status."""
        if self.role(actor, space) != "owner":
            return 403 if self.role(actor, space) else 404
        self.roles[space] = {}
        return 204

    def push(self, user: str, client: str, changes: list[Json], *, atomic: bool) -> list[str] | None:
        """What becomes of each change, by status or code; None where an atomic push is refused."""
        personal = f"_personal:{user}"
        if any(change["spaceId"] == personal for change in changes) and personal not in self.roles and not atomic:
            self.create(user, personal)
        refusals = [self.refusal(user, client, change) for change in changes]
        if atomic and any(refusals):
            return None
        if any(change["spaceId"] == personal for change in changes) and personal not in self.roles:
            self.create(user, personal)
        return [why or self._write(user, client, change) for why, change in zip(refusals, changes, strict=True)]

    def refusal(self, user: str, client: str, change: Json) -> str | None:
        """Why a change may not be written; one that was taken is known also to a user who may write no more."""
        return None if (user, client, change["changeId"]) in self.taken else self.missing_right(user, change["spaceId"])

    def missing_right(self, user: str, space: str) -> str | None:
        """The code of a change that this user may not write there."""
        if space == f"_personal:{user}":
            return None
        role = self.role(user, space)
        return {None: "space_not_found", "reader": "not_a_writer"}.get(role)

    def _write(self, user: str, client: str, change: Json) -> str:
        key = (user, client, change["changeId"])
        if key in self.taken:
            return "duplicate"
        self.taken.add(key)
        record = self.records[change["spaceId"]].setdefault(change["id"], {})
        return "applied" if merge(record, written_by(change, client)) else "superseded"

    def visible(self, user: str) -> dict[str, dict[str, Cells]]:
        """Every living record a user may read, by space; spaces without any are left out."""
        mine = (space for space, members in self.roles.items() if user in members)
        return {space: found for space in mine if (found := alive(self.records[space]))}
