"""Who listens on this process, and to what. It decides; the runner performs (`syncd.live.effects`). Pure.

It holds nothing that a restart loses. A hint, from this process or by the bus from another one, says where there is
more to read. Two slow polls, of membership changes and of the heads of feeds, find what no hint told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from syncd.bus.hints import Hint, key
from syncd.core.errors import SyncdError
from syncd.live import effects, frames
from syncd.live.batch import Batch
from syncd.live.connection import FALLS_BEHIND, SKIPS, Connection, Subscription
from syncd.live.effects import Effect
from syncd.live.live_space import Feed, LiveSpace
from syncd.live.presence import Presence
from syncd.protocol.cursor import Cursor
from syncd.service.counts import Counts


class LiveState:
    """The connections of a process, their spaces and feeds. Whoever tells it something performs its `effects` then.

    `key`: signs cursors; `boot`: the database's start that it knows of; `users`: the connections of each user, by
    number; `spaces`: by number; `unsure`: feeds that were joined just now; `entering`: by the number of its question,
    the users who came or went while a new connection's user is being resolved; `unresolved`: those who have to be
    resolved since the database was started again.
    """

    def __init__(self, cursor_key: bytes, counts: Counts) -> None:
        self.key, self.counts = cursor_key, counts
        self.effects: deque[Effect] = deque()
        self.boot = 0
        self.users: dict[int, dict[Connection, None]] = {}
        self.spaces: dict[int, LiveSpace] = {}
        self._by_key: dict[str, LiveSpace] = {}
        self.presence = Presence(self.users, self.spaces, self.effects)
        self.unsure: list[Feed] = []
        self.resolutions = 0
        self.entering: dict[int, set[int]] = {}
        self.horizon: str | None = None
        self.seen: set[int] = set()
        self.unresolved: set[int] = set()
        # Where a service knows the memberships: when it last said so, and whose new ones the database has not heard.
        self.known_at: dict[int, float] = {}
        self.untold: set[int] = set()

    # -- connections -----------------------------------------------------------------------------------

    def entered(self, connection: Connection, user_no: int) -> None:
        """A connection's user is known."""
        connection.user_no = user_no
        self.users.setdefault(user_no, {})[connection] = None
        self.counts.connections += 1

    def knows(self, connection: Connection) -> bool:
        """Whether a connection is still there."""
        return connection in self.users.get(connection.user_no, ())

    def gone(self, connection: Connection) -> None:
        """A connection is lost or closed."""
        self.presence.gone(connection)
        for subscription in list(connection.subscriptions.values()):
            self._end(subscription)
        self.counts.subscriptions -= len(connection.subscriptions)
        connection.subscriptions.clear()
        for space in list(connection.spaces):
            self.leave_space(connection, space)
        others = self.users.get(connection.user_no, {})
        if connection in others:
            del others[connection]
            self.counts.connections -= 1
        if not others:
            self.users.pop(connection.user_no, None)
            self.known_at.pop(connection.user_no, None)
            self.untold.discard(connection.user_no)

    # -- subscriptions ---------------------------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> None:
        """Begins to keep a device current; an earlier subscription to the same app ends."""
        connection = subscription.connection
        self.unsubscribe(connection, subscription.request.app)
        if connection.available_only:
            for space in connection.spaces:
                self._no_longer_available(connection, self.spaces[space])
        connection.subscriptions[subscription.request.app] = subscription
        self.counts.subscriptions += 1
        self.fall_behind(subscription)

    def unsubscribe(self, connection: Connection, app: str) -> None:
        """Ends a subscription, if there is one."""
        subscription = connection.subscriptions.pop(app, None)
        if subscription is None:
            return
        self.counts.subscriptions -= 1
        self._end(subscription)
        if connection.available_only:
            spaces = [self.spaces[space] for space in connection.spaces]
            for space in spaces:
                space.available[connection] = None
            self.effects.append(effects.StartFinding(spaces, connection))

    def fall_behind(self, subscription: Subscription) -> None:
        """From now on it catches up by pulls, until it has everything."""
        if subscription.live:
            subscription.live = False
            self.counts.dropped_back += 1
        if subscription.catching_up:
            subscription.again = True
        else:
            subscription.catching_up = True
            self.effects.append(effects.StartCatchingUp(subscription))

    def refuse(self, subscription: Subscription, why: SyncdError) -> None:
        """It cannot be: the device has to subscribe again."""
        connection, app = subscription.connection, subscription.request.app
        if connection.subscriptions.get(app) is subscription:
            self.unsubscribe(connection, app)
            self.effects.append(effects.Refuse(subscription, why))

    def _end(self, subscription: Subscription) -> None:
        """It is over: nothing more is sent."""
        subscription.live = False
        if subscription.catching_up:
            self.effects.append(effects.StopCatchingUp(subscription))
        for space in subscription.connection.spaces:
            self.leave_feed(subscription, space)

    def offer(self, delivery: effects.Deliver, subscription: Subscription, keeps_up: bool) -> int:
        """The seq after which a subscription takes of a batch, whose end is its place from now on; SKIPS where it takes
        nothing. `keeps_up`: whether its device keeps up."""
        feed, batch = delivery.feed, delivery.batch
        if subscription not in feed.subscribers:
            return SKIPS
        if subscription.request.plain and not delivery.legacy:
            self.fall_behind(subscription)  # it came while the batch was read, which is without plain records
            return SKIPS
        after = subscription.takes_after(feed.space.number, batch, keeps_up)
        if after == FALLS_BEHIND:
            self.fall_behind(subscription)
            return SKIPS
        return after

    # -- spaces ----------------------------------------------------------------------------------------

    def enter_space(self, connection: Connection, number: int, space_id: str, version: int) -> None:
        """A connection's user is a member, as of a membership version."""
        space = self.spaces.get(number)
        if space is None:
            space = self.spaces[number] = LiveSpace(number, space_id, version)
            self._by_key[space.key] = space
        space.members[connection] = None
        connection.spaces[number] = space_id
        space.version = min(space.version, version)
        if connection.available_only:
            space.available[connection] = None

    def leave_space(self, connection: Connection, number: int) -> None:
        """It is no member any more, or gone."""
        space = self.spaces[number]
        for subscription in connection.subscriptions.values():
            self.leave_feed(subscription, number)
        self.presence.left(connection, space)
        space.members.pop(connection, None)
        del connection.spaces[number]
        self._no_longer_available(connection, space)
        if not space.members:
            del self.spaces[number]
            # A space that was made again has the id of the one before it.
            if self._by_key.get(space.key) is space:
                del self._by_key[space.key]

    def moved(self, connection: Connection, spaces: Iterable[int]) -> None:
        """Spaces came or went: the next page tells, and brings what is new whole."""
        for subscription in connection.subscriptions.values():
            self.fall_behind(subscription)
        if connection.available_only:
            there = [self.spaces[space] for space in spaces if space in self.spaces]
            apps = dict.fromkeys(feed.app for space in there for feed in space.feeds.values())
            self.tell_available([connection], [connection.app] if connection.app else apps)

    def renamed(self, connection: Connection) -> None:
        """A space may have another name, or the user another role: the next page tells those who ask."""
        for subscription in connection.subscriptions.values():
            if subscription.roles is not None:
                self.fall_behind(subscription)

    def _no_longer_available(self, connection: Connection, space: LiveSpace) -> None:
        if space.available.pop(connection, space) is None and not space.available:
            space.written = frozenset()
            for name in [name for name, feed in space.feeds.items() if not feed.heard]:
                del space.feeds[name]

    def start_over(self, boot: int) -> None:
        """The database was started again, perhaps from a backup: every cursor is looked at again."""
        self.boot = boot
        # Those who subscribed find out by pulling.
        self.unresolved.update(user for user, known in self.users.items() if any(one.available_only for one in known))
        for space in self.spaces.values():
            for feed in space.feeds.values():
                feed.subscribers.clear()  # one that is being read has nobody left to read for
            space.version, space.feeds = -1, {}
            if space.available:
                self.effects.append(effects.StartFinding([space], next(iter(space.available))))
        for connection in [connection for connections in self.users.values() for connection in connections]:
            for subscription in connection.subscriptions.values():
                self.fall_behind(subscription)

    # -- feeds -----------------------------------------------------------------------------------------

    def join_feeds(self, subscription: Subscription, found: Cursor) -> bool:
        """Takes a place in every feed of a cursor; False where one of them has gone on already."""
        app = key(subscription.request.app)
        for position in found.positions:
            space = self.spaces.get(position.space)
            if space is None or subscription.connection not in space.members:
                return False
            feed = space.feeds.get(app)
            if feed is not None and feed.heard and feed.head > position.seq:
                return False
        if found.boot != self.boot:
            self.effects.append(effects.PollMembers())
            return False
        for position in found.positions:
            space = self.spaces[position.space]
            feed = space.feeds.get(app)
            if feed is None or not feed.heard:
                feed = space.feeds[app] = Feed(space, subscription.request.app, position.seq)
                if app in space.written:
                    space.written -= {app}
                    self.tell_available(space.available, (subscription.request.app,))
            feed.subscribers[subscription] = None
            self._check_head(feed)
        return True

    def leave_feed(self, subscription: Subscription, number: int) -> None:
        """Gives a place up."""
        space = self.spaces.get(number)
        name = key(subscription.request.app)
        feed = space.feeds.get(name) if space else None
        if space and feed and feed.subscribers.pop(subscription, feed) is None and not feed.heard:
            del space.feeds[name]

    def _check_head(self, feed: Feed) -> None:
        """A feed that was joined may have gone on between the reading and now, and its hint have found nobody."""
        self.unsure.append(feed)
        if len(self.unsure) == 1:
            self.effects.append(effects.StartCheckingHeads())

    def hinted(self, feed: Feed, seq: int) -> None:
        """A feed is said to have reached `seq`."""
        if seq <= feed.head:
            return
        feed.hinted = max(seq, feed.hinted)
        # Heard of before is not read yet: a reading may have failed, or nobody have listened then.
        if not feed.reading and feed.heard:
            feed.reading = True
            self.effects.append(effects.StartReading(feed))

    def found_feed(self, number: int, app: str, head: int) -> Feed | None:
        """A feed that was not known, in a space where somebody wants to be told that there is news."""
        space, name = self.spaces.get(number), key(app)
        if space is None or not space.available or name in space.feeds:
            return None
        is_news = name in space.written
        space.feeds[name] = feed = Feed(space, app, 0 if is_news else head)
        if is_news:
            # It was written to while somebody looked which feeds there are: the others have not heard of it.
            space.written -= {name}
            self.hinted(feed, head)
        return feed

    # -- news for those who did not subscribe ------------------------------------------------------------

    def tell_available(self, connections: Iterable[Connection], apps: Iterable[str]) -> None:
        """That there is news in some apps, without saying in which tables."""
        told = [connection for connection in connections if connection.available_only]
        for app in apps:
            receivers = [one for one in told if one.app in (None, app)]
            if receivers:
                self.effects.append(effects.Send(receivers, frames.available(app, ())))

    def tell_of_batch(self, feed: Feed, batch: Batch) -> None:
        """That a feed was read, but not who wrote all of it."""
        receivers = [
            one
            for one in feed.space.available
            if one.app in (None, feed.app) and not (one.own is not None and batch.own_only(one.own))
        ]
        if receivers:
            self.effects.append(effects.Send(receivers, batch.available()))

    # -- hints -----------------------------------------------------------------------------------------

    def receive(self, hint: Hint) -> None:
        """What this or another process says has happened."""
        if hint.kind == "m":
            self.effects.append(effects.PollMembers())
            return
        space = self._by_key.get(hint.space)
        if space is None:
            return
        if hint.kind == "p":
            self.presence.changed(space)
            return
        feed = space.feeds.get(hint.app)
        if feed is not None:
            self.hinted(feed, hint.seq)
        elif space.available:
            space.written |= {hint.app}
            self.effects.append(effects.StartFinding([space], next(iter(space.available)), all_new=True))

    def committed(self, space: str, app: str, seq: int) -> None:
        """A push of this process was."""
        self._tell_everybody(Hint("f", key(space), key(app), seq))

    def members_were_changed(self) -> None:
        """By this process."""
        self._tell_everybody(Hint("m"))

    def _tell_everybody(self, hint: Hint) -> None:
        self.receive(hint)
        self.effects.append(effects.Publish(hint))
