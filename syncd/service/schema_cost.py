"""How much work a value is to judge by a JSON Schema, known before it is begun. Pure.

The validator's pass over a value cannot be interrupted, and nobody else of the process works meanwhile. The schema is
the operator's and the value anybody's: each item of a list may be asked for by each part of a schema. So it is counted
once, when a schema is made ready, what one item and one character may cost, and what a value may take follows from its
size. A step is some 20 ns on a slow machine; the counts are those that were measured there, and rather too large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

# Steps of one pass: some 40 ms. What takes fewer than the second is judged on the event loop.
MOST_STEPS, FEW_STEPS = 2_000_000, 200_000
# Lists and texts of fewer items, or characters, are ordinary: a schema that refuses them is warned about.
ORDINARY = 5_000
# How many parts are looked at to know a schema's cost; of one that has more, all parts count for each item.
LOOKED_AT = 100_000
LONGEST_NAME = 255
UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")
IN_PLACE_LISTS, IN_PLACE = ("allOf", "anyOf", "oneOf"), ("not", "if", "then", "else")
OTHER_ITEMS = ("items", "contains", "unevaluatedItems")
# Steps of a number or a structure that is compared: the library makes another number of it first.
COMPARED, COMPARED_CONST, COMPARED_MEMBER = 20, 55, 5
# A pattern of so few states is a table of all of them in each engine. Of a larger one each state may be followed.
FEW_STATES = 10


class Cost(NamedTuple):
    """Steps that each item of a value takes at most, and each character of it."""

    item: float
    character: float

    @property
    def items(self) -> int:
        """How many items a value may have at least."""
        return int(MOST_STEPS / self.item)

    @property
    def characters(self) -> int | None:
        """How many characters a text may have; None where it does not matter."""
        return int(MOST_STEPS / self.character) if self.character else None


class JsonText(Protocol):
    """A value as JSON text."""

    value: Any


class SchemaCost:
    """What judging by a schema without `$ref` costs. `fields`: of the fields that it names; `others`: of all others;
    `record`: steps beside those; `widest`: the most of any field."""

    def __init__(self, schema: dict[str, Any]) -> None:
        try:
            top, here, times = _Look().top(schema)
        except _TooManyParts:
            every = list(_every(schema))
            times = 1 + sum(word in part for part in every for word in UNEVALUATED)
            top = {None: _sum(every, times, 0)}
            here = every
        self.record = times * sum(map(_steps, here))
        self.others = top.pop(None)
        self.fields = top
        costs = [self.others, *self.fields.values()]
        self.widest = Cost(max(one.item for one in costs), max(one.character for one in costs))

    def of(self, name: str) -> Cost:
        """What judging a field takes."""
        return self.fields.get(name, self.others)

    def steps(self, fields: Mapping[str, Any]) -> float:
        """What these fields take at most, together."""
        total, known, others = self.record, self.fields, self.others
        for name, value in fields.items():
            item, character = known.get(name, others)
            kind, length = type(value), len(name)
            if kind is str:
                length += len(value)
            elif kind is list or kind is dict:
                text = msgspec.json.encode(value)
                item *= _items(text)
                length += len(text)
            total += item + character * length
        return total

    def of_field(self, name: str, value: Any) -> float:
        """What a field takes at most, without what the record takes beside its fields."""
        return self.steps({name: value}) - self.record

    def at_most(self, registers: Mapping[str, JsonText]) -> float:
        """What fields take at most, by the lengths of their JSON texts."""
        total = self.record
        for name, register in registers.items():
            item, character = self.fields.get(name, self.others)
            total += item * (1 + len(register.value) / 2) + character * (len(name) + len(register.value))
        return total

    def at_most_of(self, size: int, fields: int) -> float:
        """What so many fields, of so many bytes of JSON together, take at most beside their records."""
        return self.widest.item * (fields + size / 2) + self.widest.character * (LONGEST_NAME * fields + size)

    def narrow(self) -> list[tuple[str | None, Cost]]:
        """The fields of which ordinary values would be refused; None: those that the schema does not name."""
        named: list[tuple[str | None, Cost]] = [(None, self.others), *self.fields.items()]
        return [(name, cost) for name, cost in named
                if cost.items < ORDINARY or (cost.characters is not None and cost.characters < ORDINARY)]  # fmt: skip


def _items(text: bytes) -> int:
    """How many values are in one, at most: commas in texts count too."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


