"""Spaces, invitations and blocks by the Python client, with a server that asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syncd_client import InvalidQuery, NotAllowed, Refused, Replica, spaces

from tests.support.harness import Server
from tests.support.wire import unique

Device = Callable[[str], Replica]


@pytest.fixture(scope="module")
def asking(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "client-spaces", settings={"invitations": "ask"}) as server:
        yield server


@pytest.fixture
def device(asking: Server, tmp_path: Path) -> Iterator[Device]:
    """Opens the device of a user."""
    opened: list[Replica] = []

    def open_device(user: str) -> Replica:
        path, token = tmp_path / f"{user}.db", asking.token(user)
        opened.append(Replica(path, app="app", url=asking.url, token=token, durability="normal"))
        return opened[-1]

    yield open_device
    for replica in opened:
        replica.close()


def ids(replica: Replica) -> list[str]:
    return [space.id for space in spaces.spaces(replica)]


def test_a_space_is_made_without_an_id_and_a_member_is_asked(device: Device) -> None:
    ann, bob = unique("ann"), unique("bob")
    hers, his = device(ann), device(bob)
    made = spaces.create_space(hers, "Garden")
    assert (made.name, made.role) == ("Garden", "owner")
    assert spaces.create_space(hers, "Shed").id != made.id
    asked = spaces.put_member(hers, made.id, bob, "reader")
    assert (asked.user, asked.role, asked.joined_at, asked.invited_by) == (bob, "reader", None, ann)
    assert spaces.invited(hers, made.id) == [asked]
    assert [member.user for member in spaces.members(hers, made.id)] == [ann]
    [found] = spaces.invitations(his)
    assert (found.space, found.name, found.role, found.invited_by) == (made.id, "Garden", "reader", ann)
    assert made.id not in ids(his)

    hers.put("t", "r", {"x": 1}, space=made.id)
    hers.sync()
    assert made.id not in his.sync().joined
    assert [spaces.accept(his, made.id).id for _ in range(2)] == [made.id, made.id]
    assert made.id in his.sync().joined
    assert his.get("t", "r", space=made.id) is not None
    assert spaces.invited(hers, made.id) == []

    spaces.remove_member(his, made.id, bob)
    assert his.sync().left == [made.id]
    for _ in range(2):
        spaces.delete_space(hers, made.id)
    assert made.id not in ids(hers)


def test_an_invitation_is_declined_withdrawn_and_refused_from_who_is_blocked(device: Device) -> None:
    ann, bob = unique("ann"), unique("bob")
    hers, his = device(ann), device(bob)
    space = spaces.create_space(hers, "Garden", unique("garden")).id
    spaces.put_member(hers, space, bob)
    for _ in range(2):
        spaces.decline(his, space)
    spaces.put_member(hers, space, bob)
    spaces.remove_member(hers, space, bob)
    assert spaces.invitations(his) == []
    with pytest.raises(Refused) as refused:
        spaces.accept(his, space)
    assert refused.value.code == "invitation_not_found"
    spaces.block(his, ann)
    assert spaces.blocks(his) == [ann]
    with pytest.raises(Refused) as refused:
        spaces.put_member(hers, space, bob)
    assert refused.value.code == "member_refused"
    spaces.unblock(his, ann)
    assert spaces.put_member(hers, space, bob).invited_by == ann
    with pytest.raises(InvalidQuery):
        spaces.put_member(hers, "..", bob)


def test_a_space_that_was_made_again_has_nothing_of_the_one_before(device: Device) -> None:
    ann, space = device(unique("ann")), unique("again")
    spaces.create_space(ann, "One", space)
    ann.put("t", "old", {"x": 1}, space=space)
    ann.sync()
    spaces.delete_space(ann, space)
    spaces.create_space(ann, "Two", space)
    report = ann.sync()
    assert (report.left, report.joined) == ([space], [space])
    assert ann.get("t", "old", space=space) is None
    ann.put("t", "new", {"x": 2}, space=space)
    assert ann.sync().pushed == 1


def test_a_link_is_made_shown_used_and_withdrawn(device: Device) -> None:
    ann, bob, eve = unique("ann"), unique("bob"), unique("eve")
    hers, his, other = device(ann), device(bob), device(eve)
    space = spaces.create_space(hers, "Garden").id
    hers.put("t", "r", {"x": 1}, space=space)
    hers.sync()
    made = spaces.invite_link(hers, space, "reader", uses=2, expires_in=60)
    assert (made.role, made.uses, made.used, made.created_by) == ("reader", 2, 0, ann)
    assert made.token is not None
    assert made.token not in repr(made)
    for link in (f"https://app.example/join?from=ann#{made.token}", made.token):
        joined = spaces.accept_link(his, link)
        assert (joined.id, joined.name, joined.role) == (space, "Garden", "reader")
    assert space in his.sync().joined
    assert his.get("t", "r", space=space) is not None
    [shown] = spaces.links(hers, space)
    assert (shown.id, shown.used, shown.token) == (made.id, 1, None)
    for _ in range(2):
        spaces.withdraw_link(hers, space, made.id)
    assert spaces.links(hers, space) == []
    with pytest.raises(Refused) as refused:
        spaces.accept_link(other, made.token)
    assert refused.value.code == "invitation_not_found"
    assert made.token not in str(refused.value)
    with pytest.raises(NotAllowed):
        spaces.invite_link(his, space)


def test_a_space_gets_another_name_and_is_left(device: Device) -> None:
    ann, bob = device(unique("ann")), device(unique("bob"))
    space = spaces.create_space(ann, "Garden").id
    spaces.accept_link(bob, spaces.invite_link(ann, space).token or "")
    assert spaces.rename(ann, space, "Orchard").name == "Orchard"
    assert [one.name for one in spaces.spaces(bob) if one.id == space] == ["Orchard"]
    with pytest.raises(NotAllowed):
        spaces.rename(bob, space, "His")
    bob.sync()
    for _ in range(2):
        spaces.leave(bob, space)
    assert bob.sync().left == [space]
    with pytest.raises(Refused) as refused:
        spaces.leave(ann, space)
    assert refused.value.code == "last_owner"
