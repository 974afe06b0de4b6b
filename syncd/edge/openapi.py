"""The OpenAPI document: what the server accepts and answers, true enough to be tested against it."""

from __future__ import annotations

from typing import Any

from syncd.core.errors import UNBELIEVED

Schema = dict[str, Any]

_ID: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[^\u0000-\u001f\u007f-\u009f\ud800-\udfff]+$",
}
_INSTANT: Schema = {
    "type": "string",
    "description": "RFC 3339, any offset; compared as an instant in microseconds.",
    "examples": ["2026-01-01T10:05:00.123Z"],
}
_ROLE: Schema = {"enum": ["owner", "writer", "reader"]}


def _object(required: list[str], **properties: Schema) -> Schema:
    return {"type": "object", "required": required, "properties": properties}


def _array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _change() -> Schema:
    return _object(
        ["table", "id", "op"],
        changeId=_nullable(_ID),
        table=_ID,
        id=_ID,
        op={"enum": ["insert", "update", "delete"]},
        fields=_nullable({"type": "object", "additionalProperties": _ref("Register")}),
        data=_nullable({"type": "object", "description": "An insert's whole record, legacy form."}),
        deletedAt=_nullable(_INSTANT),
        spaceId=_nullable(_ID),
        schemaVersion=_nullable({"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1}),
        actor={"description": "Any JSON, given back as it came."},
        origin=_nullable({"type": "string"}),
    )


def _register() -> Schema:
    return _object(
        ["value"],
        value={"description": "Any JSON."},
        at=_INSTANT,
        updatedAt={**_INSTANT, "deprecated": True},
        clientId={**_ID, "description": "The writer of this register, where it can differ from the change's."},
        sent=_nullable({**_INSTANT, "description": "What the device had sent before the server lowered it."}),
        base=_nullable({**_INSTANT, "description": "In a push: of the register that its writer overwrote."}),
    )


def _delta() -> Schema:
    spaces = _object(["joined", "left"], joined=_array(_ID), left=_array(_ID), unreadable=_array(_ID))
    return _object(
        ["serverChanges", "syncedUntil", "hasMore", "spaces"],
        serverChanges=_array(_ref("ServerChange")),
        syncedUntil={"type": "string", "description": "The cursor to send as `since` next."},
        hasMore={"type": "boolean"},
        spaces=spaces,
        digest=_ref("Digests"),
    )


def _past_schemas() -> dict[str, Schema]:
    """What looks into the past answer."""
    fields: Schema = {"type": "object", "additionalProperties": _ref("Register")}
    uuid, number, flag = {"type": "string", "format": "uuid"}, {"type": "integer"}, {"type": "boolean"}
    complete = {**flag, "description": "false: the log no longer reaches back far enough to say it all."}
    record = _object(
        ["table", "id", "seq", "eventId", "clientId", "deleted", "complete", "fields"],
        table=_ID, id=_ID, seq=number, eventId=uuid, clientId=_ID, schemaVersion=number, deleted=flag,
        complete=complete, fields=fields,
    )  # fmt: skip
    past = _object(
        ["seq", "eventId", "op", "userId", "clientId", "createdAt", "status", "fields", "superseded"],
        seq=number, eventId=uuid, op={"enum": ["insert", "update", "delete"]}, userId=_ID, clientId=_ID, changeId=_ID,
        createdAt=_INSTANT, schemaVersion=number, actor={"description": "As it came."}, origin={"type": "string"},
        status={"enum": ["applied", "superseded"]}, fields=fields, superseded=fields,
    )  # fmt: skip
    after = {"type": "string", "description": "To send as `after` for the next page."}
    restore = _object(
        [],
        seq=_nullable({**number, "minimum": 0, "maximum": (1 << 63) - 1, "description": "To what was after it."}),
        instant=_nullable({**_INSTANT, "description": "To what was then; for spaces, instead of seq."}),
        changeId=_nullable({**_ID, "description": "With it a repeated request has one effect."}),
        clientId=_nullable(_ID),
        actor={"description": "Any JSON, given back as it came."},
        origin=_nullable({"type": "string", "description": "`restore` where none is given."}),
    )
    return {
        "Record": record,
        "PastChange": past,
        "Restore": restore,
        "History": _object(
            ["changes", "hasMore", "complete"], changes=_array(_ref("PastChange")), hasMore=flag, next=after,
            complete=complete,
        ),
        "PastSpace": _object(
            ["records", "seq", "hasMore", "complete"], records=_array(_ref("Record")), seq=number, hasMore=flag,
            next=after, complete=complete,
        ),
    }  # fmt: skip


def _result() -> Schema:
    return _object(
        ["status"],
        status={"enum": ["applied", "superseded", "duplicate", "rejected"]},
        changeId=_ID,
        eventId={"type": "string", "format": "uuid"},
        seq={"type": "integer"},
        at={"type": "object", "additionalProperties": _INSTANT},
        code={"type": "string"},
        detail={"type": "string"},
        held={"type": "boolean", "description": "true: kept until it may be written (first generation)."},
        quota={"type": "string", "description": "Of `quota_exceeded`: which one."},
        table={**_ID, "description": "Of a restore."},
        id={**_ID, "description": "Of a restore."},
    )


def _conflict() -> Schema:
    return _object(
        ["spaceId", "table", "id", "field", "clientTimestamp", "serverTimestamp"],
        spaceId=_ID, table=_ID, id=_ID, field=_ID, clientValue={}, clientTimestamp=_INSTANT,
        serverValue={}, serverTimestamp=_INSTANT,
    )  # fmt: skip


def _schemas() -> dict[str, Schema]:
    server_change = _object(
        ["eventId", "seq", "table", "id", "op", "spaceId", "clientId", "fields"],
        **_change()["properties"],
        eventId={"type": "string", "format": "uuid"},
        seq={"type": "integer"},
        clientId=_ID,
    )
    push = _object(
        [],
        changes=_array(_ref("Change")),
        clientId=_nullable(_ID),
        since=_nullable({"type": "string"}),
        schemaVersion=_nullable({"type": "integer", "minimum": -(1 << 31), "maximum": (1 << 31) - 1}),
        atomic={"type": "boolean", "default": False},
        pull={"type": "boolean", "default": True},
        bytes={"type": "integer", "minimum": 1024},
        pushed={**_array(_ID), "maxItems": 64, "description": "Acknowledged before, perhaps after `since`."},
    )
    answer = {
        "allOf": [
            _ref("Delta"),
            _object(["results", "conflicts"], results=_array(_ref("Result")), conflicts=_array(_ref("Conflict"))),
        ]
    }
    fault = _object(
        ["pointer", "detail"],
        pointer={"type": "string", "description": "RFC 6901, into the request."},
        detail={"type": "string"},
        code={"type": "string", "description": "Of a change that may not be written."},
    )
    return {
        "Register": _register(),
        "Change": _change(),
        "ServerChange": server_change,
        "Push": push,
        "Delta": _delta(),
        "Result": _result(),
        "Conflict": _conflict(),
        "PushAnswer": answer,
        "Problem": _object(
            ["type", "title", "status", "code", "detail"],
            type={"type": "string", "format": "uri-reference", "pattern": "^/docs/errors#[a-z_]+$",
                  "description": "Where the code is explained, on this server."},
            title={"type": "string"}, status={"type": "integer"},
            code={"type": "string", "description": "Stable, and for programs. More may come."},
            detail={"type": "string", "description": "What is wrong this time, for people."}, errors=_array(fault),
            reason={"enum": [*UNBELIEVED], "description": "Of `unauthorized`: why the token is not believed."},
            quota={"type": "string", "description": "Of `quota_exceeded`: which one."},
        ),
        "NewSpace": _object(["name"], id=_nullable(_ID), name=_ID),
        "Space": _object(["id", "name", "role", "createdAt"], id=_ID, name=_ID, role=_ROLE, createdAt=_INSTANT),
        "Member": _object(["userId", "role", "joinedAt"], userId=_ID, role=_ROLE, joinedAt=_INSTANT),
        "Invited": _object(
            ["userId", "role", "invitedBy", "invitedAt"], userId=_ID, role=_ROLE, invitedBy=_ID, invitedAt=_INSTANT
        ),
        "Invitation": _object(
            ["spaceId", "name", "role", "invitedBy", "invitedAt"],
            spaceId=_ID, name=_ID, role=_ROLE, invitedBy=_ID, invitedAt=_INSTANT,
        ),
        "NewRole": _object(["role"], role=_ROLE),
        **_past_schemas(),
        **_held_schemas(),
        **_digest_schemas(),
        "ImportReport": _import_report(),
        "Quota": _quota_schema(),
        "Audit": _audit_schema(),
    }  # fmt: skip


def _answers(status: int, schema: Schema | None, *problems: int) -> dict[str, Any]:
    """Answers of an operation: its own, and the problems it can have besides those that all can."""
    good: dict[str, Any] = {"description": "Done."}
    if schema is not None:
        good["content"] = {"application/json": {"schema": schema}}
    found = {str(status): good}
    slow = [408] if 413 in problems else []
    for code in sorted({400, 401, 414, 429, 431, 503, *slow, *problems}):
        found[str(code)] = {"$ref": "#/components/responses/Problem"}
    return found


def _operation(name: str, summary: str, answers: dict[str, Any], body: str | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": name, "summary": summary, "responses": answers}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return operation


def _in_path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _ID}


def _query(name: str, schema: Schema, about: str) -> Schema:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": about}


def _sync_paths() -> dict[str, Any]:
    client = {"name": "X-Client-Id", "in": "header", "required": False, "schema": {**_ID, "pattern": "^[!-~]+$"}}
    protocol = {"name": "X-Sync-Protocol", "in": "header", "required": False, "schema": {"enum": ["1"]}}
    push = _operation(
        "push", "Write changes, get what was missed", _answers(200, _ref("PushAnswer"), 410, 413, 415, 422, 507), "Push"
    )
    pull = _operation("pull", "Get what was missed since a cursor", _answers(200, _ref("Delta"), 410))
    pull["parameters"] = [
        _query("since", {"type": "string"}, "A cursor, empty, or an RFC 3339 instant (legacy)."),
        {**_query("collection", _array(_ID), "Only these tables."), "style": "form", "explode": True},
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 10000, "default": 1000}, "Rows, a target."),
        _query("bytes", {"type": "integer", "minimum": 1024}, "Bytes of JSON, a target."),
        {**_query("first", _array(_ID), "A new device wants these tables first."), "style": "form", "explode": True},
        _query("history", {"enum": ["0", "1"]}, "1: the log itself, also for a feed never seen."),
        _query("digest", {"enum": ["0", "1"]}, "1: with `digest`, when hasMore is false."),
        {
            **_query("pushed", {**_array(_ID), "maxItems": 64}, "Own changes, acknowledged, perhaps after `since`."),
            "style": "form", "explode": True,
        },
        _query("clientId", _ID, "Whose they are, where no header X-Client-Id says so."),
    ]  # fmt: skip
    return {
        "/sync/{app}": {"parameters": [_in_path("app"), client, protocol], "post": push},
        "/sync/{app}/pull": {"parameters": [_in_path("app"), protocol], "get": pull},
        "/sync/{app}/stream": {"parameters": [_in_path("app"), protocol], "get": _stream()},
    }


