"""How long a device waits before it tries again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from syncd_client import RetryPolicy
from syncd_client.sync.retry import parse_retry_after


@given(st.integers(1, 20), st.none() | st.floats(0, 1000), st.floats(0, 1, exclude_max=True))
def test_a_retry_waits_at_least_what_the_server_asked_and_gives_up_in_the_end(
    attempt: int, retry_after: float | None, chance: float
) -> None:
    policy = RetryPolicy(attempts=8, first=0.5, longest=4, patience=60)
    delay = policy.delay(attempt, retry_after, chance)
    if attempt >= 8 or (retry_after or 0) > 60:
        assert delay is None
    elif retry_after is None:
        assert delay is not None
        assert 0 <= delay <= min(4, 0.5 * 2 ** (attempt - 1))
    else:
        assert delay is not None
        assert retry_after <= delay <= retry_after + 0.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7), ("0", 0), ("Thu, 01 Jan 1970 00:01:40 GMT", 90), ("Thu, 01 Jan 1970 00:00:01 GMT", 0)]
    + [(text, None) for text in (None, "", "soon", "-1")],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after({} if text is None else {"retry-after": text}, 10.0) == seconds


@pytest.mark.parametrize(
    ("text", "date", "seconds"),
    [
        ("Tue, 01 Jan 2030 00:01:30 GMT", "Tue, 01 Jan 2030 00:00:00 GMT", 90),
        ("Tue, 01 Jan 2030 00:00:00 GMT", "Tue, 01 Jan 2030 00:01:30 GMT", 0),
        ("Tue Jan  1 00:01:30 2030", "Tuesday, 01-Jan-30 00:00:00 GMT", 90),
        ("7", "Tue, 01 Jan 2030 00:00:00 GMT", 7),
        ("Thu, 01 Jan 1970 00:01:40 GMT", "soon", 90),
        ("Thu Jan  1 00:01:40 1970", None, 90),
    ],
)
def test_a_retry_after_that_is_a_date_is_measured_from_the_answer_s_own_date(
    text: str, date: str | None, seconds: float
) -> None:
    dated = {} if date is None else {"date": date}
    assert parse_retry_after({"retry-after": text} | dated, 10.0) == seconds
