"""What a worker keeps of pages that many ask for: what is named, what makes room, and how an answer is opened."""

from __future__ import annotations

import json

from syncd.core.shared_text import SharedText
from syncd.store.shared_pages import KEPT_FOR, MOST_NAMED, MOST_SEEN, UNUSED_FOR, SharedPages


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def twice(pages: SharedPages, body: bytes, app: str = "app") -> bytes:
    """A page that two devices are sent, after which it is kept."""
    pages.offer(app).opened(body)
    return pages.offer(app).opened(body)


def new(key: str, text: str, version: str = "v1", cut: int = 7) -> bytes:
    size = len(text.encode())
    return f"\x02{json.dumps([key, version, cut, size])}\x02{text}".encode()


def test_a_page_that_two_are_sent_is_kept_and_its_text_is_that_of_the_answer() -> None:
    pages = SharedPages()
    assert pages.offer("app").opened(new("k", '{"a":"ä"}')) == '{"a":"ä"}'.encode()
    assert pages.offer("app").known() == {}
    pages.offer("app").opened(new("k", "of another version", "v0"))
    assert pages.offer("app").opened(new("k", '{"a":"ä"}')) == '{"a":"ä"}'.encode()
    assert pages.offer("app").known() == {"k": ["v1", 7, 10, 0]}
    assert pages.offer("other").known() == {}


def test_a_page_that_is_named_is_put_where_its_number_is() -> None:
    pages = SharedPages()
    twice(pages, new("j", "J"))
    twice(pages, new("k", "K"))
    offer = pages.offer("app")
    number = offer.known()["j"][-1]
    assert offer.opened(f"\x01{number}\x01".encode()) == b"J"
    twice(pages, new("l", "LL"))
    body = f'{{"x":1}},\x01{number}\x01,'.encode() + new("l", "LL") + b',{"y":2}'
    assert offer.opened(body) == b'{"x":1},J,LL,{"y":2}'
    assert pages.offer("app").known()["l"][2] == 2
    assert (pages.hits, pages.bytes) == (2, 4)


def test_an_answer_without_pages_is_as_it_came() -> None:
    body = b'{"x":"\\u0001"}'
    assert SharedPages().offer("app").opened(body) is body


def test_a_page_that_went_meanwhile_is_still_that_of_the_call_which_named_it() -> None:
    pages, offered = SharedPages(most=10), []
    twice(pages, new("k", "K" * 10))
    offered.append(pages.offer("app"))
    pages.offer("app").opened(new("k", "N" * 10, "v2"))
    assert offered[0].opened(b"\x010\x01") == b"K" * 10
    assert pages.offer("app").known() == {"k": ["v2", 7, 10, 0]}


def test_what_is_asked_for_stays_and_what_is_not_makes_room() -> None:
    clock = Clock()
    pages = SharedPages(most=10, now=clock)
    twice(pages, new("old", "O" * 6))
    clock.now += UNUSED_FOR / 2
    offer = pages.offer("app")
    offer.opened(b"\x010\x01")
    twice(pages, new("new", "N" * 6))
    assert list(pages.offer("app").known()) == ["old"]
    clock.now += UNUSED_FOR + 1
    twice(pages, new("new", "N" * 6))
    assert (list(pages.offer("app").known()), pages.bytes) == (["new"], 6)


def test_a_page_is_made_again_after_a_while_however_often_it_is_asked_for() -> None:
    clock = Clock()
    pages = SharedPages(now=clock)
    twice(pages, new("k", "K"))
    for _ in range(int(KEPT_FOR / 20)):
        clock.now += 20
        pages.offer("app").opened(b"\x010\x01")
    clock.now += 1
    assert (pages.offer("app").known(), pages.bytes) == ({}, 0)


def test_a_page_larger_than_all_the_room_is_not_kept() -> None:
    pages = SharedPages(most=10)
    assert twice(pages, new("k", "K" * 11)) == b"K" * 11
    assert (pages.offer("app").known(), pages.bytes) == ({}, 0)


def test_a_call_names_those_that_were_used_last() -> None:
    pages = SharedPages()
    for n in range(MOST_NAMED + 5):
        twice(pages, new(f"k{n}", "K"))
    known = pages.offer("app").known()
    assert list(known) == [f"k{n}" for n in reversed(range(5, MOST_NAMED + 5))]
    assert [entry[-1] for entry in known.values()] == list(range(MOST_NAMED))


def test_what_a_page_was_packed_to_counts() -> None:
    pages = SharedPages(most=20)
    text = twice(pages, new("k", "K" * 10))
    assert pages.bytes == 10
    assert isinstance(text, SharedText)
    text.form("zstd", lambda whole: whole[:6])
    assert pages.bytes == 16
    twice(pages, new("l", "L" * 5))
    assert list(pages.offer("app").known()) == ["k"]


def test_pages_that_each_is_asked_for_once_are_not_kept_and_not_counted_without_end() -> None:
    pages = SharedPages()
    for n in range(MOST_SEEN + 100):
        pages.offer("app").opened(new(f"k{n}", "K"))
    assert pages.bytes == 0
    pages.offer("app").opened(new("k0", "K"))  # forgotten meanwhile
    assert pages.bytes == 0
    pages.offer("app").opened(new(f"k{MOST_SEEN + 99}", "K"))
    assert pages.bytes == 1
