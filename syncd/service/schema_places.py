"""What the parts of a schema that meet at the same value take of it. Pure.

A step is some 20 ns on a slow machine; the counts are those that were measured there, and rather too large.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from syncd.service.schema_limits import IN_LISTS, IN_NAMES, SINGLE
from syncd.service.schema_patterns import PatternCost, cost_of

UNEVALUATED = ("unevaluatedItems", "unevaluatedProperties")
IN_PLACE_LISTS, IN_PLACE = ("allOf", "anyOf", "oneOf"), ("not", "if", "then", "else")
OTHER_ITEMS = ("items", "contains", "unevaluatedItems")
LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# Steps of a number or a structure that is compared: the library makes another number of it first.
WHOLE, BROKEN, EXTREME, CONST = 12, 135, 1_400, 31
COMPARED_MEMBER, SAME_HASH = 5, 90
# `multipleOf` a number that is not whole: of an ordinary number, and of one that is very large or very small.
MULTIPLE, MULTIPLE_OF_EXTREME = 170, 3_500
# Of each digit of a number that has many; of the longest that are read it is the square.
DIGIT, MULTIPLE_DIGIT = 16, 21
SMALLEST, LARGEST = 1e-6, 1e15
# Above it a float, by which numbers are told from each other first, is that of several integers.
EXACT = 2**53
# Of a JSON text: a number that is no ordinary one, at least.
UNUSUAL = re.compile(rb"\d{16}|\d[eE]|\.\d{7}")
MARKS = b"[]{},.0-"

Part = tuple[dict[str, Any], int]


class MeetingParts:
    """Parts of a schema that judge the same value, each with how often it does. `alone`: without those in them."""

    def __init__(self, parts: Iterable[tuple[Any, int]], alone: bool = False) -> None:
        self.here: list[Part] = list(parts if alone else _in_place(parts))
        self.base, self.asked, self.asks, self.whole_asks, self.multiples, self.limits = 0.0, 0.0, 0, 0, 0, 0
        self.rates = list[PatternCost]()
        for part, times in self.here:
            self._count(part, times)
        self.unique = sum(times for part, times in self.here if part.get("uniqueItems") is True)
        named = [(pattern, times) for part, times in self.here for pattern in part.get("patternProperties", ())]
        self.entry = sum(times * (3 * ("required" in part) + ("properties" in part)) for part, times in self.here)
        self.entry += 12 * self.unique + sum(5 * times for _, times in named)
        self.name_rates = [PatternCost(times * cost_of(one).rate, cost_of(one).longest) for one, times in named]
        self._members: dict[str | None, MeetingParts] = {}
        self._items: dict[int | None, MeetingParts] = {}
        self.names = dict.fromkeys(name for part, _ in self.here for name in part.get("properties", ()))
        self.listed = max((len(part.get("prefixItems", ())) for part, _ in self.here), default=0)
        meeting = [(part["propertyNames"], times) for part, times in self.here if "propertyNames" in part]
        self.of_names = MeetingParts(meeting) if meeting else None

    def _count(self, part: dict[str, Any], times: int) -> None:
        self.base += times * (1 + len(part) + 5 * len(part.get("patternProperties", ())))
        self.base += times * (4 * len(part.get("dependentRequired", ())) + 3 * len(part.get("dependentSchemas", ())))
        options = part.get("enum", ())
        kinds = {type(one) for one in options}
        if kinds == {int} and all(map(is_usual, options)):
            self.whole_asks += times * len(options)
        elif kinds - {str}:
            self._compare(options, times)
        if "const" in part:
            self._compare([part["const"]], times)
            self.asked += times * CONST
        for word in LIMITS:
            if word in part:
                self.limits += times
                self.base += times * (0 if type(part[word]) is int and is_usual(part[word]) else weight(part[word]))
        if "multipleOf" in part:
            of = part["multipleOf"]
            if type(of) is int or (of.is_integer() and is_usual(of)):
                self.asks += times
            else:
                self.multiples += times
        if "pattern" in part:
            rate, longest = cost_of(part["pattern"])
            self.rates.append(PatternCost(times * rate, longest))
        if "format" in part:
            self.rates.append(PatternCost(times * (15.0 if part["format"] == "idn-hostname" else 3.0), float("inf")))

    def _compare(self, options: Iterable[Any], times: int) -> None:
        for one in options:
            if isinstance(one, dict | list):
                text = msgspec.json.encode(one)
                each = EXTREME + DIGIT * len(text) if UNUSUAL.search(text) else BROKEN if b"." in text else 0
                self.base += times * (20 + (COMPARED_MEMBER + each) * items_of(text))
            elif one is None or isinstance(one, str | bool):
                self.base += times
            else:
                self.asks += times
                self.asked += times * weight(one)

    def member(self, name: str | None) -> MeetingParts:
        """What judges a member's value: None is one without a name in the schema."""
        name = name if name in self.names else None
        if (found := self._members.get(name)) is None:
            found = self._members[name] = MeetingParts(
                (one, n) for part, n in self.here for one in _of_member(part, name)
            )
        return found

    def item(self, place: int | None) -> MeetingParts:
        """What judges an item of a list."""
        place = place if place is not None and place < self.listed else None
        if (found := self._items.get(place)) is None:
            found = self._items[place] = MeetingParts(
                (one, n) for part, n in self.here for one in _of_item(part, place)
            )
        return found

    def steps_of(self, value: Any) -> float:
        """Steps that a value takes itself, without those of the values in it."""
        kind = type(value)
        if kind is str:
            return self.base + sum(rate * min(longest, len(value)) for rate, longest in self.rates)
        if kind is int or kind is float:
            return self._of_number(value)
        if kind is list:
            return self.base + self.entry * len(value) + (self.unique * of_unique(value) if self.unique else 0)
        if kind is dict:
            names = sum(rate * min(longest, len(name)) for rate, longest in self.name_rates for name in value)
            return self.base + self.entry * len(value) + names
        return self.base

    def _of_number(self, value: float) -> float:
        usual, whole = is_usual(value), type(value) is int
        steps = self.base + self.asked + self.asks * weight(value)
        if not (usual and whole):
            steps += self.whole_asks * (weight(value) + WHOLE) + self.limits * (3 if usual else weight(value))
        if self.multiples:
            steps += self.multiples * (MULTIPLE if usual else MULTIPLE_OF_EXTREME + _digits(value, MULTIPLE_DIGIT))
        return steps


