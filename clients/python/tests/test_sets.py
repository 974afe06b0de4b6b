"""Sets in a record: the cases of tests/vectors/sets.json, as TypeScript has them, and two devices that were apart."""

from __future__ import annotations

from typing import Any

import pytest
from syncd_client import InvalidWrite
from syncd_client.sets import adding, members, removing

from tests.support.vectors import vectors

CASES = vectors("sets")


@pytest.mark.parametrize("case", CASES["changes"], ids=lambda case: case["name"])
def test_the_fields_that_change_a_set(case: Any) -> None:
    assert adding(case["set"], *case["add"]) | removing(case["set"], *case["remove"]) == case["expect"]


@pytest.mark.parametrize("case", CASES["members"], ids=lambda case: case["name"])
def test_the_members_of_a_set(case: Any) -> None:
    assert members(case["fields"], case["set"]) == case["expect"]


@pytest.mark.parametrize("change", [adding, removing])
@pytest.mark.parametrize("case", CASES["refused"], ids=ascii)
def test_what_cannot_be_a_member_is_refused(change: Any, case: Any) -> None:
    with pytest.raises(InvalidWrite):
        change(case["set"], case["member"])


def test_what_is_no_name_of_a_set_is_not_read() -> None:
    with pytest.raises(InvalidWrite):
        members({}, "a:b")