def _stream() -> dict[str, Any]:
    answers = _answers(200, None, 403, 429)
    answers["200"] = {
        "description": "Server-sent events: changes, spaces, heartbeat, error. The token's end is the stream's.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    stream = _operation("stream", "Get what was missed since a cursor, and then what comes", answers)
    stream["parameters"] = [
        _query("since", {"type": "string"}, "A cursor, empty, or an RFC 3339 instant (legacy)."),
        {**_query("collections", _array(_ID), "Only these tables."), "style": "form", "explode": True},
        {"name": "Last-Event-ID", "in": "header", "required": False, "schema": {"type": "string"}},
    ]
    return stream


def _past_paths() -> dict[str, Any]:
    client = {"name": "X-Client-Id", "in": "header", "required": False, "schema": {**_ID, "pattern": "^[!-~]+$"}}
    seq: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
    after = _query("seq", seq, "As it was after this seq.")
    limit = _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "A target.")
    space = _query("spaceId", _ID, "The personal space without it.")
    record = _operation("getRecord", "A record as it is or was", _answers(200, _ref("Record"), 404, 410))
    record["parameters"] = [after, _query("at", _INSTANT, "As it was at this instant.")]
    changes = _operation("getHistory", "A record's changes, newest first", _answers(200, _ref("History"), 404, 410))
    changes["parameters"] = [
        limit, _query("before", {**seq, "minimum": 1}, "Only changes with a lesser seq."),
        _query("after", {"type": "string"}, "`next` of the page before."),
    ]  # fmt: skip
    listing = _operation("getSpaceAt", "A space as it is or was", _answers(200, _ref("PastSpace"), 404, 410))
    listing["parameters"] = [
        after, _query("instant", _INSTANT, "As it was then."), limit,
        _query("after", {"type": "string"}, "`next` of the page before; it says the moment too."),
    ]  # fmt: skip
    restored = _answers(200, _ref("PushAnswer"), 403, 404, 410, 413, 415, 422, 507)
    restore_record = _operation("restoreRecord", "Write a record as it was", restored, "Restore")
    restore_space = _operation("restoreSpace", "Write a space as it was, in one batch", restored, "Restore")
    named = [_in_path("app"), _in_path("table"), _in_path("id"), space]
    of_space = [_in_path("app"), _in_path("space")]
    return {
        "/sync/{app}/records/{table}/{id}": {"parameters": named, "get": record},
        "/sync/{app}/records/{table}/{id}/history": {"parameters": named, "get": changes},
        "/sync/{app}/records/{table}/{id}/restore": {"parameters": [*named, client], "post": restore_record},
        "/sync/{app}/spaces/{space}/at": {"parameters": of_space, "get": listing},
        "/sync/{app}/spaces/{space}/restore": {"parameters": [*of_space, client], "post": restore_space},
    }


