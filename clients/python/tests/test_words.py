"""Pages in words: tests/vectors/words.json, as TypeScript has them."""

from __future__ import annotations

import json
import tracemalloc
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


END = '"],"syncedUntil":"c1"}'


def test_words_are_put_once() -> None:
    page = (
        '{"serverChanges":["\x04=a\x04\x05=\x06' + "\x06" * 100 + "\x05\x06=" + "x" * 100 + "\x06" + "\x05" * 200 + END
    )
    assert len(spelled(page.encode())) < 1000
    with pytest.raises(BadReply):
        read_page(page.encode(), ())


@pytest.mark.parametrize("signs", ["\x04", "\x04\x05"])
def test_what_stands_for_a_bomb_is_refused_and_never_made(signs: str) -> None:
    said = "".join(f"{sign}={'x' * 100_000}{sign}" for sign in signs)
    page = ('{"serverChanges":["' + said + signs * 100_000 + END).encode()
    tracemalloc.start()
    with pytest.raises(BadReply) as refused:
        read_page(page, ())
    assert tracemalloc.get_traced_memory()[1] < 260 * len(page)
    tracemalloc.stop()
    assert refused.value.garbled


def test_a_page_may_stand_for_ninety_times_itself() -> None:
    page = '{"x":"\x04=' + "x" * 1000 + "\x04" + ("\x04" + "y" * 9) * 100_000 + '","syncedUntil":"c1"}'
    assert len(read_page(page.encode(), ()).changes) == 0
    assert len(spelled(page.encode())) > 90 * len(page)


def test_a_page_without_words_is_not_touched() -> None:
    page = b'{"syncedUntil": "c1"}'
    assert spelled(page) is page
