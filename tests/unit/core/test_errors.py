"""An error says what the table says of its code, unless it knows better."""

from __future__ import annotations

import pytest

from syncd.core import errors
from syncd.core.error_codes import ERROR_CODES
from syncd.core.errors import (
    UNBELIEVED,
    Busy,
    Fault,
    Malformed,
    MethodNotAllowed,
    QuotaExceeded,
    SyncdError,
    Unauthorized,
)

WITH_ARGUMENTS = (MethodNotAllowed, QuotaExceeded)
CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SyncdError)]
WAITS = next(code for code, row in ERROR_CODES.items() if row.retry_after)


@pytest.mark.parametrize("kind", [kind for kind in CLASSES if kind not in WITH_ARGUMENTS])
def test_an_error_says_what_the_table_says_of_its_code(kind: type[SyncdError]) -> None:
    row, error = ERROR_CODES[kind.code], kind()
    assert (error.code, error.detail, error.retry_after, error.faults) == (kind.code, row.text, row.retry_after, ())
    assert str(error) == row.text


def test_what_is_known_better_is_said_instead() -> None:
    fault = Fault("/a", "is wrong")
    error = Malformed("Not so.", code=WAITS, faults=(fault,), retry_after=9)
    assert (error.code, error.detail, error.retry_after, error.faults) == (WAITS, "Not so.", 9, (fault,))
    assert str(error) == "Not so."
    assert Malformed(code=WAITS).detail == ERROR_CODES[WAITS].text


def test_a_time_to_wait_is_the_table_s_unless_one_is_given_and_none_at_all_is_one() -> None:
    assert SyncdError(code=WAITS).retry_after == ERROR_CODES[WAITS].retry_after
    assert SyncdError(code=WAITS, retry_after=0).retry_after == 0
    assert Busy(retry_after=1).retry_after == 1


def test_a_place_at_fault_says_a_code_where_it_has_one() -> None:
    assert Fault("/a", "is wrong").wire() == {"pointer": "/a", "detail": "is wrong"}
    assert Fault("/a", "is wrong", "too_new").wire() == {"pointer": "/a", "detail": "is wrong", "code": "too_new"}


@pytest.mark.parametrize("reason", UNBELIEVED)
def test_a_token_that_is_not_believed_is_told_why(reason: str) -> None:
    refused = Unauthorized.because(reason)
    assert (refused.code, refused.reason, refused.detail) == ("unauthorized", reason, UNBELIEVED[reason])
    assert Unauthorized().reason is None


def test_an_address_says_which_methods_it_answers() -> None:
    error = MethodNotAllowed("GET, PUT")
    assert (error.allowed, error.detail, error.code) == (
        "GET, PUT",
        "This address answers GET, PUT.",
        "method_not_allowed",
    )


def test_a_quota_that_is_used_up_is_named() -> None:
    error = QuotaExceeded("bytes", "Too much.")
    assert (error.quota, error.detail, error.code) == ("bytes", "Too much.", "quota_exceeded")
    assert (QuotaExceeded().quota, QuotaExceeded().detail) == ("", ERROR_CODES["quota_exceeded"].text)
