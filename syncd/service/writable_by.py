"""`x-writable-by` of a table's JSON Schema: who in a space may write the table, or a field of it. The database reads it
from the schema in force, and decides (schema/functions/writable_by.sql)."""

from __future__ import annotations

from typing import Any

from syncd.core.ids import fault_in_id
from syncd.service.schema_limits import Path, SchemaRefused

WORD = "x-writable-by"
ROLES = ("owner", "writer")
# Where a value lies in a schema that is no schema itself.
VALUES = ("const", "enum", "default", "examples", "required", "dependentRequired")


def check_writable_by(schema: dict[str, Any]) -> None:
    """Whether the word stands only where it is read, at the top and in a property of the top, and names a role. Raises
    SchemaRefused."""
    _check(schema, ())


def _check(node: object, path: Path, *, named: bool = False) -> None:
    """`named`: the members of this part are names, and no words."""
    if isinstance(node, list):
        for place, one in enumerate(node):
            _check(one, (*path, str(place)))
    if not isinstance(node, dict):
        return
    for word, said in node.items():
        if word == WORD and not named:
            _check_word(said, path)
        elif named or word not in VALUES:
            inner = not named and word in ("properties", "patternProperties", "$defs", "dependentSchemas")
            _check(said, (*path, word), named=inner)


def _check_word(said: object, path: Path) -> None:
    place = (*path, WORD)
    if path and not (len(path) == 2 and path[0] == "properties"):
        raise SchemaRefused(place, "it is read at the top, for the table, and in a property of the top, for a field")
    if said not in ROLES:
        raise SchemaRefused(place, 'write "owner", or "writer" for everybody who may write in the space')
    if path and (path[1] == "deletedAt" or fault_in_id(path[1])):
        raise SchemaRefused(place, "no device writes a field of this name")
