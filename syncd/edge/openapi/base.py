"""The words in which paths and schemas are written."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\ud800-\udfff]+$",
}
INSTANT: Schema = {
    "type": "string",
    "description": "RFC 3339, any offset; compared as an instant in microseconds.",
    "examples": ["2026-01-01T10:05:00.123Z"],
}
ROLE: Schema = {"enum": ["owner", "writer", "reader"]}


def object_of(required: list[str], **properties: Schema) -> Schema:
    """An object with these properties; it has to have the required ones."""
    return {"type": "object", "required": required, "properties": properties}


def array_of(items: Schema) -> Schema:
    """A list."""
    return {"type": "array", "items": items}


def ref(name: str) -> Schema:
    """A schema of the document, by name."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def answers_of(status: int, schema: Schema | None, *problems: int) -> dict[str, Any]:
    """Answers of an operation: its own, and the problems it can have besides those that all can."""
    good: dict[str, Any] = {"description": "Done."}
    if schema is not None:
        good["content"] = {"application/json": {"schema": schema}}
    found = {str(status): good}
    slow = [408] if 413 in problems else []
    for code in sorted({400, 401, 414, 429, 431, 503, *slow, *problems}):
        found[str(code)] = {"$ref": "#/components/responses/Problem"}
    return found


def operation(name: str, summary: str, answers: dict[str, Any], body: str | None = None) -> dict[str, Any]:
    """What a method of an address does. `body`: the schema of what is sent."""
    made: dict[str, Any] = {"operationId": name, "summary": summary, "responses": answers}
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": ref(body)}}}
    return made


def in_path(name: str) -> Schema:
    """A part of the address."""
    return {"name": name, "in": "path", "required": True, "schema": ID}


def in_query(name: str, schema: Schema, about: str) -> Schema:
    """A part of the query."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": about}
