"""The JSON Schema of a table, made ready to judge records by jsonschema-rs, with patterns in linear time."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import msgspec

from syncd.core.pieces import in_turns
from syncd.service.schema_cost import MOST_STEPS, SchemaCost
from syncd.service.schema_faults import MOST_FAULTS, PIECE, FaultFinder, RecordFault, Rule, pieces, too_much_of
from syncd.service.schema_limits import (
    KEYWORDS,
    LARGEST,
    Path,
    SchemaRefused,
    check_limits,
    property_names,
    without_refs,
)

# What a table's schema may say for each field to be judged by itself, beside `required`.
EACH_FIELD = ("properties", "patternProperties", "additionalProperties", "propertyNames")
OF_FIELDS = frozenset((
    *EACH_FIELD, "$schema", "$id", "$comment", "$defs", "type", "required", "title", "description", "default",
    "examples", "deprecated", "readOnly", "writeOnly",
))  # fmt: skip
# Bytes that a pattern may take when it is made ready, and while it is used.
PATTERN_SIZE = 1 << 20
MISSING = "JSON Schemas are judged by jsonschema-rs, which is not installed: pip install 'syncd[schemas]'"


class ValidatorMissing(Exception):
    """The library that judges is not installed. Its text says what to do."""

    def __init__(self) -> None:
        super().__init__(MISSING)


class TableSchema:
    """Judges records of a table. `unknown`: words in it that check nothing, by place; `cost`: what judging takes. What
    would take more steps than one pass may is not judged, and is a fault. Raises SchemaRefused, ValidatorMissing."""

    def __init__(self, schema: object) -> None:
        self.unknown = check_schema(schema)
        assert isinstance(schema, dict)
        whole = without_refs(schema)
        self._whole = _validator(whole)
        self.required = frozenset(whole.get("required", ()))
        self._by_field = all(word in OF_FIELDS or word not in KEYWORDS for word in whole)
        fields = {word: whole[word] for word in EACH_FIELD if word in whole}
        self._fields = _validator(fields)
        self.cost = SchemaCost(whole)
        self._parts: dict[Rule, Any] = {}
        known = property_names(schema)
        self._finder = FaultFinder(whole, self._judge, known, self._passes)
        self._field_finder = FaultFinder(fields, self._judge, known, self._passes, ("fields",))

    def takes_alone(self, fields: dict[str, Any], there: Set[str]) -> bool:
        """Whether these fields are right whatever else the record has, if it has those that are `there`."""
        if not (self._by_field and self._takes_fields(fields)):
            return False
        return self.required <= fields.keys() or self.required <= fields.keys() | there

    def faults(self, record: dict[str, Any], most: int = MOST_FAULTS) -> list[RecordFault]:
        """What is wrong with a whole record, `most` faults at most."""
        if self._takes(record):
            return []
        return self._too_much(record, self._by_field)[:most] or self._finder.faults(record, most)

    def faults_of_fields(self, fields: dict[str, Any]) -> list[RecordFault]:
        """What is wrong with fields, each by itself, at most MOST_FAULTS."""
        if self._takes_fields(fields):
            return []
        return self._too_much(fields, True)[:MOST_FAULTS] or self._field_finder.faults(fields)

    def _takes(self, record: dict[str, Any]) -> bool:
        if self._by_field:
            return self.required <= record.keys() and self._takes_fields(record)
        return self.cost.steps(record) <= MOST_STEPS and bool(self._whole.is_valid(record))

    def _takes_fields(self, fields: dict[str, Any]) -> bool:
        if self._is_one_pass(fields):
            return bool(self._fields.is_valid(fields))
        return not self._too_much(fields, True) and all(map(self._fields.is_valid, in_turns(self._passes(fields), 1)))

    def _is_one_pass(self, fields: dict[str, Any]) -> bool:
        return len(fields) <= PIECE and self.cost.steps(fields) <= MOST_STEPS

    def _passes(self, fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Fields that are judged each by itself, so many at a time as one pass takes."""
        for piece in pieces(fields):
            taken, left = dict[str, Any](), MOST_STEPS - self.cost.record
            for name, value in () if (whole := self._is_one_pass(piece)) else piece.items():
                left -= (steps := self.cost.of_field(name, value))
                if left < 0 and taken:
                    yield taken
                    taken, left = {}, MOST_STEPS - self.cost.record - steps
                taken[name] = value
            yield piece if whole else taken

    def _too_much(self, fields: dict[str, Any], by_field: bool) -> list[RecordFault]:
        """What would take more steps than one pass may: each field that does, or else the largest of all."""
        if self.cost.steps(fields) <= MOST_STEPS:
            return []
        steps = {name: self.cost.of_field(name, value) for name, value in fields.items()}
        most = MOST_STEPS - self.cost.record if by_field else max(steps.values(), default=0) - 1
        return [too_much_of(name, self.cost.of(name), fields[name]) for name, taken in steps.items() if taken > most]

    def _judge(self, part: Any, value: Any, rule: Rule) -> bool:
        """Whether a value is valid by a part of the schema, which is made ready when it is first needed."""
        if isinstance(part, bool):
            return part
        validator = self._parts.get(rule)
        if validator is None:
            validator = self._parts[rule] = _validator(part)
        return bool(validator.is_valid(value))


def check_schema(schema: object) -> list[tuple[Path, str]]:
    """Whether a schema is one, and is taken; the places of words in it that check nothing. Raises SchemaRefused,
    ValidatorMissing."""
    library = _library()
    if isinstance(schema, dict):
        if len(msgspec.json.encode(schema)) > LARGEST:
            raise SchemaRefused((), f"it is larger than {LARGEST:,} bytes")
        try:
            library.meta.validate(schema)
        except (library.ValidationError, library.ReferencingError, ValueError) as why:
            raise _refused(why) from None
    unknown = check_limits(schema)
    assert isinstance(schema, dict)
    _validator(schema)  # tells the place of a pattern or a format that it does not know
    return unknown


def _library() -> Any:
    try:
        import jsonschema_rs
    except ImportError:
        raise ValidatorMissing from None
    return jsonschema_rs


def _validator(schema: dict[str, Any]) -> Any:
    library = _library()
    try:
        return library.Draft202012Validator(
            schema,
            validate_formats=True,
            ignore_unknown_formats=False,
            offline=True,
            pattern_options=library.RegexOptions(size_limit=PATTERN_SIZE, dfa_size_limit=PATTERN_SIZE),
        )
    except (library.ValidationError, library.ReferencingError, ValueError) as why:
        raise _refused(why) from None


def _refused(why: Exception) -> SchemaRefused:
    """What the library says to a schema, with its place."""
    path = tuple(map(str, getattr(why, "instance_path", ())))
    if path and (path[-1] == "pattern" or "patternProperties" in path[-2:]):
        return SchemaRefused(
            path, "the pattern is none, is too large, or looks around or back, which takes no linear time"
        )
    return SchemaRefused(path, str(getattr(why, "message", why)))
