"""What a device asks on its socket once it has said who it is: to subscribe, to push, to say who is present."""

from __future__ import annotations

import time

import msgspec
from msgspec import Raw

from syncd.core.errors import Fault, Malformed, SyncdError
from syncd.core.ids import fault_in_id
from syncd.core.values import InvalidValue, check_text, check_value
from syncd.edge.admission import UserAllowance
from syncd.edge.concurrency import Place
from syncd.edge.live_deps import LiveDeps, Transport
from syncd.edge.pace import LARGEST_PAGE
from syncd.live.connection import MAX_OWN, Connection, Subscription
from syncd.protocol import live_messages
from syncd.protocol.first_generation import client_of
from syncd.protocol.messages import PushBody
from syncd.protocol.pull_messages import PullRequest
from syncd.protocol.push_answer import PushAnswer, encoded
from syncd.service.aside import aside, is_large
from syncd.service.event_ids import EventIds
from syncd.service.push import PushRequest

MAX_SUBSCRIPTIONS = 64


class SocketCommands:
    """Performs one message of a connection. `own_app`: the only app that its socket is for, None for every app."""

    __slots__ = ("_connection", "_deps", "_own_app", "_transport")

    def __init__(self, deps: LiveDeps, transport: Transport, connection: Connection, own_app: str | None) -> None:
        self._deps, self._transport, self._connection, self._own_app = deps, transport, connection, own_app

    @property
    def _legacy(self) -> bool:
        return not self._connection.fields_alone

    def app_of(self, given: str | None) -> str:
        """The app that a message is about. Raises Malformed."""
        app = given if given is not None else self._own_app
        if app is None:
            raise Malformed("appId is needed: this connection is for every app.", faults=(Fault("/appId", "missing"),))
        if wrong := fault_in_id(app):
            raise Malformed(f"appId {wrong}.", faults=(Fault("/appId", wrong),))
        if self._own_app is not None and app != self._own_app:
            raise Malformed(
                "This connection is for another app; use /ws for every app.", faults=(Fault("/appId", "another app"),)
            )
        return app

    def check(self, message: live_messages.Subscribe, bucket: UserAllowance | None) -> str:
        """The app of a subscription that may begin. Raises Malformed, TooMany."""
        app, connection = self.app_of(message.appId), self._connection
        if len(connection.subscriptions) >= MAX_SUBSCRIPTIONS and app not in connection.subscriptions:
            raise Malformed(f"At most {MAX_SUBSCRIPTIONS} subscriptions a connection.")
        if bucket is not None and app not in connection.subscriptions:
            bucket.check(len(connection.spaces))
        return app

    def subscribe(self, message: live_messages.Subscribe, bucket: UserAllowance | None) -> None:
        """Begins to send what an app's feeds have. Raises Malformed, TooMany."""
        app, connection = self.check(message, bucket), self._connection
        tables = live_messages.tables_in(message.collections)
        priority = live_messages.tables_in(message.first, "first", live_messages.MAX_PRIORITY)
        size = live_messages.page_bytes(message.bytes, LARGEST_PAGE)
        pushed = live_messages.pushed_in(message.pushed or []) if connection.fields_alone else ()
        request = PullRequest(
            app,
            message.since or "",
            tables,
            plain=not connection.fields_alone,
            bytes=size,
            priority=priority,
            pushed=pushed,
            roles=message.roles if connection.fields_alone else None,
        )
        if connection.fields_alone:
            request = _chosen(request, message)
        try:
            subscription = self._deps.hub.subscription(connection, request)
        except SyncdError as why:
            self._transport.send(live_messages.error(why.code, why.detail, appId=app))
            return
        self._deps.hub.subscribe(subscription)

    def unsubscribe(self, message: live_messages.Unsubscribe, bucket: UserAllowance | None) -> None:
        """Sends no more of an app's feeds. Raises Malformed."""
        app, connection = self.app_of(message.appId), self._connection
        if bucket is not None and app in connection.subscriptions:
            bucket.end(len(connection.spaces))
        self._deps.hub.unsubscribe(connection, app)

    async def push(self, message: live_messages.PushFrame, text: bytes) -> None:
        """Performs a push, and answers it. Raises what PushService.push raises."""
        app, connection = self.app_of(message.appId), self._connection
        client = connection.client or (client_of(None, connection.caller.user) if self._legacy else "")
        if not client:
            raise Malformed("The `auth` frame did not name the device: `clientId`.")
        deps, caller = self._deps, connection.caller
        deps.authenticator.rates.request(caller.user)
        deps.authenticator.rates.moved(caller.user, len(text), 0)
        if deps.authenticator.asks:
            # As for every request: what the service said a moment ago is not what it says.
            caller = caller._replace(external=await deps.authenticator.ask(caller.user))
        now, large = time.time_ns() // 1000, is_large(text, self._legacy)
        event = EventIds(now)
        kept = min(len(message.changes), MAX_OWN)  # no more of them are remembered
        events = await aside(large, event.after(len(message.changes) - kept).first, kept)
        body = PushBody(
            message.changes, schemaVersion=message.schemaVersion, atomic=message.atomic, pull=self._legacy,
            incarnations=message.incarnations, bases=message.bases,
        )  # fmt: skip
        wanted = PullRequest(app, plain=self._legacy, own=self._legacy)
        first = len(message.changes) - kept

        def derived(place: int) -> None:
            # Its device has not all of it, so it comes like another's.
            connection.forget_own(events[place - first : place - first + 1] if place >= first else ())

        answer = await self._perform(PushRequest(caller, client, wanted, text, body, now, event, derived), events)
        subscription = connection.subscriptions.get(app)
        if subscription is not None:
            subscription.acknowledges(answer.results)
        if answer.delta is not None and answer.delta.changes and subscription is not None:
            await self._put_right(subscription, answer.delta.changes)
        self._transport.send(await aside(large, self._result, app, message, answer))
        deps.hub.counts.pushed(answer)
        for space, seq in answer.written.items():
            deps.hub.committed(space, app, seq)

    async def _perform(self, request: PushRequest, events: list[bytes]) -> PushAnswer:
        """Performs it. `events`: the ids of its last changes, which the connection is not sent as others' changes."""
        # Known before the database knows: the hub may hear of the push before we do.
        self._connection.pushed(events)
        try:
            with Place(self._deps.authenticator.limit, request.caller.user):
                answer = await self._deps.pushes.push(request)
        except SyncdError:
            self._connection.forget_own(events)
            raise
        taken = {result.eventId for result in answer.results[-MAX_OWN:] if result.status == "applied"}
        self._connection.forget_own(event for event in events if event.decode() not in taken)
        return answer

    async def _put_right(self, subscription: Subscription, changes: bytes) -> None:
        """Tells a device of the first generation how the records are of which it shows something else after its push:
        before the result, with which it forgets that. Its place stays where its feeds have brought it."""
        self._deps.authenticator.rates.moved(self._connection.caller.user, 0, len(changes))
        tail = live_messages.changes_tail(subscription.cursor, not subscription.live)
        await self._transport.send_page(live_messages.changes_head(subscription.request.app), changes, tail)

    def _result(self, app: str, message: live_messages.PushFrame, answer: PushAnswer) -> bytes:
        """As a push's answer, less what came from others: its place stays where its feeds have brought it."""
        said = {"type": "push-result", "requestId": message.requestId, "appId": app,
                "results": Raw(encoded(answer.results)), "conflicts": Raw(encoded(answer.conflicts))}  # fmt: skip
        subscription = self._connection.subscriptions.get(app)
        if subscription is not None:
            said["syncedUntil"], said["hasMore"] = subscription.cursor.decode(), not subscription.live
        elif answer.delta is not None:
            said["serverChanges"] = Raw(b"[%b]" % answer.delta.changes)
        return msgspec.json.encode(said)

    async def present(self, message: live_messages.PresenceFrame) -> None:
        """Takes in what a device says about its user in a space. Raises Malformed."""
        connection = self._connection
        if not connection.client:
            raise Malformed("The `auth` frame did not name the device: `clientId`.")
        state = bytes(message.state)
        if len(state) > live_messages.MAX_STATE:
            raise Malformed(f"A presence state has at most {live_messages.MAX_STATE} bytes.", code="state_too_large")
        try:
            check_text(state)
            check_value(state, self._deps.pushes.limits.max_depth)
        except InvalidValue as wrong:
            raise Malformed(f"{wrong}.", code="invalid_value", faults=(Fault("/state", str(wrong)),)) from None
        self._deps.hub.say(connection, message.spaceId, state)


def _chosen(request: PullRequest, message: live_messages.Subscribe) -> PullRequest:
    """The same with what a subscription wants, and what its device has. Raises Malformed."""
    known = message.knownCollections
    return request._replace(
        spaces=live_messages.spaces_in(message.spaces, "spaces"),
        known_tables=live_messages.some(known, live_messages.tables_in(known, "knownCollections"), "knownCollections"),
        known_spaces=live_messages.spaces_in(message.knownSpaces, "knownSpaces"),
    )
