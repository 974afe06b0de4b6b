"""Push, pull and what follows a feed: streams, digests, held changes, exports."""

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
    return _sync_paths() | _held_paths() | _digest_paths() | _backup_paths()


def schemas() -> dict[str, Schema]:
    """What their bodies are."""
    return {**_push_schemas(), **_held_schemas(), **_digest_schemas(), "ImportReport": _import_report()}


def _sync_paths() -> dict[str, Any]:
    client = {"name": "X-Client-Id", "in": "header", "required": False, "schema": {**ID, "pattern": "^[!-~]+$"}}
    protocol = {"name": "X-Sync-Protocol", "in": "header", "required": False, "schema": {"enum": ["1"]}}
    push = operation(
        "push",
        "Write changes, get what was missed",
        answers_of(200, ref("PushAnswer"), 410, 413, 415, 422, 507),
        "Push",
    )
    pull = operation("pull", "Get what was missed since a cursor", answers_of(200, ref("Delta"), 410))
    pull["responses"]["200"]["content"]["application/vnd.syncd.words"] = {"schema": {"type": "string"}}
    pull["parameters"] = [
        in_query("since", {"type": "string"}, "A cursor, empty, or an RFC 3339 instant (legacy)."),
        {**in_query("collection", array_of(ID), "Only these tables."), "style": "form", "explode": True},
        in_query("limit", {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000}, "Rows, a target."),
        in_query("bytes", {"type": "integer", "minimum": 1024}, "Bytes of JSON, a target."),
        {**in_query("first", array_of(ID), "A new device wants these tables first."), "style": "form", "explode": True},
        in_query("history", {"enum": ["0", "1"]}, "1: the log itself, also for a feed never seen."),
        in_query("digest", {"enum": ["0", "1"]}, "1: with `digest`, when hasMore is false."),
        {
            **in_query("pushed", {**array_of(ID), "maxItems": 64}, "Own changes, acknowledged, perhaps after `since`."),
            "style": "form", "explode": True,
        },
        in_query("clientId", ID, "Whose they are, where no header X-Client-Id says so."),
        in_query("words", {"enum": ["0", "1"]}, "1: pages of the state may come in words (protocol P390)."),
        in_query("until", {"type": "string"}, "Empty, then the answer's: read what was there by then (protocol P395)."),
        _roles(),
        *_chosen(),
    ]  # fmt: skip
    return {
        "/sync/{app}": {"parameters": [in_path("app"), client, protocol], "post": push},
        "/sync/{app}/pull": {"parameters": [in_path("app"), protocol], "get": pull},
        "/sync/{app}/stream": {"parameters": [in_path("app"), protocol], "get": _stream()},
    }


