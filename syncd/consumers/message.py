"""What a webhook sends: which changes, in words that a person can read, and the signature of Standard Webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from syncd.consumers.batch import ConsumedChange, ConsumerBatch, ResetFeed
from syncd.store.webhooks import Webhook

_encode = msgspec.json.encode
PREFIX, VERSION = "whsec_", "v1"
SECRET_BYTES = 32


# Bytes of a message, but for one of a single change; and of one that is kept with its values where it is not taken.
MOST, MOST_KEPT = 4 << 20, 16 << 20


class WebhookMessage(NamedTuple):
    """A body and its id, which is the same in each attempt, so that a receiver knows one that comes twice. `kept`: the
    body where it is not taken, without values where those are too many. `last_erasure`: when it was read."""

    id: str
    body: bytes
    kept: bytes
    last_erasure: UUID | None = None


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


def messages(webhook: Webhook, batch: ConsumerBatch, now: str) -> list[WebhookMessage]:
    """The messages of a batch in their order, each of `MOST` bytes about; none where there is nothing in it for this
    webhook. `now`: an instant."""
    changes = wanted(webhook, batch.changes)
    if not changes and not batch.reset:
        return []
    digest, resets = _digest(webhook.name, batch), batch.reset
    made = list[WebhookMessage]()
    for part in _parts(changes):
        body = kept = _body(webhook, [text for _, text in part], resets, now)
        if len(body) > MOST_KEPT:
            kept = _body(webhook, [_text(change, omitted=True) for change, _ in part], resets, now)
        own = f"msg_{digest}_{len(made) + 1}" if made else f"msg_{digest}"
        made.append(WebhookMessage(own, body, kept, batch.last_erasure))
        resets = []
    return made


def _parts(changes: Sequence[ConsumedChange]) -> list[list[tuple[ConsumedChange, bytes]]]:
    """The changes with their texts, as many together as one message has. At least one part."""
    parts, size = [list[tuple[ConsumedChange, bytes]]()], 0
    for change in changes:
        text = _text(change)
        if parts[-1] and size + len(text) > MOST:
            parts.append([])
            size = 0
        parts[-1].append((change, text))
        size += len(text)
    return parts


def _body(webhook: Webhook, changes: Sequence[bytes], resets: Sequence[ResetFeed], now: str) -> bytes:
    told = [{"space": space, "app": app, "whole": whole} for space, app, whole in resets]
    data = {"webhook": _encode(webhook.name), "changes": _lines(b"[]", changes, 2)}
    if told:
        data["resets"] = _lines(b"[]", [_object({n: _encode(v) for n, v in one.items()}, 3) for one in told], 2)
    whole = {"type": _encode("syncd.changes"), "timestamp": _encode(now), "data": _object(data, 1)}
    return _object(whole, 0)


def _object(members: Mapping[str, bytes], depth: int) -> bytes:
    """JSON for a person, a line for each member. A value has no line breaks: they could be many times its size."""
    return _lines(b"{}", [b"%b: %b" % (_encode(name), text) for name, text in members.items()], depth)


def _lines(around: bytes, texts: Sequence[bytes], depth: int) -> bytes:
    if not texts:
        return around
    end = b"\n" + b" " * depth
    return around[:1] + b",".join(b"%b %b" % (end, text) for text in texts) + end + around[1:]


def _digest(name: str, batch: ConsumerBatch) -> str:
    places = [(name, place.feed.space_id, place.feed.app, place.feed.seq, place.upto) for place in batch.places]
    return hashlib.sha256(msgspec.json.encode(places)).hexdigest()[:32]


def _text(change: ConsumedChange, *, omitted: bool = False) -> bytes:
    """A change in a message; `omitted`: without its values, and it says so."""
    told: dict[str, Any] = {
        "app": change.app_id, "table": change.table, "id": change.id, "op": change.op, "space": change.space_id,
        "user": change.user_id, "device": change.client_id, "at": change.created_at, "seq": change.seq,
        "eventId": change.event_id,
    }  # fmt: skip
    members = {name: _encode(value) for name, value in told.items()}
    values = {} if omitted else {name: _encode(value) for name, value in change.values.items()}
    members["values"] = _object(values, 4)
    members |= {"omitted": b"true"} if omitted else {}
    members |= {"state": b"true"} if change.state else {}
    return _object(members, 3)


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
