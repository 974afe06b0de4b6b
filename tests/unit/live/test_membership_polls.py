"""What the live core keeps of users between two questions about their memberships."""

from __future__ import annotations

import pytest

from syncd.core.errors import Busy
from syncd.core.principal import External
from syncd.live import effects
from syncd.live.memberships import ask_service, poll_members
from syncd.live.state import LiveState
from syncd.service.counts import Counts
from syncd.store.live_rows import MembershipChanges, ResolvedUser
from tests.unit.live.world import KEY, Device, ModelDatabase

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
