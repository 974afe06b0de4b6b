"""A page in words is the page that others are sent, but for what it leaves out and the order of its members."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from syncd_client.data.words import spelled

from tests.store.test_shared_pages import Reader, fill
from tests.support.compacting import ALL, compact_now
from tests.support.drawn import drawn, examples
from tests.support.harness import Server
from tests.support.moving import Home, in_space, insert
from tests.support.wire import Device, Json, at, edit, unique
from tests.support.words import Crowd

Make = Callable[..., Device]


@pytest.fixture
def reader(server: Server) -> Reader:
    return Reader(server)


def changes(text: bytes) -> list[Json]:
    """The changes of a page as they are spelled, without what a page in words leaves out."""
    found: list[Json] = json.loads(b"[" + spelled(text) + b"]")
    for change in found:
        change.pop("eventId", None)
    return found


def both(reader: Reader, app: str, user: str, **how: object) -> list[Json]:
    """All that a new device is sent, which is the same in both forms, page by page."""
    found, since = list[Json](), None
    for _ in range(200):
        plain, words = reader.pull(app, user, since, **how), reader.pull(app, user, since, words=True, **how)
        assert changes(words.opened) == changes(plain.opened)
        assert (words.since, words.more) == (plain.since, plain.more)
        assert b"\x04=" not in plain.opened
        found, since = found + changes(words.opened), words.since
        if not words.more:
            return found
    raise AssertionError("it does not end")


@drawn
@pytest.mark.parametrize("turn", range(examples(3)))
def test_whatever_stands_in_records_both_forms_say_the_same(
    turn: int, server: Server, device: Make, reader: Reader
) -> None:
    seed = random.getrandbits(32)
    print(f"seed {seed} in turn {turn}")
    crowd = Crowd(device, random.Random(seed))
    crowd.write(400)
    for how in ({}, {"limit": 40}, {"bytes": 2000}, {"first": ["t3", "t0"], "limit": 50}, {"tables": ["t1", "t2"]}):
        found = both(reader, crowd.app, crowd.user, **how)
        assert len(found) > 40, seed
    compact_now(server.owner_dsn, crowd.space, tombstones=ALL)
    crowd.write(100)
    assert len(both(reader, crowd.app, crowd.user)) > 100, seed


@pytest.mark.parametrize("value", [{"k": {"at": "=1"}}, {"at": "=1"}, {"at": "=", "value": "="}], ids=json.dumps)
def test_a_text_that_begins_like_a_word_is_no_word(value: Json, device: Make, reader: Reader) -> None:
    ann = device(unique("ann"), app=unique("app"))
    for n in range(20):  # a page of one record, which is in words by the numbers that it has left
        ann.write(edit("=", n + 1, f=value, **{"=": value}))
    assert [change["fields"]["f"]["value"] for change in both(reader, ann.app, ann.user)] == [value]
    assert b"\x04=" in reader.pull(ann.app, ann.user, words=True).opened


def test_it_is_less_than_half_and_says_what_comes_again_once(device: Make, reader: Reader) -> None:
    ann = device(unique("ann"), "a-device-of-some-name", app=unique("app"))
    hall = ann.create(unique("hall"))
    fill(ann, hall)
    plain, words = (reader.pull(ann.app, ann.user, **how) for how in ({}, {"words": True}))
    assert words.opened.count(b"a-device-of-some-name") == words.opened.count(hall.encode()) == 1
    assert words.opened.count(b'"t"') == 1
    assert len(words.opened) < 0.55 * len(plain.opened)  # of which 250 bytes of each record are values


def test_what_others_are_sent_is_shared_by_those_of_one_form_alone(device: Make, reader: Reader) -> None:
    ann = device(unique("ann"), app=unique("app"))
    fill(ann, ann.create(unique("hall")))
    answers = [reader.pull(ann.app, ann.user, **how) for how in ({}, {"words": True}) for _ in range(3)]
    assert [answer.body[:1] for answer in answers] == [b"\x02", b"\x02", b"\x01"] * 2
    assert answers[2].opened == answers[0].opened
    assert answers[5].opened == answers[3].opened
    assert b"\x04=" in answers[5].opened


def test_a_few_records_are_not_worth_words(device: Make, reader: Reader) -> None:
    ann = device(unique("ann"), app=unique("app"))
    ann.write(*(edit(f"r{n}", v=n) for n in range(9)))
    plain, words = (reader.pull(ann.app, ann.user, **how) for how in ({}, {"words": True}))
    assert words.opened == plain.opened
    assert len(words.ids) == 9


def test_of_who_is_no_member_there_is_nothing_in_either_form(device: Make, reader: Reader) -> None:
    ann = device(unique("ann"), app=unique("app"))
    hall = ann.create(unique("hall"))
    fill(ann, hall)
    ann.member(hall, "bob-" + hall)
    ann.remove(hall, "bob-" + hall)
    for _ in range(3):
        assert b"\x04=" in reader.pull(ann.app, ann.user, words=True).opened
    for user in ("bob-" + hall, "eve-" + hall):
        assert reader.pull(ann.app, user, words=True)[:2] == (b"", b"")


def test_records_of_the_first_generation_and_those_that_moved(device: Make, reader: Reader) -> None:
    home = Home(device)
    for n in range(40):
        home.old.write(insert(f"r{n}", n + 1, title=f"one {n}", **{"cfg.theme": "dark"}))
    for n in range(0, 40, 2):
        home.old.write(in_space(home, edit(f"r{n}", 100 + n, title="moved")))
    home.old.write({"table": "t", "id": "untimed", "op": "insert", "data": {"title": "at no instant"}})
    found = both(reader, home.ours.app, home.user)
    assert len(found) == 41
    assert {change["spaceId"] for change in found} == {home.space, home.personal}


def test_a_record_that_nobody_inserted_has_no_stamp_of_its_own(device: Make, reader: Reader) -> None:
    ann = device(unique("ann"), app=unique("app"))
    ann.write({**edit("r", 1, v=1), "op": "insert"})
    ann.write(*(edit(f"r{n}", n, v={"at": "", "value": n}, w={"at": at(n)}) for n in range(30)))
    assert len(both(reader, ann.app, ann.user)) == 31
