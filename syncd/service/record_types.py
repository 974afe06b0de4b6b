"""What the records of a table look like to a program, by the table's JSON Schema. Pure.

A type here holds every value that the schema takes, and where it cannot be as narrow as the schema it holds more: words
such as `not`, `if`, `pattern` and `minLength` narrow nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from syncd.service.schema_limits import without_refs

Kind = Literal["null", "boolean", "number", "integer", "string"]
# The tombstone, which is no field.
TOMBSTONE = "deletedAt"
# From here on a double rounds integers.
ROUNDED = 2**53
# Pairs of alternatives that are compared with each other, and those of lists and objects among them. Of more, one side
# is taken, which holds more than both.
MOST_PAIRS, MOST_DEEP_PAIRS = 100_000, 256


class Scalar(NamedTuple):
    """Any value of a kind. `exact`: a number that no double rounds."""

    kind: Kind
    exact: bool = False


class Constant(NamedTuple):
    """One value, of a kind. A number without a fraction is an integer."""

    kind: Kind
    value: Any


class ListOf(NamedTuple):
    """A list of items that are each of one of these types."""

    items: Types


class TypedField(NamedTuple):
    """A member of an object, or a field of a record. `note`: what the schema says of it in words."""

    types: Types
    required: bool
    note: str = ""


class ObjectOf(NamedTuple):
    """An object. `others`: what members are that have no name here. `said`: the schema says so itself."""

    members: tuple[tuple[str, TypedField], ...] = ()
    others: Types = None
    said: bool = False

    def member(self, name: str) -> TypedField:
        """A member, one that has no name here too."""
        return dict(self.members).get(name, TypedField(self.others, required=False))


OneType = Scalar | Constant | ListOf | ObjectOf
# A value is of one of them; None: of any; of none where it is empty.
Types = tuple[OneType, ...] | None
EVERY: tuple[OneType, ...] = (
    Scalar("null"), Scalar("boolean"), Scalar("number"), Scalar("string"), ListOf(None), ObjectOf(),
)  # fmt: skip


def record_type(schema: dict[str, Any]) -> ObjectOf:
    """The fields of a table's records, for a schema that is within the limits."""
    found = [one for one in types_of(without_refs(schema)) or EVERY if isinstance(one, ObjectOf)]
    whole = _in_one(found) if found else ObjectOf(others=(), said=True)
    return whole._replace(members=tuple(one for one in whole.members if one[0] != TOMBSTONE))


def types_of(part: Any) -> Types:
    """The types of what a part of a schema takes, with each `$ref` replaced."""
    if not isinstance(part, dict):
        return None if part is True else ()
    found = _own(part)
    for one in part.get("allOf", ()):
        found = meet(found, types_of(one))
    for word in ("anyOf", "oneOf"):
        if word in part:
            found = meet(found, join(types_of(one) for one in part[word]))
    return found


def note_of(part: Any) -> str:
    """What a part of a schema says of itself in words, on one line."""
    if not isinstance(part, dict):
        return ""
    said = " ".join(str(part.get("description") or part.get("title") or "").split())
    return "".join(letter for letter in said if letter.isprintable())


def _own(part: dict[str, Any]) -> Types:
    """The types by the words of a part alone, without the parts that all, any or one of hold."""
    said = part.get("type")
    if "const" not in part and "enum" not in part:
        return _of_kinds(part, said)
    values = [part["const"]] if "const" in part else part["enum"]
    return meet(tuple(dict.fromkeys(map(_of_value, values))), _of_kinds(part, said))


def _of_kinds(part: dict[str, Any], said: Any) -> Types:
    kinds = said if isinstance(said, list) else ["null", "boolean", "number", "string", "array", "object"]
    kinds = [said] if isinstance(said, str) else kinds
    found = tuple(_of_kind(kind, part) for kind in dict.fromkeys(kinds))
    return None if set(found) == set(EVERY) else found


def _of_kind(kind: str, part: dict[str, Any]) -> OneType:
    if kind == "array":
        return ListOf(_items(part))
    if kind == "object":
        return _object(part)
    name: Kind = kind  # type: ignore[assignment]
    return Scalar(name, kind in ("number", "integer") and _is_exact(part))


def _is_exact(part: dict[str, Any]) -> bool:
    lowest, highest = (part.get(word, part.get(f"exclusive{word.title()}")) for word in ("minimum", "maximum"))
    return lowest is not None and highest is not None and lowest > -ROUNDED and highest < ROUNDED


def _items(part: dict[str, Any]) -> Types:
    """What may lie in a list, at any place of it."""
    first = [types_of(one) for one in part.get("prefixItems", ())]
    rest = types_of(part.get("items", True))
    return join([*first, rest])


