"""Types for the TypeScript client: an interface of each table's fields, and `Tables` for `Replica.open`. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from syncd.service.record_types import ROUNDED, Constant, ListOf, ObjectOf, OneType, Scalar, TypedField, Types, is_any
from syncd.service.type_names import PLAIN, TypeNames, typescript_text

OF_JSON = ("Json", "JsonObject")
# Names of properties that stand in quotes, so that nobody takes them for something else.
QUOTED = ("constructor", "__proto__")
OF_KINDS = {"null": ["null"], "boolean": ["boolean"], "string": ["string"]}
# Where a double rounds an integer, the client has it as a big one.
WIDE_NUMBER = ["number", "bigint"]


def typescript_types(app: str, tables: Mapping[str, ObjectOf]) -> str:
    """A module with the types of an app's tables, by their names."""
    names, writer = TypeNames((*OF_JSON, "Tables")), _TypeWriter()
    named = {table: names.give(table) for table in sorted(tables)}
    interfaces = [writer.interface(name, table, tables[table]) for table, name in named.items()]
    rows = "".join(f"  {_property(table)}: {name};\n" for table, name in named.items())
    about = f"The tables of {_comment(typescript_text(app))}: made by `syncd types typescript`, not to be edited."
    imports = f'import type {{ {", ".join(sorted(writer.used))} }} from "@syncd/client";\n' if writer.used else ""
    all_ = f"/** For `Replica.open<Tables>`. */\nexport interface Tables {{\n{rows}}}\n"
    return "\n".join([f"/** {about} */\n{imports}", *interfaces, all_])


class _TypeWriter:
    """Writes types as TypeScript. `used`: those of the client that it named."""

    def __init__(self) -> None:
        self.used = set[str]()

    def interface(self, name: str, table: str, record: ObjectOf) -> str:
        """That of a table's records."""
        lines = []
        for field, member in record.members:
            note = f"  /** {_comment(member.note)} */\n" if member.note else ""
            lines.append(f"{note}  {self._member(field, member)};\n")
        if record.said and record.others != ():
            lines.append(f"  {self._index(record)};\n")
        head = f"/** A record of {_comment(typescript_text(table))}. */\nexport interface {name} {{\n"
        return "".join([head, *lines, "}\n"])

    def _member(self, name: str, member: TypedField) -> str:
        return f"{_property(name)}{'' if member.required else '?'}: {self._union(member.types)}"

    def _union(self, types: Types) -> str:
        return " | ".join(self._alternatives(types)) or "never"

    def _alternatives(self, types: Types) -> list[str]:
        if types is None or is_any(types):
            return [self._of_client("Json")]
        return list(dict.fromkeys(part for one in types for part in self._parts(one)))

    def _parts(self, one: OneType) -> list[str]:
        match one:
            case Scalar(kind, exact):
                return OF_KINDS.get(kind) or (["number"] if exact else WIDE_NUMBER)
            case Constant("integer", value) if abs(value) >= ROUNDED:
                return WIDE_NUMBER
            case Constant(_, value):
                return [typescript_text(value) if isinstance(value, str) else json.dumps(value)]
            case ListOf(items):
                inner = self._union(items)
                return [f"readonly ({inner})[]" if " " in inner else f"readonly {inner}[]"]
            case ObjectOf():
                return [self._object(one)]

    def _object(self, one: ObjectOf) -> str:
        if not one.members and one.others is None:
            return self._of_client("JsonObject")
        members = [f"readonly {self._member(name, member)}" for name, member in one.members]
        if not members or (one.said and one.others != ()):
            members.append(f"readonly {self._index(one)}")
        return f"{{ {'; '.join(members)} }}"

    def _index(self, one: ObjectOf) -> str:
        """What members without a name are. In TypeScript those that have one are of that type as well."""
        types = [one.others, *(member.types for _, member in one.members)]
        parts = dict.fromkeys(part for some in types for part in self._alternatives(some))
        if "Json" in parts:
            parts = {"Json": None}
        if any(not member.required for _, member in one.members):
            parts["undefined"] = None
        return f"[name: string]: {' | '.join(parts) or 'never'}"

    def _of_client(self, name: str) -> str:
        self.used.add(name)
        return name


def _comment(text: str) -> str:
    return text.replace("*/", "*\\/")


def _property(name: str) -> str:
    return name if PLAIN.fullmatch(name) and name not in QUOTED else typescript_text(name)