def _held_paths() -> dict[str, Any]:
    listing = _operation("getHeld", "What of the caller's waits until it may be written", _answers(200, _ref("Held")))
    number: Schema = {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}
    listing["parameters"] = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "A target."),
        _query("after", number, "Only those with a greater heldId."),
    ]
    drop = _operation("dropHeld", "Drop one of them for good", _answers(204, None, 404))
    named = {"name": "heldId", "in": "path", "required": True, "schema": {**number, "minimum": 1}}
    return {
        "/sync/{app}/held": {"parameters": [_in_path("app")], "get": listing},
        "/sync/{app}/held/{heldId}": {"parameters": [_in_path("app"), named], "delete": drop},
    }


def _held_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    change = _object(
        ["heldId", "reason", "receivedAt", "clientId"],
        heldId={"type": "integer"}, reason={**text, "description": "The code that it was refused with."},
        receivedAt=_INSTANT, clientId=_ID, spaceId=text, table=_ID, id=_ID,
        change={"description": "As it came."},
        text={**text, "description": "As it came, where it is no JSON that can be read."},
    )  # fmt: skip
    return {"Held": _object(["held", "hasMore"], held=_array(change), hasMore={"type": "boolean"})}


def _digest_paths() -> dict[str, Any]:
    digests = _operation("getDigests", "What a replica is compared with", _answers(200, _ref("Digests"), 404, 410))
    digests["parameters"] = [
        _query("since", {"type": "string"}, "Where the replica stands; without it the end of the log."),
        {**_query("collection", _array(_ID), "Only these tables."), "style": "form", "explode": True},
        _query("spaceId", _ID, "Only this space, with its buckets."),
    ]
    answers = _answers(200, _ref("Differences"), 404, 409, 410, 413, 415)
    compare = _operation("compareBucket", "What of a replica's bucket is otherwise", answers, "Bucket")
    return {"/sync/{app}/digest": {"parameters": [_in_path("app")], "get": digests, "post": compare}}


