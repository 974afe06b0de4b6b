"""Error codes: what they mean, and what to do.

Made by `make error-codes` from syncd/core/error_codes.py: change it there.
"""

# fmt: off

# Refusals that pass by themselves.
RETRYABLE = frozenset({
    "too_slow",
    "too_many_requests",
    "held_full",
    "busy",
    "database_unavailable",
    "memberships_unavailable",
    "keys_unavailable",
    "numbers_used_up",
    "internal",
})

# Refusals that pass when somebody gives access, or a new token.
NO_ACCESS = frozenset({"unauthorized", "token_too_large", "forbidden", "not_a_writer", "space_not_found"})

# What a connection that was closed with this code is called.
CLOSED = {
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

# Cause and remedy, by code.
TEXTS = {
    "malformed_json": (
        "The body or frame is not JSON in UTF-8.",
        "Send JSON, encoded as UTF-8, without anything before or after it."),
    "invalid_request": (
        "A part of the request is missing, of the wrong type or out of range.",
        "Correct the part that `errors` points to."),
    "invalid_value": (
        "A value cannot be stored so that it comes back the same.",
        "Leave out `\\u0000`, lone surrogates, numbers beyond a double and what is nested too deeply."),
    "bad_encoding": (
        "The body is not what its Content-Encoding says, or was cut short.",
        "Send the whole body as gzip or zstd, or without an encoding."),
    "bad_cursor": (
        "This cursor was not made by this server for this user, app and these tables.",
        "Start again from an empty one."),
    "not_found": (
        "There is nothing at this address.",
        "Check the path against /openapi.json."),
    "method_not_allowed": (
        "This address does not answer this method.",
        "Use a method that the header Allow names."),
    "body_too_large": (
        "The body or frame is larger than the server takes.",
        "Send it in parts."),
    "too_many_changes": (
        "The push holds more changes than the server takes at once.",
        "Send them in parts."),
    "url_too_long": (
        "The address is longer than the server takes.",
        "Leave out what is not needed, or ask in parts; a cursor may be as long as the server made it."),
    "headers_too_large": (
        "The request has more or longer headers than the server takes.",
        "Leave out what is not needed: cookies, for instance."),
    "unsupported_media_type": (
        "The body has a type or an encoding that this address does not take.",
        "Send application/json, plain or as gzip or zstd; an import takes application/x-ndjson or application/zip."),
    "upgrade_required": (
        "This address is a WebSocket.",
        "Connect to it with a WebSocket client."),
    "unauthorized": (
        "The bearer token is missing, malformed, expired or not for this server.",
        "Sign in again, and send the new token."),
    "token_too_large": (
        "The token is larger than the server takes.",
        "Get one with fewer claims; a membership service can list more spaces."),
    "token_in_address": (
        "A token does not belong into an address, where proxies write it down.",
        "Send it in the `auth` frame or the header Authorization."),
    "forbidden": (
        "Your role does not allow this.",
        "Ask an owner of the space."),
    "not_a_writer": (
        "You may read this space, not write in it.",
        "Ask an owner of the space to make you a writer, then send it again."),
    "too_many_spaces": (
        "The list of your spaces, from a token or service, is longer than may be.",
        "Ask the operator to raise SYNCD_MAX_SPACES_LISTED, or to shorten it."),
    "space_not_found": (
        "There is no such space, or you are not a member of it.",
        "Check its id, or ask one of its owners to add you."),
    "invalid_change": (
        "A change is not of the form that the protocol gives it.",
        "Correct the part that `errors` points to; the other changes may be sent without it."),
    "empty_change": (
        "The change writes no field.",
        "Give it at least one field, or leave it out."),
    "change_too_large": (
        "This change is larger than the server takes.",
        "Make it smaller, or spread it over several records."),
    "record_too_large": (
        "With this change the record would be larger than the server keeps.",
        "Spread it over several records."),
    "push_too_large": (
        "The push is too much at once, for its records' sizes or the rules' time.",
        "Send this change again in a push with fewer others."),
    "rule_refused": (
        "A rule of the application does not take this change.",
        "Correct what the text says, of the field that `field` names; then send it again."),
    "rule_failed": (
        "A rule of the application failed, or did not end in time.",
        "Tell the operator, whose log names it; then send it again."),
    "schema_too_new": (
        "This change has a newer schema version than the server takes.",
        "Ask the operator to raise SYNCD_MAX_SCHEMA_VERSION, then send it again."),
    "change_id_reused": (
        "This changeId was used for another change or restore of this device.",
        "Send it under a new changeId."),
    "record_forgotten": (
        "The record was erased, or may have been deleted so long ago that it is forgotten.",
        "Write it as a new record if it is wanted."),
    "too_many_names": (
        "You have made as many names (of devices, tables, apps, members) as one may.",
        "Use those that there are, or ask the operator to raise SYNCD_MAX_NAMES."),
    "atomic_rejected": (
        "At least one change may not be written, so none was.",
        "Correct or leave out the changes that `errors` points to."),
    "conflict": (
        "A space with this id exists already.",
        "Choose another id, or leave it out."),
    "last_owner": (
        "The last owner of a space can neither leave nor get a lower role.",
        "Make somebody else an owner first."),
    "limit_reached": (
        "You have as many spaces, or blocks, as one user may.",
        "Leave, delete or unblock one first."),
    "member_refused": (
        "This user takes no more spaces, or none from you.",
        "Ask them to leave one, or another owner to add them."),
    "invitation_not_found": (
        "There is no such invitation, or it was withdrawn.",
        "Ask an owner of the space to invite you."),
    "managed_elsewhere": (
        "Memberships come from outside this server.",
        "Change them there."),
    "quota_exceeded": (
        "A quota is used up; `quota` names it. Nothing of this was written.",
        "Delete what is not needed, or ask the operator for more; then send it again."),
    "record_not_found": (
        "There is no such record, or there was none at that moment.",
        "Check table, id and space, or ask for another moment."),
    "history_gone": (
        "The log does not reach back to that moment, or not in one request.",
        "Ask for a later one."),
    "restore_too_large": (
        "The restore would write more than one push may.",
        "Restore to a later moment, or the records one by one."),
    "cursor_lost": (
        "The log cannot go on from this cursor: the database was restored, or the device was away too long.",
        "Start again from \"\" and keep what was not pushed yet."),
    "device_copied": (
        "Another copy of this device's store has pushed under its client id since.",
        "Take a new client id, and send under it what was not pushed yet."),
    "digest_behind": (
        "The cursor is not at the end of the log.",
        "Pull, and compare again."),
    "too_slow": (
        "The request came too slowly, or stood still. Nothing was written.",
        "Send it again, in smaller parts."),
    "too_many_requests": (
        "More requests, connections or frames than one user or address may have.",
        "Wait, then try again."),
    "held_full": (
        "As many changes of yours are held as may be. Nothing was written.",
        "Ask the operator to look at `syncd held list`, then send it again."),
    "busy": (
        "The server is busy. Nothing was written.",
        "Try again."),
    "database_unavailable": (
        "The database cannot be reached. What you sent may have been written.",
        "Send the same again."),
    "memberships_unavailable": (
        "The membership service cannot be reached: nothing can be allowed.",
        "Try again."),
    "keys_unavailable": (
        "The identity provider's keys cannot be fetched: no token can be checked.",
        "Try again."),
    "numbers_used_up": (
        "No number is left for a new name or space. Nothing was written.",
        "Tell the operator, whom `syncd doctor` tells more. What needs no new name goes on."),
    "internal": (
        "Something went wrong on the server, and was logged.",
        "Try again, and tell the operator if it stays."),
    "invalid_message": (
        "The frame is no message of the protocol.",
        "Send text frames, each one JSON object with a known `type`."),
    "state_too_large": (
        "The presence state is larger than the server takes.",
        "Make it smaller."),
    "auth_timeout": (
        "The `auth` frame did not come in time.",
        "Connect again."),
    "restarting": (
        "The server is restarting.",
        "Connect again, after a random pause."),
    "invalid_write": (
        "The server would refuse this write, so it was not taken.",
        "Correct the value."),
    "invalid_query": (
        "The query cannot be answered.",
        "Correct the operator or its operand."),
    "batch_too_large": (
        "A batch is pushed whole, so it must fit one push. Nothing was written.",
        "Split it into smaller batches, or raise the client's limits with the server's."),
    "no_such_record": (
        "There is no such record on this device.",
        "Put it first, check its id and space, or write it with `upsert`."),
    "duplicate_key": (
        "A record of that id is on the device, so no item of it can be inserted.",
        "Update it instead, or insert it with an id of its own."),
    "no_such_change": (
        "No refused or set-aside change has this id.",
        "It may have been sent, fixed or dropped meanwhile: list them again."),
    "wrong_replica": (
        "The store belongs to another app, device or user, or to a newer version.",
        "Open another one: a store is one device of one user in one app."),
    "not_connected": (
        "The replica was opened without an address to sync with.",
        "Open it with url and token."),
    "sync_busy": (
        "Somebody else is syncing this store.",
        "It pushes everybody's writes, so there is nothing to do but to try again later."),
    "closed": (
        "The replica or its live sync was closed.",
        "Open it again."),
    "no_crypto": (
        "Browsers hash only for pages that came over HTTPS or from localhost.",
        "Serve the page over HTTPS."),
    "storage_full": (
        "The device has no room left. Nothing of the write was kept.",
        "Free some room, then write again."),
    "store_failed": (
        "The device's store failed. Nothing of the write was kept.",
        "Try again; open the replica again if it stays."),
    "commit_unknown": (
        "Nobody knows whether the write is kept: the store did not end in time.",
        "Look whether it is there once the store answers again, before you write it again."),
    "store_lost": (
        "The browser evicted the store.",
        "It is opened and filled again by itself."),
    "rejected": (
        "The server refused the change and gave no code.",
        "Fix it, or drop it."),
    "batch_rejected": (
        "The change goes together with another one that was refused.",
        "Fix that one; the batch is sent as a whole."),
    "space_left": (
        "The space was left before this was sent.",
        "Move the change to another space, keep a copy of it, or drop it."),
    "refused": (
        "The server refused a request as a whole.",
        "Read the code that it gave."),
    "not_replicated": (
        "This is not kept in this replica.",
        "Name its space and table where the replica is opened."),
    "offline": (
        "The server cannot be reached, or its answer did not arrive whole.",
        "The writes wait in the outbox; sync again later."),
    "bad_reply": (
        "The answer is not of the protocol. Nothing of it was applied.",
        "Check that url is a syncd server and not a page in front of it."),
    "bad_token": (
        "The token holds what no header can carry.",
        "Give the token itself, and no more."),
    "no_token": (
        "The application gave no token, or not in time.",
        "Make it return a token."),
    "callback_timeout": (
        "A function of the application did not answer in time.",
        "Make it answer, or raise."),
    "connection_lost": (
        "The connection was lost.",
        "It is made again by itself."),
    "closing": (
        "The server closed the connection.",
        "It is made again by itself."),
    "open_timeout": (
        "The connection could not be opened in time.",
        "It is tried again by itself."),
    "no_answer": (
        "The server did not answer in time.",
        "It is asked again by itself."),
    "no_socket": (
        "Sockets are blocked on the way to the server.",
        "It is polled instead; let proxies pass WebSockets on."),
    "restarted": (
        "Everything is asked for again, because the cursor was lost.",
        "It goes on by itself."),
    "error": (
        "The server said that something is wrong and gave no code.",
        "Try again later."),
}
