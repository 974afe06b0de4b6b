"""The frames that live connections are sent: each is made here, and what several get is made once. Pure."""

from __future__ import annotations

from collections.abc import Container

from syncd.core.errors import SyncdError
from syncd.live.batch import EVENT_ID, Batch
from syncd.live.connection import Subscription
from syncd.protocol import live_messages
from syncd.protocol.live_messages import sync_available as available
from syncd.protocol.pull_messages import PullRequest

__all__ = ["available", "changes", "presence", "refusal"]


def changes(subscription: Subscription, batch: Batch, after: int) -> bytes | None:
    """The start of a frame with what a subscription takes of a batch after a seq, without what the connection wrote
    itself; None where the device is sent nothing. The subscription's cursor follows, between TAIL and END."""
    connection, request = subscription.connection, subscription.request
    if batch.whole:
        connection.own = None
    if after == batch.after and connection.own is None:
        name = (request.plain, request.tables)
        head = batch.made.get(name)
        if head is None:
            head = batch.made[name] = _chosen(request, batch, after, ())
    else:
        head = _chosen(request, batch, after, connection.own or ())
        if connection.own is not None:
            connection.forget_own(change.text[EVENT_ID] for change in batch.changes(False))
    if head or request.tables:
        return head or None
    return live_messages.changes_head(request.app)


def _chosen(request: PullRequest, batch: Batch, after: int, own: Container[bytes]) -> bytes:
    """The start of a frame with what a listener takes of a batch; empty where that is nothing."""
    chosen = batch.selection(request.plain, request.tables, after=after if after > batch.after else None, own=own)
    return live_messages.changes_head(request.app) + b",".join([change.text for change in chosen]) if chosen else b""


def refusal(subscription: Subscription, why: SyncdError) -> bytes:
    """Tells a device that its subscription cannot be, or not now."""
    return live_messages.error(why.code, why.detail, appId=subscription.request.app)


def presence(space_id: str, user: str, client: str, state: str) -> bytes:
    """What a device says about its user in a space; `state` is JSON text."""
    return live_messages.presence(space_id, user, client, state.encode())
