"""Conditions of queries: what operators mean, and how they are joined. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as member
from typing import Any, NamedTuple

from .data.change import check_asked
from .data.order import has_order, kind, same, value_at
from .data.values import take
from .errors import InvalidQuery, InvalidWrite
from .pattern import Pattern


class Meaning(NamedTuple):
    """Whether a value holds against what is prepared of an operand, once, and which operands there are."""

    holds: Callable[[Any, Any], bool]
    takes: Callable[[Any], bool] = lambda operand: True
    prepare: Callable[[Any], Any] = lambda operand: operand


def _ordered(accepts: Callable[[Any, Any], bool]) -> Meaning:
    return Meaning(lambda value, operand: kind(value) == kind(operand) and accepts(value, operand), has_order)


def _is_text(operand: Any) -> bool:
    return isinstance(operand, str)


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, list):
        return any(same(item, operand) for item in value)
    return isinstance(value, str) and isinstance(operand, str) and operand in value


def _like(value: Any, pattern: Pattern) -> bool:
    return isinstance(value, str) and pattern.is_of(value)


def _between(value: Any, operand: Any) -> bool:
    low, high = operand
    return bool(kind(value) == kind(low) and low <= value <= high)


def _is_span(operand: Any) -> bool:
    return isinstance(operand, list) and [kind(end) for end in operand] in (["number"] * 2, ["text"] * 2)


OPERATORS: Mapping[str, Meaning] = {
    "=": Meaning(same),
    "!=": Meaning(lambda value, operand: not same(value, operand)),
    "in": Meaning(
        lambda value, operand: any(same(value, item) for item in operand), lambda operand: isinstance(operand, list)
    ),
    "<": _ordered(lambda value, operand: value < operand),
    "<=": _ordered(lambda value, operand: value <= operand),
    ">": _ordered(lambda value, operand: value > operand),
    ">=": _ordered(lambda value, operand: value >= operand),
    "contains": Meaning(_contains),
    "startsWith": Meaning(lambda value, operand: isinstance(value, str) and value.startswith(operand), _is_text),
    "like": Meaning(_like, _is_text, Pattern),
    "between": Meaning(_between, _is_span),
}


DEEPEST = 100  # and_, or_ and not_ in one another


@dataclass(frozen=True, slots=True)
class Condition:
    """`field operator operand`, where `field` may be a path. A missing field counts as null."""

    field: str
    operator: str
    operand: Any
    _prepared: Any = member(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_prepared", OPERATORS[self.operator].prepare(self.operand))

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record with these fields fulfils it."""
        return OPERATORS[self.operator].holds(value_at(fields, self.field), self._prepared)


@dataclass(frozen=True, slots=True)
class All:
    """Conditions that all have to hold. Comes from `and_`, or from a `where`."""

    parts: tuple[AnyCondition, ...]
    depth: int = member(default=0, repr=False, compare=False)

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record with these fields fulfils it."""
        return all(part.holds(fields) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Some:
    """Conditions of which one has to hold. Comes from `or_`."""

    parts: tuple[AnyCondition, ...]
    depth: int = member(default=0, repr=False, compare=False)

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record with these fields fulfils it."""
        return any(part.holds(fields) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """A condition that must not hold. Comes from `not_`."""

    part: AnyCondition
    depth: int = member(default=0, repr=False, compare=False)

    def holds(self, fields: Mapping[str, Any]) -> bool:
        """Whether a record with these fields fulfils it."""
        return not self.part.holds(fields)


AnyCondition = Condition | All | Some | Not
Where = Mapping[str, Any] | Sequence[tuple[str, str, Any]] | AnyCondition


def and_(*parts: Where) -> All:
    """All of these hold. Raises InvalidQuery."""
    read = tuple(map(read_where, parts))
    return All(read, _depth_over(read))


def or_(*parts: Where) -> Some:
    """One of these holds, or more. Raises InvalidQuery."""
    read = tuple(map(read_where, parts))
    flat = (some for part in read for some in (part.parts if isinstance(part, Some) else (part,)))
    return Some(tuple(flat), _depth_over(read))


def not_(part: Where) -> Not:
    """This does not hold. Raises InvalidQuery."""
    read = read_where(part)
    return Not(read, _depth_over((read,)))


def _depth_over(parts: tuple[AnyCondition, ...]) -> int:
    """How deep `and_`, `or_` and `not_` of these are. Raises InvalidQuery."""
    depth = 1 + max((0 if isinstance(part, Condition) else part.depth for part in parts), default=0)
    if depth > DEEPEST:
        raise InvalidQuery(f"conditions are nested deeper than {DEEPEST}.")
    return depth


def read_where(where: Where) -> AnyCondition:
    """Any form of `where` as one condition. Raises InvalidQuery."""
    if isinstance(where, Condition | All | Some | Not):
        return where
    if isinstance(where, Mapping):
        return All(tuple(_read_triple(triple) for path, asked in where.items() for triple in _triples(path, asked)))
    if not isinstance(where, list | tuple):
        raise InvalidQuery(
            "a condition is a mapping, a list of (field, operator, value), or what and_, or_, not_ make."
        )
    return All(tuple(_read_triple(triple) for triple in where))


def _triples(path: str, asked: Any) -> list[tuple[Any, ...]]:
    """`(operator, operand)` is one condition, a mapping `{operator: operand}` several; all else is a value."""
    match asked:
        case tuple():
            return [(path, *asked)]
        case Mapping() if asked:
            return [(path, operator, operand) for operator, operand in asked.items()]
        case _:
            return [(path, "=", asked)]


def _read_triple(triple: Sequence[Any]) -> Condition:
    if (
        not isinstance(triple, list | tuple)
        or len(triple) != 3
        or not isinstance(triple[1], str)
        or triple[1] not in OPERATORS
    ):
        raise InvalidQuery(f"a condition is (field, operator, value) with one of {', '.join(OPERATORS)}.")
    path, operator, asked = check_asked("a field name", triple[0]), triple[1], triple[2]
    if isinstance(asked, tuple | set | frozenset):
        asked = list(asked)
    try:
        operand = take(asked, "")
    except InvalidWrite as why:
        raise InvalidQuery(f"{path} {operator}: {why.detail}") from None
    if not OPERATORS[operator].takes(operand):
        raise InvalidQuery(f"{path} {operator}: it compares with no {kind(operand)} such as this.")
    return Condition(path, operator, operand)
