"""Search: the cases of tests/vectors/search.json, and an index that is never behind its records."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import EVERY_SPACE, AsyncReplica, InvalidQuery, Replica, StoreFailed
from syncd_client.data.searched import Asked, asked_words, texts_at, words_of
from syncd_client.store.search import held

from tests.support.scripted import Script, page, wire
from tests.support.vectors import vectors

VECTORS = vectors("search")
Open = Callable[..., Replica]
LATER = "2030-01-01T00:00:00.000000Z"
SEARCH = {"t": ["title", "body"]}


@pytest.fixture(scope="module", params=["in a file", "in memory", "declared later"])
def filled(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Replica]:
    path = ":memory:" if request.param == "in memory" else tmp_path_factory.mktemp("search") / "replica.db"
    later = request.param == "declared later"
    replica = Replica(path, app="app", durability="normal", search=None if later else VECTORS["search"])
    for record in VECTORS["records"]:
        place = {"space": record.get("space")}
        replica.put(record["table"], record["id"], record["fields"], **place)
        if record.get("deleted"):
            replica.delete(record["table"], record["id"], **place)
    if later:
        replica.close()
        replica = Replica(path, app="app", durability="normal", search=VECTORS["search"])
    yield replica
    replica.close()


@pytest.mark.parametrize("case", VECTORS["words"], ids=[ascii(case["text"]) for case in VECTORS["words"]])
def test_the_words_of_a_text(case: Any) -> None:
    assert words_of(case["text"]) == case["words"]


@pytest.mark.parametrize("case", VECTORS["asks"], ids=[case["name"] for case in VECTORS["asks"]])
def test_what_is_found_and_in_which_order(filled: Replica, case: Any) -> None:
    limit = {"limit": case["limit"]} if "limit" in case else {}
    every = case.get("space") == "*"
    space = EVERY_SPACE if every else case.get("space")
    found = filled.search(case["table"], case["text"], space=space, **limit)
    assert [[one.space, one.id] if every else one.id for one in found] == case["expect"]


def ids(replica: Replica, text: str, **more: Any) -> list[str]:
    """What is found, and nothing is left to be brought up to date."""
    found = [record.id for record in replica.search("t", text, **more)]
    with replica.store.read() as db:
        assert db.execute("SELECT count(*) FROM search_changed").fetchone() == (0,)
    return found


def test_an_edit_is_found_by_its_new_words_and_not_by_its_old_ones(open_replica: Open) -> None:
    replica = open_replica(search=SEARCH)
    replica.put("t", "a", {"title": "red apple", "body": "pear"})
    replica.patch("t", "a", {"title": "green apple"})
    assert (ids(replica, "red"), ids(replica, "green"), ids(replica, "pear")) == ([], ["a"], ["a"])
    replica.undo()
    assert (ids(replica, "red"), ids(replica, "green")) == (["a"], [])


def test_a_deleted_record_is_not_found_until_it_is_back(open_replica: Open) -> None:
    replica = open_replica(search=SEARCH)
    replica.put("t", "a", {"title": "red apple"})
    replica.delete("t", "a")
    assert ids(replica, "apple") == []
    replica.undelete("t", "a")
    assert ids(replica, "apple") == ["a"]


def test_what_is_not_written_is_not_found(open_replica: Open) -> None:
    replica = open_replica(search=SEARCH)
    with pytest.raises(ValueError, match="over"), replica.batch() as batch:  # noqa: PT012
        assert batch.get("t", "a") is None  # which begins the transaction
        batch.put("t", "a", {"title": "apple"})
        raise ValueError("over")
    assert ids(replica, "apple") == []


def test_what_the_server_sends_is_found_at_once_and_a_left_space_no_more(open_replica: Open, script: Script) -> None:
    replica = open_replica(search=SEARCH)
    script.answers = [page(wire("a", space="s", title=("red apple", LATER)), spaces={"joined": ["s"]})]
    replica.pull()
    assert (ids(replica, "apple", space="s"), ids(replica, "apple")) == (["a"], [])
    assert replica.in_("s").search("t", "app") == replica.search("t", "app", space=EVERY_SPACE)
    script.answers = [page(spaces={"left": ["s"]})]
    replica.pull()
    assert (ids(replica, "apple", space="s"), ids(replica, "apple", space=EVERY_SPACE)) == ([], [])


def test_an_erased_field_is_not_found_and_its_words_are_not_in_the_file(
    open_replica: Open, script: Script, tmp_path: Path
) -> None:
    replica = open_replica(search=SEARCH)
    for n in range(3):  # more than one segment
        script.answers = [page(wire(f"a{n}", title=("quincesandwich", LATER), body=(f"kept {n}", LATER)))]
        replica.pull()
    assert ids(replica, "quincesandwich") == ["a0", "a1", "a2"]
    assert any(b"quincesandwich" in file.read_bytes() for file in tmp_path.glob("replica.db*"))
    changes = [wire(f"a{n}", title=(None, LATER)) for n in range(3)]
    for change in changes:
        change["fields"]["title"]["erased"] = "2030-01-02T00:00:00.000000Z"
    script.answers = [page(*changes)]
    replica.pull()
    assert (ids(replica, "quincesandwich"), ids(replica, "kept")) == ([], ["a0", "a1", "a2"])
    assert [file.name for file in tmp_path.glob("replica.db*") if b"quincesand" in file.read_bytes()] == []


def test_another_package_that_knows_of_no_search_writes_and_it_is_found(open_replica: Open, tmp_path: Path) -> None:
    replica = open_replica(search=SEARCH)
    replica.put("t", "a", {"title": "red apple"})
    replica.put("t", "b", {"title": "red pear"})
    other = sqlite3.connect(tmp_path / "replica.db", isolation_level=None)
    other.execute("""UPDATE records SET doc = '{"title": "green apple"}' WHERE id = 'a'""")
    other.execute("DELETE FROM records WHERE id = 'b'")
    other.close()
    assert (ids(replica, "red"), ids(replica, "green")) == ([], ["a"])


def test_a_process_that_does_not_declare_it_keeps_it_too(open_replica: Open) -> None:
    open_replica(search=SEARCH).close()
    replica = open_replica()
    replica.put("t", "a", {"title": "red apple"})
    with replica.store.read() as db:
        assert db.execute("SELECT count(*) FROM search_changed").fetchone() == (0,)
    assert ids(replica, "apple") == ["a"]


def test_what_another_process_declares_holds_for_those_that_are_open(open_replica: Open) -> None:
    first = open_replica()
    second = open_replica(search=SEARCH)
    first.put("t", "a", {"title": "red apple"})
    assert (ids(second, "apple"), ids(first, "apple")) == (["a"], ["a"])
    first.patch("t", "a", {"title": "pear"})
    assert (ids(first, "apple"), ids(second, "pear")) == ([], ["a"])
    open_replica(search={}).put("t", "b", {"title": "pear"})
    for replica in (first, second):
        with pytest.raises(InvalidQuery):
            replica.search("t", "pear")


def test_a_sqlite_without_fts5_opens_what_has_no_search_and_says_so_else(
    open_replica: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncd_client.store.search._has_fts5", lambda db: False)
    with pytest.raises(StoreFailed, match="FTS5"):
        open_replica(search=SEARCH)
    open_replica(search={}).put("t", "a", {"title": "apple"})


def test_what_is_declared_otherwise_is_made_again_and_what_is_not_any_more_is_gone(open_replica: Open) -> None:
    replica = open_replica(search={"t": ["title"], "u": ["title"]})
    replica.put("t", "a", {"title": "apple", "body": "pear"})
    assert ids(replica, "pear") == []
    replica.close()
    replica = open_replica(search=SEARCH)
    assert (ids(replica, "pear"), ids(replica, "apple")) == (["a"], ["a"])
    with replica.store.read() as db:
        assert list(held(db)) == ["t"]
    with pytest.raises(InvalidQuery, match="no search of u"):
        replica.search("u", "apple")
    replica.close()
    replica = open_replica(search={})
    with replica.store.read() as db:
        names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE name GLOB 'search_words_*'")}
        assert (held(db), names) == ({}, set())
        assert db.execute("SELECT count(*) FROM search_records").fetchone() == (0,)


@pytest.mark.parametrize("search", [
    {"t": []}, {"t": "title"}, {"t": ["a", "a"]}, {"t": [""]}, {"t": [1]}, {"": ["a"]}, {"t": [["a"]]},
    {"t": [f"f{n}" for n in range(17)]},
])  # fmt: skip
def test_what_can_be_no_search_is_refused_and_nothing_changes(open_replica: Open, tmp_path: Path, search: Any) -> None:
    open_replica(search=SEARCH).close()
    with pytest.raises(InvalidQuery):
        Replica(tmp_path / "replica.db", app="app", search=search)
    with open_replica().store.read() as db:
        assert held(db)["t"].fields == ("title", "body")


@pytest.mark.parametrize("asked", [(1,), (None,), ("a", -1), ("a", True), ("a", "1"), ("a", 1.0)])
def test_what_cannot_be_searched_is_refused(open_replica: Open, asked: Any) -> None:
    text, *limit = asked
    with pytest.raises(InvalidQuery):
        open_replica(search=SEARCH).search("t", text, **({"limit": limit[0]} if limit else {}))


def test_a_replica_without_a_search_says_so(replica: Replica) -> None:
    with pytest.raises(InvalidQuery, match=r"search=\{'t': \[fields\]\}"):
        replica.search("t", "apple")


async def test_an_async_replica_searches_too(tmp_path: Path) -> None:
    async with AsyncReplica(tmp_path / "replica.db", app="app", search=SEARCH) as replica:
        await replica.put("t", "a", {"title": "red apple"})
        assert [record.id for record in await replica.search("t", "red app")] == ["a"]
        assert await replica.in_("s").search("t", "red app") == []


def ranked(replica: Replica, text: str) -> list[str]:
    """The rule, once more and slowly: every record is looked at."""
    asked, found = asked_words(text), []
    for record in replica.query("t"):
        texts = texts_at(record, ("title", "body"))
        points = [place_of(one, texts) for one in asked]
        if asked and all(points):
            hits = sum(matches(word, one) for one in asked for text in texts for word in text.split())
            found.append((-sum(points), -hits, record.id))
    return [record for _, _, record in sorted(found)]


def matches(word: str, one: Asked) -> bool:
    return word.startswith(one.word) if one.begins else word == one.word


def place_of(one: Asked, texts: list[str]) -> int:
    best = 0
    for n, text in enumerate(texts):
        for word in text.split():
            if matches(word, one):
                best = max(best, 2 * (len(texts) - n) + (word == one.word))
    return best


def test_drawn_writes_and_questions(open_replica: Open) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    replica = open_replica(search=SEARCH)
    words = ["a", "ab", "abc", "b", "ba", "\u6771", "\u6771\u4eac", "\u00e9", "x" * 64, "x" * 70, "12"]

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(0, most)))

    for _ in range(150):
        id = f"r{draw.randint(0, 30)}"
        match draw.randint(0, 5):
            case 0:
                replica.delete("t", id, upsert=True)
            case 1:
                replica.patch("t", id, {draw.choice(["title", "body", "other"]): text(5)}, upsert=True)
            case _:
                replica.put("t", id, {"title": text(3), "body": [text(4), text(2)]})
        asked = text(3)
        assert ids(replica, asked, limit=None) == ranked(replica, asked), asked
