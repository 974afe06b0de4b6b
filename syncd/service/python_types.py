"""Types for the Python client: a TypedDict of each table's fields, and protocols of a replica with them. Pure."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Iterator, Mapping, Sequence

from syncd.service.python_module import HEAD, RECORD, RESERVED, TAIL, overloaded, reads, writes
from syncd.service.record_types import (
    ROUNDED,
    TOMBSTONE,
    Constant,
    ListOf,
    ObjectOf,
    OneType,
    Scalar,
    TypedField,
    Types,
    is_any,
)
from syncd.service.type_names import PLAIN, TableTypeNames, TypeNames, python_text

OF_KINDS = {"null": "None", "boolean": "bool", "string": "str", "integer": "int", "number": "float"}
# By the kind of what a field holds: what it is asked for with. An object in a condition is one of operators.
OF_CONDITIONS = {
    "string": "TextOperators | TextCondition",
    "number": "NumberOperators | NumberCondition",
    "boolean": "OtherOperators | OtherCondition",
    "list": "ListOperators | ListCondition",
    "object": "OtherOperators | OtherCondition",
}
# Names that a class of fields gives to none, as it names these types.
SHADOWED = ("bool", "dict", "float", "int", "list", "str")


def python_types(app: str, tables: Mapping[str, ObjectOf]) -> str:
    """A module with the types of an app's tables, by their names."""
    names = TypeNames(RESERVED)
    named = [
        TableTypeNames(table, *(names.give(table, more) for more in ("", "Where", "Order", "Record")))
        for table in sorted(tables)
    ]
    writer = _DictWriter(names)
    parts = [part for one in named for part in writer.table(one, tables[one.table])]
    about = f"# The tables of {python_text(app)}: made by `syncd types python`, not to be edited.\n# ruff: noqa\n"
    handles = [writes(named), reads(named, waits=False), reads(named, waits=True)]
    return "\n\n".join([about + HEAD, *parts, *handles, TAIL])


