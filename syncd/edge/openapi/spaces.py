"""Spaces, members, invitations, blocks, and what is told of a space and its users: quotas, the audit."""

from __future__ import annotations

from typing import Any

from syncd.edge.openapi.base import (
    ID,
    INSTANT,
    ROLE,
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
    return _space_paths() | _invitation_paths() | _link_paths() | _quota_paths() | _audit_paths() | _me_paths()


def schemas() -> dict[str, Schema]:
    """What their bodies are."""
    return {**_space_schemas(), **_link_schemas(), "Quota": _quota_schema(), "Audit": _audit_schema()}


def _space_paths() -> dict[str, Any]:
    spaces = object_of(["spaces"], spaces=array_of(ref("Space")))
    members = object_of(["members"], members=array_of(ref("Member")), invited=array_of(ref("Invited")))
    made = answers_of(201, ref("Space"), 409, 413, 415, 429, 507)
    create = operation("createSpace", "Make a space", made, "NewSpace")
    added = answers_of(200, ref("Member"), 403, 404, 409, 413, 415, 429)
    rename = operation(
        "renameSpace",
        "Give a space another name",
        answers_of(200, ref("Space"), 403, 404, 409, 413, 415, 429),
        "NewName",
    )
    added["202"] = {"description": "Invited.", "content": {"application/json": {"schema": ref("Invited")}}}
    put = operation("putMember", "Add or invite a member, or change a role", added, "NewRole")
    return {
        "/spaces": {
            "get": operation("listSpaces", "The caller's spaces", answers_of(200, spaces)),
            "post": create,
        },
        "/spaces/{space}": {
            "parameters": [in_path("space")],
            "get": operation("getSpace", "One space", answers_of(200, ref("Space"), 404)),
            "patch": rename,
            "delete": operation("deleteSpace", "End a space", answers_of(204, None, 403, 404, 409)),
        },
        "/spaces/{space}/membership": {
            "parameters": [in_path("space")],
            "delete": operation("leaveSpace", "Leave a space", answers_of(204, None, 403, 404, 409)),
        },
        "/spaces/{space}/members": {
            "parameters": [in_path("space")],
            "get": operation("listMembers", "The members of a space", answers_of(200, members, 404)),
        },
        "/spaces/{space}/members/{userId}": {
            "parameters": [in_path("space"), in_path("userId")],
            "put": put,
            "delete": operation("removeMember", "Remove a member, or leave", answers_of(204, None, 403, 404, 409)),
        },
    }  # fmt: skip


def _invitation_paths() -> dict[str, Any]:
    invitations = object_of(["invitations"], invitations=array_of(ref("Invitation")))
    blocked = object_of(["userId", "blockedAt"], userId=ID, blockedAt=INSTANT)
    blocks = object_of(["blocks"], blocks=array_of(blocked))
    accept = operation("acceptInvitation", "Become a member", answers_of(200, ref("Space"), 404, 409))
    joined = answers_of(200, ref("Space"), 404, 409, 413, 415, 429, 507)
    return {
        "/invitations": {
            "get": operation("listInvitations", "To which spaces", answers_of(200, invitations)),
            "post": operation("acceptLink", "Become a member by a link", joined, "LinkToken"),
        },
        "/invitations/{space}": {
            "parameters": [in_path("space")],
            "delete": operation("declineInvitation", "Decline it", answers_of(204, None, 404)),
        },
        "/invitations/{space}/accept": {"parameters": [in_path("space")], "post": accept},
        "/blocks": {"get": operation("listBlocks", "Whom the caller blocks", answers_of(200, blocks))},
        "/blocks/{userId}": {
            "parameters": [in_path("userId")],
            "put": operation("block", "Refuse what a user would do to the caller", answers_of(204, None, 409)),
            "delete": operation("unblock", "End a block", answers_of(204, None)),
        },
    }  # fmt: skip


def _link_paths() -> dict[str, Any]:
    links = object_of(["invitations"], invitations=array_of(ref("Link")))
    made = answers_of(201, ref("NewLinkMade"), 403, 404, 409, 413, 415, 429)
    return {
        "/spaces/{space}/invitations": {
            "parameters": [in_path("space")],
            "get": operation("listLinks", "The links in force to a space", answers_of(200, links, 403, 404)),
            "post": operation("makeLink", "Invite by a link", made, "NewLink"),
        },
        "/spaces/{space}/invitations/{link}": {
            "parameters": [in_path("space"), in_path("link")],
            "delete": operation("withdrawLink", "Withdraw a link", answers_of(204, None, 403, 404, 409)),
        },
    }  # fmt: skip


def _link_schemas() -> dict[str, Schema]:
    role: Schema = {"enum": ["writer", "reader"]}
    uses: Schema = {"type": "integer", "minimum": 1, "maximum": 1000}
    seconds: Schema = {"type": "integer", "minimum": 1, "maximum": 30 * 86400}
    token: Schema = {"type": "string", "minLength": 1, "maxLength": 200}
    shown: dict[str, Any] = {
        "id": ID, "role": role, "uses": uses, "used": {"type": "integer", "minimum": 0},
        "createdBy": ID, "createdAt": INSTANT, "expiresAt": INSTANT,
    }  # fmt: skip
    wanted = {"uses": {**uses, "default": 1}, "expiresIn": {**seconds, "default": 7 * 86400}}
    return {
        "NewName": object_of(["name"], name=ID),
        "NewLink": object_of(["role"], role=role, **wanted),
        "LinkToken": object_of(["token"], token=token),
        "Link": object_of([*shown], **shown),
        "NewLinkMade": object_of(["token", *shown], token=token, **shown),
    }


def _space_schemas() -> dict[str, Schema]:
    return {
        "NewSpace": object_of(["name"], id=nullable(ID), name=ID),
        "Space": object_of(["id", "name", "role", "createdAt"], id=ID, name=ID, role=ROLE, createdAt=INSTANT),
        "Member": object_of(["userId", "role", "joinedAt"], userId=ID, role=ROLE, joinedAt=INSTANT),
        "Invited": object_of(
            ["userId", "role", "invitedBy", "invitedAt"], userId=ID, role=ROLE, invitedBy=ID, invitedAt=INSTANT
        ),
        "Invitation": object_of(
            ["spaceId", "name", "role", "invitedBy", "invitedAt"],
            spaceId=ID, name=ID, role=ROLE, invitedBy=ID, invitedAt=INSTANT,
        ),
        "NewRole": object_of(["role"], role=ROLE),
    }  # fmt: skip


def _me_paths() -> dict[str, Any]:
    asked = object_of(["askedAt"], askedAt=INSTANT)
    ask = operation("eraseMe", "Ask to be erased, where the operator lets users", answers_of(202, asked, 403, 404, 409))
    return {"/me": {"delete": ask}}


def _quota_paths() -> dict[str, Any]:
    listing = operation("getQuota", "What the caller has and may have", answers_of(200, ref("Quota"), 404))
    listing["parameters"] = [in_query("spaceId", ID, "And what this space has and may have.")]
    return {"/quota": {"get": listing}}


def _quota_schema() -> Schema:
    limit: Schema = {"type": ["number", "null"], "minimum": 0, "description": "null: there is none."}
    total = object_of(["used", "limit"], used={"type": "integer"}, limit=limit)
    rate = object_of(["limit"], limit={**limit, "description": "A second, on average, of one worker."})
    rates = dict.fromkeys(("requests", "bytes_in", "bytes_out"), rate)
    of_user = ("user_records", "user_bytes", "spaces", "devices", "sockets", "held", "held_bytes")
    user = {**rates, **dict.fromkeys(of_user, total)}
    space = dict.fromkeys(("space_records", "space_bytes"), total)
    return object_of(["user"], user=object_of([*user], **user), space=object_of([*space], **space))


def _audit_paths() -> dict[str, Any]:
    listing = operation("getAudit", "What was done in a space, for its owners", answers_of(200, ref("Audit"), 403, 404))
    listing["parameters"] = [
        in_query("limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}, "Entries at most."),
        in_query("after", {"type": "integer", "minimum": 0, "maximum": (1 << 63) - 1}, "Those with a greater auditId."),
    ]
    return {"/spaces/{space}/audit": {"parameters": [in_path("space")], "get": listing}}


def _audit_schema() -> Schema:
    number: Schema = {"type": "integer"}
    entry = object_of(
        ["auditId", "at", "what", "detail", "count"],
        auditId=number, at=INSTANT, what={"type": "string"}, detail={"type": "object"}, count=number,
        actorId={**ID, "description": "Who did it; missing where an operator or the server did."},
        userId={**ID, "description": "Whom it was done to."},
    )  # fmt: skip
    return object_of(["audit", "hasMore"], audit=array_of(entry), hasMore={"type": "boolean"})
