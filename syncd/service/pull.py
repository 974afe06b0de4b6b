"""Pull: what a device has missed since its cursor."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import msgspec
import structlog

from syncd.core.clock import format_instant
from syncd.core.errors import Busy, CursorLost
from syncd.core.principal import Principal
from syncd.protocol import cursor as cursors
from syncd.protocol.cursor import Cursor, Position
from syncd.protocol.pull_messages import PullPage, PullRequest, TellSpaces, space_ids
from syncd.protocol.told_spaces import ToldUntil, most_told, told_until
from syncd.store.log import Log, Page, PeekResult, UnreadableSpace
from syncd.store.pool import Unforeseen

log_ = structlog.get_logger("syncd.pull")

# A device that has missed nothing asks the same again and again; cursors of up to some 40 feeds are remembered.
REMEMBERED, MAX_REMEMBERED = 4096, 400


def position(request: PullRequest, user: str, key: bytes) -> Cursor | int | None:
    """Where a device stands, as `cursor.decode` has it. Raises BadCursor."""
    if request.chooses:
        return _chosen_position(request, user, key)
    decode = cursors.decode_legacy if request.plain else cursors.decode
    return decode(request.since, key, user, request.app, request.tables)


def _chosen_position(request: PullRequest, user: str, key: bytes) -> Cursor | int | None:
    """The same of a device that keeps some spaces or tables. Of a cursor that lists its feeds those of other spaces are
    left out (sync_chosen); one whose positions are kept is of more spaces than can be chosen."""
    if request.known_tables:
        at = cursors.widened(request.since, key, user, request.app, request.tables, request.known_tables)
        if request.history and isinstance(at, Cursor) and at.sweeping:
            return 0  # of known tables it would get the state, and not each change
    else:
        at = cursors.decode(request.since, key, user, request.app, request.tables)
    return 0 if isinstance(at, Cursor) and at.row else at


class PullState:
    """One device's place: its cursor taken apart, and put together again when a page came."""

    def __init__(self, request: PullRequest, user: str, key: bytes) -> None:
        self.request, self._user, self._key = request, user, key
        self._at = position(request, user, key)
        self._unchanged = PullPage(b"", request.since, False, [], [], partial=request.chooses)
        self._unreadable: tuple[UnreadableSpace, ...] = ()
        self._stays = request.own

    @property
    def priority(self) -> tuple[str, ...]:
        """The tables that come first: those that a sweep began with, until it is over."""
        return self._at.priority if isinstance(self._at, Cursor) and self._at.sweeping else self.request.priority

    @property
    def fresh(self) -> bool:
        """Whether the device has no cursor yet."""
        return not isinstance(self._at, Cursor)

    @property
    def begins(self) -> bool:
        """Whether it is a page of a first sync that any database may read that is so far: nothing is noted of it."""
        if self._stays or self._unreadable:
            return False
        return not self._at or (isinstance(self._at, Cursor) and self._at.sweeping and not self._at.row)

    @property
    def shared(self) -> bool:
        """Whether it is a page that is the same for all who may read it."""
        return self.begins and not self.request.plain and not self.request.history

    @property
    def _narrow(self) -> bool:
        return self.request.plain and bool(self.request.tables)

    @property
    def partial(self) -> bool:
        """Whether a first-generation device is between two pages of some tables and asks for all of them."""
        asked = self.request
        return (
            asked.plain and not asked.tables and self._at == 0
            and cursors.is_partial(asked.since, self._key, self._user, asked.app)
        )  # fmt: skip

    def staying(self) -> PullState:
        """The same where it does not move: only what became of the device's own push is read. Between two pages of some
        tables it would begin again, and come to the same place each time."""
        again = copy(self)
        again._stays = True
        return again

    def without_roles(self) -> PullState:
        """The same where it is not asked whether there is something to tell of spaces: it is told."""
        again = copy(self)
        again.request = self.request._replace(roles=None)
        return again

    def since(self) -> dict[str, Any]:
        """The position, as sync_pull takes it."""
        if self._at is None:
            return {}
        return {"at": self._at} if isinstance(self._at, int) else self._at.since()

    def call(self, caller: Principal, *, peek: bool = False, kept: dict[str, Any] | None = None) -> bytes:
        """One member of sync_pull's parameter, as JSON text. `kept`: the pages that are there already."""
        how = {**self.how(), "peek": True} if peek else self.how()
        if kept is not None:
            how["kept"] = kept
        call = {**caller.head(), "app": self.request.app, "since": self.since(), "how": how}
        return msgspec.json.encode(call)

    def how(self) -> dict[str, Any]:
        """What is asked for, as sync_pull takes it."""
        how = self.request.how()
        if self.request.roles is not None:
            told = told_until(self.request.roles)
            how["roles"] = {} if told is None else told.since()
        if self.request.spaces:
            how["spaces"] = space_ids(self.request.spaces, self._user)
        if self.request.known_spaces:
            how["known"] = space_ids(self.request.known_spaces, self._user)
        if self.priority:
            how["first"] = self.priority
        if self._unreadable:
            how["without"] = [space.space_no for space in self._unreadable]
        if self._stays:
            how["own"] = True
        return how

    async def around(self, log: Log, caller: Principal, why: Unforeseen) -> PullState:
        """The same without the feeds for which a pull has failed, whose places stay. Raises `why` where it was none."""
        moving = copy(self)
        moving._stays = False
        found = tuple(await log.unreadable(moving.call(caller)))
        if not found:
            raise why
        spaces = [space.space_no for space in found]
        log_.error("feeds cannot be read", app=self.request.app, spaces=spaces)
        again = copy(self)
        again._unreadable += found
        return again

    async def delta(self, log: Log, page: Page) -> PullPage:
        """What the device gets of a page. Raises CursorLost, Busy, DatabaseUnavailable."""
        if page.trouble:
            raise CursorLost
        if self._stays:
            return PullPage(page.body, self.request.since, True, [], [], self._unreadable)
        positions, tables = tuple(map(Position, page.spaces, page.seqs, page.bases)), self.request.tables
        whole, lone = self._narrow and not page.more, self._lone(page)
        row = self._at.row if isinstance(self._at, Cursor) else 0
        cursor = Cursor(
            self._instant(page), page.boot_us, tables, positions, self.priority, whole and not lone, whole and lone,
            row, page.more or bool(self._unreadable),
        )  # fmt: skip
        text = await self._text(log, cursor)
        return PullPage(page.body, text, page.more, page.joined, page.gone, self._unreadable, until=self._until(page),
                        partial=self.request.chooses)  # fmt: skip

    def _until(self, page: Page) -> str | None:
        """With what the device asks for the rest of what was there when it began to read."""
        until = self.request.until
        if until is None or not page.more:
            return None
        return "" if until and not page.news else str(until or page.now_us)

    async def _text(self, log: Log, cursor: Cursor) -> str:
        """A cursor as text; where it would list too many feeds, their positions are kept before."""
        if cursor.long:
            row = await log.cursors.keep(self._user, cursor.row, cursor.positions)
            if row is None:
                raise Busy  # it went this moment: when asked again the cursor is lost
            cursor = cursor._replace(row=row, positions=())
        return cursors.encode(cursor, self._key, self._user, self.request.app)

    def _instant(self, page: Page) -> int:
        """The instant that the cursor begins with.

        A device of the first generation may push with the least of its cursors, as text, and take the answer's for all
        collections. So a cursor is dated by when everything of its tables had been sent: where there is more, a little
        later than the one before, so that who keeps the greatest comes to keep it.
        """
        at, now = self._at, page.now_us
        if not self.request.plain:
            return max(now, at if isinstance(at, int) else at.instant if at else 0)
        if not page.more:
            return max(now, at.instant if isinstance(at, Cursor) else 0)
        if isinstance(at, Cursor):
            return at.instant + 1
        named = cursors.named_instant(self.request.since)
        return (named if named <= now else 0) + 1000

    def _lone(self, page: Page) -> bool:
        """Whether the device's other collections may have cursors of no use that are greater than this one."""
        if isinstance(self._at, Cursor):
            return self._at.lone
        return self._narrow and self.request.since > format_instant(page.now_us)

    def beginning(self) -> PullState | None:
        """The same for a device of the first generation whose cursor is lost: with the deletions, or where those are
        forgotten without; None where nothing is left to try."""
        if not self.request.plain or self._at is None:
            return None
        again = copy(self)
        again._at = None if self._at == 0 else 0
        return again

    def after(self, delta: PullPage) -> PullState:
        """The device's place when it has got this."""
        return PullState(self.request.reached(delta.synced_until), self._user, self._key)

    async def nothing(self, log: Log, peeked: PeekResult) -> PullPage:
        """What the device gets when there is no news: its own cursor, or a new one after a restart of the database."""
        if peeked.trouble:
            raise CursorLost
        at, stays = self._at, not self.request.known_tables
        if not isinstance(at, Cursor) or (at.boot == peeked.boot_us and not at.long and stays):
            return self._unchanged
        instant = max(peeked.now_us, at.instant)
        whole = self._narrow and not at.lone
        cursor = at._replace(instant=instant, boot=peeked.boot_us, whole=whole, unread=False)
        return self._unchanged._replace(synced_until=await self._text(log, cursor))


