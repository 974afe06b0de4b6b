"""How much work a value is to judge by a JSON Schema, known before it is begun. Pure.

The validator's pass over a value cannot be interrupted, and nobody else of the process works meanwhile. The schema is
the operator's and the value anybody's: each item of a list may be asked for by each part of a schema. So it is counted
once, when a schema is made ready, what one item and one character may cost, and what a value may take follows from its
size, at most. Where that is too much, the value itself is gone through, along the schema, before it is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from syncd.core.pieces import rest
from syncd.service.schema_places import (
    BROKEN,
    DIGIT,
    EXTREME,
    MULTIPLE,
    MULTIPLE_DIGIT,
    MULTIPLE_OF_EXTREME,
    SAME_HASH,
    UNEVALUATED,
    UNUSUAL,
    WHOLE,
    MeetingParts,
    counted,
    items_of,
    subschemas,
)

# Steps of one pass: some 40 ms. What takes fewer than the second is judged on the event loop.
MOST_STEPS, FEW_STEPS = 2_000_000, 200_000
# Lists and texts of fewer items, or characters, are ordinary: a schema that refuses them is warned about.
ORDINARY = 5_000
# How many parts are looked at to know a schema's cost; of one that has more, all parts count for each item.
LOOKED_AT = 100_000
LONGEST_NAME = 255
# Fewer objects in a list are ordinary, too, and so is such a text in each of their members.
ORDINARY_OBJECTS, SHORT = 1_000, "x" * 40
# What a schema that nobody can look at may take at most, by each byte of it.
EACH_BYTE = BROKEN


class Cost(NamedTuple):
    """Steps that each item of a value takes at most, and each character of it. Beside those: how many numbers each item
    is compared with, by integers alone, as limits, as what it is to be a multiple of; how often lists are looked
    through for an item that is there twice. `text`: steps of each character of a text that is the value itself;
    `object`: those of an object of a list."""

    item: float
    character: float = 0.0
    asks: int = 0
    broken: int = 0
    multiples: int = 0
    unique: int = 0
    text: float = 0.0
    object: float = 0.0

    @property
    def objects(self) -> int | None:
        """How many objects a list may have of which the schema names the members, with short texts in them."""
        return int(MOST_STEPS / self.object) if self.object else None

    @property
    def items(self) -> int:
        """How many items a value may have at least."""
        return int(MOST_STEPS / self.item)

    @property
    def characters(self) -> int | None:
        """How many characters a text may have; None where it does not matter."""
        return int(MOST_STEPS / self.text) if self.text else None

    def more(self, text: bytes, items: int) -> float:
        """What a value's numbers take more than its items do, and its lists to be told from each other."""
        unusual = len(text) > 2 and (self.asks or self.broken or self.multiples or self.unique) and UNUSUAL.search(text)
        if unusual:
            return self.unusual(len(text), items)
        steps = float(items * self.broken * (BROKEN + WHOLE)) if self.broken and b"." in text else 0.0
        return steps + (self.unique * items * items if self.unique and items > text.count(b",") + 2 else 0)

    def unusual(self, length: int, items: float) -> float:
        """The same of numbers that are no ordinary ones."""
        compared = (self.asks + self.broken) * (EXTREME * items + DIGIT * length)
        multiples = self.multiples * (MULTIPLE_OF_EXTREME * items + MULTIPLE_DIGIT * length)
        return compared + multiples + self.unique * items * (SAME_HASH * items + length) / 2


class JsonText(Protocol):
    """A value as JSON text."""

    value: Any


