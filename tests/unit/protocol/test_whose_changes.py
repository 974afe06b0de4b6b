"""What a revert's `actor` may be."""

from __future__ import annotations

import json

import pytest

from syncd.protocol.whose_changes import whose_changes

WRONG = [
    {"run": ["1"]}, {"run": {"n": 1}}, {"reverted": {"run": []}}, {"reverted": {}},
    {"reverted": {"reverted": {"run": 1}}}, {str(n): n for n in range(11)}, {"run": "x" * 4096}, {}, [], None, 1,
]  # fmt: skip


@pytest.mark.parametrize("actor", WRONG)
def test_what_is_not_flat_or_long_is_refused(actor: object) -> None:
    with pytest.raises(ValueError, match="must "):
        whose_changes(json.dumps(actor))


LOST = [
    "0.10000000000000000001", "1e400", "1e-400", "9007199254740993", "-18446744073709551616", "1e99999999999999999999"
]  # fmt: skip


@pytest.mark.parametrize("number", LOST)
def test_a_number_that_a_double_does_not_keep_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match="double"):
        whose_changes(f'{{"run": {number}}}')


def test_what_names_a_run_comes_through_as_it_is() -> None:
    run = {"agent": "tidy", "n": 2**53, "x": 0.1, "y": -1e300, "yes": True, "no": None}
    for actor in (run, {"reverted": run, "after": 3}, {"reverted": "x"}):
        assert whose_changes(json.dumps(actor)) == actor
