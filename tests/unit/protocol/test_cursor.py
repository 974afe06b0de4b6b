"""The cursor: a position in every feed, only this server's own, only for the user and app it was made for."""

from __future__ import annotations

import base64
import random
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.clock import LAST, format_instant, parse_instant
from syncd.protocol.cursor import (
    MAX_LENGTH,
    MOST_LISTED,
    MOST_MOVED,
    BadCursor,
    Bookmark,
    Cursor,
    Position,
    decode,
    decode_legacy,
    encode,
    is_partial,
    named_instant,
    widened,
)
from tests.support.vectors import vectors

VECTORS = vectors("cursor")
KEY = bytes.fromhex(VECTORS["key"])
NOW = parse_instant("2026-01-01T10:05:00.123456Z")

seqs = st.integers(0, 2**53)
positions = st.dictionaries(st.integers(1, 2**31 - 1), st.tuples(seqs, st.just(-1) | seqs), max_size=20)
tables = st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=3).map(lambda names: tuple(sorted(names)))
cursors = st.builds(
    lambda instant, boot, names, places: Cursor(
        instant, boot, names, tuple(Position(space, *place) for space, place in sorted(places.items()))
    ),
    st.integers(0, LAST), st.integers(0, LAST), tables, positions,
)  # fmt: skip
moved = st.dictionaries(
    st.integers(1, 2**31 - 1), st.tuples(st.just(-1) | seqs, st.integers(-(2**53), 2**53)), max_size=20
)
kept = st.builds(
    lambda cursor, places, row, priority, unread: cursor._replace(
        positions=tuple(Position(space, *place) for space, place in places.items()),
        row=row, priority=tuple(priority), unread=unread,
    ),
    cursors, moved, st.integers(1, 2**62), st.lists(st.text(min_size=1, max_size=5), max_size=3), st.booleans(),
)  # fmt: skip


@given(cursors | kept, st.text(max_size=8), st.text(max_size=8))
def test_a_cursor_comes_back_as_it_was(cursor: Cursor, user: str, app: str) -> None:
    text = encode(cursor, KEY, user, app)
    assert decode(text, KEY, user, app, cursor.tables) == cursor
    assert set(text) <= set(string.ascii_letters + string.digits + "-_.:")
    assert text[:27] == format_instant(cursor.instant)


@given(cursors | kept, st.text(max_size=8), st.text(max_size=8))
def test_it_is_of_no_use_to_another_user_or_app(cursor: Cursor, user: str, app: str) -> None:
    text = encode(cursor, KEY, user, app)
    for other in ((f"{user}x", app), (user, f"{app}x"), (f"{user}{app}", ""), ("", f"{user}{app}")):
        if other != (user, app):
            with pytest.raises(BadCursor):
                decode(text, KEY, *other, cursor.tables)
    with pytest.raises(BadCursor):
        decode(text, KEY[:-1], user, app, cursor.tables)


@given(cursors, tables)
def test_another_set_of_tables_begins_again_with_the_state_and_its_deletions(cursor: Cursor, names: Any) -> None:
    found = decode(encode(cursor, KEY, "alice", "notes"), KEY, "alice", "notes", names)
    assert found == (cursor if names == cursor.tables else 0)


def test_the_order_in_which_tables_are_named_is_no_matter() -> None:
    text = encode(Cursor(NOW, 1, ("a", "b"), ()), KEY, "alice", "notes")
    assert isinstance(decode(text, KEY, "alice", "notes", ("b", "a")), Cursor)


@pytest.mark.parametrize("text", [v["text"] for v in VECTORS["cursors"]], ids=[v["name"] for v in VECTORS["cursors"]])
def test_every_mutated_character_is_refused(text: str) -> None:
    for place in range(len(text)):
        for character in [*string.printable, "\x00", "é", ""]:
            mutated = text[:place] + character + text[place + 1 :]
            if mutated != text:
                with pytest.raises(BadCursor):
                    decode(mutated, KEY, "alice", "notes", ())


@given(
    st.text(max_size=60) | st.text(string.ascii_letters + "-_", max_size=60).map(lambda t: f"{format_instant(NOW)}.{t}")
)
def test_any_other_text_is_refused_or_a_plain_instant(text: str) -> None:
    try:
        found = decode(text, KEY, "alice", "notes", ())
    except BadCursor:
        return
    assert found == (parse_instant(text) if text else None)


