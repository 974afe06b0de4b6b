"""Every error code, once: its HTTP status, whether a retry can help, its cause and its remedy. Pure.

From this table come problems, rejections of single changes, `error` frames, close codes and the page /docs/errors.
`make error-codes` writes docs/reference/errors.md and a file in each client. A new code is a new row here.
What is raised may say more of the case (`detail`), in the place of cause and remedy; the code stays that of the row.
Of a push: `body_too_large` is of all its bytes, `too_many_changes` of their number, `push_too_large` of one change.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Retry(Enum):
    """When the same request can succeed; the value completes "Retry: …"."""

    NEVER = "never"
    LATER = "the same, after `Retry-After`, else after a growing pause"
    FIX = "after the fix"
    TOKEN = "with a new token"
    ACCESS = "after somebody has given access"
    RESTART = 'from the empty cursor `""`'


class ErrorCode(NamedTuple):
    """`status`: of the problem that has this code, None where no problem has it; `retry_after`: seconds; `close`: the
    close code of a WebSocket where the status does not say it."""

    code: str
    status: int | None
    retry: Retry
    cause: str
    remedy: str
    retry_after: int | None = None
    close: int | None = None

    @property
    def text(self) -> str:
        """Cause and remedy, for people."""
        return f"{self.cause} {self.remedy}"


_NEVER, _LATER, _FIX = Retry.NEVER, Retry.LATER, Retry.FIX
_TOKEN, _ACCESS, _RESTART = Retry.TOKEN, Retry.ACCESS, Retry.RESTART
_E = ErrorCode

# By where they are met; a group's name is a heading of the page.
GROUPS: dict[str, tuple[ErrorCode, ...]] = {
    "The request": (
        _E("malformed_json", 400, _FIX, "The body or frame is not JSON in UTF-8.",
           "Send JSON, encoded as UTF-8, without anything before or after it."),
        _E("invalid_request", 400, _FIX, "A part of the request is missing, of the wrong type or out of range.",
           "Correct the part that `errors` points to."),
        _E("invalid_value", 400, _FIX, "A value cannot be stored so that it comes back the same.",
           "Leave out `\\u0000`, lone surrogates, numbers beyond a double and what is nested too deeply."),
        _E("bad_encoding", 400, _FIX, "The body is not what its Content-Encoding says, or was cut short.",
           "Send the whole body as gzip or zstd, or without an encoding."),
        _E("bad_cursor", 400, _RESTART, "This cursor was not made by this server for this user, app and these tables.",
           "Start again from an empty one."),
        _E("not_found", 404, _FIX, "There is nothing at this address.", "Check the path against /openapi.json."),
        _E("method_not_allowed", 405, _FIX, "This address does not answer this method.",
           "Use a method that the header Allow names."),
        _E("body_too_large", 413, _FIX, "The body or frame is larger than the server takes.", "Send it in parts."),
        _E("too_many_changes", 413, _FIX, "The push holds more changes than the server takes at once.",
           "Send them in parts."),
        _E("url_too_long", 414, _FIX, "The address is longer than the server takes.",
           "Leave out what is not needed, or ask in parts; a cursor may be as long as the server made it."),
        _E("headers_too_large", 431, _FIX, "The request has more or longer headers than the server takes.",
           "Leave out what is not needed: cookies, for instance."),
        _E("unsupported_media_type", 415, _FIX, "The body has a type or an encoding that this address does not take.",
           "Send application/json, plain or as gzip or zstd; an import takes application/x-ndjson or application/zip."),
        _E("upgrade_required", 426, _FIX, "This address is a WebSocket.", "Connect to it with a WebSocket client."),
    ),
    "Access": (
        _E("unauthorized", 401, _TOKEN, "The bearer token is missing, malformed, expired or not for this server.",
           "Sign in again, and send the new token."),
        _E("token_too_large", 401, _TOKEN, "The token is larger than the server takes.",
           "Get one with fewer claims; a membership service can list more spaces."),
        _E("token_in_address", 403, _FIX, "A token does not belong into an address, where proxies write it down.",
           "Send it in the `auth` frame or the header Authorization."),
        _E("forbidden", 403, _ACCESS, "Your role does not allow this.", "Ask an owner of the space."),
        _E("not_a_writer", 403, _ACCESS, "You may read this space, not write in it.",
           "Ask an owner of the space to make you a writer, then send it again."),
        _E("too_many_spaces", 403, _FIX, "The list of your spaces, from a token or service, is longer than may be.",
           "Ask the operator to raise SYNCD_MAX_SPACES_LISTED, or to shorten it."),
        _E("space_not_found", 404, _ACCESS, "There is no such space, or you are not a member of it.",
           "Check its id, or ask one of its owners to add you."),
    ),
    "Changes": (
        _E("invalid_change", 400, _FIX, "A change is not of the form that the protocol gives it.",
           "Correct the part that `errors` points to; the other changes may be sent without it."),
        _E("empty_change", 400, _FIX, "The change writes no field.", "Give it at least one field, or leave it out."),
        _E("change_too_large", None, _FIX, "This change is larger than the server takes.",
           "Make it smaller, or spread it over several records."),
        _E("record_too_large", 422, _FIX, "With this change the record would be larger than the server keeps.",
           "Spread it over several records."),
        _E("push_too_large", None, _FIX, "The push is too much at once, for its records' sizes or the rules' time.",
           "Send this change again in a push with fewer others."),
        _E("rule_refused", 422, _FIX, "A rule of the application does not take this change.",
           "Correct what the text says, of the field that `field` names; then send it again."),
        _E("rule_failed", None, _LATER, "A rule of the application failed, or did not end in time.",
           "Tell the operator, whose log names it; then send it again."),
        _E("schema_too_new", None, _FIX, "This change has a newer schema version than the server takes.",
           "Ask the operator to raise SYNCD_MAX_SCHEMA_VERSION, then send it again."),
        _E("change_id_reused", 422, _FIX, "This changeId was used for another change or restore of this device.",
           "Send it under a new changeId."),
        _E("record_forgotten", None, _FIX,
           "The record was erased, or may have been deleted so long ago that it is forgotten.",
           "Write it as a new record if it is wanted."),
        _E("too_many_names", 422, _FIX, "You have made as many names (of devices, tables, apps, members) as one may.",
           "Use those that there are, or ask the operator to raise SYNCD_MAX_NAMES."),
        _E("atomic_rejected", 422, _FIX, "At least one change may not be written, so none was.",
           "Correct or leave out the changes that `errors` points to."),
    ),
    "Spaces": (
        _E("conflict", 409, _FIX, "A space with this id exists already.", "Choose another id, or leave it out."),
        _E("last_owner", 409, _FIX, "The last owner of a space can neither leave nor get a lower role.",
           "Make somebody else an owner first."),
        _E("limit_reached", 409, _FIX, "You have as many spaces, or blocks, as one user may.",
           "Leave, delete or unblock one first."),
        _E("member_refused", 409, _FIX, "This user takes no more spaces, or none from you.",
           "Ask them to leave one, or another owner to add them."),
        _E("invitation_not_found", 404, _FIX, "There is no such invitation, or it was withdrawn.",
           "Ask an owner of the space to invite you."),
        _E("managed_elsewhere", 409, _NEVER, "Memberships come from outside this server.", "Change them there."),
    ),
    "Quotas": (
        _E("quota_exceeded", 507, _FIX, "A quota is used up; `quota` names it. Nothing of this was written.",
           "Delete what is not needed, or ask the operator for more; then send it again."),
    ),
    "History": (
        _E("record_not_found", 404, _NEVER, "There is no such record, or there was none at that moment.",
           "Check table, id and space, or ask for another moment."),
        _E("history_gone", 410, _NEVER, "The log does not reach back to that moment, or not in one request.",
           "Ask for a later one."),
        _E("restore_too_large", 422, _FIX, "The restore would write more than one push may.",
           "Restore to a later moment, or the records one by one."),
    ),
    "Devices, cursors and digests": (
        _E("cursor_lost", 410, _RESTART, "The log cannot go on from this cursor: the database was restored, or the "
           "device was away too long.",
           'Start again from "" and keep what was not pushed yet.'),
        _E("device_copied", 409, _FIX, "Another copy of this device's store has pushed under its client id since.",
           "Take a new client id, and send under it what was not pushed yet."),
        _E("digest_behind", 409, _FIX, "The cursor is not at the end of the log.", "Pull, and compare again."),
    ),
    "What passes by itself": (
        _E("too_slow", 408, _LATER, "The request came too slowly, or stood still. Nothing was written.",
           "Send it again, in smaller parts.", 1),
        _E("too_many_requests", 429, _LATER, "More requests, connections or frames than one user or address may have.",
           "Wait, then try again.", 5),
        _E("held_full", 429, _LATER, "As many changes of yours are held as may be. Nothing was written.",
           "Ask the operator to look at `syncd held list`, then send it again.", 60),
        _E("busy", 503, _LATER, "The server is busy. Nothing was written.", "Try again.", 1),
        _E("database_unavailable", 503, _LATER, "The database cannot be reached. What you sent may have been written.",
           "Send the same again.", 2),
        _E("memberships_unavailable", 503, _LATER, "The membership service cannot be reached: nothing can be allowed.",
           "Try again.", 5),
        _E("keys_unavailable", 503, _LATER, "The identity provider's keys cannot be fetched: no token can be checked.",
           "Try again.", 5),
        _E("numbers_used_up", 503, _LATER, "No number is left for a new name or space. Nothing was written.",
           "Tell the operator, whom `syncd doctor` tells more. What needs no new name goes on.", 60),
        _E("internal", 500, _LATER, "Something went wrong on the server, and was logged.",
           "Try again, and tell the operator if it stays."),
    ),
    "Sockets": (
        _E("invalid_message", None, _FIX, "The frame is no message of the protocol.",
           "Send text frames, each one JSON object with a known `type`.", close=4400),
        _E("state_too_large", None, _FIX, "The presence state is larger than the server takes.", "Make it smaller.",
           close=4400),
        _E("auth_timeout", None, _LATER, "The `auth` frame did not come in time.", "Connect again.", close=4408),
        _E("restarting", None, _LATER, "The server is restarting.", "Connect again, after a random pause.", close=1012),
    ),
    "Imports of a backup": (
        _E("export_cut_short", 400, _FIX, "The export has no end: it was cut short. Nothing was written.",
           "Export it again."),
        _E("export_damaged", 400, _FIX, "The export is not what its manifest counted and hashed. Nothing was written.",
           "Take another copy of it, or export it again."),
        _E("export_too_new", 400, _FIX, "The export has a format that this server does not read.",
           "Upgrade the server."),
        _E("invalid_export", 400, _FIX, "This is no export of syncd. Nothing was written.",
           "Send what GET /backup/export or `syncd export` gave, unchanged."),
        _E("foreign_author", None, _NEVER, "The change was written by another user.",
           "Have its author, or an operator with `syncd import`, import it."),
        _E("stamp_ahead", None, _FIX, "A stamp of the change is ahead of the server's clock.",
           "Set the server's clock, or import it later."),
    ),
    "`syncd import --from`": (
        _E("invalid_row", None, _FIX, "The row cannot be read as a record.", "Correct it in the source."),
        _E("invalid_instant", None, _FIX, "A time of the row is no instant.",
           "Write it as RFC 3339, or as milliseconds since 1970."),
        _E("invalid_id", None, _FIX, "An id of the row cannot be one.",
           "Give it 1 to 255 characters without control characters."),
        _E("no_table", None, _FIX, "The source has no such table, or not one of the expected form.",
           "Name another one."),
        _E("no_column", None, _FIX, "The source lacks a column that is needed, or has one twice.",
           "Name the column with its option, or rename it."),
        _E("no_members", None, _FIX, "The source has shared spaces, and nothing says their members.",
           "Give the list of members with --members."),
        _E("no_owner", None, _FIX, "The list of members names no owner of a space.", "Add one."),
        _E("no_state", None, _FIX, "The state file is none of an import.", "Name another file."),
    ),
}  # fmt: skip

# What a client says by itself; no server sends them.
CLIENT_GROUPS: dict[str, tuple[ErrorCode, ...]] = {
    "Said by a client: a call": (
        _E("invalid_write", None, _FIX, "The server would refuse this write, so it was not taken.",
           "Correct the value."),
        _E("invalid_query", None, _FIX, "The query cannot be answered.", "Correct the operator or its operand."),
        _E("batch_too_large", None, _FIX, "A batch is pushed whole, so it must fit one push. Nothing was written.",
           "Split it into smaller batches, or raise the client's limits with the server's."),
        _E("no_such_record", None, _FIX, "There is no such record on this device.",
           "Put it first, check its id and space, or write it with `upsert`."),
        _E("duplicate_key", None, _FIX, "A record of that id is on the device, so no item of it can be inserted.",
           "Update it instead, or insert it with an id of its own."),
        _E("no_such_change", None, _NEVER, "No refused or set-aside change has this id.",
           "It may have been sent, fixed or dropped meanwhile: list them again."),
        _E("wrong_replica", None, _NEVER, "The store belongs to another app, device or user, or to a newer version.",
           "Open another one: a store is one device of one user in one app."),
        _E("not_connected", None, _FIX, "The replica was opened without an address to sync with.",
           "Open it with url and token."),
        _E("sync_busy", None, _LATER, "Somebody else is syncing this store.",
           "It pushes everybody's writes, so there is nothing to do but to try again later."),
        _E("closed", None, _FIX, "The replica or its live sync was closed.", "Open it again."),
        _E("no_crypto", None, _FIX, "Browsers hash only for pages that came over HTTPS or from localhost.",
           "Serve the page over HTTPS."),
        _E("storage_full", None, _LATER, "The device has no room left. Nothing of the write was kept.",
           "Free some room, then write again."),
        _E("store_failed", None, _LATER, "The device's store failed. Nothing of the write was kept.",
           "Try again; open the replica again if it stays."),
        _E("commit_unknown", None, _LATER, "Nobody knows whether the write is kept: the store did not end in time.",
           "Look whether it is there once the store answers again, before you write it again."),
        _E("store_lost", None, _LATER, "The browser evicted the store.", "It is opened and filled again by itself."),
    ),
    "Said by a client: a refused change": (
        _E("rejected", None, _FIX, "The server refused the change and gave no code.", "Fix it, or drop it."),
        _E("batch_rejected", None, _FIX, "The change goes together with another one that was refused.",
           "Fix that one; the batch is sent as a whole."),
        _E("space_left", None, _ACCESS, "The space was left before this was sent.",
           "Move the change to another space, keep a copy of it, or drop it."),
        _E("refused", None, _FIX, "The server refused a request as a whole.", "Read the code that it gave."),
        _E("not_replicated", None, _FIX, "This is not kept in this replica.",
           "Name its space and table where the replica is opened."),
    ),
    "Said by a client: a connection": (
        _E("offline", None, _LATER, "The server cannot be reached, or its answer did not arrive whole.",
           "The writes wait in the outbox; sync again later."),
        _E("bad_reply", None, _LATER, "The answer is not of the protocol. Nothing of it was applied.",
           "Check that url is a syncd server and not a page in front of it."),
        _E("bad_token", None, _TOKEN, "The token holds what no header can carry.",
           "Give the token itself, and no more."),
        _E("no_token", None, _LATER, "The application gave no token, or not in time.", "Make it return a token."),
        _E("callback_timeout", None, _LATER, "A function of the application did not answer in time.",
           "Make it answer, or raise."),
        _E("connection_lost", None, _LATER, "The connection was lost.", "It is made again by itself."),
        _E("closing", None, _LATER, "The server closed the connection.", "It is made again by itself."),
        _E("open_timeout", None, _LATER, "The connection could not be opened in time.", "It is tried again by itself."),
        _E("no_answer", None, _LATER, "The server did not answer in time.", "It is asked again by itself."),
        _E("no_socket", None, _LATER, "Sockets are blocked on the way to the server.",
           "It is polled instead; let proxies pass WebSockets on."),
        _E("restarted", None, _LATER, "Everything is asked for again, because the cursor was lost.",
           "It goes on by itself."),
        _E("error", None, _LATER, "The server said that something is wrong and gave no code.", "Try again later."),
    ),
}  # fmt: skip

ERROR_CODES: dict[str, ErrorCode] = {row.code: row for rows in GROUPS.values() for row in rows}
CLIENT_CODES: dict[str, ErrorCode] = {row.code: row for rows in CLIENT_GROUPS.values() for row in rows}

# The close code of an error that ends a WebSocket, by its status. What is not here passes by itself: try again later.
_CLOSE_BY_STATUS = {400: 4400, 401: 4401, 403: 4403, 413: 1009, 429: 4429}
TRY_AGAIN_LATER = 1013

# The other way round: what a client calls a connection that was closed with this code.
CLOSED: dict[int, str] = {
    1000: "closing",
    1001: "closing",
    1005: "connection_lost",
    1006: "connection_lost",
    1009: "body_too_large",
    1011: "internal",
    1012: "restarting",
    1013: "busy",
    4400: "invalid_message",
    4401: "unauthorized",
    4403: "forbidden",
    4408: "auth_timeout",
    4429: "too_many_requests",
}


def close_code_of(row: ErrorCode) -> int:
    """The close code of a WebSocket that this error ends."""
    return row.close or _CLOSE_BY_STATUS.get(row.status or 0, TRY_AGAIN_LATER)


def problem_type(code: str) -> str:
    """A problem's `type`: the address of its paragraph, on the server that sent it."""
    return f"/docs/errors#{code}"
