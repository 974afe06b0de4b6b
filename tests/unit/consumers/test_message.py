"""What a webhook sends: which changes, in which words, and its signature."""

from __future__ import annotations

from uuid import UUID

import msgspec
import pytest

from syncd.consumers.batch import ConsumerBatch
from syncd.consumers.message import (
    MOST,
    MOST_KEPT,
    WebhookMessage,
    headers,
    messages,
    secret_of,
    secret_text,
    wanted,
)
from syncd.store.consumers import ReadPart, WaitingFeed
from syncd.store.webhooks import Webhook

FEED = WaitingFeed(1, 1, 0, 1, 4, -1, 0, 9, "garden", "notes")
CHANGE = (
    b'{"appId":"notes","userId":"ada","createdAt":"2026-11-29T12:00:00.000000Z","eventId":"e","seq":%d,"table":"pages",'
    b'"id":"p1","op":"%s","spaceId":"garden","clientId":"phone","fields":{"%s":{"value":%b,"at":"x"}}}'
)


def batch(*changes: tuple[bytes, bytes], reset: str | None = None, value: bytes = b"1") -> ConsumerBatch:
    body = b"\x1e".join(CHANGE % (seq, op, field, value) for seq, (op, field) in enumerate(changes, 5))
    return ConsumerBatch(None, [FEED], [ReadPart(1, 9, -1, reset, body or None, UUID(int=1))])  # type: ignore[arg-type]


def webhook(**how: object) -> Webhook:
    plain = Webhook("crm", "https://x", b"k" * 32, None, None, None, None, False, "active", None, None, None)
    return plain._replace(**how)  # type: ignore[arg-type]


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """Their own example."""
    key = secret_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    one = WebhookMessage("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', b"")
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
    [one] = messages(webhook(), batch((b"insert", b"title")), "now")
    [again] = messages(webhook(), batch((b"insert", b"title")), "later")
    assert one.id == again.id
    assert messages(webhook(name="other"), batch((b"insert", b"title")), "now") != [one]
    assert messages(webhook(ops=["delete"]), batch((b"insert", b"title")), "now") == []


def test_a_feed_that_starts_again_is_told() -> None:
    [one] = messages(webhook(ops=["delete"]), batch(reset="all"), "now")
    assert b'"whole": true' in one.body


def test_a_message_has_a_line_for_each_member_and_none_inside_a_value() -> None:
    """Values that are nested would be many times their size."""
    value = b"[" * 61 + b"1" + b",1" * 10_000 + b"]" * 61
    [one] = messages(webhook(), batch((b"update", b"deep"), value=value), "now")
    assert b'\n    "id": "p1",\n' in one.body
    assert b'\n     "deep": %b\n    }' % value in one.body
    assert len(one.body) < len(value) + 1000
    data = msgspec.json.decode(one.body)["data"]
    assert (data["webhook"], data["changes"][0]["id"]) == ("crm", "p1")


def test_what_is_large_goes_in_several_messages_of_one_change_at_least() -> None:
    value = b'"%b"' % (b"x" * 1_500_000)
    many = batch(*[(b"update", b"n")] * 7, reset="all", value=value)
    made = messages(webhook(), many, "now")
    told = [msgspec.json.decode(one.body)["data"] for one in made]
    assert [[change["seq"] for change in data["changes"]] for data in told] == [[5, 6], [7, 8], [9, 10], [11]]
    assert max(len(one.body) for one in made) < MOST
    assert ["resets" in data for data in told] == [True, False, False, False]
    assert len({one.id for one in made}) == 4
    assert [one.id for one in messages(webhook(), many, "later")] == [one.id for one in made]
    [alone] = messages(webhook(), batch((b"update", b"n"), value=b'"%b"' % (b"x" * MOST)), "now")
    assert alone.kept is alone.body


def test_what_is_too_large_to_keep_is_kept_without_values_and_says_so() -> None:
    [one] = messages(webhook(), batch((b"update", b"n"), value=b'"%b"' % (b"x" * MOST_KEPT)), "now")
    assert len(one.kept) < 1000
    [change] = msgspec.json.decode(one.kept)["data"]["changes"]
    assert (change["id"], change["values"], change["omitted"]) == ("p1", {}, True)