def test_what_a_cursor_lists_fits_into_8_kib() -> None:
    chance = random.Random(7)
    spaces = sorted(chance.sample(range(1, 60_000), MOST_LISTED))
    log = [Position(space, int(chance.paretovariate(0.6) * 400) % 8_000_000) for space in spaces]
    state = [Position(space, 0, position.seq) for space, position in zip(spaces, log, strict=True)]
    swept = [Position(space, position.seq, -3 - 3 * position.seq) for space, position in zip(spaces, log, strict=True)]
    for places in (log, state, swept, [Position(space, 1_000_000 + space) for space in spaces]):
        for row, most in ((0, MOST_LISTED), (2**62 - 1, MOST_MOVED)):
            cursor = Cursor(NOW, NOW, ("tasks",), tuple(places[:most]), row=row)
            assert not cursor.long
            text = encode(cursor, KEY, "alice", "notes")
            assert len(text) <= 8 * 1024
            assert decode(text, KEY, "alice", "notes", ("tasks",)) == cursor
            assert cursor._replace(positions=(*cursor.positions, Position(2**31, 1))).long


def test_a_wider_choice_of_tables_whose_cursor_would_be_too_long_begins_again() -> None:
    """A name has up to three bytes a character there, beside the feeds."""
    cursor = Cursor(NOW, NOW, ("tasks",), tuple(Position(50 * n, 10_000_000 + n) for n in range(1, MOST_LISTED)))
    lengths = list[int]()
    for count in (1, 10, 100):
        known = tuple(f"{n:02}" + "\u00e9" * 18 for n in range(count))
        for listed in (cursor, cursor._replace(positions=cursor.positions[:9])):
            text = encode(listed, KEY, "alice", "notes")
            at = widened(text, KEY, "alice", "notes", (*known, "tasks"), known)
            lengths.append(len(encode(at, KEY, "alice", "notes")) if isinstance(at, Cursor) else 0)
    assert max(lengths) <= 7680
    assert [length > 0 for length in lengths] == [True, True, True, True, False, True]


def test_a_cursor_of_25000_feeds_of_a_server_of_before_is_taken() -> None:
    cursor = Cursor(NOW, NOW, (), tuple(Position(7 * n, 2**40, -3 - 3 * 2**40) for n in range(1, 25_001)))
    text = encode(cursor, KEY, "alice", "notes")
    assert len(text) > 300_000
    assert decode(text, KEY, "alice", "notes", ()) == cursor


@given(st.integers(0, LAST), st.integers(0, LAST), positions)
def test_cursors_have_the_order_of_their_instants_as_text(a: int, b: int, places: Any) -> None:
    first, second = (encode(Cursor(at, 1, (), (Position(1, at),)), KEY, "alice", "notes") for at in (a, b))
    assert (first < second) == (a < b) or a == b
    assert (first < format_instant(b)) == (a < b)  # also beside the plain instants of the first generation
    assert first > ""


@pytest.mark.parametrize("vector", VECTORS["cursors"], ids=lambda v: v["name"])
def test_the_vectors_of_cursors(vector: Any) -> None:
    places = tuple(Position(p["space"], p["seq"], p.get("base", -1)) for p in vector["positions"])
    instants = parse_instant(vector["instant"]), parse_instant(vector["boot"])
    cursor = Cursor(*instants, tuple(vector["tables"]), places)
    assert encode(cursor, KEY, vector["user"], vector["app"]) == vector["text"]
    assert decode(vector["text"], KEY, vector["user"], vector["app"], tuple(vector["tables"])) == cursor


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda v: v["name"])
def test_the_vectors_of_what_is_no_cursor(vector: Any) -> None:
    with pytest.raises(BadCursor):
        decode(vector["text"], KEY, vector["user"], vector["app"], ())


@pytest.mark.parametrize("vector", VECTORS["plain"], ids=lambda v: v["name"])
def test_the_vectors_of_what_else_a_device_may_send(vector: Any) -> None:
    assert decode(vector["text"], KEY, "alice", "notes", ()) == vector["micros"]


def test_the_vectors_of_order_are_in_the_order_of_text() -> None:
    assert VECTORS["order"] == sorted(VECTORS["order"])