class _TooManyParts(Exception):
    """A schema's parts meet in more ways than are looked at."""


class _Look:
    """Looks which parts of a schema meet at the same value: they all judge it."""

    def __init__(self) -> None:
        self._left = LOOKED_AT

    def top(self, schema: dict[str, Any]) -> tuple[dict[Any, Cost], list[dict[str, Any]], int]:
        """The cost of each field that is named, and under None of all others; what judges the record, how often."""
        here = list(_in_place([schema]))
        times = 1 + _unevaluated(here)
        entry = self._entry(here, times)
        return {name: self._member(here, name, times, entry) for name in (*_names(here), None)}, here, times

    def _member(self, here: list[dict[str, Any]], name: str | None, times: int, entry: Cost) -> Cost:
        found = self._cost(self._meeting(here, _of_member, name), times)
        return Cost(found.item + entry.item, found.character + entry.character)

    def _cost(self, parts: list[Any], times: int) -> Cost:
        """The most that an item takes in a value that these parts judge, each `times` times."""
        here = list(_in_place(parts))
        if not here:
            return Cost(1.0, 0.0)
        times *= 1 + _unevaluated(here)
        entry = self._entry(here, times)
        costs = [_sum(here, times, 1)]
        costs += [self._member(here, name, times, entry) for name in (*_names(here), None)]
        listed = max((len(part.get("prefixItems", ())) for part in here), default=0)
        for place in (*range(listed), None):
            found = self._cost(self._meeting(here, _of_item, place), times)
            costs.append(Cost(found.item + entry.item, found.character))
        return Cost(max(one.item for one in costs), max(one.character for one in costs))

    def _meeting(self, here: list[dict[str, Any]], of: Any, where: Any) -> list[Any]:
        found = [part for one in here for part in of(one, where)]
        self._left -= len(here) + len(found)
        if self._left < 0:
            raise _TooManyParts
        return found

    def _entry(self, here: list[dict[str, Any]], times: int) -> Cost:
        """What each member or item takes beside its own value: to look it up, its name, to be told from the others."""
        names = [self._cost([part["propertyNames"]], times) for part in here if "propertyNames" in part]
        patterns = [pattern for part in here for pattern in part.get("patternProperties", ())]
        steps = sum(3 * ("required" in part) + ("properties" in part) + 12 * (part.get("uniqueItems") is True)
                    for part in here) + 5 * len(patterns)  # fmt: skip
        return Cost(
            times * steps + sum(one.item for one in names),
            times * sum(map(_per_character, patterns)) + sum(one.character for one in names),
        )


def _sum(here: Iterable[dict[str, Any]], times: int, least: float) -> Cost:
    """What an item takes that all these parts judge."""
    costs = [(_steps(part), _rate(part), 5 * len(part.get("patternProperties", ()))) for part in here]
    return Cost(least + times * sum(a + c for a, _, c in costs), times * sum(rate for _, rate, _ in costs))


