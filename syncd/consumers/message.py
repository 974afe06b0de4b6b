"""What a webhook sends: which changes, in words that a person can read, and the signature of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.consumers.batch import ConsumedChange, ConsumerBatch
from syncd.store.webhooks import Webhook

PREFIX, VERSION = "whsec_", "v1"
SECRET_BYTES = 32


class WebhookMessage(NamedTuple):
    """A body and its id, which is the same in each attempt, so that a receiver knows one that comes twice."""

    id: str
    body: bytes


def wanted(webhook: Webhook, changes: Sequence[ConsumedChange]) -> list[ConsumedChange]:
    """Those changes that a webhook is for: of its operations, and that wrote one of its fields. A deletion and a whole
    record say nothing of single fields, and pass."""
    ops, fields = webhook.ops, set(webhook.fields or ())
    return [
        change
        for change in changes
        if (ops is None or change.op in ops)
        and (not fields or change.op == "delete" or change.state or fields & change.fields.keys())
    ]


def message(webhook: Webhook, batch: ConsumerBatch, now: str) -> WebhookMessage | None:
    """The message of a batch; None: there is nothing in it for this webhook. `now`: an instant."""
    changes = wanted(webhook, batch.changes)
    if not changes and not batch.reset:
        return None
    resets = [{"space": space, "app": app, "whole": whole} for space, app, whole in batch.reset]
    data: dict[str, Any] = {"webhook": webhook.name, "changes": [_readable(change) for change in changes]}
    if resets:
        data["resets"] = resets
    body = msgspec.json.format(msgspec.json.encode({"type": "syncd.changes", "timestamp": now, "data": data}), indent=1)
    return WebhookMessage(f"msg_{_digest(webhook.name, batch)}", body)


def _digest(name: str, batch: ConsumerBatch) -> str:
    places = [(name, place.feed.space_id, place.feed.app, place.feed.seq, place.upto) for place in batch.places]
    return hashlib.sha256(msgspec.json.encode(places)).hexdigest()[:32]


def _readable(change: ConsumedChange) -> dict[str, Any]:
    told: dict[str, Any] = {
        "app": change.app_id, "table": change.table, "id": change.id, "op": change.op, "space": change.space_id,
        "user": change.user_id, "device": change.client_id, "at": change.created_at, "seq": change.seq,
        "eventId": change.event_id, "values": change.values,
    }  # fmt: skip
    if change.state:
        told["state"] = True
    return told


def secret_of(text: str) -> bytes:
    """The key in `whsec_…`. Raises ValueError for what is none."""
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except ValueError:
        raise ValueError("a secret is `whsec_` and base64") from None
    if not text.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("a secret is `whsec_` and 24 to 64 bytes in base64")
    return key


def secret_text(key: bytes) -> str:
    """A key as its receiver is given it."""
    return PREFIX + base64.b64encode(key).decode()


def headers(key: bytes, one: WebhookMessage, seconds: int) -> dict[str, str]:
    """The headers of an attempt, signed at a time."""
    signed = hmac.digest(key, f"{one.id}.{seconds}.".encode() + one.body, "sha256")
    return {
        "content-type": "application/json",
        "user-agent": "syncd-webhooks",
        "webhook-id": one.id,
        "webhook-timestamp": str(seconds),
        "webhook-signature": f"{VERSION},{base64.b64encode(signed).decode()}",
    }
