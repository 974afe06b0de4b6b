"""What is wrong with a record, in words for people. No value of a record is in them.

The validator's own list of errors has one for each item of a list, which a device could make very long. So the faulty
places are looked for here, by asking about parts of the schema: one fault of a field is enough.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from syncd.core.pieces import rest
from syncd.service.schema_cost import MOST_STEPS, Cost

# How many faults of a record are looked for, items of a list to find a faulty one, and characters of what is told of a
# schema.
MOST_FAULTS, MOST_ITEMS, LONGEST_PART = 100, 1000, 120
# How many faults a refusal tells, and characters of its text.
FAULTS_SHOWN, LONGEST_TEXT = 3, 500
# How many members of a value are judged at once: nobody else works meanwhile.
PIECE = 10_000
ANNOTATIONS = frozenset((
    "$schema", "$id", "$comment", "$defs", "title", "description", "default", "examples", "deprecated", "readOnly",
    "writeOnly", "contentEncoding", "contentMediaType", "contentSchema", "then", "else", "minContains", "maxContains",
    "unevaluatedProperties", "unevaluatedItems",
))  # fmt: skip

WITH = {"contains": ("minContains", "maxContains")}
# In place of a word, of a field of the record.
UNEXPECTED, MISNAMED, TOO_MUCH = "unexpected field", "misnamed field", "too much"

Rule = tuple[str, ...]
Judge = Callable[[Any, Any, Rule], bool]
Members = Callable[[dict[str, Any]], Iterator[dict[str, Any]]]


# When the judging of a push has to end, on the monotonic clock.
UNTIL: ContextVar[float] = ContextVar("UNTIL", default=math.inf)


class TookTooLong(Exception):
    """A record could not be judged in time."""


@contextmanager
def judged_until(until: float) -> Iterator[None]:
    """What is judged inside ends by then, between two parts of a schema."""
    token = UNTIL.set(until)
    try:
        yield
    finally:
        UNTIL.reset(token)


def pieces(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The members of a value, so many at a time as are judged without a rest."""
    items = iter(value.items())
    while piece := dict(islice(items, PIECE)):
        yield piece


class RecordFault(NamedTuple):
    """One fault. `field`: which field has it or lacks, None where it is the record's; `say`: its text, made for those
    that are told alone; `key`: the same for the same fault; `of_a_field`: it is in what a field holds, not in
    what the record lacks or is as a whole."""

    field: str | None
    say: Callable[[], str]
    key: tuple[Any, ...]
    of_a_field: bool


class FoundFault(NamedTuple):
    """A faulty place in a record, the word of the schema that says so, with what it says, and where in the schema."""

    place: tuple[str | int, ...]
    word: str
    said: Any
    rule: Rule