class SchemaCost:
    """What judging by a schema without `$ref` costs. `fields`: of the fields that it names; `others`: of all others;
    `record`: steps beside those; `widest`: the most of any field."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._schema = schema
        try:
            top, self.record = _top(schema)
        except Exception:  # what cannot be foreseen must make no table unwritable, and nothing pass
            size = len(msgspec.json.encode(schema))
            top, self.record = {None: Cost(EACH_BYTE * size, 2 * size, size, size, size, size, 2 * size)}, 0.0
        self.others = top.pop(None)
        self.fields = {name: cost for name, cost in top.items() if name is not None}
        self.widest = _most([self.others, *self.fields.values()])

    def of(self, name: str) -> Cost:
        """What judging a field takes."""
        return self.fields.get(name, self.others)

    def steps(self, fields: Mapping[str, Any]) -> float:
        """What these fields take at most, together: counted one by one where their sizes allow too much."""
        steps = self._by_size(fields)
        return steps if steps <= MOST_STEPS else min(steps, self._counted(fields))

    def of_field(self, name: str, value: Any) -> float:
        """What a field takes at most, without what the record takes beside its fields."""
        return self.steps({name: value}) - self.record

    def _by_size(self, fields: Mapping[str, Any]) -> float:
        total, known, others = self.record, self.fields, self.others
        for name, value in fields.items():
            cost = known.get(name, others)
            kind, length, items = type(value), len(name), 1
            if kind is str:
                length += len(value)
            elif kind is list or kind is dict:
                text = msgspec.json.encode(value)
                items = items_of(text)
                length += len(text)
                total += cost.more(text, items)
            elif kind is float or (kind is int and not -(10**15) < value < 10**15):
                total += cost.more(msgspec.json.encode(value), 1)
            total += cost.item * items + cost.character * length
        return total

    def _counted(self, fields: Mapping[str, Any]) -> float:
        try:
            return counted(MeetingParts([(self._schema, 1)]), fields, MOST_STEPS, rest)
        except Exception:  # it is too much then, by its size
            return math.inf

    def at_most(self, registers: Mapping[str, JsonText]) -> float:
        """What fields take at most, by the lengths of their JSON texts."""
        total = self.record
        for name, register in registers.items():
            cost, length = self.fields.get(name, self.others), len(register.value)
            total += cost.item * (1 + length / 2) + cost.character * (len(name) + length)
            if cost.asks or cost.broken or cost.multiples or cost.unique:
                text = bytes(register.value)
                total += cost.more(text, items_of(text))
        return total

    def at_most_of(self, size: int, fields: int) -> float:
        """What so many fields, of so many bytes of JSON together, take at most beside their records."""
        items, cost = fields + size / 2, self.widest
        return cost.item * items + cost.character * (LONGEST_NAME * fields + size) + cost.unusual(size, items)

    def narrow(self) -> list[tuple[str | None, Cost]]:
        """The fields of which ordinary values would be refused; None: those that the schema does not name."""
        named: list[tuple[str | None, Cost]] = [(None, self.others), *self.fields.items()]
        return [(name, cost) for name, cost in named
                if cost.items < ORDINARY
                or (cost.characters is not None and cost.characters < ORDINARY)
                or (cost.objects is not None and cost.objects < ORDINARY_OBJECTS)]  # fmt: skip


def _most(costs: Iterable[Cost]) -> Cost:
    return Cost(*map(max, zip(*costs, strict=True)))


class _TooManyParts(Exception):
    """A schema's parts meet in more ways than are looked at."""


class _Look:
    """Looks which parts of a schema meet at the same value: they all judge it."""

    def __init__(self) -> None:
        self._left = LOOKED_AT

    def begin(self, at: MeetingParts) -> None:
        """Each part of a place is asked about each name and each item."""
        self._left -= len(at.here) * (2 + len(at.names) + at.listed)
        if self._left < 0:
            raise _TooManyParts

    def member(self, at: MeetingParts, name: str | None) -> Cost:
        """What a member takes, or a value in it, with what it takes to be looked up."""
        found, entry = self.cost(at.member(name)), _entry(at)
        return found._replace(item=found.item + entry.item, character=found.character + entry.character)

    def cost(self, at: MeetingParts) -> Cost:
        """The most that an item takes in a value that these parts judge."""
        if not at.here:
            return Cost(1.0)
        self.begin(at)
        costs = [own := _of_place(at), *(self.member(at, name) for name in (*at.names, None))]
        entry = _entry(at).item
        for place in (*range(at.listed), None):
            found = self.cost(at.item(place))
            costs.append(found._replace(item=found.item + entry))
        return _most(costs)._replace(text=own.text, object=_of_object(at.item(None), entry))


def _top(schema: dict[str, Any]) -> tuple[dict[str | None, Cost], float]:
    """The cost of each field that is named, and under None of all others; what the record takes beside."""
    top, look = MeetingParts([(schema, 1)]), _Look()
    try:
        look.begin(top)
        return {name: look.member(top, name) for name in (*top.names, None)}, top.base
    except _TooManyParts:
        parts = list(subschemas(schema))
        times = 1 + sum(word in part for part in parts for word in UNEVALUATED)
        every = MeetingParts(((part, times) for part in parts), alone=True)
        cost, entry = _of_place(every), _entry(every)
        whole = cost._replace(item=cost.item + entry.item, character=cost.character + entry.character)
        return {None: whole}, every.base


def _of_place(at: MeetingParts) -> Cost:
    """What a value takes that is judged there, without those in it."""
    rates = sum(one.rate for one in at.rates)
    # What is read of a text to its end, and what is too much although it is not.
    text = sum(rate for rate, longest in at.rates if rate * longest > MOST_STEPS / 4)
    item = 1 + at.base + at.asked + at.asks * WHOLE + at.multiples * MULTIPLE
    return Cost(item, rates, at.limits, at.asks + at.whole_asks, at.multiples, at.unique, text)


def _entry(at: MeetingParts) -> Cost:
    """What each member or item takes beside its own value: to look it up, its name, to be told from the others."""
    names = Cost(0.0) if at.of_names is None else _of_place(at.of_names)
    return Cost(at.entry + names.item, names.character + sum(one.rate for one in at.name_rates))


def _of_object(at: MeetingParts, entry: float) -> float:
    """What an object of a list takes, where the schema names members of it: each is a short text."""
    members = [at.member(name).steps_of(SHORT) for name in at.names]
    return 1 + entry + at.base + sum(1 + at.entry + one for one in members) if members else 0.0
