"""Which feeds a consumer's process reads next, and from where: decided here, without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from syncd.store.consumers import ConsumedPlace, HeldSlot, WaitingFeed

# Feeds that one reading is of, at most.
AT_ONCE = 500


class FeedsToRead:
    """The feeds that are known to have news, in turn. Those in batches that are not acknowledged yet stand where they
    will be then, so that the next batch can be read meanwhile."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, int], WaitingFeed] = {}
        self._ahead: dict[tuple[int, int], WaitingFeed] = {}
        self._slots: Mapping[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def hold(self, slots: Iterable[HeldSlot]) -> bool:
        """This process has these slots. Whether some of them are new."""
        now = {held.slot: held.lease for held in slots}
        more = any(self._slots.get(slot) != lease for slot, lease in now.items())
        self._slots = now
        return more

    def holds(self, places: Sequence[ConsumedPlace]) -> bool:
        """Whether what was read can still be acknowledged, as far as is known."""
        return all(self._slots.get(place.feed.slot) == place.feed.lease for place in places)

    def found(self, news: Iterable[WaitingFeed]) -> None:
        """The database says that these have news. Of one that is in a batch it does not know how far that is."""
        for feed in news:
            known = self._ahead.get(feed.key)
            if known is not None:
                feed = known._replace(head=max(known.head, feed.head))
                self._ahead[feed.key] = feed
            if feed.head > feed.seq:
                self._waiting[feed.key] = feed

    def take(self, rows: int) -> list[WaitingFeed]:
        """The next ones, of some `rows` changes together. They stay, until it is known what was read of them."""
        taken, total = list[WaitingFeed](), 0
        for feed in list(self._waiting.values()):
            if self._slots.get(feed.slot) != feed.lease:
                del self._waiting[feed.key]
                continue
            taken.append(feed)
            total += feed.head - feed.seq
            if total >= rows or len(taken) == AT_ONCE:
                break
        return taken

    def gone(self, feeds: Iterable[WaitingFeed]) -> None:
        """There is nothing to read of these."""
        for feed in feeds:
            self._waiting.pop(feed.key, None)

    def read(self, places: Iterable[ConsumedPlace]) -> None:
        """These were read so far. One that has more waits again, behind the others."""
        for feed, upto, base in places:
            self._waiting.pop(feed.key, None)
            ahead = feed._replace(seq=upto, base=base, acks=feed.acks + 1)
            self._ahead[feed.key] = ahead
            if ahead.head > upto:
                self._waiting[feed.key] = ahead

    def settle(self, places: Iterable[ConsumedPlace]) -> None:
        """These were acknowledged."""
        for place in places:
            ahead = self._ahead.get(place.feed.key)
            if ahead is not None and ahead.acks == place.feed.acks + 1:
                del self._ahead[place.feed.key]

    def forget(self) -> None:
        """Nothing that was read counts any more: all is asked for again."""
        self._waiting.clear()
        self._ahead.clear()
