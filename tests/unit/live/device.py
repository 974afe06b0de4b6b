"""A device that the live core sends to: a sink that judges what it is sent as it comes."""

from __future__ import annotations

import msgspec

from syncd.core.principal import Principal
from syncd.live import frames
from syncd.live.batch import Batch
from syncd.live.connection import Connection, Subscription
from syncd.protocol.pull_messages import PullPage
from tests.unit.live.world import ModelDatabase, opened


class Written(msgspec.Struct):
    """A change as a device reads it."""

    spaceId: str
    seq: int
    eventId: str = ""


_READER = msgspec.json.Decoder(list[Written])


class Device:
    """A device: a sink that judges what it is sent. `has`: seqs by app and space; `at`: its positions by app and space;
    `owed`: failures that it is to be told of; `told`: the tables it was told of news in; `told_of`: apps,
    without their tables; `missed`: it did not keep up
    once; `sees`: presence by space, user and client."""

    page_bytes = 1 << 20

    def __init__(self, database: ModelDatabase, user: int, client: str, app: str | None) -> None:
        self.database, self.user = database, user
        # Its memberships come from outside, so that they are asked for again with each new token.
        self.connection = Connection(self, Principal(str(user), database.external(user)), client, app)
        self.keeps_up, self.ended, self.missed = True, False, False
        self.has: dict[str, dict[int, set[int]]] = {}
        self.at: dict[str, dict[int, int]] = {}
        self.cursors: dict[str, str] = {}
        self.owed: dict[str, int] = {}
        self.refused: list[str] = []
        self.told: set[str] = set()
        self.told_of: set[str] = set()
        self.sees: dict[tuple[str, str, str], str] = {}

    def knows(self, app: str, number: int) -> set[int]:
        return self.has.setdefault(app, {}).setdefault(number, set())

    # -- what it is sent -------------------------------------------------------------------------------

    def changes(self, subscription: Subscription, batch: Batch, after: int, cursor: bytes) -> None:
        """Part of a batch: what follows what it has, and nothing twice."""
        app = subscription.request.app
        assert self.connection.subscriptions.get(app) is subscription, "a batch for a subscription that is over"
        assert self.keeps_up, "a device that does not keep up is sent more"
        head = frames.changes(subscription, batch, after)
        taken = _written(head.partition(b'"changes":[')[2]) if head else []
        for one in taken:
            space = self.database.by_id[one.spaceId]
            known = self.knows(app, space.number)
            assert space.may_see(self.user, app, one.seq), f"{one} is shown to {self.user}, who had left"
            assert one.seq > after, f"{one} comes after {after}"
            assert one.seq not in known or one.eventId.startswith("own"), f"{one} comes again"
            known.add(one.seq)
        if batch.whole and after == batch.after:
            assert len(taken) == batch.upto - batch.after, "what a device wrote itself is kept from it"
        self._stands(app, cursor)

    async def page(self, subscription: Subscription, page: PullPage) -> None:
        """As the runner would send it; the simulation calls `takes`."""
        self.takes(subscription, page)

    async def page_turn(self) -> None:
        """It always takes one."""

    def takes(self, subscription: Subscription, page: PullPage) -> None:
        """A page of what it had missed."""
        app = subscription.request.app
        for space_id in page.left:
            number = self.database.by_id[space_id].number
            self.has.get(app, {}).pop(number, None)
            self.at.get(app, {}).pop(number, None)
        for one in _written(page.changes):
            self.knows(app, self.database.by_id[one.spaceId].number).add(one.seq)
        self._stands(app, page.synced_until.encode())

    def _stands(self, app: str, text: bytes) -> None:
        """A cursor came: it has all that is before it, and never goes back."""
        found = opened(text)
        assert found is not None
        places = self.database.positions(found)
        before, known = self.at.get(app, {}), self.has.get(app, {})
        self.cursors[app] = text.decode()
        if places is None:
            return  # the row is gone, which the next page tells
        for space, seq, _ in places:
            have = known.get(space, ())
            if len(have) < seq or (seq and max(have) > seq):
                missing = set(range(1, seq + 1)).difference(have)
                assert not missing, f"{self.user} has a cursor at {seq} in {space}, and {missing} never came"
            assert seq >= before.get(space, 0), f"a cursor went from {before[space]} back to {seq} in {space}"
        self.at[app] = {space: seq for space, seq, _ in places}

    def frame(self, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        if said["type"] == "sync-available":
            assert self.connection.available_only
            for table in said["tables"]:
                number, _, seq = table.partition("-")
                space = self.database.spaces[int(number)]
                assert space.may_see(self.user, said["appId"], int(seq)), f"{self.user} is told of {table} and had left"
            self.told |= {*said["tables"], said["appId"]}
            if not said["tables"]:
                self.told_of.add(said["appId"])
            return
        space, name = self.database.by_id[said["spaceId"]], (said["spaceId"], said["userId"], said["clientId"])
        if said["state"] is None:
            self.sees.pop(name, None)
            return
        assert space.may_see(self.user, "said", said["state"]), f"{self.user} hears {said}, and had left"
        self.sees[name] = str(said["state"])

    def invitations(self) -> None:
        self.told.add("invitations")

    def end(self, code: int, reason: str) -> None:
        self.ended = True


def _written(texts: bytes) -> list[Written]:
    return _READER.decode(b"[%b]" % texts) if len(texts) > 2 else []
