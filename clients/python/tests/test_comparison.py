"""A verification decided step by step, without a server: what it asks, what it makes of an answer, and when it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from syncd_client import BadReply, Verified
from syncd_client.data.clock import format_instant
from syncd_client.data.digest import Sum, bucket_of, digest_of
from syncd_client.store.store import Store, get_meta, set_meta
from syncd_client.sync.report import Applied
from syncd_client.sync.verification import MANY, DigestAction, DigestRequest, Entry, Verification, due, entries, note

from tests.support.scripted import spread, wire

AT = 1_000_000
HOUR = 3_600_000_000
PERSONAL = "_personal:u"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "replica.db", "normal")
    yield store
    store.close()


def hold(store: Store, *records: str, space: str = "", table: str = "t", **columns: Any) -> None:
    """Records of one field, as the server has confirmed them."""
    row = {"deleted": 0, "doc": '{"x":1}', "stamps": f'{{"x":[{AT},"other"]}}', "base": None, **columns}
    rows = [(table, space, record, row["deleted"], row["doc"], row["stamps"], row["base"]) for record in records]
    with store.write() as db:
        db.executemany("INSERT INTO records (tbl, space, id, deleted, round, doc, stamps, base) "
                       "VALUES (?, ?, ?, ?, 0, ?, ?, ?)", rows)  # fmt: skip


def names(store: Store) -> list[str]:
    with store.read() as db:
        return [row[0] for row in db.execute("SELECT id FROM records ORDER BY id")]


def digest(record: str, table: str = "t") -> int:
    return digest_of(table, record, [("x", AT, "other")])


def told(name: str, *records: str) -> dict[str, Any]:
    """What the server says of a space in which it has these records."""
    whole, buckets = Sum(), dict[int, Sum]()
    for record in records:
        whole.add(digest(record))
        buckets.setdefault(bucket_of("t", record), Sum()).add(digest(record))
    return {"spaceId": name, "records": whole.records, "digest": f"{whole.digest:016x}",
            "buckets": [[bucket, one.records, f"{one.digest:016x}"] for bucket, one in buckets.items()]}  # fmt: skip


def answer(*spaces: Any, behind: tuple[str, ...] = (), unready: tuple[str, ...] = ()) -> bytes:
    return json.dumps({"spaces": spaces, "behind": behind, "unready": unready}).encode()


def mended(*changes: Any, gone: tuple[str, ...] = (), more: bool = False) -> bytes:
    return json.dumps({"changes": changes, "gone": [["t", name] for name in gone], "hasMore": more}).encode()


def there(record: str, at: int = AT) -> Any:
    return wire(record, op="insert", x=(1, format_instant(at)))


class Asking:
    """A verification of a store at a cursor."""

    def __init__(self, store: Store, patient: bool = True) -> None:
        self.heard: list[Applied] = []
        self.work = Verification(store, lambda: 0, self.heard.append, patient=patient)
        self.cursor = "c1"
        with store.write() as db:
            set_meta(db, "cursor", "c1")

    def next(self) -> Any:
        return self.work.next(self.cursor)

    def then(self, body: bytes) -> Any:
        """What is next after an answer to what is asked now."""
        self.work.receive(body)
        return self.next()


# What is compared


def test_what_is_compared_is_what_the_server_has_confirmed_and_is_alive(store: Store) -> None:
    hold(store, "a", "b")
    hold(store, "a", space="s")
    hold(store, "a", space="other")
    hold(store, "dead", deleted=1)
    # What is unsent lies on top of what is confirmed, in `base`.
    register = [1, AT, "other"]
    hold(store, "edited", stamps='{"x":[9,"me"]}', base=json.dumps({"x": register}))
    hold(store, "deleted here", deleted=1, base=json.dumps({"x": register}))
    hold(store, "back here", base=json.dumps({"x": register, "deletedAt": ["gone", AT, "other"]}))
    hold(store, "alive", base=json.dumps({"x": register, "deletedAt": [None, AT, "other"]}))
    hold(store, "new", base="{}")
    found = {(one.space, one.id): one for one in entries(store, {"", "s"})}
    assert set(found) == {("", "a"), ("", "b"), ("", "edited"), ("", "deleted here"), ("", "alive"), ("s", "a")}
    for (space, record), one in found.items():
        expected = digest(record)
        if record == "alive":
            expected = digest_of("t", record, [("x", AT, "other"), ("deletedAt", AT, "other")])
        assert one == Entry("t", space, record, bucket_of("t", record), expected)


@pytest.mark.parametrize("columns", [
    {"stamps": "{"}, {"stamps": "[]"}, {"stamps": '{"x":[1]}'}, {"stamps": '{"x":["soon","other"]}'}, {"base": "["},
    {"base": "[1]"}, {"base": '{"x":[1]}'}, {"stamps": '{"x":[99999999999999999999,"other"]}'},
    {"deleted": 1, "stamps": "{"},
], ids=str)  # fmt: skip
def test_a_row_that_cannot_be_read_is_compared_as_one_that_differs(store: Store, columns: Any) -> None:
    hold(store, "a", **columns)
    assert list(entries(store, {""})) == [Entry("t", "", "a", bucket_of("t", "a"), 0)]


def test_all_are_read_also_where_they_are_many(store: Store) -> None:
    made = [f"r{n:04}" for n in range(2000)]
    hold(store, *made)
    assert [one.id for one in entries(store, {""})] == made
    hold(store, "s")
    hold(store, "a", table="u")
    assert [one.id for one in entries(store, {""})] == [*made, "s", "a"]


# When


@pytest.mark.parametrize(
    ("since", "found"), [(HOUR - 1, False), (HOUR, True), (HOUR + 1, True), (0, False), (-1, True)]
)
def test_it_is_time_so_long_after_the_last_and_after_one_that_is_still_to_come(
    store: Store, since: int, found: bool
) -> None:
    note(store, 50 * HOUR)
    assert due(store, 3600.0, 50 * HOUR + since) is found
    assert due(store, None, 50 * HOUR + since) is False


def test_the_first_time_is_so_long_after_it_was_asked_for(store: Store) -> None:
    assert due(store, 3600.0, 50 * HOUR) is False
    assert due(store, 3600.0, 51 * HOUR - 1) is False
    assert due(store, 3600.0, 51 * HOUR) is True
    assert due(store, None, 99 * HOUR) is False


def test_where_it_is_never_wanted_no_first_time_is_noted(store: Store) -> None:
    assert due(store, None, 50 * HOUR) is False
    with store.read() as db:
        assert get_meta(db, "verified") is None


# What is asked


def test_what_is_equal_is_counted_and_that_was_all(store: Store) -> None:
    hold(store, "a", "b")
    hold(store, "c", space="s")
    asking = Asking(store)
    assert asking.next() == DigestRequest("GET", {"since": "c1"})
    assert asking.next() == DigestRequest("GET", {"since": "c1"}), "until it is answered"
    assert asking.then(answer(told(PERSONAL, "a", "b"), told("s", "c"), told("empty"))) is None
    assert asking.work.result == Verified(spaces=3, records=3)
    assert asking.heard == []


def test_of_a_space_that_differs_the_buckets_are_asked_for_and_then_the_records(store: Store) -> None:
    hold(store, "a", "b", "c", space="s")
    hold(store, "d", space="u")
    asking = Asking(store)
    asking.next()
    question = asking.then(answer(told("s", "a", "b"), told("u", "d")))
    assert question == DigestRequest("GET", {"since": "c1", "spaceId": "s"}, space="s")
    question = asking.then(answer(told("s", "a", "b")))
    bucket = bucket_of("t", "c")
    assert (question.method, question.params, question.space, question.bucket) == ("POST", {}, "s", bucket)
    held = [["t", "c", f"{digest('c'):016x}"]]
    assert json.loads(question.body) == {"since": "c1", "spaceId": "s", "bucket": bucket, "records": held}
    assert asking.then(mended(gone=("c",))) is None
    assert asking.work.result == Verified(spaces=2, records=3, differences=1, repaired=1)
    assert asking.heard == [Applied(changed=[("t", "s", "c")])]
    assert names(store) == ["a", "b", "d"]


@pytest.mark.parametrize("ours", [["a"], [], ["b"]], ids=["more", "all", "others"])
def test_what_the_server_has_is_put_in_its_place(store: Store, ours: list[str]) -> None:
    hold(store, *ours)
    theirs = {record: told(PERSONAL, record)["buckets"][0][0] for record in "ac"}
    asking = Asking(store)
    asking.next()
    asking.then(answer(told(PERSONAL, "a", "c")))
    question = asking.then(answer(told(PERSONAL, "a", "c")))
    differing = 0
    while question is not None:
        body = json.loads(question.body)
        held = [name for _, name, _ in body["records"]]
        missing = [there(name) for name, bucket in theirs.items() if bucket == body["bucket"] and name not in held]
        gone = tuple(name for name in held if name not in theirs)
        differing += len(missing) + len(gone)
        question = asking.then(mended(*missing, gone=gone))
    assert names(store) == ["a", "c"]
    assert asking.work.result == Verified(spaces=1, records=2, differences=differing, repaired=differing)


def test_as_many_records_with_other_stamps_are_not_equal(store: Store) -> None:
    hold(store, "a")
    asking = Asking(store)
    asking.next()
    other = {**told(PERSONAL, "a"), "digest": "f" * 16}
    assert asking.then(answer(other)).space == PERSONAL
    fewer = {**told(PERSONAL, "a"), "records": 2}
    again = Asking(store)
    again.next()
    assert again.then(answer(fewer)).space == PERSONAL


def test_where_the_buckets_are_equal_after_all_the_space_is(store: Store) -> None:
    hold(store, "a")
    asking = Asking(store)
    asking.next()
    asking.then(answer({**told(PERSONAL, "a"), "digest": "f" * 16}))
    assert asking.then(answer(told(PERSONAL, "a"))) is None
    assert asking.work.result == Verified(spaces=1, records=1)


def test_so_many_buckets_are_compared_and_of_more_it_begins_anew(store: Store) -> None:
    hold(store, *spread(MANY - 1))
    asking = Asking(store)
    asking.next()
    asking.then(answer(told(PERSONAL)))
    question = asking.then(answer(told(PERSONAL)))
    asked = 0
    while question is not None:
        asked += 1
        question = asking.then(mended(gone=tuple(name for _, name, _ in json.loads(question.body)["records"])))
    assert asked == MANY - 1
    assert asking.work.result == Verified(spaces=1, differences=MANY - 1, repaired=MANY - 1)


def test_it_begins_anew_once_and_then_compares(store: Store) -> None:
    hold(store, *spread(MANY))
    asking = Asking(store)
    asking.next()
    asking.then(answer(told("before"), told(PERSONAL)))
    assert asking.then(answer(told(PERSONAL))) == DigestAction("restart")
    assert asking.work.result == Verified(differences=MANY, repaired=MANY, restarted=True)
    assert asking.next() == DigestRequest("GET", {"since": "c1"}), "and all spaces are compared again"
    asking.then(answer(told("before"), told(PERSONAL)))
    assert asking.then(answer(told(PERSONAL))).bucket is not None
    assert asking.work.result == Verified(1, 0, MANY, MANY, restarted=True)


# What happens meanwhile


def test_where_the_cursor_has_moved_what_is_left_is_asked_for_again(store: Store) -> None:
    hold(store, "a")
    asking = Asking(store)
    asking.next()
    assert asking.then(answer(told("s"), told(PERSONAL, "b"))).space == PERSONAL
    asking.cursor = "c2"
    assert asking.next() == DigestRequest("GET", {"since": "c2"})
    assert asking.then(answer(told("s", "b"), told(PERSONAL, "a"))) is None, "the other one was compared already"
    assert asking.work.result == Verified(spaces=2, records=1)


def test_a_space_that_was_left_meanwhile_is_not_missed(store: Store) -> None:
    asking = Asking(store)
    asking.next()
    assert asking.then(answer(told("a"), unready=("s",))) == DigestAction("wait", 1.0)
    assert asking.next() == DigestRequest("GET", {"since": "c1"})
    assert asking.then(answer(told("a"))) is None
    assert asking.work.result == Verified(spaces=1)


def test_an_answer_from_before_the_cursor_moved_changes_nothing(store: Store) -> None:
    hold(store, "a")
    asking = Asking(store)
    asking.next()
    asking.then(answer(told(PERSONAL)))
    asking.then(answer(told(PERSONAL)))
    with store.write() as db:
        set_meta(db, "cursor", "c2")
    assert asking.then(mended(gone=("a",))) == DigestAction("pull")
    assert (names(store), asking.heard) == (["a"], [])
    asking.cursor = "c2"
    assert asking.next() == DigestRequest("GET", {"since": "c2"})


def test_the_server_s_word_that_somebody_wrote_means_a_pull_and_a_new_question(store: Store) -> None:
    asking = Asking(store)
    asking.next()
    asking.work.moved()
    assert asking.next() == DigestAction("pull")
    assert asking.next() == DigestRequest("GET", {"since": "c1"})


def turns(asking: Asking, body: bytes) -> list[DigestAction]:
    """What is needed, as long as the answer is the same."""
    found: list[DigestAction] = []
    while (step := asking.next()) is not None:
        if isinstance(step, DigestAction):
            found.append(step)
        else:
            asking.work.receive(body)
    return found


def test_so_often_it_pulls_and_so_long_it_waits(store: Store) -> None:
    asking = Asking(store)
    assert turns(asking, answer(behind=(PERSONAL,))) == [DigestAction("pull")] * 3
    assert asking.work.result == Verified(skipped=[None])
    asking = Asking(store)
    assert turns(asking, answer(told("a"), unready=("s", PERSONAL, "b"))) == [DigestAction("wait", 1.0)] * 60
    assert asking.work.result == Verified(spaces=1, skipped=[None, "b", "s"])
    asking = Asking(store, patient=False)
    assert turns(asking, answer(unready=("s",))) == []
    assert asking.work.result == Verified(skipped=["s"])
    asking = Asking(store, patient=False)
    assert turns(asking, answer(behind=("s",), unready=("u",))) == [DigestAction("pull")] * 3
    assert asking.work.result == Verified(skipped=["s", "u"])


@pytest.mark.parametrize(("behind", "need"), [((), DigestAction("wait", 1.0)), ((PERSONAL,), DigestAction("pull"))])
def test_buckets_that_are_not_told_are_asked_for_later(
    store: Store, behind: tuple[str, ...], need: DigestAction
) -> None:
    hold(store, "a")
    asking = Asking(store)
    asking.next()
    asking.then(answer(told(PERSONAL), told("s", "b")))
    assert asking.then(answer(behind=behind)) == need
    assert asking.next() == DigestRequest("GET", {"since": "c1"})
    assert asking.work.result == Verified()


def test_each_record_is_mended_once_whatever_the_server_goes_on_saying(store: Store) -> None:
    asking = Asking(store)
    asking.next()
    asking.then(answer(told(PERSONAL, "a")))
    first = asking.then(answer(told(PERSONAL, "a")))
    assert json.loads(first.body)["records"] == []
    second = asking.then(mended(there("a"), more=True))
    assert (second.bucket, json.loads(second.body)["records"]) == (first.bucket, [["t", "a", second_digest(second)]])
    assert asking.then(mended(there("a", AT + 1), more=True)) is None
    assert asking.work.result == Verified(spaces=1, records=1, differences=1, repaired=1)
    assert len(asking.heard) == 2


def test_a_server_that_goes_back_and_forth_between_two_records_comes_to_an_end(store: Store) -> None:
    asking = Asking(store)
    asking.next()
    asking.then(answer(told(PERSONAL, "a")))
    asking.then(answer(told(PERSONAL, "a")))
    assert asking.then(mended(there("a"), more=True)) is not None
    assert asking.then(mended(there("b"), more=True)) is not None
    assert asking.then(mended(there("a", AT + 1), more=True)) is None
    assert asking.work.result == Verified(spaces=1, records=1, differences=2, repaired=2)


def second_digest(question: DigestRequest) -> str:
    found: str = json.loads(question.body or b"")["records"][0][2]
    return found


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"spaces":5}', answer({}), answer(5)], ids=str)
def test_what_is_no_answer_is_said_to_be_none(store: Store, body: bytes) -> None:
    asking = Asking(store)
    asking.next()
    with pytest.raises(BadReply, match=r"the answer cannot be read: .+\."):
        asking.work.receive(body)