def _digest_schemas() -> dict[str, Schema]:
    text: Schema = {"type": "string"}
    number: Schema = {"type": "integer", "minimum": 0}
    bucket: Schema = {**number, "maximum": 255}
    digest: Schema = {**text, "pattern": "^[0-9a-f]{16}$"}
    sums: Schema = {**_array({"type": ["integer", "string"]}), "description": "Bucket, records, digest."}
    held: Schema = {**_array(text), "description": "Table, id, digest.", "minItems": 3, "maxItems": 3}
    facts: dict[str, Schema] = {"spaceId": text, "seq": number, "records": number, "digest": digest}
    space, spaces = _object([*facts], **facts, buckets=_array(sums)), _array(text)
    body: dict[str, Schema] = {"since": text, "bucket": bucket, "records": {**_array(held), "maxItems": 20_000}}
    found: dict[str, Schema] = {
        "spaceId": text, "seq": number, "changes": _array(_ref("ServerChange")),
        "gone": _array(_array(text)), "hasMore": {"type": "boolean"},
    }  # fmt: skip
    return {
        "Digests": _object(["spaces", "behind", "unready"], spaces=_array(space), behind=spaces, unready=spaces),
        "Bucket": _object([*body], **body, spaceId=_nullable(_ID), collections=_nullable(_array(_ID))),
        "Differences": _object([*found], **found),
    }