async def pull(log: Log, key: bytes, caller: Principal, request: PullRequest) -> PullPage:
    """Answers a pull. Raises BadCursor, CursorLost, Busy, DatabaseUnavailable.

    A device with a cursor mostly has missed nothing: that is found out in company of others, and only a
    device with news gets a call of its own.
    """
    plain = caller.external is None and len(request.since) <= MAX_REMEMBERED
    state, call = (_peek if plain else _peek.__wrapped__)(request, caller, key)
    told = told_until(request.roles or "")
    # In the middle of a first sync there is always news. What changes meanwhile of what was told comes after it.
    tells = request.roles is not None and (told is None or told.after is not None)
    if not (state.fresh or (log.spread and state.begins)):
        peeked = await log.peek(call)
        lost, tells = peeked.trouble is not None, peeked.roles
        if (lost and not request.plain) or not (lost or peeked.news or tells):
            page = await state.nothing(log, peeked)
            # Under another start than now it would count as of another history once something has changed.
            if told is not None and told.boot != peeked.boot_us:
                page = page._replace(roles_until=told._replace(boot=peeked.boot_us).text)
            return page
    if not tells:
        return await page_or_beginning(log, caller, *await _read(log, caller, state))
    said = await _told_spaces(log, caller, request, told)
    page = await page_or_beginning(log, caller, *await _read(log, caller, state.without_roles()))
    return page.telling(said)


