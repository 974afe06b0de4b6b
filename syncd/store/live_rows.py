"""What the database answers to live connections. Pure: the live core decides by it."""

from __future__ import annotations

from typing import Any, NamedTuple


class ResolvedUser(NamedTuple):
    """A user in numbers. `spaces`, `ids` and `versions` go together: space number, space id, its membership version."""

    user_no: int
    spaces: list[int]
    ids: list[str]
    versions: list[int]


class FeedQuery(NamedTuple):
    """One feed from `after` (a seq) on, read as the member `user`; `legacy`: inserts as plain records too."""

    user: int
    space: int
    app: str
    after: int
    limit: int
    bytes: int
    legacy: bool

    def call(self) -> dict[str, Any]:
        call = {**self._asdict(), "legacy": True}
        if not self.legacy:
            del call["legacy"]
        return call


class News(NamedTuple):
    """What a reading brought; see sync_news in the schema. `version`: the space's membership version in the same
    snapshot, None when the reader is no member."""

    head: int | None
    upto: int | None
    version: int | None
    now_us: int
    boot_us: int
    seqs: list[int] | None
    ends: list[int] | None
    tables: list[str] | None
    body: bytes | None
    legacy: bytes | None


class FeedHead(NamedTuple):
    """How far a feed stands: `app` is its app's name."""

    space_no: int
    app: str
    head: int


class Members(NamedTuple):
    """A space's membership version, and which of the users that were asked for are members."""

    version: int
    members: list[int]


class MembershipNews(NamedTuple):
    """What was noted of memberships: `events` and `users` go together; None where there is nothing. A user's number is
    negated where an invitation came or ended."""

    horizon: str
    events: list[int] | None
    users: list[int] | None
    boot_us: int


class MembershipChanges(NamedTuple):
    """Membership changes: event number to the user's, negated where an invitation came or ended; `horizon` is where the
    next poll begins, `boot` microseconds. While an old transaction runs the same events come again."""

    horizon: str
    changed: dict[int, int]
    boot: int


class Present(NamedTuple):
    """One device in a space, and the space's membership version; where nobody is there, one row has that alone."""

    version: int
    user_id: str | None
    client_id: str | None
    state: str | None

    def here(self) -> list[Here]:
        """The device, if there is one."""
        if self.user_id is None or self.client_id is None or self.state is None:
            return []
        return [Here(self.user_id, self.client_id, self.state)]


class Here(NamedTuple):
    """A device that is in a space: its user, its client id and its state as JSON text."""

    user: str
    client: str
    state: str