class _DictWriter:
    """Writes types as Python. A type stands before all that names it."""

    def __init__(self, names: TypeNames) -> None:
        self._names = names
        self._made: list[str] = []
        self._dicts: dict[ObjectOf, str] = {}

    def table(self, named: TableTypeNames, record: ObjectOf) -> list[str]:
        """The types of a table."""
        self._made, self._dicts = [], {}
        if _is_open(record):
            self._made.append(f"{named.fields}: TypeAlias = {self._mapping(record, named.fields, 'Mapping')}\n")
            self._made.append(f"{named.where}: TypeAlias = Mapping[str, Any]\n")
            self._made.append(f"{named.order}: TypeAlias = str\n")
        else:
            self._typed_dict(named.fields, record, whole=False)
            self._asked(named, record)
        self._made.append(self._record(named, record))
        return self._made

    def _asked(self, named: TableTypeNames, record: ObjectOf) -> None:
        """What its records are asked for and sorted by."""
        paths = dict[str, Types]()
        for path, types in _paths(record, ""):
            paths.setdefault(path, types)  # a field whose own name has the dot goes first
        columns = [f"    {python_text(path)}: {python_text(self._sought(types))},\n" for path, types in paths.items()]
        self._made.append(f'{named.where} = TypedDict("{named.where}", {{\n{"".join(columns)}}}, total=False)\n')
        signed = [f"{sign}{path}" for path in (*paths, TOMBSTONE) for sign in ("", "-")]
        self._made.append(f"{named.order}: TypeAlias = Literal[{', '.join(map(python_text, signed))}]\n")

    def _sought(self, types: Types) -> str:
        """The type of what a field or path is asked for with."""
        if types is None or is_any(types):
            return "Any"
        kinds = dict.fromkeys(_kind(one) for one in types if _kind(one) != "null")
        if len(kinds) > 1:
            return "Any"
        plain = tuple(one for one in types if _kind(one) not in ("object", "null"))
        found = [*([self._type(plain, "Value")] if plain else []), "None", *(OF_CONDITIONS[kind] for kind in kinds)]
        return " | ".join(found)

    def _record(self, named: TableTypeNames, record: ObjectOf) -> str:
        """That of a record as it is read."""
        by_type = dict[str, list[str]]()
        if _is_open(record):
            types = [record.others, *(member.types for _, member in record.members)]
            by_type[self._types(types, named.fields)] = []
        for name, member in () if _is_open(record) else record.members:
            by_type.setdefault(self._type(member.types, f"{named.fields} {name}"), []).append(python_text(name))
        names = {type_: f"Literal[{', '.join(fields)}]" if fields else "str" for type_, fields in by_type.items()}
        held = [f"def __getitem__(self, field: {field}, /) -> {type_}: ..." for type_, field in names.items()]
        got = [
            f"def get(self, field: {field}{more}, /) -> {_or(type_, otherwise)}: ..."
            for type_, field in names.items()
            for more, otherwise in (("", "None"), (", default: Default", "Default"))
        ]
        return f"class {named.record}(Protocol):\n{RECORD}{overloaded(held)}{overloaded(got)}"

    def _type(self, types: Types, name: str) -> str:
        return self._types([types], name)

    def _types(self, several: Sequence[Types], name: str) -> str:
        """What is of one of these types. `name`: what a TypedDict would be called."""
        if any(types is None or is_any(types) for types in several):
            return "Any"
        every = [one for types in several for one in types or ()]
        constants = [python_text(one.value) if isinstance(one.value, str) else repr(one.value)
                     for one in every if isinstance(one, Constant) and _is_literal(one)]  # fmt: skip
        parts = [f"Literal[{', '.join(dict.fromkeys(constants))}]"] if constants else []
        parts += [part for one in every if (part := self._part(one, name))]
        return " | ".join(dict.fromkeys(parts)) or "Never"

    def _part(self, one: OneType, name: str) -> str | None:
        match one:
            case Constant() if _is_literal(one):
                return None
            case Scalar(kind) | Constant(kind):
                return OF_KINDS[kind]
            case ListOf(items):
                return f"list[{self._type(items, name)}]"
            case ObjectOf():
                if not one.members or _is_open(one):
                    return self._mapping(one, name, "dict")
                if one not in self._dicts:
                    self._dicts[one] = self._names.give(name)
                    self._typed_dict(self._dicts[one], one, whole=True)
                return self._dicts[one]

    def _mapping(self, one: ObjectOf, name: str, of: str) -> str:
        return f"{of}[str, {self._types([one.others, *(member.types for _, member in one.members)], name)}]"

    def _typed_dict(self, name: str, one: ObjectOf, whole: bool) -> None:
        members = [(field, self._member(name, field, member, whole), member.note) for field, member in one.members]
        if all(_is_plain(field) for field, _, _ in members):
            lines = [line for field, type_, note in members for line in (note and f"#: {note}", f"{field}: {type_}")]
            body = "".join(f"    {line}\n" for line in filter(None, lines)) or "    pass\n"
            self._made.append(f"class {name}(TypedDict, total=False):\n{body}")
            return
        rows = "".join(f"    {python_text(field)}: {python_text(type_)},\n" for field, type_, _ in members)
        self._made.append(f'{name} = TypedDict("{name}", {{\n{rows}}}, total=False)\n')

    def _member(self, name: str, field: str, member: TypedField, whole: bool) -> str:
        type_ = self._type(member.types, f"{name} {field}")
        return f"Required[{type_}]" if whole and member.required else type_


def _is_literal(one: Constant) -> bool:
    """Whether a type can be that value alone. mypy takes no integer of more than 64 bits."""
    return one.kind in ("string", "boolean") or (one.kind == "integer" and abs(one.value) < ROUNDED)


def _or(type_: str, other: str) -> str:
    return type_ if other in type_.split(" | ") else f"{type_} | {other}"


def _is_open(one: ObjectOf) -> bool:
    """Whether the schema says that there may be members that it does not name."""
    return one.said and one.others != ()


def _is_plain(field: str) -> bool:
    """Whether a class can have it as an attribute, and go on naming its types."""
    if keyword.iskeyword(field) or field in SHADOWED or field.startswith("__"):
        return False
    return bool(PLAIN.fullmatch(field)) and not field[0].isupper()


def _kind(one: OneType) -> str:
    match one:
        case Scalar(kind) | Constant(kind):
            return "number" if kind == "integer" else kind
        case ListOf():
            return "list"
        case ObjectOf():
            return "object"


def _paths(record: ObjectOf, above: str) -> Iterator[tuple[str, Types]]:
    """The fields, and what is in those that hold an object: `place.city`."""
    deeper = list[Iterable[tuple[str, Types]]]()
    for name, member in record.members:
        yield f"{above}{name}", member.types
        inner = [one for one in member.types or () if isinstance(one, ObjectOf) and not _is_open(one)]
        if len(inner) == 1 and not is_any(member.types):
            deeper.append(_paths(inner[0], f"{above}{name}."))
    for paths in deeper:
        yield from paths