def _stream() -> dict[str, Any]:
    answers = answers_of(200, None, 403, 429)
    answers["200"] = {
        "description": "Server-sent events: changes, spaces, heartbeat, error. The token's end is the stream's.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    stream = operation("stream", "Get what was missed since a cursor, and then what comes", answers)
    stream["parameters"] = [
        in_query("since", {"type": "string"}, "A cursor, empty, or an RFC 3339 instant (legacy)."),
        {**in_query("collections", array_of(ID), "Only these tables."), "style": "form", "explode": True},
        in_query("bytes", {"type": "integer", "minimum": 1024}, "Bytes of JSON of a page, a target."),
        _roles(),
        {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"}},
    ]
    return stream


def _roles() -> dict[str, Any]:
    return in_query("roles", {"type": "string"}, "`rolesUntil` as told last, or nothing at first: tell of spaces.")


def _push_schemas() -> dict[str, Schema]:
    server_change = object_of(
        ["eventId", "seq", "table", "id", "op", "spaceId", "clientId", "fields"],
        **_change()["properties"],
        eventId={"type": "string", "format": "uuid"},
        seq={"type": "integer"},
        clientId=ID,
    )
    push = object_of(
        [],
        changes=array_of(ref("Change")),
        clientId=nullable(ID),
        since=nullable({"type": "string"}),
        schemaVersion=nullable({"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1}),
        atomic={"type": "boolean", "default": False},
        pull={"type": "boolean", "default": True},
        bytes={"type": "integer", "minimum": 1024},
        pushed={**array_of(ID), "maxItems": 64, "description": "Acknowledged before, perhaps after `since`."},
        bases={"type": "boolean", "default": False, "description": "Without `base`, nothing was seen (P340)."},
        roles=nullable({"type": "string", "description": "As in a pull, which then tells."}),
    )
    answer = {
        "allOf": [
            ref("Delta"),
            object_of(["results", "conflicts"], results=array_of(ref("Result")), conflicts=array_of(ref("Conflict"))),
        ]
    }
    return {
        "Register": _register(),
        "Change": _change(),
        "ServerChange": server_change,
        "Push": push,
        "Delta": _delta(),
        "Result": _result(),
        "Conflict": _conflict(),
        "PushAnswer": answer,
    }


def _change() -> Schema:
    return object_of(
        ["table", "id", "op"],
        changeId=nullable(ID),
        table=ID,
        id=ID,
        op={"enum": ["insert", "update", "delete"]},
        fields=nullable({"type": "object", "additionalProperties": ref("Register")}),
        data=nullable({"type": "object", "description": "An insert's whole record, legacy form."}),
        deletedAt=nullable(INSTANT),
        spaceId=nullable(ID),
        schemaVersion=nullable({"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1}),
        actor={"description": "Any JSON, given back as it came."},
        origin=nullable({"type": "string"}),
    )


def _register() -> Schema:
    return object_of(
        ["value"],
        value={"description": "Any JSON."},
        at=INSTANT,
        updatedAt={**INSTANT, "deprecated": True},
        clientId={**ID, "description": "The writer of this register, where it can differ from the change's."},
        sent=nullable({**INSTANT, "description": "What the device had sent before the server lowered it."}),
        base=nullable({**INSTANT, "description": "In a push: of the register that its writer overwrote."}),
    )


def _delta() -> Schema:
    named = object_of(
        ["id", "name", "role"], id=ID, name={"type": "string"}, role={"enum": ["owner", "writer", "reader"]}
    )
    until = {"type": "string", "description": "To send as `roles` next."}
    spaces = object_of(
        ["joined", "left"], joined=array_of(ID), left=array_of(ID), unreadable=array_of(ID), roles=array_of(named),
        rolesUntil=until,
    )  # fmt: skip
    return object_of(
        ["serverChanges", "syncedUntil", "hasMore", "spaces"],
        serverChanges=array_of(ref("ServerChange")),
        syncedUntil={"type": "string", "description": "The cursor to send as `since` next."},
        hasMore={"type": "boolean"},
        until={
            "type": "string",
            "description": "Where a pull says `until` and hasMore is true. Empty: the rest came later.",
        },
        spaces=spaces,
        digest=ref("Digests"),
    )


def _result() -> Schema:
    return object_of(
        ["status"],
        status={"enum": ["applied", "superseded", "duplicate", "rejected"]},
        changeId=ID,
        eventId={"type": "string", "format": "uuid"},
        seq={"type": "integer"},
        at={"type": "object", "additionalProperties": INSTANT},
        code={"type": "string"},
        detail={"type": "string"},
        held={"type": "boolean", "description": "true: kept until it may be written (first generation)."},
        quota={"type": "string", "description": "Of `quota_exceeded`: which one."},
        table={**ID, "description": "Of a restore."},
        id={**ID, "description": "Of a restore."},
    )


def _conflict() -> Schema:
    return object_of(
        ["spaceId", "table", "id", "field", "clientTimestamp", "serverTimestamp"],
        spaceId=ID, table=ID, id=ID, field=ID, clientValue={}, clientTimestamp=INSTANT,
        serverValue={}, serverTimestamp=INSTANT,
    )  # fmt: skip


def _held_paths() -> dict[str, Any]:
    listing = operation("getHeld", "What of the caller's waits until it may be written", answers_of(200, ref("Held")))
    number: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
    listing["parameters"] = [
        in_query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "A target."),
        in_query("after", number, "Only those with a greater heldId."),
    ]
    drop = operation("dropHeld", "Drop one of them for good", answers_of(204, None, 404))
    named = {"name": "heldId", "in": "path", "required": True, "schema": {**number, "minimum": 1}}
    return {
        "/sync/{app}/held": {"parameters": [in_path("app")], "get": listing},
        "/sync/{app}/held/{heldId}": {"parameters": [in_path("app"), named], "delete": drop},
    }


def _held_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    change = object_of(
        ["heldId", "reason", "receivedAt", "clientId"],
        heldId={"type": "integer"}, reason={**text, "description": "The code that it was refused with."},
        receivedAt=INSTANT, clientId=ID, spaceId=text, table=ID, id=ID,
        change={"description": "As it came."},
        text={**text, "description": "As it came, where it is no JSON that can be read."},
    )  # fmt: skip
    return {"Held": object_of(["held", "hasMore"], held=array_of(change), hasMore={"type": "boolean"})}


def _digest_paths() -> dict[str, Any]:
    digests = operation("getDigests", "What a replica is compared with", answers_of(200, ref("Digests"), 404, 410))
    digests["parameters"] = [
        in_query("since", {"type": "string"}, "Where the replica stands; without it the end of the log."),
        {**in_query("collection", array_of(ID), "Only these tables."), "style": "form", "explode": True},
        in_query("spaceId", ID, "Only this space, with its buckets."),
    ]
    answers = answers_of(200, ref("Differences"), 404, 409, 410, 413, 415)
    compare = operation("compareBucket", "What of a replica's bucket is otherwise", answers, "Bucket")
    return {"/sync/{app}/digest": {"parameters": [in_path("app")], "get": digests, "post": compare}}


def _digest_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    number: Schema = {"type": "integer", "minimum": 0}
    bucket: Schema = {**number, "maximum": 255}
    digest: Schema = {**text, "pattern": "^[0-9a-f]{16}$"}
    sums: Schema = {**array_of({"type": ["integer", "string"]}), "description": "Bucket, records, digest."}
    held: Schema = {**array_of(text), "description": "Table, id, digest.", "minItems": 3, "maxItems": 3}
    facts: dict[str, Schema] = {"spaceId": text, "seq": number, "records": number, "digest": digest}
    space, spaces = object_of([*facts], **facts, buckets=array_of(sums)), array_of(text)
    body: dict[str, Schema] = {"since": text, "bucket": bucket, "records": {**array_of(held), "maxItems": 20_000}}
    found: dict[str, Schema] = {
        "spaceId": text, "seq": number, "changes": array_of(ref("ServerChange")),
        "gone": array_of(array_of(text)), "hasMore": {"type": "boolean"},
    }  # fmt: skip
    return {
        "Digests": object_of(["spaces", "behind", "unready"], spaces=array_of(space), behind=spaces, unready=spaces),
        "Bucket": object_of([*body], **body, spaceId=nullable(ID), collections=nullable(array_of(ID))),
        "Differences": object_of([*found], **found),
    }


def _backup_paths() -> dict[str, Any]:
    text, archive = {"schema": {"type": "string"}}, {"schema": {"type": "string", "format": "binary"}}
    media = {"application/x-ndjson": text, "application/zip": archive}
    export = operation("exportAll", "All that the caller wrote and may read", answers_of(200, None, 429))
    export["responses"]["200"] = {"description": "Changes, a line each, and a manifest.", "content": media}
    back = operation("importAll", "Write an export back", answers_of(200, ref("ImportReport"), 413, 415, 429))
    back["requestBody"] = {"required": True, "content": media}
    return {"/backup/export": {"get": export}, "/backup/import": {"post": back}}


def _import_report() -> Schema:
    refusal = object_of(
        ["line", "code", "detail"],
        line={"type": "integer"}, eventId={"type": "string"}, code={"type": "string"}, detail={"type": "string"},
    )  # fmt: skip
    counts = {name: {"type": "integer"} for name in ("events", "imported", "duplicates", "refused")}
    spaces = {"type": "object", "additionalProperties": array_of({"type": "string"})}
    return object_of([*counts, "refusals", "spaces"], **counts, refusals=array_of(refusal), spaces=spaces)


def _chosen() -> list[Schema]:
    """The parameters of a client that keeps some spaces or tables."""
    texts: Schema = {"type": "string"}
    said = (
        ("spaces", texts, "Only these spaces; empty: the personal one (protocol P396)."),
        ("knownCollection", ID, "Of the cursor's tables the client has these alone (protocol P398)."),
        ("knownSpaces", texts, "Of the cursor's spaces likewise."),
    )
    return [
        {**in_query(name, {**array_of(item), "maxItems": 100}, why), "style": "form", "explode": True}
        for name, item, why in said
    ]
