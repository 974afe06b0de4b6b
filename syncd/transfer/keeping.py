"""Rows of a first-generation log that cannot be written are held, as if their devices pushed them: as what. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec
from msgspec import UnsetType

from syncd.core.ids import fault_in_id
from syncd.protocol.first_generation import client_of
from syncd.protocol.normalize import content_id
from syncd.transfer.sources.foreign import ForeignChange, ForeignRow


class Kept(NamedTuple):
    """What is held of a row. `content` tells it when it comes again; `known`: whether the log may have it under that,
    too. The others are those of sync_held; None: no name."""

    user: str
    client: str
    app: str
    space: str | None
    table: str | None
    record: str | None
    content: str
    known: bool
    change: str

    def put(self, reason: str, most: tuple[int, int]) -> dict[str, Any]:
        """It as sync_hold takes it. `most`: changes and bytes of one user."""
        row = {"w": reason, "k": self.content, "s": self.space, "t": self.table, "r": self.record, "d": self.change}
        return {"put": [row], "most": most}


def kept(found: ForeignChange, content: str | None) -> Kept | None:
    """A change as its device would push it; None where nobody could be told to have written it. `content`: its id
    in the log, None where it has none."""
    if fault_in_id(found.user) or fault_in_id(found.app):
        return None
    change, personal = found.change, f"_personal:{found.user}"
    space = found.space or personal  # said, so that a field called spaceId does not say it
    said = {
        "table": change.table, "id": change.id, "op": change.op, "spaceId": space,
        "fields": {name: {"value": one.value, "at": one.at} for name, one in (change.fields or {}).items()},
        "deletedAt": change.deletedAt, "schemaVersion": change.schemaVersion,
        "actor": None if isinstance(change.actor, UnsetType) else change.actor, "origin": change.origin,
    }  # fmt: skip
    text = msgspec.json.encode({name: value for name, value in said.items() if value is not None}).decode()
    return Kept(
        found.user, client_of(found.client, found.user), found.app, space if space == personal else _name(space),
        _name(change.table), _name(change.id), content or content_id(["held", text]), content is not None, text,
    )  # fmt: skip


def kept_row(row: ForeignRow) -> Kept | None:
    """A row that is no change, whole: in the form of none, so that it stays held until somebody has looked at it."""
    try:
        said = json.loads(row.content)
    except (ValueError, RecursionError):
        return None
    user, app, client = said.get("user_id"), said.get("app_id"), said.get("client_id")
    if not isinstance(user, str) or not isinstance(app, str) or fault_in_id(user) or fault_in_id(app):
        return None
    text = f'{{"row":{row.content}}}'
    space, table, record = (_name(said.get(name)) for name in ("space_id", "table_name", "record_id"))
    name = client_of(client if isinstance(client, str) else None, user)
    return Kept(user, name, app, space, table, record, content_id(["held", text]), False, text)


def _name(text: object) -> str | None:
    return text if isinstance(text, str) and fault_in_id(text) is None else None
