"""The past: records and spaces as they were, and restores."""

from __future__ import annotations

from typing import Any

from syncd.edge.openapi.base import (
    ID,
    INSTANT,
    Schema,
    answers_of,
    array_of,
    in_path,
    in_query,
    nullable,
    object_of,
    operation,
    ref,
)


def paths() -> dict[str, Any]:
    """The addresses."""
    client = {"name": "X-Client-Id", "in": "header", "required": False, "schema": {**ID, "pattern": "^[!-~]+$"}}
    seq: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
    after = in_query("seq", seq, "As it was after this seq.")
    limit = in_query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "A target.")
    space = in_query("spaceId", ID, "The personal space without it.")
    record = operation("getRecord", "A record as it is or was", answers_of(200, ref("Record"), 404, 410))
    record["parameters"] = [after, in_query("at", INSTANT, "As it was at this instant.")]
    changes = operation("getHistory", "A record's changes, newest first", answers_of(200, ref("History"), 404, 410))
    changes["parameters"] = [
        limit, in_query("before", {**seq, "minimum": 1}, "Only changes with a lesser seq."),
        in_query("after", {"type": "string"}, "`next` of the page before."),
    ]  # fmt: skip
    listing = operation("getSpaceAt", "A space as it is or was", answers_of(200, ref("PastSpace"), 404, 410))
    listing["parameters"] = [
        after, in_query("instant", INSTANT, "As it was then."), limit,
        in_query("after", {"type": "string"}, "`next` of the page before; it says the moment too."),
    ]  # fmt: skip
    restored = answers_of(200, ref("PushAnswer"), 403, 404, 410, 413, 415, 422, 507)
    restore_record = operation("restoreRecord", "Write a record as it was", restored, "Restore")
    restore_space = operation("restoreSpace", "Write a space as it was, in one batch", restored, "Restore")
    revert = operation("revertActor", "Take back what an actor wrote, in one batch", restored, "Revert")
    named = [in_path("app"), in_path("table"), in_path("id"), space]
    of_space = [in_path("app"), in_path("space")]
    return {
        "/sync/{app}/records/{table}/{id}": {"parameters": named, "get": record},
        "/sync/{app}/records/{table}/{id}/history": {"parameters": named, "get": changes},
        "/sync/{app}/records/{table}/{id}/restore": {"parameters": [*named, client], "post": restore_record},
        "/sync/{app}/spaces/{space}/at": {"parameters": of_space, "get": listing},
        "/sync/{app}/spaces/{space}/restore": {"parameters": [*of_space, client], "post": restore_space},
        "/sync/{app}/spaces/{space}/revert": {"parameters": [*of_space, client], "post": revert},
    }


def schemas() -> dict[str, Schema]:
    """What their bodies are."""
    fields: Schema = {"type": "object", "additionalProperties": ref("Register")}
    uuid, number, flag = {"type": "string", "format": "uuid"}, {"type": "integer"}, {"type": "boolean"}
    complete = {**flag, "description": "false: the log no longer reaches back far enough to say it all."}
    record = object_of(
        ["table", "id", "seq", "eventId", "clientId", "deleted", "complete", "fields"],
        table=ID, id=ID, seq=number, eventId=uuid, clientId=ID, schemaVersion=number, deleted=flag,
        complete=complete, fields=fields,
    )  # fmt: skip
    past = object_of(
        ["seq", "eventId", "op", "userId", "clientId", "createdAt", "status", "fields", "superseded"],
        seq=number, eventId=uuid, op={"enum": ["insert", "update", "delete"]}, userId=ID, clientId=ID, changeId=ID,
        createdAt=INSTANT, schemaVersion=number, actor={"description": "As it came."}, origin={"type": "string"},
        status={"enum": ["applied", "superseded"]}, fields=fields, superseded=fields,
    )  # fmt: skip
    after = {"type": "string", "description": "To send as `after` for the next page."}
    return {
        "Record": record,
        "PastChange": past,
        **_wishes(),
        "History": object_of(
            ["changes", "hasMore", "complete"], changes=array_of(ref("PastChange")), hasMore=flag, next=after,
            complete=complete,
        ),
        "PastSpace": object_of(
            ["records", "seq", "hasMore", "complete"], records=array_of(ref("Record")), seq=number, hasMore=flag,
            next=after, complete=complete,
        ),
    }  # fmt: skip


def _wishes() -> dict[str, Schema]:
    """The bodies that ask for a way back."""
    number: Schema = {"type": "integer"}
    restore = object_of(
        [],
        seq=nullable({**number, "minimum": 0, "maximum": (1 << 63) - 1, "description": "To what was after it."}),
        instant=nullable({**INSTANT, "description": "To what was then; for spaces, instead of seq."}),
        changeId=nullable({**ID, "description": "With it a repeated request has one effect."}),
        clientId=nullable(ID),
        actor={"description": "Any JSON, given back as it came."},
        origin=nullable({"type": "string", "description": "`restore` where none is given."}),
    )
    revert = object_of(
        ["actor"],
        actor={
            "type": "object",
            "minProperties": 1,
            "maxProperties": 10,
            "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            "properties": {"reverted": {"description": "A scalar, or an object of such: a revert's changes."}},
            "description": "What the actor of a change must have: flat, at most 4,096 bytes.",
        },
        seq=nullable({**number, "minimum": 0, "maximum": (1 << 63) - 1, "description": "Only changes after it."}),
        instant=nullable({**INSTANT, "description": "Only changes after it; instead of seq."}),
        changeId=nullable({**ID, "description": "With it a repeated request has one effect."}),
        clientId=nullable(ID),
        origin=nullable({"type": "string", "description": "`revert` where none is given."}),
    )
    return {"Restore": restore, "Revert": revert}
