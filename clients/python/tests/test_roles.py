"""The names and roles of spaces on the device, and what a reader is told at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from syncd_client import JoinedSpace, NotAllowed, Replica

from tests.support.scripted import Script, page, problem, wire

EARLY = "2001-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]


def told(*spaces: tuple[str, str, str], until: str = "1.1", **more: Any) -> dict[str, Any]:
    """What a page says of spaces: id, name and role of each."""
    roles = [{"id": id, "name": name, "role": role} for id, name, role in spaces]
    return {"joined": [], "left": [], "roles": roles, "rolesUntil": until, **more}


@pytest.fixture
def member(replica: Replica, script: Script) -> Replica:
    """A replica in a space that its user may read, in one that they may write, and in one of which nothing was told."""
    spaces = told(("r", "Reading", "reader"), ("w", "Writing", "writer"), joined=["r", "w", "x"])
    script.answers = [page(wire("a", space="r", n=(1, EARLY)), spaces=spaces)]
    replica.sync()
    return replica


def test_names_and_roles_are_there_at_once_when_it_is_opened_again(member: Replica, open_replica: Open) -> None:
    named = [JoinedSpace("r", "Reading", "reader"), JoinedSpace("w", "Writing", "writer")]
    wanted = [*named, JoinedSpace("x", None, None)]
    assert member.spaces() == wanted
    member.close()
    assert open_replica().spaces() == wanted


def test_it_asks_from_where_it_was_told_and_keeps_what_has_changed(member: Replica, script: Script) -> None:
    script.answers = [page(spaces=told(("r", "Harbour", "owner"), until="2.1"))]
    member.pull()
    assert member.spaces()[0] == JoinedSpace("r", "Harbour", "owner")
    member.pull()
    assert [url.params["roles"] for url in script.pulls] == ["", "1.1", "2.1"]


@pytest.mark.parametrize(
    "write",
    [
        lambda replica: replica.put("t", "b", {"n": 2}, space="r"),
        lambda replica: replica.patch("t", "a", {"n": 2}, space="r"),
        lambda replica: replica.delete("t", "a", space="r"),
        lambda replica: replica.undelete("t", "a", space="r", upsert=True),
        lambda replica: replica.update("t", "a", lambda found: {"n": found["n"] + 1}, space="r"),
        lambda replica: replica.in_("r").put("t", "b", {"n": 1}),
    ],
)
def test_a_reader_s_write_is_refused_at_once(member: Replica, write: Callable[[Replica], object]) -> None:
    with pytest.raises(NotAllowed) as refused:
        write(member)
    assert refused.value.code == "not_a_writer"
    assert member.pending() == []
    assert member.get("t", "a", space="r") == {"n": 1}


def test_a_batch_with_one_such_write_leaves_nothing(member: Replica) -> None:
    batch = member.new_batch()
    batch.put("t", "b", {"n": 1}, space="w")
    batch.put("t", "b", {"n": 1}, space="r")
    with pytest.raises(NotAllowed):
        member.commit(batch)
    assert member.pending() == []
    assert member.get("t", "b", space="w") is None


def test_where_the_role_allows_it_or_is_not_known_a_write_is_as_ever(member: Replica) -> None:
    for space in ("w", "x", None):
        member.put("t", "b", {"n": 1}, space=space)
    assert len(member.pending()) == 3


def test_edits_that_wait_when_the_role_falls_are_the_server_s_to_refuse(member: Replica, script: Script) -> None:
    change = member.put("t", "b", {"n": 1}, space="w")
    script.answers = [page(spaces=told(("w", "Writing", "reader"), until="2.1"))]
    member.pull()
    assert [waiting.change_id for waiting in member.pending()] == [change]
    with pytest.raises(NotAllowed):
        member.put("t", "c", {"n": 1}, space="w")
    refused = {"changeId": change, "status": "rejected", "code": "not_a_writer"}
    script.answers = [lambda body: page(results=[refused], conflicts=[])]
    assert member.push().rejected == [change]
    assert member.get("t", "b", space="w") == {"n": 1}, "it is kept until it is dropped or fixed"
    script.answers = [page(spaces=told(("w", "Writing", "writer"), until="3.1"))]
    member.pull()
    member.requeue(change)
    member.put("t", "c", {"n": 1}, space="w")
    assert len(member.pending()) == 2


def test_a_space_that_was_left_takes_name_and_role_along(member: Replica, script: Script) -> None:
    script.answers = [page(spaces={"joined": [], "left": ["r"]})]
    member.pull()
    assert [space.id for space in member.spaces()] == ["w", "x"]
    with member.store.read() as db:
        assert db.execute("SELECT space FROM roles").fetchall() == [("w",)]
    member.put("t", "b", {"n": 1}, space="r")


def test_one_that_is_left_and_joined_in_a_page_has_what_that_page_tells(member: Replica, script: Script) -> None:
    script.answers = [page(spaces=told(("r", "Reading", "writer"), until="2.1", left=["r"], joined=["r"]))]
    member.pull()
    assert member.spaces()[0] == JoinedSpace("r", "Reading", "writer")


@pytest.mark.parametrize("pages", [1, 2])
def test_what_is_told_of_a_space_that_cannot_be_read_yet_is_there_when_it_is_named(
    member: Replica, script: Script, pages: int
) -> None:
    spaces = told(("bad", "Bad", "reader"), ("w", "Writing", "writer"), until="2.1", unreadable=["bad"])
    again = told(until="2.1", unreadable=["bad"])
    script.answers = [problem(410, "cursor_lost"), page(spaces={**spaces, "joined": ["w"]}, more=pages > 1)]
    script.answers += [page(spaces=again)] * (pages - 1)
    member.pull()
    assert member.spaces() == [JoinedSpace("w", "Writing", "writer")]
    script.answers = [page(spaces={"joined": ["bad"], "left": []})]
    member.pull()
    assert member.spaces()[0] == JoinedSpace("bad", "Bad", "reader")
    with pytest.raises(NotAllowed):
        member.put("t", "b", {"n": 1}, space="bad")


def test_a_replica_that_begins_again_is_told_again(member: Replica, script: Script) -> None:
    spaces = told(("w", "Writing", "reader"), ("gone", "Gone", "owner"), until="5.1", joined=["w"])
    script.answers = [problem(410, "cursor_lost"), page(spaces=spaces)]
    member.pull()
    assert script.pulls[-1].params["roles"] == ""
    assert member.spaces() == [JoinedSpace("w", "Writing", "reader")]
    with member.store.read() as db:
        assert db.execute("SELECT space FROM roles").fetchall() == [("w",)]


def test_a_file_of_before_is_told_without_beginning_again(member: Replica, open_replica: Open, script: Script) -> None:
    with member.store.write() as db:
        db.execute("DROP TABLE roles")
        db.execute("DELETE FROM meta WHERE key = 'roles'")
    member.close()
    again = open_replica()
    assert [space.role for space in again.spaces()] == [None, None, None]
    script.answers = [page(cursor="c2", spaces=told(("r", "Reading", "reader"), ("w", "W", "owner")))]
    again.pull()
    assert (script.pulls[-1].params["since"], script.pulls[-1].params["roles"]) == ("c1", "")
    assert [space.role for space in again.spaces()] == ["reader", "owner", None]
