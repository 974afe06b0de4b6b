"""Ids: 1 to 255 characters, none of them a control character."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.ids import MAX_ID, STEPS, fault_in_id, fault_in_name, fault_in_user

harmless = st.characters(exclude_categories=["Cc", "Cs"])


@given(st.text(harmless, min_size=1, max_size=MAX_ID))
def test_any_text_without_control_characters_is_an_id(text: str) -> None:
    assert fault_in_id(text) is None or text in STEPS


@given(st.text(min_size=1, max_size=20))
def test_a_control_character_or_half_a_surrogate_is_refused(text: str) -> None:
    bad = any(unicodedata.category(character) in ("Cc", "Cs") for character in text) or text in STEPS
    assert (fault_in_id(text) is not None) == bad


@pytest.mark.parametrize("character", ["\x00", "\x01", "\t", "\n", "\x1f", "\x7f", "\x80", "\x9f", "\ud800"])
def test_it_is_refused_at_every_place(character: str) -> None:
    for text in (character, f"{character}a", f"a{character}", f"a{character}b"):
        assert fault_in_id(text) == "must not contain control characters"


@pytest.mark.parametrize("text", [".", ".."])
def test_a_step_is_no_id_though_a_name_may_be_one(text: str) -> None:
    assert fault_in_id(text) == f"must not be {text}, which addresses lose on their way"
    assert fault_in_name(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a,b",
        "a/b",
        "_personal:x",
        "é",
        "\U0001f600",
        "\u2028",
        " ",
        "%2F",
        "%2e%2e",
        "...",
        "..a",
        "a..",
        ".a",
        "'; --",
        "\u200b",
    ],
)
def test_what_only_looks_odd_is_an_id(text: str) -> None:
    assert fault_in_id(text) is None


@pytest.mark.parametrize(
    "text",
    [" ann", "ann ", "\u3000ann", "ann\u00a0", "a\u200bnn", "a\u200dnn", "\u202eann", "a\u2066nn", "ann\ufeff",
     "a\u00adnn", "a\u2060nn", "ann\U000e0041", "an\u00a0n", "ann\ufe0f", "ann\U000e0100", "an\u2009n", "an\u2800n"],
)  # fmt: skip
def test_users_are_told_apart_by_what_is_seen(text: str) -> None:
    assert fault_in_id(text) is None
    assert fault_in_user(text) in (
        "must not begin or end with a space",
        "must not contain characters that cannot be seen",
    )


@pytest.mark.parametrize(
    "text", ["ann", "a nn", "é", "\U0001f600", "אבג", "عنّا", "कखग", "安", "auth0|5f7c", "a@b.example"]
)
def test_users_have_names_in_all_scripts(text: str) -> None:
    assert fault_in_user(text) is None


def test_length_is_counted_in_characters() -> None:
    assert fault_in_id("") == "must not be empty"
    assert fault_in_id("\U0001f600" * 255) is None
    assert fault_in_id("a" * 256) == "must not be longer than 255 characters"