def counted(place: MeetingParts, value: Any, most: float, resting: Any) -> float:
    """Steps that a value takes; where they are more than `most`, at least so many. It goes through the value once."""
    steps, waiting, n = 0.0, [(place, value)], 0
    while waiting and steps <= most:
        at, one = waiting.pop()
        steps += 1 + (at.steps_of(one) if at.here else 0)
        n += 1
        if n % 1000 == 0:
            resting()
        if not at.here or not isinstance(one, dict | list):
            continue
        if isinstance(one, list):
            first = one[: at.listed]
            waiting += [(at.item(n), inner) for n, inner in enumerate(first)]
            rest = at.item(None)
            waiting += [(rest, inner) for inner in one[at.listed :]]
        else:
            waiting += [(at.member(name), inner) for name, inner in one.items()]
            if at.of_names is not None:
                waiting += [(at.of_names, name) for name in one]
    return steps


def is_usual(number: float) -> bool:
    """Whether a number is compared as quickly as most."""
    if isinstance(number, int):
        return -(2**63) <= number < 2**63
    return number == 0 or SMALLEST <= abs(number) <= LARGEST


def weight(number: float) -> float:
    """Steps that a number takes to be compared."""
    if is_usual(number):
        return WHOLE if type(number) is int else BROKEN
    return EXTREME + _digits(number, DIGIT) if type(number) is float else BROKEN + _digits(number, DIGIT)


def _digits(number: float, each: int) -> float:
    return each * number.bit_length() * 0.302 if isinstance(number, int) else 0.0


def items_of(text: bytes) -> int:
    """How many values are in one, at most: commas in texts count too."""
    return 1 + text.count(b",") + text.count(b"[") + text.count(b"{")


def of_unique(items: list[Any]) -> float:
    """Steps to tell items from each other that the library's hash does not: numbers of many digits have the hash of a
    float, lists that of the values in them, however they are put together."""
    alike, weights = Counter[bytes](), Counter[bytes]()
    for item in items:
        kind = type(item)
        if kind is not dict and kind is not list and (kind is not int or -EXACT <= item <= EXACT):
            continue
        text = msgspec.json.encode(item)
        unusual = kind is int or UNUSUAL.search(text) is not None
        key = b"" if unusual else b"n" + bytes(sorted(text.translate(None, MARKS)))
        alike[key] += 1
        weights[key] += SAME_HASH + len(text) if unusual else 2 * items_of(text)
    return sum(many * weights[key] / 2 for key, many in alike.items() if many > 1)


def subschemas(part: Any) -> Iterator[dict[str, Any]]:
    """All parts of a schema: not what it holds beside them, such as the options of an `enum`."""
    waiting = [part]
    while waiting:
        one = waiting.pop()
        if not isinstance(one, dict):
            continue
        yield one
        for word in IN_NAMES:
            waiting += one.get(word, {}).values()
        for word in IN_LISTS:
            waiting += one.get(word, ())
        waiting += [one[word] for word in SINGLE if word in one]


def _in_place(parts: Iterable[tuple[Any, int]]) -> Iterator[Part]:
    """These parts of a schema and those in them that judge the same value: once more to know what is left."""
    waiting = list(parts)
    while waiting:
        part, times = waiting.pop()
        if not isinstance(part, dict):
            continue
        yield part, times
        times *= 1 + sum(word in part for word in UNEVALUATED)
        for word in IN_PLACE_LISTS:
            waiting += [(one, times) for one in part.get(word, ())]
        waiting += [(part[word], times) for word in IN_PLACE if word in part]
        waiting += [(one, times) for one in part.get("dependentSchemas", {}).values()]


def _of_member(part: dict[str, Any], name: str | None) -> Iterator[Any]:
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
