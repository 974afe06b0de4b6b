"""The members of the shared spaces that an import makes. No foreign store names them, so an operator does."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import cast

from syncd.core.ids import fault_in_id
from syncd.protocol.export_format import Member, Space
from syncd.protocol.messages import Role
from syncd.transfer.sources.foreign import UnreadableRow

ROLES = ("owner", "writer", "reader")


class SpaceMembers:
    """Spaces as they are met: the authors in each, and when they wrote first."""

    def __init__(self) -> None:
        self._authors: dict[str, dict[str, str]] = {}

    def meet(self, space: str, user: str, at: str) -> None:
        """Somebody wrote in a space. Rows with ids that are none are refused, and make no space."""
        if space.startswith("_personal:") or fault_in_id(space) or fault_in_id(user):
            return
        authors = self._authors.setdefault(space, {})
        authors[user] = min(at, authors.get(user, at))

    @property
    def spaces(self) -> list[str]:
        """The shared spaces that were met."""
        return sorted(self._authors)

    def by_authors(self) -> list[Space]:
        """The first author of a space owns it; its other authors may write."""
        made = []
        for space, authors in sorted(self._authors.items()):
            order = sorted(authors.items(), key=lambda one: (one[1], one[0]))
            members = [Member(user, "writer" if n else "owner", at) for n, (user, at) in enumerate(order)]
            made.append(Space(space, space, order[0][1], members))
        return made

    def by_nobody(self) -> list[Space]:
        """Without members: they come from tokens or a service."""
        return [Space(space, space, min(self._authors[space].values()), []) for space in self.spaces]

    def by_list(self, lines: Iterable[tuple[str, str, Role]]) -> list[Space]:
        """As a list of (space, user, role) says. Raises UnreadableRow where a space has no owner in it."""
        spaces = {space.id: space for space in self.by_nobody()}
        for name, user, role in lines:
            if name in spaces:
                spaces[name].members.append(Member(user, role, spaces[name].createdAt))
        for space in spaces.values():
            if not any(member.role == "owner" for member in space.members):
                raise UnreadableRow("no_owner", f"the list of members names no owner of the space {space.id}: add one")
        return list(spaces.values())


def read_members(path: Path) -> list[tuple[str, str, Role]]:
    """A CSV with the columns space, user, role. Raises UnreadableRow with its line."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.DictReader(file)
        lines = []
        for row in reader:
            line = (row.get("space") or "", row.get("user") or "", row.get("role") or "")
            if fault_in_id(line[0]) or fault_in_id(line[1]) or line[2] not in ROLES:
                want = "a space, a user, and owner, writer or reader, under the header space,user,role"
                raise UnreadableRow("invalid_row", f"{path}, line {reader.line_num}: needs {want}")
            lines.append((line[0], line[1], cast(Role, line[2])))
        return lines
