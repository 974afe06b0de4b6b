"""The JSON Schema of a table, made ready to judge records by jsonschema-rs, with patterns in linear time."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import msgspec

from syncd.core.pieces import in_turns
from syncd.service.schema_faults import MOST_FAULTS, PIECE, FaultFinder, RecordFault, Rule, pieces
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
    """Judges records of a table. `unknown`: words in it that check nothing, by place. Raises SchemaRefused,
    ValidatorMissing."""

    def __init__(self, schema: object) -> None:
        self.unknown = check_schema(schema)
        assert isinstance(schema, dict)
        whole = without_refs(schema)
        self._whole = _validator(whole)
        self.required = frozenset(whole.get("required", ()))
        self._by_field = all(word in OF_FIELDS or word not in KEYWORDS for word in whole)
        fields = {word: whole[word] for word in EACH_FIELD if word in whole}
        self._fields = _validator(fields)
        self._parts: dict[Rule, Any] = {}
        known = property_names(schema)
        self._finder = FaultFinder(whole, self._judge, known)
        self._field_finder = FaultFinder(fields, self._judge, known, ("fields",))

    def takes_alone(self, fields: dict[str, Any], there: Set[str]) -> bool:
        """Whether these fields are right whatever else the record has, if it has those that are `there`."""
        if not (self._by_field and self._fields.is_valid(fields)):
            return False
        return self.required <= fields.keys() or self.required <= fields.keys() | there

    def faults(self, record: dict[str, Any], most: int = MOST_FAULTS) -> list[RecordFault]:
        """What is wrong with a whole record, `most` faults at most."""
        return [] if self._takes(record) else self._finder.faults(record, most)

    def _takes(self, record: dict[str, Any]) -> bool:
        if not self._by_field or len(record) <= PIECE:
            return bool(self._whole.is_valid(record))
        return self.required <= record.keys() and all(map(self._fields.is_valid, in_turns(pieces(record), 1)))

    def faults_of_fields(self, fields: dict[str, Any]) -> list[RecordFault]:
        """What is wrong with fields, each by itself, at most MOST_FAULTS."""
        return [] if self._fields.is_valid(fields) else self._field_finder.faults(fields)

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
