"""What the live core keeps of users between two questions about their memberships."""

from __future__ import annotations

import pytest

from syncd.core.errors import Busy
from syncd.core.principal import External
from syncd.live import effects
from syncd.live.effects import Steps
from syncd.live.memberships import ask_service, poll_members
from syncd.live.state import LiveState
from syncd.service.counts import Counts
from syncd.store.live_rows import MembershipChanges, ResolvedUser
from tests.unit.live.device import Device
from tests.unit.live.world import KEY, ModelDatabase

ANN = 1


def entered(state: LiveState) -> Device:
    """A device of Ann's that is connected, and subscribed to nothing."""
    device = Device(ModelDatabase(1), ANN, "phone", None)
    state.entered(device.connection, ANN)
    return device


def test_of_a_user_who_leaves_while_the_service_is_asked_nothing_is_kept() -> None:
    state = LiveState(KEY, Counts())
    device = entered(state)
    asking = ask_service(state, ANN, 5.0)
    assert isinstance(next(asking), effects.AskService)
    state.gone(device.connection)
    with pytest.raises(StopIteration):
        asking.send(External([{"id": "garden", "role": "owner"}], 1))
    assert (state.known_at, state.untold) == ({}, set())


def test_one_who_stays_is_known_since_the_service_was_asked() -> None:
    state = LiveState(KEY, Counts())
    leaves, stays = entered(state), entered(state)
    asking = ask_service(state, ANN, 5.0)
    next(asking)
    state.gone(leaves.connection)
    now = External([{"id": "garden", "role": "owner"}], 1)
    resolving = asking.send(now)
    assert isinstance(resolving, effects.ResolveUser)
    assert resolving.caller.external == now
    with pytest.raises(StopIteration):
        asking.send(ResolvedUser(ANN, [], [], []))
    assert stays.connection.caller.external == now
    assert (state.known_at, state.untold) == ({ANN: 5.0}, set())


def resolved_to(asking: Steps[None], said: list[str], as_of: int) -> bool:
    """Answers a question to the service, and says whether the database is told."""
    next(asking)
    try:
        resolving = asking.send(External([{"id": space, "role": "owner"} for space in said], as_of))
    except StopIteration:
        return False
    assert isinstance(resolving, effects.ResolveUser)
    with pytest.raises(StopIteration):
        asking.send(ResolvedUser(ANN, [], [], []))
    return True


def test_where_another_list_was_taken_over_between_two_questions_the_newest_is_told() -> None:
    state = LiveState(KEY, Counts())
    entered(state)
    assert not resolved_to(ask_service(state, ANN, 1.0), [], 1)
    assert resolved_to(ask_service(state, ANN, 2.0), ["garden"], 2)
    assert not resolved_to(ask_service(state, ANN, 3.0), ["garden"], 3)
    # A request of the same user brought an empty list, and the database took it over: the poll finds that.
    poll = poll_members(state)
    next(poll)
    together = poll.send(MembershipChanges("1", {7: ANN}, 0))
    assert isinstance(together, effects.Together)
    with pytest.raises(StopIteration):
        poll.send(None)
    assert resolved_to(ask_service(state, ANN, 4.0), ["garden"], 5), "the service says what it said before that"
    assert not resolved_to(ask_service(state, ANN, 5.0), ["garden"], 6)


def test_a_change_that_is_found_while_the_newest_is_told_is_followed_by_another_question() -> None:
    state = LiveState(KEY, Counts())
    entered(state)
    asking = ask_service(state, ANN, 1.0)
    next(asking)
    assert isinstance(asking.send(External([{"id": "garden", "role": "owner"}], 1)), effects.ResolveUser)
    poll = poll_members(state)
    next(poll)
    poll.send(MembershipChanges("1", {7: ANN}, 0))
    with pytest.raises(StopIteration):
        asking.send(ResolvedUser(ANN, [], [], []))
    assert resolved_to(ask_service(state, ANN, 2.0), ["garden"], 2)


def test_a_list_that_could_not_be_told_is_told_by_the_next_question() -> None:
    state = LiveState(KEY, Counts())
    device = entered(state)
    asking = ask_service(state, ANN, 1.0)
    next(asking)
    asking.send(External([{"id": "garden", "role": "owner"}], 1))
    with pytest.raises(Busy):
        asking.throw(Busy())
    assert resolved_to(ask_service(state, ANN, 2.0), ["garden"], 2)
    asking = ask_service(state, ANN, 3.0)
    next(asking)
    asking.send(External([], 3))
    state.gone(device.connection)
    with pytest.raises(Busy):
        asking.throw(Busy())
    assert (state.known_at, state.untold) == ({}, set())


def test_after_a_restart_a_poll_that_failed_is_made_up_for_by_the_next() -> None:
    state = LiveState(KEY, Counts())
    entered(state)
    restarted = MembershipChanges("1", {}, 7)
    for failure in (Busy(), None):
        poll = poll_members(state)
        assert isinstance(next(poll), effects.ReadMembershipChanges)
        together = poll.send(restarted)
        assert isinstance(together, effects.Together)
        assert [type(next(process)) for process in together.processes] == [effects.ResolveUser]
        with pytest.raises(StopIteration if failure is None else Busy):
            poll.send(None) if failure is None else poll.throw(failure)
    poll = poll_members(state)
    next(poll)
    together = poll.send(restarted)
    assert isinstance(together, effects.Together)
    assert not together.processes
