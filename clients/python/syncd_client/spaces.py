"""Spaces, their members, invitations, links and blocks, asked of the server: functions on a Replica.

What comes of them in the replica (a space that is joined, one that was left) comes with its next sync. All raise
InvalidQuery for what can be no id, Refused with the server's code, NotAllowed (`forbidden`), Offline, ServerBusy (a
bound on how often: `retry_after` says when again), NotConnected, BadReply. What is to be gone and is gone already is
no error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeVar

from .errors import Refused
from .replica import Replica
from .store.ids import new_id
from .sync.request import ask, read_answer, segment

T = TypeVar("T")
Role = Literal["owner", "writer", "reader"]


@dataclass(frozen=True, slots=True)
class Space:
    """A space; `role` is the user's in it. `created_at` is RFC 3339 text."""

    id: str
    name: str
    role: str
    created_at: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member since `joined_at`; or, where that is None, who was invited by `invited_by` at `invited_at`."""

    user: str
    role: str
    joined_at: str | None
    invited_by: str | None
    invited_at: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a space: by it `uses` users become members, `used` so far, until `expires_at` (RFC 3339 text).

    `token` is what the link holds: who has it may join. It is there when the link is made, and None afterwards.
    """

    id: str
    role: str
    uses: int
    used: int
    created_by: str
    created_at: str
    expires_at: str
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation of the user: `name` is the space's. `invited_at` is RFC 3339 text."""

    space: str
    name: str
    role: str
    invited_by: str
    invited_at: str


def spaces(replica: Replica) -> list[Space]:
    """The spaces that the user is in."""
    return _list(ask(replica, "GET", "/spaces"), "spaces", _space)


def create_space(replica: Replica, name: str, id: str | None = None) -> Space:
    """Makes a space that the user owns. Without `id` it gets a UUID, made here: a repeated request makes one space."""
    body = {"id": new_id(replica.wall()) if id is None else id, "name": name}
    return read_answer(partial(_space, ask(replica, "POST", "/spaces", body=body)))


def rename(replica: Replica, space: str, name: str) -> Space:
    """Gives a space another name, as one of its owners. Other members see it when they ask for their spaces."""
    return read_answer(partial(_space, ask(replica, "PATCH", _of(space), body={"name": name})))


def leave(replica: Replica, space: str) -> None:
    """Leaves a space. Raises Refused `last_owner`."""
    _gone(replica, f"{_of(space)}/membership")


def delete_space(replica: Replica, space: str) -> None:
    """Ends a space, for all its members."""
    _gone(replica, _of(space))


def members(replica: Replica, space: str) -> list[Member]:
    """The members of a space."""
    return _list(ask(replica, "GET", f"{_of(space)}/members"), "members", _member)


def invited(replica: Replica, space: str) -> list[Member]:
    """The users who are invited to a space, for its owners."""
    return _list({"invited": [], **ask(replica, "GET", f"{_of(space)}/members")}, "invited", _member)


def put_member(replica: Replica, space: str, user: str, role: Role = "writer") -> Member:
    """Adds a user to a space, or invites them where the server asks users; changes the role of one who is there."""
    path = f"{_of(space)}/members/{segment('the user', user)}"
    return read_answer(partial(_member, ask(replica, "PUT", path, body={"role": role})))


def remove_member(replica: Replica, space: str, user: str) -> None:
    """Removes a member, withdraws an invitation, or (the user's own id) leaves the space."""
    _gone(replica, f"{_of(space)}/members/{segment('the user', user)}")


def invite_link(
    replica: Replica,
    space: str,
    role: Literal["writer", "reader"] = "writer",
    *,
    uses: int = 1,
    expires_in: int = 604800,
) -> Link:
    """Invites by a link, as an owner: its `token` makes `uses` users members, within `expires_in` seconds.

    Put the token behind the `#` of an address of your application, which no server writes down. A request whose answer
    was lost and that is repeated makes two; the one whose token nobody has ends by itself.
    """
    body = {"role": role, "uses": uses, "expiresIn": expires_in}
    return read_answer(partial(_link, ask(replica, "POST", f"{_of(space)}/invitations", body=body)))


def links(replica: Replica, space: str) -> list[Link]:
    """The links to a space that are in force, without their tokens, for its owners."""
    return _list(ask(replica, "GET", f"{_of(space)}/invitations"), "invitations", _link)


def withdraw_link(replica: Replica, space: str, link: str) -> None:
    """Ends a link, by its id. Members who joined by it stay."""
    _gone(replica, f"{_of(space)}/invitations/{segment('the link', link)}")


def accept_link(replica: Replica, link: str) -> Space:
    """Joins a space by a link, or by what is behind its `#`. The records come with the next sync; a member stays as is.

    Raises Refused `invitation_not_found` for whatever cannot be used, `limit_reached`.
    """
    return read_answer(partial(_space, ask(replica, "POST", "/invitations", body={"token": link.rpartition("#")[2]})))


def invitations(replica: Replica) -> list[Invitation]:
    """The user's invitations. Nothing tells of a new one: ask when the application is opened."""
    return _list(ask(replica, "GET", "/invitations"), "invitations", _invitation)


def accept(replica: Replica, space: str) -> Space:
    """Accepts an invitation. The records come with the next sync.

    Raises Refused `invitation_not_found`, `limit_reached`.
    """
    return read_answer(partial(_space, ask(replica, "POST", f"{_invited_to(space)}/accept")))


def decline(replica: Replica, space: str) -> None:
    """Declines an invitation."""
    _gone(replica, _invited_to(space))


def blocks(replica: Replica) -> list[str]:
    """The users whom the user blocks."""
    return _list(ask(replica, "GET", "/blocks"), "blocks", lambda wire: str(wire["userId"]))


def block(replica: Replica, user: str) -> None:
    """Refuses what a user would add or invite this one to, and declines what they invited to. They are not told."""
    ask(replica, "PUT", f"/blocks/{segment('the user', user)}")


def unblock(replica: Replica, user: str) -> None:
    """Ends a block."""
    _gone(replica, f"/blocks/{segment('the user', user)}")


def _of(space: str) -> str:
    return f"/spaces/{segment('the space', space)}"


def _invited_to(space: str) -> str:
    return f"/invitations/{segment('the space', space)}"


def _gone(replica: Replica, path: str) -> None:
    """Deletes it; the answer to an earlier request for that may have been lost."""
    try:
        ask(replica, "DELETE", path)
    except Refused as why:
        if why.status != 404:
            raise


def _list(found: Any, name: str, make: Callable[[Any], T]) -> list[T]:
    return read_answer(lambda: [make(wire) for wire in found[name]])


def _space(wire: Any) -> Space:
    return Space(wire["id"], wire["name"], wire["role"], wire["createdAt"])


def _member(wire: Any) -> Member:
    return Member(wire["userId"], wire["role"], wire.get("joinedAt"), wire.get("invitedBy"), wire.get("invitedAt"))


def _link(wire: Any) -> Link:
    created = wire["createdBy"], wire["createdAt"], wire["expiresAt"]
    return Link(wire["id"], wire["role"], wire["uses"], wire["used"], *created, wire.get("token"))


def _invitation(wire: Any) -> Invitation:
    return Invitation(wire["spaceId"], wire["name"], wire["role"], wire["invitedBy"], wire["invitedAt"])