@given(
    st.dictionaries(st.integers(1, 1 << 31), st.integers(0, 1 << 50), max_size=8),
    st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1 << 50), st.integers(0, 1 << 50)), max_size=5),
)
def test_a_bookmark_that_moves_says_what_a_cursor_made_anew_would(
    seqs: dict[int, int], moves: list[tuple[int, int, int]]
) -> None:
    cursor = Cursor(1_700_000_000_000_000, 7, ("a", "b"), tuple(Position(s, q) for s, q in sorted(seqs.items())))
    bookmark = Bookmark(cursor, b"k" * 32, "änn", "app")
    for place, seq, instant in moves if seqs else []:
        space = sorted(seqs)[place % len(seqs)]
        seqs[space] = seq
        cursor = cursor._replace(
            instant=max(instant, cursor.instant), positions=tuple(Position(s, q) for s, q in sorted(seqs.items()))
        )
        assert bookmark.move(space, seq, instant).decode() == encode(cursor, b"k" * 32, "änn", "app")
    assert bookmark.text().decode() == encode(cursor, b"k" * 32, "änn", "app")


@given(
    kept,
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 1 << 50), st.integers(0, 1 << 50)), max_size=8),
)
def test_a_bookmark_of_a_kept_cursor_lists_what_has_moved(cursor: Cursor, moves: list[tuple[int, int, int]]) -> None:
    bookmark = Bookmark(cursor, KEY, "alice", "notes", [Position(space, 0) for space in range(1, 41)])
    assert decode(bookmark.text().decode(), KEY, "alice", "notes", cursor.tables) == cursor
    places = {position.space: position for position in cursor.positions}
    for space, seq, instant in moves:
        places[space] = Position(space, seq)
        text = bookmark.move(space, seq, min(instant, LAST)).decode()
        found = decode(text, KEY, "alice", "notes", cursor.tables)
        assert isinstance(found, Cursor)
        assert {position.space: position for position in found.positions} == places
        assert (found.row, found.unread, found.priority) == (cursor.row, cursor.unread, cursor.priority)
        assert bookmark.seqs[space] == seq
    assert not bookmark.full


@given(cursors, st.lists(st.text(min_size=1, max_size=5), max_size=3), st.booleans())
def test_a_bookmark_keeps_the_place_in_a_state_that_could_not_be_read_to_its_end(
    cursor: Cursor, priority: list[str], swept: bool
) -> None:
    places = [Position(1, 7, -3 - 3 * 9), *cursor.positions] if swept else cursor.positions
    cursor = cursor._replace(positions=tuple({p.space: p for p in places}.values()), priority=tuple(priority))
    bookmark = Bookmark(cursor, KEY, "alice", "notes")
    assert bookmark.text().decode() == encode(cursor, KEY, "alice", "notes")
    log = Position(2**31, 5)
    moving = Bookmark(cursor._replace(positions=(*cursor.positions, log)), KEY, "alice", "notes")
    found = decode(moving.move(log.space, 6, 0).decode(), KEY, "alice", "notes", cursor.tables)
    assert isinstance(found, Cursor)
    assert sorted(found.positions) == sorted((*cursor.positions, log._replace(seq=6)))


def test_what_the_log_is_given_of_a_cursor() -> None:
    cursor = Cursor(NOW, 7, (), (Position(1, 5), Position(3, 6, 9)))
    assert cursor.since() == {"s": (1, 3), "q": (5, 6), "b": (-1, 9), "boot": 7}
    assert cursor._replace(row=4).since() == {**cursor.since(), "row": 4}
    assert Cursor(NOW, 7, (), ()).since() == {"s": (), "q": (), "b": (), "boot": 7}


@pytest.mark.parametrize(("base", "swept"), [(-1, False), (0, False), (5, False), (-2, True), (-9, True)])
def test_a_feed_is_being_swept_by_its_base_and_by_its_row_where_it_is_kept(base: int, swept: bool) -> None:
    cursor = Cursor(NOW, 7, (), (Position(1, 5), Position(3, 6, base)))
    assert cursor.sweeping is swept
    for unread in (False, True):
        assert cursor._replace(row=4, unread=unread).sweeping is unread


@given(cursors, st.booleans(), st.booleans(), st.lists(st.text(min_size=1, max_size=5), max_size=3))
def test_a_cursor_keeps_what_was_sent_before_it(cursor: Cursor, whole: bool, lone: bool, priority: list[str]) -> None:
    swept = (Position(0, 7, -3), *cursor.positions)
    for one in (
        cursor,
        cursor._replace(positions=swept, priority=tuple(priority)),
        cursor._replace(row=9),
    ):
        said = one._replace(whole=whole, lone=lone)
        assert decode(encode(said, KEY, "alice", "notes"), KEY, "alice", "notes", said.tables) == said


def of(*tables: str, **members: Any) -> str:
    """The text of alice's cursor."""
    return encode(Cursor(NOW, 7, tables, (Position(1, 5),), **members), KEY, "alice", "notes")