def _in_place(parts: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """These parts of a schema and those in them that judge the same value."""
    waiting = list(parts)
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        yield part
        for word in IN_PLACE_LISTS:
            waiting += part.get(word, ())
        waiting += [part[word] for word in IN_PLACE if word in part]
        waiting += part.get("dependentSchemas", {}).values()


def _every(part: Any) -> Iterator[dict[str, Any]]:
    """All parts of a schema, and whatever else is an object in it."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one


def _names(here: Iterable[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(name for part in here for name in part.get("properties", ()))


def _unevaluated(here: Iterable[dict[str, Any]]) -> int:
    """How often all is judged once more, to know what is left."""
    return sum(word in part for part in here for word in UNEVALUATED)


def _of_member(part: dict[str, Any], name: str | None) -> Iterator[Any]:
    """What judges a member's value: None is that of one without a name in the schema."""
    named = part.get("properties", {})
    if name in named:
        yield named[name]
    elif "additionalProperties" in part:
        yield part["additionalProperties"]
    yield from part.get("patternProperties", {}).values()
    if "unevaluatedProperties" in part:
        yield part["unevaluatedProperties"]


def _of_item(part: dict[str, Any], place: int | None) -> Iterator[Any]:
    listed = part.get("prefixItems", ())
    if place is not None and place < len(listed):
        yield listed[place]
    yield from (part[word] for word in OTHER_ITEMS if word in part)


def _steps(part: dict[str, Any]) -> float:
    """What a part itself takes of a value, without the values in it."""
    steps = 1.0 + len(part)
    options = part.get("enum", ())
    if len({type(one) for one in options} | {str}) > 1 and {type(one) for one in options} != {int}:
        steps += sum(_compared(one, COMPARED) for one in options)
    if "const" in part:
        steps += _compared(part["const"], COMPARED_CONST)
    steps += 4 * len(part.get("dependentRequired", ())) + 3 * len(part.get("dependentSchemas", ()))
    return steps


def _compared(option: Any, number: int) -> int:
    if option is None or isinstance(option, str | bool):
        return 1
    inside = _items(msgspec.json.encode(option)) if isinstance(option, dict | list) else 0
    return number + COMPARED_MEMBER * inside


def _rate(part: dict[str, Any]) -> float:
    """Steps for each character of a text."""
    rate = _per_character(part["pattern"]) if "pattern" in part else 0.0
    rate += sum(map(_per_character, part.get("patternProperties", ())))
    if "format" in part:
        rate += 15.0 if part["format"] == "idn-hostname" else 3.0
    return rate


def _per_character(pattern: str) -> float:
    states = states_of(pattern)
    return 0.5 if states <= FEW_STATES else 2.0 * states


def states_of(pattern: str) -> int:
    """How many places of a pattern a text may be at, at once: what is repeated so many times counts so often."""
    sums, last, at = [0], 0, 0  # of each group that is open; what the last atom has; where
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign == "{" and (end := pattern.find("}", at)) > 0 and (times := _times(pattern[at:end])):
            sums[-1] += last * (times - 1)
            last, at = last * times, end + 1
        elif sign == "(":
            sums.append(0)
        elif sign == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] += last
        elif sign not in "*+?|^$":
            end = _end_of_atom(pattern, at - 1)
            last = 3 if _is_of_many(pattern[at - 1 : end]) else 1
            sums[-1] += last
            at = end
    return sum(sums)


def _is_of_many(atom: str) -> bool:
    """Whether an atom takes characters of many lengths in UTF-8."""
    return atom == "." or atom[:2] == "[^" or not atom.isascii() or any(f"\\{one}" in atom for one in "wWdDsSpP")


def _times(said: str) -> int:
    """The most of `{n,m}`; 0 where it is none."""
    parts = said.split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() or not part.strip() for part in parts):
        return 0
    return max((int(part) for part in parts if part.strip()), default=0)


def _end_of_atom(pattern: str, at: int) -> int:
    """Where a character, an escape or a class ends that begins here."""
    if pattern[at] == "\\":
        braced = pattern[at + 1 : at + 3] in ("p{", "P{", "x{", "u{", "U{")
        return max(pattern.find("}", at), at + 2) + 1 if braced else at + 2
    if pattern[at] != "[":
        return at + 1
    depth, at = 0, at
    while at < len(pattern):
        sign = pattern[at]
        depth += (sign == "[") - (sign == "]")
        at += 2 if sign == "\\" else 1
        if depth == 0:
            break
    return at
