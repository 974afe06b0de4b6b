"""How a function becomes a rule, and what is none."""

from __future__ import annotations

from typing import Any

import pytest

from syncd import rule
from syncd.service.rules import Rules, rules_of


def nothing(change: Any, record: Any, principal: Any) -> None:
    """A rule that takes all."""


def test_a_rule_is_for_the_tables_that_it_names() -> None:
    @rule("shop/orders")
    @rule("shop/bills", "other/*")
    def several(change: Any, record: Any, principal: Any) -> None: ...

    @rule("shop/*")
    def all_of_the_shop(change: Any, record: Any, principal: Any) -> None: ...

    rules = Rules([several, all_of_the_shop])
    assert rules.about("shop", "orders") == [several, all_of_the_shop]
    assert rules.about("shop", "bills") == [several, all_of_the_shop]
    assert rules.about("shop", "else") == [all_of_the_shop]
    assert rules.about("other", "any") == [several]
    assert rules.about("third", "orders") == []


@pytest.mark.parametrize("targets", [(), ("shop",), ("shop/",), ("/orders",), ("shop/orders", "sh\x00p/x")])
def test_a_target_that_names_no_table_is_refused(targets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="table"):
        rule(*targets)


def test_a_function_that_is_not_marked_is_no_rule() -> None:
    with pytest.raises(TypeError, match="is no rule"):
        Rules([nothing])


def test_a_module_without_rules_is_said_to_be_one() -> None:
    with pytest.raises(ValueError, match="has no rules"):
        rules_of("tests.support.wire")
    with pytest.raises(ImportError):
        rules_of("tests.support.no_such_module")