def _count(number: Any, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _json(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST_PART else f"{text[: LONGEST_PART - 1]}…"


TYPES = {
    "string": "a text", "number": "a number", "integer": "a whole number", "boolean": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
FORMATS = {
    "date": "a date as 2026-11-29", "time": "a time as 12:00:00Z", "date-time": "an instant as 2026-11-29T12:00:00Z",
    "email": "an e-mail address", "uri": "a URI", "uuid": "a UUID", "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address", "hostname": "a host name",
}  # fmt: skip
REASONS: dict[str, Callable[[Any], str]] = {
    "maxLength": lambda most: f"must be at most {_count(most, 'character')}",
    "minLength": lambda least: f"must be at least {_count(least, 'character')}",
    "maximum": lambda most: f"must be at most {most}",
    "minimum": lambda least: f"must be at least {least}",
    "exclusiveMaximum": lambda most: f"must be less than {most}",
    "exclusiveMinimum": lambda least: f"must be more than {least}",
    "multipleOf": lambda of: f"must be a multiple of {of}",
    "maxItems": lambda most: f"must have at most {_count(most, 'item')}",
    "minItems": lambda least: f"must have at least {_count(least, 'item')}",
    "maxProperties": lambda most: f"must have at most {_count(most, 'member')}",
    "minProperties": lambda least: f"must have at least {_count(least, 'member')}",
    "uniqueItems": lambda _: "must have no item twice",
    "contains": lambda _: "has too few or too many of an item that is asked for",
    "type": lambda types: f"must be {' or '.join(TYPES.get(one, one) for one in _listed(types))}",
    "enum": lambda options: f"must be one of {_json(options)[1:-1]}",
    "const": lambda wanted: f"must be {_json(wanted)}",
    "pattern": lambda pattern: f"must be of the form {_json(pattern)[1:-1]}",
    "format": lambda name: f"must be {FORMATS.get(name, f'of the format {name}')}",
    "anyOf": lambda _: "is of none of the forms that are allowed",
    "oneOf": lambda _: "is not of exactly one of the forms that are allowed",
    "not": lambda _: "is of a form that is not allowed",
    "propertyNames": lambda _: "has a member whose name is not allowed",
    "additionalProperties": lambda _: "has a member that is not allowed",
    "items": lambda _: "has an item that is not allowed",
    UNEXPECTED: lambda _: "is no field of this table",
    MISNAMED: lambda _: "is no name of a field",
    "required": lambda _: "lacks a member that it must have",
    "dependentRequired": lambda _: "lacks a member that it must have",
}


def _listed(types: Any) -> Iterable[str]:
    return [types] if isinstance(types, str) else types


class FaultFinder:
    """Finds what is wrong with records by a schema without `$ref`. `judge`: whether a value is valid by a part of a
    schema, of which the third argument is the name, that of all of it being `rule`; `known`: the names that the schema
    has: no other member of a value is named; `passes`: as many fields of a record as may be judged at once."""

    def __init__(
        self, schema: dict[str, Any], judge: Judge, known: frozenset[str], passes: Members = pieces, rule: Rule = ()
    ) -> None:
        self._schema, self._judge, self._known, self._passes, self._rule = schema, judge, known, passes, rule

    def faults(self, record: dict[str, Any], most: int = MOST_FAULTS) -> list[RecordFault]:
        """At most so many of a record that is known to be wrong; of each field one by each part of the schema that says
        something about it."""
        found = self._inside(self._schema, record, (), self._rule)
        return [self._fault(one) for one in islice(found, most)]

    def _found(self, node: Any, value: Any, place: tuple[str | int, ...], rule: Rule) -> Iterator[FoundFault]:
        if time.monotonic() > UNTIL.get():
            raise TookTooLong
        if not self._judge(node, value, rule):
            yield from self._inside(node, value, place, rule)

    def _inside(self, node: Any, value: Any, place: tuple[str | int, ...], rule: Rule) -> Iterator[FoundFault]:
        """What is wrong with a value that a part of the schema does not take."""
        nothing = True
        for word, said in node.items() if isinstance(node, dict) else ():
            for one in self._of_word(word, said, node, value, place, (*rule, word)):
                nothing = False
                yield one
        if nothing:
            yield FoundFault(place, "", None, rule)

    def _of_word(
        self, word: str, said: Any, node: dict[str, Any], value: Any, place: tuple[str | int, ...], rule: Rule
    ) -> Iterator[FoundFault]:  # fmt: skip
        """What one word of a part of the schema finds."""
        if word in ANNOTATIONS:
            return
        if word == "if":
            word = "then" if self._judge(said, value, rule) else "else"
            yield from self._found(node.get(word, True), value, place, (*rule[:-1], word))
        elif word == "allOf":
            for n, part in enumerate(said):
                yield from self._found(part, value, place, (*rule, str(n)))
        elif word == "dependentSchemas":
            for name in [one for one in said if one in value] if isinstance(value, dict) else ():
                yield from self._found(said[name], value, place, (*rule, name))
        elif word in ("properties", "patternProperties", "additionalProperties", "propertyNames"):
            if isinstance(value, dict):
                yield from self._of_members(word, said, node, value, place, rule)
        elif word in ("items", "prefixItems"):
            if isinstance(value, list):
                yield from islice(self._of_items(word, said, node, value, place, rule), 1)
        elif word in ("required", "dependentRequired") and not place and isinstance(value, dict):
            yield from (FoundFault(place, word, name, rule) for name in _missing(said, value))
        elif not self._judge({one: node[one] for one in (word, *WITH.get(word, ())) if one in node}, value, rule):
            yield FoundFault(place, word, said, rule)

    def _of_members(
        self, word: str, said: Any, node: dict[str, Any], value: dict[str, Any], place: tuple[str | int, ...],
        rule: Rule,
    ) -> Iterator[FoundFault]:  # fmt: skip
        """One fault of each member at the top, of the first faulty one below."""
        found = self._members(word, said, node, value, place, rule)
        yield from islice(found, None if not place else 1)

    def _members(
        self, word: str, said: Any, node: dict[str, Any], value: dict[str, Any], place: tuple[str | int, ...],
        rule: Rule,
    ) -> Iterator[FoundFault]:  # fmt: skip
        if word == "properties":
            for name in [one for one in said if one in value]:
                yield from islice(self._found(said[name], value[name], (*place, name), (*rule, name)), 1)
        elif word == "patternProperties":
            for pattern, part in said.items():
                for name in self._faulty({word: {pattern: part}}, value, place, (*rule, pattern, "all")):
                    yield from islice(self._found(part, value[name], (*place, name), (*rule, pattern)), 1)
        elif word == "propertyNames":
            for name in self._faulty({word: said}, value, place, (*rule, "all")):
                yield FoundFault(place or (name,), word if place else MISNAMED, said, rule)
        else:
            others = {"properties": dict.fromkeys(node.get("properties", ()), True), word: said,
                      "patternProperties": dict.fromkeys(node.get("patternProperties", ()), True)}  # fmt: skip
            for name in self._faulty(others, value, place, (*rule, "all")):
                if said is False:
                    yield FoundFault(place or (name,), word if place else UNEXPECTED, said, rule)
                else:
                    yield from islice(self._found(said, value[name], (*place, name), rule), 1)

    def _faulty(
        self, part: dict[str, Any], value: dict[str, Any], place: tuple[str | int, ...], rule: Rule
    ) -> Iterator[str]:
        """The members that a part of a schema which judges each by itself does not take, in their order. Halves without
        any are passed over whole: to ask about each of 300,000 takes seconds."""
        for piece in pieces(value) if place else self._passes(value):
            waiting = [piece]
            while waiting:
                members = waiting.pop()
                rest()
                if time.monotonic() > UNTIL.get():
                    raise TookTooLong
                if self._judge(part, members, rule):
                    continue
                if len(members) == 1:
                    yield from members
                else:
                    items = list(members.items())
                    half = len(items) // 2
                    waiting += [dict(items[half:]), dict(items[:half])]

    def _of_items(
        self, word: str, said: Any, node: dict[str, Any], value: list[Any], place: tuple[str | int, ...], rule: Rule
    ) -> Iterator[FoundFault]:  # fmt: skip
        if word == "prefixItems":
            for n, (part, item) in enumerate(zip(said, value, strict=False)):
                yield from self._found(part, item, (*place, n), (*rule, str(n)))
            return
        first = len(node.get("prefixItems", ()))
        if self._judge({"prefixItems": [True] * first, word: said} if first else {word: said}, value, (*rule, "all")):
            return
        for n, item in enumerate(value[first : first + MOST_ITEMS], first):
            yield from self._found(said, item, (*place, n), rule)
        yield FoundFault(place, word, said, rule)  # of one further behind

    def _fault(self, one: FoundFault) -> RecordFault:
        place, word, said, rule = one
        say = partial(self._text, one)
        if word in ("required", "dependentRequired") and not place:
            return RecordFault(said, say, (rule, said), False)
        if not place:
            return RecordFault(None, say, (rule, None), False)
        return RecordFault(str(place[0]), say, (rule, str(place[0])), True)

    def _text(self, one: FoundFault) -> str:
        place, word, said, _ = one
        if word in ("required", "dependentRequired") and not place:
            return f"{said}: is needed"
        return f"{self._place(place)}: {_reason(word, said)}" if place else f"The record {_reason(word, said)}"

    def _place(self, place: tuple[str | int, ...]) -> str:
        """As people write it: `address.lines[2]`."""
        parts = [str(place[0])]
        for part in place[1:]:
            if isinstance(part, int):
                parts.append(f"[{part}]")
            else:
                parts.append(f".{part}" if part in self._known else ".…")
        return "".join(parts)


def too_much_of(name: str, cost: Cost, value: Any) -> RecordFault:
    """The fault of a field that would take too long to judge with that value."""
    return RecordFault(name, partial(_too_much, name, cost, isinstance(value, str)), (TOO_MUCH, name), True)


def is_too_much(faults: list[RecordFault]) -> bool:
    """Whether a record was not judged, as that would take too long."""
    return bool(faults) and faults[0].key[0] == TOO_MUCH


def _too_much(name: str, cost: Cost, is_text: bool) -> str:
    texts = "" if cost.characters is None else f"texts of {cost.characters:,} characters"
    lists = f"lists of {cost.items:,} items, or fewer where numbers have many digits or no item may be there twice"
    return (
        f"{name}: is too much to be judged by the table's schema, which takes {MOST_STEPS:,} steps at most: "
        f"{texts if is_text and texts else ', and '.join(filter(None, (lists, texts)))}"
    )


def _missing(said: Any, value: dict[str, Any]) -> Iterator[str]:
    """The members that are required and not there."""
    if isinstance(said, dict):
        said = [name for there, names in said.items() if there in value for name in names]
    return (name for name in dict.fromkeys(said) if name not in value)


def _reason(word: str, said: Any) -> str:
    made = REASONS.get(word)
    return "is not allowed" if made is None else made(said)


def told(faults: list[RecordFault]) -> str:
    """The first faults, as the text of a refusal."""
    parts = [fault.say() for fault in faults[:FAULTS_SHOWN]]
    if len(faults) > FAULTS_SHOWN:
        parts.append("and more")
    text = "; ".join(parts)
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"
