"""A consumer's connections: the database ends what stands still, and pauses grow."""

from __future__ import annotations

from uuid import uuid4

from syncd.consumers.lines import ConsumerLine, StatementsKept, pause


def test_a_transaction_ends_with_the_lease() -> None:
    line = ConsumerLine("postgresql:///x", "c", uuid4(), 1.5, StatementsKept())
    assert line._settings["idle_in_transaction_session_timeout"] == "1500ms"
    assert line._settings["application_name"] == f"syncd consume {line._holder}"


def test_pauses_grow_up_to_a_bound() -> None:
    assert all(0.025 <= pause(0) <= 0.05 for _ in range(20))
    assert all(2.5 <= pause(1000) <= 5.0 for _ in range(20))
    assert len({pause(3) for _ in range(20)}) > 1
