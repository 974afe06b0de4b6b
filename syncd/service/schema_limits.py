"""Which JSON Schemas are taken: of one dialect, within bounds, and judged in time in line with a record's size.

A schema is looked at as a tree in which each `$ref` is replaced by what it names. A schema that contains itself has no
end there, and one that names a part twice, which names others twice, and so on, is very large: a device could make both
take for ever, and they are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

DIALECT = "https://json-schema.org/draft/2020-12/schema"
# Bytes of a table's schema as JSON, how deep its parts lie in each other, and how many there are with each `$ref`
# replaced.
LARGEST, DEEPEST, MOST_PARTS = 64 * 1024, 32, 2000
# How many patterns one part may have for names: each of them is looked for in each name of a record, at once.
MOST_PATTERNS = 32

IN_NAMES = ("properties", "patternProperties", "$defs", "dependentSchemas")
IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems")
SINGLE = (
    "additionalProperties", "propertyNames", "items", "contains", "not", "if", "then", "else", "unevaluatedItems",
    "unevaluatedProperties",
)  # fmt: skip
PLAIN = (
    "$schema", "$id", "$ref", "$comment", "type", "enum", "const", "multipleOf", "maximum", "exclusiveMaximum",
    "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems",
    "maxContains", "minContains", "maxProperties", "minProperties", "required", "dependentRequired", "format", "title",
    "description", "default", "deprecated", "readOnly", "writeOnly", "examples", "contentEncoding", "contentMediaType",
    "contentSchema",
)  # fmt: skip
KEYWORDS = frozenset((*IN_NAMES, *IN_LISTS, *SINGLE, *PLAIN))
REFUSED = (
    "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary", "definitions",
)  # fmt: skip

Path = tuple[str, ...]


class SchemaRefused(ValueError):
    """A schema is not taken. `path`: where in it; `why`: in words."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{'/'.join(path)}: {why}" if path else why)
        self.path, self.why = path, why


def check_limits(schema: object) -> list[tuple[Path, str]]:
    """Looks at a table's schema; the places of words that are no keyword and check nothing. Raises SchemaRefused."""
    if not isinstance(schema, dict):
        raise SchemaRefused((), "a table's schema is an object")
    if schema.get("$schema", DIALECT).removesuffix("#") != DIALECT:
        raise SchemaRefused(("$schema",), f"only {DIALECT} is read")
    places = dict[Path, Any]()
    unknown = list[tuple[Path, str]]()
    _gather(schema, (), places, unknown)
    if "object" not in _types(schema):
        raise SchemaRefused(("type",), "a record is an object")
    _weigh((), places, {}, ())
    return unknown


def _types(schema: dict[str, Any]) -> list[str]:
    types = schema.get("type", "object")
    return types if isinstance(types, list) else [types]


def _gather(node: object, path: Path, places: dict[Path, Any], unknown: list[tuple[Path, str]]) -> None:
    if not isinstance(node, dict):
        places[path] = node
        return
    if len(path) > 2 * DEEPEST:
        raise SchemaRefused(path, f"parts lie more than {DEEPEST} deep in each other")
    places[path] = node
    for word in node:
        if word in REFUSED or (word == "$id" and path):
            raise SchemaRefused((*path, word), f'{word} is not read; name a part by `$ref`: "#/$defs/NAME"')
        if word not in KEYWORDS and not word.startswith("x-"):
            unknown.append((path, word))
    if isinstance(named := node.get("patternProperties"), dict) and len(named) > MOST_PATTERNS:
        raise SchemaRefused((*path, "patternProperties"), f"it has more than {MOST_PATTERNS} patterns")
    if isinstance(ref := node.get("$ref"), str) and not ref.startswith("#"):
        raise SchemaRefused((*path, "$ref"), 'only parts of the same schema can be named: "#/$defs/NAME"')
    for inner in _inside(node):
        _gather(_at(node, inner), (*path, *inner), places, unknown)


def _inside(node: dict[str, Any]) -> Iterator[Path]:
    """Where in a schema others lie."""
    for word in IN_NAMES:
        if isinstance(named := node.get(word), dict):
            yield from ((word, name) for name in named)
    for word in IN_LISTS:
        if isinstance(listed := node.get(word), list):
            yield from ((word, str(place)) for place in range(len(listed)))
    yield from ((word,) for word in SINGLE if word in node)


def _at(node: Any, path: Path) -> Any:
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def _weigh(path: Path, places: dict[Path, Any], known: dict[Path, int], above: Path | tuple[Path, ...]) -> int:
    """How many parts a part has, with each `$ref` replaced."""
    if path in above:
        raise SchemaRefused(path, "the schema contains itself, which could take for ever to judge by")
    if len(above) > 4 * DEEPEST:
        raise SchemaRefused(path, f"parts lie more than {DEEPEST} deep in each other")
    if path in known:
        return known[path]
    node, inner = places[path], list[Path]()
    if isinstance(node, dict):
        inner = [(*path, *one) for one in _inside(node) if one[0] != "$defs"]
        if isinstance(node.get("$ref"), str):
            inner.append(_named(node["$ref"], path, places))
    weight = 1 + sum(_weigh(one, places, known, (*above, path)) for one in inner)
    if weight > MOST_PARTS:
        raise SchemaRefused(path, f"the schema has more than {MOST_PARTS:,} parts, counted wherever `$ref` names them")
    known[path] = weight
    return weight


def _named(ref: str, path: Path, places: dict[Path, Any]) -> Path:
    parts = tuple(re.sub("~1", "/", part).replace("~0", "~") for part in unquote(ref[1:]).split("/")[1:])
    if (ref != "#" and not ref.startswith("#/")) or parts not in places:
        raise SchemaRefused((*path, "$ref"), f"there is no schema at {ref}")
    return parts


def property_names(schema: dict[str, Any]) -> frozenset[str]:
    """The names of members that a schema has, at any depth."""
    places = dict[Path, Any]()
    _gather(schema, (), places, [])
    return frozenset(
        name for node in places.values() if isinstance(node, dict) for name in node.get("properties") or ()
    )


def without_refs(schema: dict[str, Any]) -> dict[str, Any]:
    """The same with each `$ref` replaced by what it names, for one that is within the limits."""
    places = dict[Path, Any]()
    _gather(schema, (), places, [])
    whole: dict[str, Any] = _replaced((), places)
    return whole


def _replaced(path: Path, places: dict[Path, Any]) -> Any:
    node = places[path]
    if not isinstance(node, dict):
        return node
    made = {word: said for word, said in node.items() if word not in ("$ref", "$defs")}
    for word in dict.fromkeys(word for word, *_ in _inside(node)):  # once, however many parts it has
        said = made.get(word)
        if isinstance(said, list) and word in IN_LISTS:
            made[word] = [_replaced((*path, word, str(n)), places) for n in range(len(said))]
        elif word in IN_NAMES and isinstance(said, dict):
            made[word] = {name: _replaced((*path, word, name), places) for name in said}
        elif word in SINGLE:
            made[word] = _replaced((*path, word), places)
    if isinstance(node.get("$ref"), str):
        made["allOf"] = [*made.get("allOf", ()), _replaced(_named(node["$ref"], path, places), places)]
    return made
