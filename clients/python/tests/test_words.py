"""Pages in words: tests/vectors/words.json, as TypeScript has them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from syncd_client.data.words import spelled
from syncd_client.errors import BadReply
from syncd_client.sync.reply import read_page

from tests.support.vectors import vectors

WORDS = vectors("words")


def named(cases: list[Any]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


@named(WORDS["pages"])
def test_a_page_in_words_is_the_page_that_it_stands_for(case: Any) -> None:
    page = case["page"].encode()
    assert json.loads(spelled(page)) == case["json"]
    assert read_page(page, ()) == read_page(json.dumps(case["json"]).encode(), ())


@named(WORDS["damaged"])
def test_a_damaged_one_is_refused_whole(case: Any) -> None:
    with pytest.raises(BadReply):
        read_page(case["page"].encode(), ())


def test_a_page_without_words_is_not_touched() -> None:
    page = b'{"syncedUntil": "c1"}'
    assert spelled(page) is page
