"""Which spaces connections are in: asked when they come, when a poll says that something changed, and when a page of a
subscription shows other spaces than were known. Pure: each function is a process that asks through its calls.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

from syncd.core.error_codes import ERROR_CODES, TRY_AGAIN_LATER
from syncd.core.errors import Busy, DatabaseUnavailable, MembershipsUnavailable
from syncd.live import effects
from syncd.live.available import find_feeds
from syncd.live.connection import Connection, Subscription
from syncd.live.effects import Steps
from syncd.live.live_space import LiveSpace
from syncd.live.state import LiveState
from syncd.store.live_rows import MembershipChanges, ResolvedUser

# A thousand spaces take some ten milliseconds; others get their turn in between.
SPACES_AT_ONCE = 1000
# A membership service that is away for longer than its own time-out and a retry: nobody knows who may still read.
UNKNOWN_FOR = 8.0


def connect(state: LiveState, connection: Connection) -> Steps[None]:
    """Lets a connection in whose caller is known. Raises Busy, DatabaseUnavailable."""
    state.resolutions += 1
    number, missed = state.resolutions, set[int]()
    state.entering[number] = missed
    try:
        user = yield from effects.ResolveUser(connection.caller)
    finally:
        del state.entering[number]
    state.entered(connection, user.user_no)
    try:
        yield from _place(state, connection, user, number)
        if connection.user_no in missed:
            yield from resolve(state, [connection])
        yield from find_feeds(state, [state.spaces[space] for space in connection.spaces], connection)
    except BaseException:
        state.gone(connection)
        raise


def renew(state: LiveState, connection: Connection) -> Steps[None]:
    """The same user with a new token: memberships may have come with it."""
    if connection.caller.external is not None:
        yield from _tell_database(state, connection.user_no, [connection])


def knows_spaces(state: LiveState, subscription: Subscription, spaces: Set[int]) -> Steps[bool]:
    """Whether the spaces of a page are those that the subscription is for now. Where they are not those that it was
    known to be for, re-reads the memberships, so that a leave-and-rejoin between two readings is not missed."""
    if spaces != subscription.spaces:
        yield from resolve(state, [subscription.connection])
    return spaces == subscription.spaces


def resolve(state: LiveState, connections: Sequence[Connection]) -> Steps[None]:
    """Asks again which spaces one user's connections are in."""
    if not connections:
        return
    state.resolutions += 1
    number = state.resolutions
    user = yield from effects.ResolveUser(connections[0].caller)
    for connection in connections:
        if state.knows(connection):
            yield from _place(state, connection, user, number)


def _place(state: LiveState, connection: Connection, user: ResolvedUser, number: int) -> Steps[None]:
    """Puts a connection into its spaces. An answer that is older than one already used is not."""
    if number < connection.resolved:
        return
    connection.resolved = number
    before, now = set(connection.spaces), set(user.spaces)
    for space in before - now:
        state.leave_space(connection, space)
    for n, (space, space_id, version) in enumerate(zip(user.spaces, user.ids, user.versions, strict=True), 1):
        if space not in before:
            state.enter_space(connection, space, space_id, version)
        if n % SPACES_AT_ONCE == 0:
            yield from effects.Rest()
            if connection.resolved != number or not state.knows(connection):
                return  # a newer answer is being used, or it left
    if before and before != now:
        state.moved(connection, before ^ now)


def check_members(state: LiveState, space: LiveSpace) -> Steps[None]:
    """Removes the connections of those who are no members of a space any more. Raises Busy, DatabaseUnavailable."""
    asked, began = {connection.user_no for connection in space.members}, state.resolutions
    version, members = yield from effects.CheckMembers(space.number, sorted(asked))
    # Whoever was resolved meanwhile may have come back since this was read.
    known = [one for one in space.members if one.user_no in asked and one.resolved <= began]
    removed = [one for one in known if one.user_no not in members]
    came = len(known) < len(space.members)
    space.version = min(space.version, version) if came else version
    for connection in removed:
        state.leave_space(connection, space.number)
        state.moved(connection, {space.number})


def poll_members(state: LiveState) -> Steps[None]:
    """Reads who came, went or changed role, and whether the database is the one it was."""
    changes = yield from effects.ReadMembershipChanges(state.horizon)
    users = _changed_users(state, changes)
    if changes.boot != state.boot:
        state.start_over(changes.boot)
    users |= state.unresolved
    for missed in state.entering.values():
        missed |= users
    processes = [resolve(state, list(state.users[user])) for user in users if user in state.users]
    yield from effects.Together(processes)
    for connection in [connection for user in users for connection in state.users.get(user, ())]:
        state.renamed(connection)
    # Not before: where one of them failed, the changes are read again from where they were.
    state.horizon, state.seen = changes.horizon, set(changes.changed)
    state.unresolved.clear()


def _changed_users(state: LiveState, changes: MembershipChanges) -> set[int]:
    """The users of changes that were not seen before, by number. Those who were invited are told."""
    users = {user for event, user in changes.changed.items() if event not in state.seen}
    for user in {-user for user in users if user < 0}:
        if user in state.users:
            state.effects.append(effects.TellInvited(list(state.users[user])))
    users = {user for user in users if user > 0}
    if users:
        state.effects.append(effects.MembersChanged(frozenset(users)))
    # Where a service knows the memberships, a request of the user may have brought a list that is older by now.
    state.untold |= users & state.users.keys()
    return users


def ask_service(state: LiveState, user: int, now: float) -> Steps[None]:
    """Asks the membership service about a connected user. Where nobody has known for too long, its connections end.
    `now`: seconds, by the runner's clock."""
    connections = list(state.users.get(user, ()))
    if not connections:
        return
    end = state.known_at.setdefault(user, now) + UNKNOWN_FOR
    try:
        external = yield from effects.AskService(connections[0].caller.user, end)
    except MembershipsUnavailable:
        cause = ERROR_CODES["memberships_unavailable"].cause
        state.effects.append(effects.Close(connections, TRY_AGAIN_LATER, cause))
        return
    connections = [connection for connection in connections if state.knows(connection)]
    if external is None or not connections:
        return  # nothing is kept of a user who has left meanwhile
    state.known_at[user] = now
    before = connections[0].caller.external
    for connection in connections:
        connection.caller = connection.caller._replace(external=external)
    if before is None or before.spaces != external.spaces:
        state.untold.add(user)
    if user in state.untold:
        yield from _tell_database(state, user, connections)


def _tell_database(state: LiveState, user: int, connections: Sequence[Connection]) -> Steps[None]:
    """A list of the user's spaces that came from outside: it is told until the database has heard."""
    # Not after it: what is found meanwhile is told by the next question to the service.
    state.untold.discard(user)
    try:
        yield from resolve(state, connections)
    except (Busy, DatabaseUnavailable):
        if user in state.users:
            state.untold.add(user)
        raise