async def _told_spaces(log: Log, caller: Principal, request: PullRequest, told: ToldUntil | None) -> TellSpaces:
    """What a device is told of its user's spaces with its next page. It is read before that page, which so names each
    of them, if the user is still in it. Raises Busy, DatabaseUnavailable."""
    asked = {"told": {} if told is None else told.since(), "most": most_told(request.bytes)}
    found = await log.roles(msgspec.json.encode({**caller.head(), **asked}))
    return TellSpaces(found.spaces.encode(), ToldUntil(found.head, found.boot_us, found.after).text, found.more)


async def check_history(log: Log, caller: Principal, client: str, pushed: Sequence[str]) -> None:
    """What a device had acknowledged is in the log. Where it is not, the log went back to before it, of which a cursor
    from before that tells nothing. To be asked after a page was read. Raises CursorLost, Busy, DatabaseUnavailable.
    """
    if pushed and not set(pushed) <= await log.pushed_before(caller.user, client, pushed):
        raise CursorLost


async def _read(log: Log, caller: Principal, state: PullState) -> tuple[PullState, Page]:
    """A page, of what can be read. Raises Busy, DatabaseUnavailable."""
    try:
        if state.shared:
            return state, await _shared(log, caller, state)
        return state, await (log.pull_anywhere if state.begins else log.pull)(state.call(caller))
    except Unforeseen as why:
        state = await state.around(log, caller, why)
        return state, await log.pull(state.call(caller))


async def _shared(log: Log, caller: Principal, state: PullState) -> Page:
    """A page of a first sync: what others were sent of the same records is not made again."""
    offer = log.pages.offer(state.request.app)
    page = await log.pull_anywhere(state.call(caller, kept=offer.known()))
    return page._replace(body=offer.opened(page.body))


async def page_or_beginning(log: Log, caller: Principal, state: PullState, page: Page) -> PullPage:
    """What a device gets of a page, or where its cursor is lost and it cannot be told, of the beginning. Raises
    CursorLost, Busy, DatabaseUnavailable."""
    while page.trouble and (again := state.beginning()) is not None:
        state, page = await _read(log, caller, again)
    return await state.delta(log, page)


@lru_cache(maxsize=REMEMBERED)
def _peek(request: PullRequest, caller: Principal, key: bytes) -> tuple[PullState, bytes]:
    """A device's place and the call that asks whether there is news for it: the same for the same request."""
    state = PullState(request, caller.user, key)
    return state, state.call(caller, peek=True)
