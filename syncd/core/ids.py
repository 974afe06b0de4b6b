"""Ids: apps, tables, records, spaces, users, clients, fields, change ids. Pure."""

from __future__ import annotations

import re

MAX_ID = 255
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


# In an address these are steps, not names: clients and proxies take them out, percent-encoded or not, so that a request
# for one thing arrives as a request for another (/spaces/x/members/.. as /spaces/x).
STEPS = (".", "..")


def fault_in_id(text: str) -> str | None:
    """What is wrong with an id, or None: 1 to 255 characters, none of them a control character, and not `.` or `..`."""
    if text in STEPS:
        return f"must not be {text}, which addresses lose on their way"
    # What nearly all are, without a second call: this is asked for every field of a push.
    return None if 0 < len(text) <= MAX_ID and text.isprintable() else fault_in_name(text)


# Ids in which the server writes on behalf of a device (sync_server_for in schema/functions/restore.sql).
SERVERS = "_server:"


# How users are called in the log once they were erased (sync_erase_begin in schema/functions/erase_begin.sql).
ERASED = "_erased:"


# Users that are services, which show tokens of their own (sync_service_user in schema/functions/services.sql).
SERVICES = "_service:"


def fault_in_client(text: str) -> str | None:
    """What is wrong with a device's id, or None: it is an id, and none that the server writes under."""
    if text.startswith(SERVERS):
        return f"must not begin with {SERVERS}, under which the server writes"
    return fault_in_id(text)


# What has no width, and what turns the direction of what follows.
_UNSEEN = re.compile(
    # variation selectors, signs without a form, and spaces that look like the ordinary one
    "[\ufe00-\ufe0f\U000e0100-\U000e01ef\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u2800"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def fault_in_user(text: str) -> str | None:
    """What is wrong with the id of a user or of a new space, or None: as an id, and two of them never look the same
    because of what cannot be seen. (Ids of what is in a space are of the application's making, and nobody reads them.)
    Nobody comes as a user who was erased.
    """
    if wrong := fault_in_id(text):
        return wrong
    if text.startswith(ERASED):
        return f"must not begin with {ERASED}, by which those are called who were erased"
    if text != text.strip():
        return "must not begin or end with a space"
    if not text.isascii() and _UNSEEN.search(text):
        return "must not contain characters that cannot be seen"
    return None


def fault_in_name(text: str) -> str | None:
    """What is wrong with a name that people read, or None: as an id, and dots will do."""
    if not text:
        return "must not be empty"
    if len(text) > MAX_ID:
        return f"must not be longer than {MAX_ID} characters"
    if not text.isprintable() and _CONTROL.search(text):
        return "must not contain control characters"
    return None
