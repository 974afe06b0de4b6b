"""Replicas that keep a part: beside clients of before on the same file, and with older and newer servers in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import Replica
from syncd_client.store.choice import CHOSEN, forget
from syncd_client.store.store import get_meta, set_meta
from syncd_client.sync.partial import baseline, begin_restart, current
from syncd_client.sync.reply import build_page

from tests.support.scripted import Script, page, take, wire

EARLY, LATE = "2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]
OTHERS = {"changes": [wire("stray", n=(1, EARLY)) | {"table": "lists"}, wire("a", space="red", n=(1, EARLY))]}
JOINED = {"joined": ["red"], "roles": [{"id": "red", "name": "Red", "role": "reader"}]}


def as_before(replica: Replica, frame: dict[str, Any], cursor: str, *, restart: bool = False) -> None:
    """What a client does that knows of no choice: it takes all that comes, and leaves what it does not know."""
    with replica.store.write() as db:
        choice = get_meta(db, CHOSEN)
        forget(db, CHOSEN)
        if restart:
            begin_restart(db)
    take(replica, frame, cursor=cursor)
    with replica.store.write() as db:
        set_meta(db, CHOSEN, choice)


def shown(replica: Replica) -> list[tuple[str, str | None, str]]:
    with replica.store.read() as db:
        return db.execute("SELECT tbl, space, id FROM records ORDER BY 1, 2, 3").fetchall()


@pytest.fixture
def part(open_replica: Open, script: Script) -> Replica:
    """A replica that keeps the table t of the personal space, and has a record of it."""
    made = open_replica(spaces=[None], tables=["t"], user="u")
    script.answers = [page(wire("a", n=(1, EARLY)), spaces={"partial": True})]
    made.pull()
    return made


@pytest.mark.parametrize("restart", [False, True])
def test_what_a_client_of_before_brought_goes_as_soon_as_the_replica_is_opened_again(
    open_replica: Open, part: Replica, restart: bool
) -> None:
    """It verifies, too, and then reads all from the beginning, to the very cursor that it had."""
    own = [wire("a", n=(1, EARLY))] if restart else []
    as_before(
        part, {"changes": own + OTHERS["changes"], "spaces": JOINED}, part.cursor if restart else "c2", restart=restart
    )
    assert len(shown(part)) == 3
    again = open_replica()
    assert shown(again) == [("t", "", "a")]
    assert again.spaces() == []
    assert again.get("t", "a") == {"n": 1}


def test_what_a_client_of_before_brought_goes_with_the_next_answer_and_is_told_of(part: Replica) -> None:
    as_before(part, OTHERS | {"spaces": JOINED}, "c2")
    done = take(part, {"changes": [wire("b", n=(1, EARLY))]}, cursor="c3")
    assert shown(part) == [("t", "", "a"), ("t", "", "b")]
    assert done.everything
    assert not take(part, {"changes": []}, cursor="c4").everything


def test_what_a_client_of_before_left_unsent_and_brought_is_sent_yet(open_replica: Open, part: Replica) -> None:
    with part.store.write() as db:
        choice = get_meta(db, CHOSEN)
        forget(db, CHOSEN)
    part.put("lists", "mine", {"n": 1})
    with part.store.write() as db:
        set_meta(db, CHOSEN, choice)
    as_before(part, OTHERS, "c2")
    again = open_replica()
    assert shown(again) == [("lists", "", "mine"), ("t", "", "a")]
    assert [change.id for change in again.pending()] == ["mine"]


def test_a_wider_choice_goes_on_from_nothing_that_a_client_of_before_brought(
    open_replica: Open, part: Replica, script: Script
) -> None:
    as_before(part, OTHERS, "c2")
    wider = open_replica(tables=["t", "lists"])
    script.answers = [page(spaces={"partial": True}, cursor="c3")]
    wider.pull()
    assert script.pulls[-1].params.get_list("knownCollection") == ["t"]
    assert shown(wider) == [("t", "", "a")]


def test_a_replica_that_begins_again_by_itself_has_nothing_removed(part: Replica, script: Script) -> None:
    with part.store.write() as db:
        begin_restart(db)
    assert not take(part, {"changes": [wire("a", n=(1, EARLY))]}, cursor="c5", more=True).everything


def test_a_page_is_judged_by_what_was_known_as_it_was_asked_for(
    open_replica: Open, part: Replica, script: Script
) -> None:
    """A newer server has answered while an older one did: the older one's page is not of what is known since."""
    wider = open_replica(tables=["t", "lists"])

    def meanwhile(body: Any) -> dict[str, Any]:
        with wider.store.write() as db:
            beside = build_page({"spaces": {"partial": True}}, [], "c2", True, ())
            assert current(db, beside, baseline(db)) is beside
            set_meta(db, "cursor", "c2")
        return page(wire("b", n=(1, EARLY)), cursor="c9")

    script.answers = [meanwhile, page(wire("a", n=(1, EARLY)), wire("b", n=(1, EARLY)), cursor="c9")]
    wider.pull()
    assert [url.params["since"] for url in script.pulls[1:]] == ["c1", ""]


def test_a_sync_tells_of_no_space_that_was_never_chosen(part: Replica, script: Script) -> None:
    script.answers = [page(cursor="c2", spaces={"joined": ["blue"], "left": ["red"]})]
    report = part.pull()
    assert (report.joined, report.left) == ([], [])


def test_what_is_unsent_of_a_space_that_is_not_kept_any_more_is_set_aside_when_it_is_left(
    open_replica: Open, replica: Replica, script: Script
) -> None:
    script.answers = [page(spaces={"joined": ["red"]}), page(cursor="c2", spaces={"left": ["red"]})]
    replica.pull()
    replica.put("t", "a", {"n": 1}, space="red")
    part = open_replica(spaces=[None], user="u")
    assert part.pull().left == ["red"]
    assert [change.id for change in part.kept_aside()] == ["a"]
