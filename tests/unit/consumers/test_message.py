"""What a webhook sends: which changes, in which words, and its signature."""

from __future__ import annotations

import pytest

from syncd.consumers.batch import ConsumerBatch
from syncd.consumers.message import WebhookMessage, headers, message, secret_of, secret_text, wanted
from syncd.store.consumers import ReadPart, WaitingFeed
from syncd.store.webhooks import Webhook

FEED = WaitingFeed(1, 1, 0, 1, 4, -1, 0, 9, "garden", "notes")
CHANGE = (
    b'{"appId":"notes","userId":"ada","createdAt":"2026-11-29T12:00:00.000000Z","eventId":"e","seq":%d,"table":"pages",'
    b'"id":"p1","op":"%s","spaceId":"garden","clientId":"phone","fields":{"%s":{"value":1,"at":"x"}}}'
)


def batch(*changes: tuple[bytes, bytes], reset: str | None = None) -> ConsumerBatch:
    body = b"\x1e".join(CHANGE % (seq, op, field) for seq, (op, field) in enumerate(changes, 5))
    return ConsumerBatch(None, [FEED], [ReadPart(1, 9, -1, reset, body or None)])  # type: ignore[arg-type]


def webhook(**how: object) -> Webhook:
    plain = Webhook("crm", "https://x", b"k" * 32, None, None, None, None, False, "active", None, None, None)
    return plain._replace(**how)  # type: ignore[arg-type]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Their own example."""
    key = secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    one = WebhookMessage("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    signed = headers(key, one, 1614265330)
    assert signed["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert secret_text(key) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize("text", ["", "whsec_", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_a!", "whsec_c2hvcnQ="])
def test_what_is_no_secret_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whsec_"):
        secret_of(text)


def test_changes_are_chosen_by_operation_and_field() -> None:
    some = batch((b"insert", b"title"), (b"update", b"order"), (b"delete", b"deletedAt")).changes
    assert [c.seq for c in wanted(webhook(), some)] == [5, 6, 7]
    assert [c.seq for c in wanted(webhook(ops=["update", "delete"]), some)] == [6, 7]
    assert [c.seq for c in wanted(webhook(fields=["title"]), some)] == [5, 7]


def test_a_message_has_an_id_of_its_own_and_the_same_again() -> None:
    one = message(webhook(), batch((b"insert", b"title")), "now")
    again = message(webhook(), batch((b"insert", b"title")), "later")
    assert one is not None
    assert again is not None
    assert one.id == again.id
    assert message(webhook(name="other"), batch((b"insert", b"title")), "now") != one
    assert message(webhook(ops=["delete"]), batch((b"insert", b"title")), "now") is None


def test_a_feed_that_starts_again_is_told() -> None:
    one = message(webhook(ops=["delete"]), batch(reset="all"), "now")
    assert one is not None
    assert b'"whole": true' in one.body