def legacy(text: str, *tables: str, user: str = "alice") -> Any:
    return decode_legacy(text, KEY, user, "notes", tables)


def test_the_first_generation_is_never_refused_for_its_cursor() -> None:
    assert legacy("") is None
    assert legacy(format_instant(NOW)) == NOW
    assert legacy("1970-01-01T00:00:00Z") == 0
    for text in ("soon", of()[:-1], of("a")[:-1], f"{of()}x", "." * 30):
        assert legacy(text) == 0
    assert legacy(of(), user="bob") == 0
    assert legacy(of("a"), "a", user="bob") == 0


def test_a_cursor_of_the_first_generation_serves_other_tables_where_all_of_them_was_sent() -> None:
    own = Cursor(NOW, 7, ("a",), (Position(1, 5),))
    assert legacy(of("a"), "a") == own
    assert legacy(of("a"), "b") == legacy(of("a")) == 0
    assert legacy(of("a", lone=True), "b") == 0
    assert legacy(of("a", whole=True), "b") == own._replace(tables=("b",), whole=True)
    assert legacy(of("a", whole=True)) == own._replace(tables=(), whole=True)
    assert legacy(of(), "b") == own._replace(tables=("b",))
    assert decode(of(), KEY, "alice", "notes", ("b",)) == 0, "ours begin again"


def test_a_cursor_is_partial_where_not_all_of_some_tables_was_sent() -> None:
    def partial(text: str, user: str = "alice", app: str = "notes") -> bool:
        return is_partial(text, KEY, user, app)

    assert partial(of("a")) is True
    for text in (of(), of("a", whole=True), of("a", lone=True), "", format_instant(NOW), "soon", of("a")[:-1]):
        assert partial(text) is False
    assert partial(of("a"), user="bob") is partial(of("a"), app="other") is False


@pytest.mark.parametrize(("text", "micros"), [
    (format_instant(NOW), NOW), (f"{format_instant(NOW)}.whatever", NOW),
    ("2026-01-01T11:05:00+01:00", NOW // 10**6 * 10**6),
    ("", 0), ("soon", 0), (f"{'x' * 27}.", 0), (f"{format_instant(NOW)}x", 0),
])  # fmt: skip
def test_the_instant_that_a_text_names(text: str, micros: int) -> None:
    assert named_instant(text) == micros


def test_a_cursor_is_taken_up_to_its_greatest_length() -> None:
    room = (MAX_LENGTH - 28) // 4 * 3 - 9
    cursor = Cursor(NOW, 7, (), (Position(1, 1, -3),), ("",))
    spare = len(base64.urlsafe_b64decode(encode(cursor, KEY, "alice", "notes")[28:] + "==")) - 9
    # A name's length is written with two bytes more once it is so long.
    for more, taken in ((0, True), (1, False)):
        long = cursor._replace(priority=("a" * (room - spare - 2 + more),))
        text = encode(long, KEY, "alice", "notes")
        assert (len(text) <= MAX_LENGTH) is taken
        if taken:
            assert len(text) == MAX_LENGTH
            assert decode(text, KEY, "alice", "notes", ()) == long
        else:
            with pytest.raises(BadCursor):
                decode(text, KEY, "alice", "notes", ())


def test_a_bookmark_of_a_kept_cursor_is_full_where_more_have_moved_than_a_cursor_lists() -> None:
    places = [Position(space, 0) for space in range(1, MOST_MOVED + 2)]
    bookmark = Bookmark(Cursor(NOW, 7, (), (), row=4), KEY, "alice", "notes", places)
    for space in range(1, MOST_MOVED + 1):
        bookmark.move(space, 1, NOW)
        bookmark.move(1, 2, NOW)
    assert not bookmark.full
    bookmark.move(MOST_MOVED + 1, 1, NOW)
    assert bookmark.full
    listing = Bookmark(Cursor(NOW, 7, (), tuple(places)), KEY, "alice", "notes")
    assert not listing.full
    assert (bookmark.boot, listing.boot) == (7, 7)
    assert listing.seqs == dict.fromkeys(range(1, MOST_MOVED + 2), 0)


def test_a_bookmark_s_instant_never_goes_back() -> None:
    bookmark = Bookmark(Cursor(NOW, 7, (), (Position(1, 0),)), KEY, "alice", "notes")
    at = [bookmark.move(1, n, NOW + moved)[:27].decode() for n, moved in enumerate((-5, 0, 5, 3, 6))]
    assert at == [format_instant(NOW + moved) for moved in (0, 0, 5, 5, 6)]