def _backup_paths() -> dict[str, Any]:
    text, archive = {"schema": {"type": "string"}}, {"schema": {"type": "string", "format": "binary"}}
    media = {"application/x-ndjson": text, "application/zip": archive}
    export = _operation("exportAll", "All that the caller wrote and may read", _answers(200, None, 429))
    export["responses"]["200"] = {"description": "Changes, a line each, and a manifest.", "content": media}
    back = _operation("importAll", "Write an export back", _answers(200, _ref("ImportReport"), 413, 415, 429))
    back["requestBody"] = {"required": True, "content": media}
    return {"/backup/export": {"get": export}, "/backup/import": {"post": back}}


def _import_report() -> Schema:
    refusal = _object(
        ["line", "code", "detail"],
        line={"type": "integer"}, eventId={"type": "string"}, code={"type": "string"}, detail={"type": "string"},
    )  # fmt: skip
    counts = {name: {"type": "integer"} for name in ("events", "imported", "duplicates", "refused")}
    spaces = {"type": "object", "additionalProperties": _array({"type": "string"})}
    return _object([*counts, "refusals", "spaces"], **counts, refusals=_array(refusal), spaces=spaces)


def _space_paths() -> dict[str, Any]:
    spaces = _object(["spaces"], spaces=_array(_ref("Space")))
    members = _object(["members"], members=_array(_ref("Member")), invited=_array(_ref("Invited")))
    made = _answers(201, _ref("Space"), 409, 413, 415, 429, 507)
    create = _operation("createSpace", "Make a space", made, "NewSpace")
    added = _answers(200, _ref("Member"), 403, 404, 409, 413, 415, 429)
    added["202"] = {"description": "Invited.", "content": {"application/json": {"schema": _ref("Invited")}}}
    put = _operation("putMember", "Add or invite a member, or change a role", added, "NewRole")
    return {
        "/spaces": {
            "get": _operation("listSpaces", "The caller's spaces", _answers(200, spaces)),
            "post": create,
        },
        "/spaces/{space}": {
            "parameters": [_in_path("space")],
            "get": _operation("getSpace", "One space", _answers(200, _ref("Space"), 404)),
            "delete": _operation("deleteSpace", "End a space", _answers(204, None, 403, 404, 409)),
        },
        "/spaces/{space}/members": {
            "parameters": [_in_path("space")],
            "get": _operation("listMembers", "The members of a space", _answers(200, members, 404)),
        },
        "/spaces/{space}/members/{userId}": {
            "parameters": [_in_path("space"), _in_path("userId")],
            "put": put,
            "delete": _operation("removeMember", "Remove a member, or leave", _answers(204, None, 403, 404, 409)),
        },
    }  # fmt: skip


def _invitation_paths() -> dict[str, Any]:
    invitations = _object(["invitations"], invitations=_array(_ref("Invitation")))
    blocked = _object(["userId", "blockedAt"], userId=_ID, blockedAt=_INSTANT)
    blocks = _object(["blocks"], blocks=_array(blocked))
    accept = _operation("acceptInvitation", "Become a member", _answers(200, _ref("Space"), 404, 409))
    return {
        "/invitations": {"get": _operation("listInvitations", "To which spaces", _answers(200, invitations))},
        "/invitations/{space}": {
            "parameters": [_in_path("space")],
            "delete": _operation("declineInvitation", "Decline it", _answers(204, None, 404)),
        },
        "/invitations/{space}/accept": {"parameters": [_in_path("space")], "post": accept},
        "/blocks": {"get": _operation("listBlocks", "Whom the caller blocks", _answers(200, blocks))},
        "/blocks/{userId}": {
            "parameters": [_in_path("userId")],
            "put": _operation("block", "Refuse what a user would do to the caller", _answers(204, None, 409)),
            "delete": _operation("unblock", "End a block", _answers(204, None)),
        },
    }  # fmt: skip