def _object(part: dict[str, Any]) -> ObjectOf:
    said = "additionalProperties" in part or "patternProperties" in part
    named = part.get("patternProperties", {}).values()
    others = join([types_of(part.get("additionalProperties", True)), *map(types_of, named)])
    required = part.get("required", ())
    members = {
        name: TypedField(types_of(one), name in required, note_of(one))
        for name, one in part.get("properties", {}).items()
    }
    for name in required:
        members.setdefault(name, TypedField(others, required=True))
    return ObjectOf(tuple(members.items()), others, said)


def _of_value(value: Any) -> OneType:
    """The type of one value: itself, or as near to it as a type comes."""
    match value:
        case None:
            return Constant("null", None)
        case bool():
            return Constant("boolean", value)
        case str():
            return Constant("string", value)
        case int() | float():
            whole = isinstance(value, int) or value.is_integer()
            return Constant("integer" if whole else "number", int(value) if whole else value)
        case list():
            return ListOf(join((_of_value(one),) for one in value))
        case _:
            members = ((name, TypedField((_of_value(one),), required=True)) for name, one in value.items())
            return ObjectOf(tuple(members), others=(), said=True)


def join(parts: Iterable[Types]) -> Types:
    """What is of one of these."""
    found = dict[OneType, None]()
    for part in parts:
        if part is None:
            return None
        found.update(dict.fromkeys(part))
    wide = {one.kind for one in found if isinstance(one, Scalar)}
    wide |= {"integer"} if "number" in wide else set()
    return tuple(one for one in found if not (isinstance(one, Constant) and one.kind in wide))


def meet(one: Types, other: Types) -> Types:
    """What is of both."""
    if one is None or other is None:
        return other if one is None else one
    if len(one) * len(other) > MOST_PAIRS or _deep(one) * _deep(other) > MOST_DEEP_PAIRS:
        return min(one, other, key=len)
    return join(_both(first, second) for first in one for second in other)


def _deep(types: tuple[OneType, ...]) -> int:
    return sum(isinstance(one, ListOf | ObjectOf) for one in types)


def _both(one: OneType, other: OneType) -> tuple[OneType, ...]:
    match one, other:
        case Scalar(), Scalar():
            return _both_scalars(one, other)
        case Constant(), Constant():
            return (one,) if one == other else ()
        case (Constant() as held, Scalar() as wide) | (Scalar() as wide, Constant() as held):
            fits = held.kind == wide.kind or (held.kind, wide.kind) == ("integer", "number")
            return (held,) if fits else ()
        case ListOf(), ListOf():
            return (ListOf(meet(one.items, other.items)),)
        case ObjectOf(), ObjectOf():
            return _both_objects(one, other)
        case _:
            return ()


def _both_scalars(one: Scalar, other: Scalar) -> tuple[OneType, ...]:
    exact = one.exact or other.exact
    if one.kind == other.kind:
        return (Scalar(one.kind, exact),)
    return (Scalar("integer", exact),) if {one.kind, other.kind} == {"integer", "number"} else ()


def _both_objects(one: ObjectOf, other: ObjectOf) -> tuple[OneType, ...]:
    members = dict[str, TypedField]()
    for name in dict.fromkeys(name for name, _ in (*one.members, *other.members)):
        first, second = one.member(name), other.member(name)
        types = meet(first.types, second.types)
        required = first.required or second.required
        if required and types == ():
            return ()
        members[name] = TypedField(types, required, first.note or second.note)
    others = meet(one.others, other.others)
    return (ObjectOf(tuple(members.items()), others, one.said or other.said),)


def is_any(types: Types) -> bool:
    """Whether it is as good as any value: of each kind there are such."""
    if types is None:
        return True
    scalars = {one.kind for one in types if isinstance(one, Scalar) and not one.exact}
    deep = {type(one) for one in types if isinstance(one, ListOf | ObjectOf)}
    return scalars >= {"null", "boolean", "number", "string"} and len(deep) == 2


def _in_one(objects: Sequence[ObjectOf]) -> ObjectOf:
    """An object type that holds what each of these holds."""
    if len(objects) == 1:
        return objects[0]
    members = dict[str, TypedField]()
    for name in dict.fromkeys(name for one in objects for name, _ in one.members):
        found = [one.member(name) for one in objects]
        note = next((one.note for one in found if one.note), "")
        members[name] = TypedField(join(one.types for one in found), all(one.required for one in found), note)
    said = any(one.said and one.others != () for one in objects) or all(one.others == () for one in objects)
    return ObjectOf(tuple(members.items()), join(one.others for one in objects), said)