def _quota_paths() -> dict[str, Any]:
    listing = _operation("getQuota", "What the caller has and may have", _answers(200, _ref("Quota"), 404))
    listing["parameters"] = [_query("spaceId", _ID, "And what this space has and may have.")]
    return {"/quota": {"get": listing}}


def _audit_paths() -> dict[str, Any]:
    listing = _operation("getAudit", "What was done in a space, for its owners", _answers(200, _ref("Audit"), 403, 404))
    listing["parameters"] = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Entries at most."),
        _query("after", {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}, "Those with a greater auditId."),
    ]
    return {"/spaces/{space}/audit": {"parameters": [_in_path("space")], "get": listing}}


def _audit_schema() -> Schema:
    number: Schema = {"type": "integer"}
    entry = _object(
        ["auditId", "at", "what", "detail", "count"],
        auditId=number, at=_INSTANT, what={"type": "string"}, detail={"type": "object"}, count=number,
        actorId={**_ID, "description": "Who did it; missing where an operator or the server did."},
        userId={**_ID, "description": "Whom it was done to."},
    )  # fmt: skip
    return _object(["audit", "hasMore"], audit=_array(entry), hasMore={"type": "boolean"})


def _quota_schema() -> Schema:
    limit: Schema = {"type": ["number", "null"], "minimum": 0, "description": "null: there is none."}
    total = _object(["used", "limit"], used={"type": "integer"}, limit=limit)
    rate = _object(["limit"], limit={**limit, "description": "A second, on average, of one worker."})
    rates = dict.fromkeys(("requests", "bytes_in", "bytes_out"), rate)
    of_user = ("user_records", "user_bytes", "spaces", "devices", "sockets", "held", "held_bytes")
    user = {**rates, **dict.fromkeys(of_user, total)}
    space = dict.fromkeys(("space_records", "space_bytes"), total)
    return _object(["user"], user=_object([*user], **user), space=_object([*space], **space))


def _service_paths() -> dict[str, Any]:
    status = _object(["status"], status={"type": "string"})
    paths: dict[str, Any] = {}
    for path, summary in (("/health", "The server's word"), ("/healthz", "Alive"), ("/readyz", "Able to serve")):
        responses: dict[str, Any] = {
            str(code): {"description": summary, "content": {"application/json": {"schema": status}}}
            for code in ((200, 503) if path == "/readyz" else (200,))
        }
        paths[path] = {"get": {"operationId": path[1:], "summary": summary, "security": [], "responses": responses}}
    text = {"description": "Prometheus' text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    metrics = {"operationId": "metrics", "summary": "Every worker's numbers", "security": []}
    paths["/metrics"] = {
        "get": {**metrics, "responses": {"200": text, "503": {"$ref": "#/components/responses/Problem"}}}
    }
    page = {"description": "A paragraph for each code.", "content": {"text/html": {"schema": {"type": "string"}}}}
    explained = {"operationId": "errors", "summary": "What each error code means", "security": []}
    paths["/docs/errors"] = {"get": {**explained, "responses": {"200": page}}}
    return paths


def document(version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    problem = {
        "description": "What is wrong, by a stable code.",
        "content": {"application/problem+json": {"schema": _ref("Problem")}},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "syncd", "version": version, "description": "Offline-first sync over PostgreSQL."},
        "paths": _sync_paths()
        | _past_paths()
        | _held_paths()
        | _digest_paths()
        | _space_paths()
        | _invitation_paths()
        | _backup_paths()
        | _quota_paths()
        | _audit_paths()
        | _service_paths(),
        "security": [{"token": []}],
        "components": {
            "schemas": _schemas(),
            "responses": {"Problem": problem},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }
