"""History: a record's changes, a record or a space as it was, restoring either, and taking back what an actor wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.errors import CursorLost, Fault, Malformed, Refused, SyncdError
from syncd.core.principal import Principal
from syncd.protocol.page_token import PageToken
from syncd.protocol.push_answer import PushAnswer, Result
from syncd.protocol.push_decision import LARGEST_RECORD
from syncd.service.event_ids import EventIds
from syncd.service.rules import NOT_ASKED
from syncd.store.history import History, PastPage
from syncd.store.pool import UNWRITABLE, Refusal, unwritable

MAX_LIMIT, DEFAULT_LIMIT = 1000, 100
PAGE_BYTES = 2 * 1024 * 1024
# A push is never split, so every device takes a restore in one page: it is bounded as those are.
MOST_CHANGES, MOST_BYTES = 10_000, 10 * 1024 * 1024
# A revert looks through so many changes of a feed for those of an actor, and reads so many bytes of actors.
MOST_LOOKS, MOST_LOOK_BYTES = 100_000, 32 * 1024 * 1024


class RecordPlace(NamedTuple):
    """A record, or with neither table nor id all of an app in a space."""

    app: str
    space: str
    table: str | None = None
    id: str | None = None

    def call(self, caller: Principal) -> dict[str, Any]:
        named = {"app": self.app, "space": self.space, "table": self.table, "id": self.id}
        return {**caller.head(), **{name: value for name, value in named.items() if value is not None}}


class Moment(NamedTuple):
    """After a seq, or at an instant (microseconds); neither: now."""

    seq: int | None = None
    at: int | None = None

    def call(self) -> dict[str, int]:
        return {name: value for name, value in self._asdict().items() if value is not None}

    def text(self) -> str:
        return "".join(f"{name}={value}" for name, value in self.call().items())


class Wish(NamedTuple):
    """A restore: by which device, to when, and what its changes are to carry. `actor` is JSON text.

    `revert`: an object; the changes whose actor has all that it has, from after the moment on, are taken back instead.
    """

    client: str
    moment: Moment
    change_id: str | None = None
    actor: str | None = None
    origin: str | None = None
    revert: dict[str, Any] | None = None

    @property
    def target(self) -> str:
        """What is asked for, the same for the same, as text of a bounded length."""
        if self.revert is None:
            return self.moment.text()
        whose = msgspec.json.encode(self.revert, order="sorted")
        return f"revert={hashlib.sha256(whose).hexdigest()} {self.moment.text()}"

    def call(self, event: EventIds) -> dict[str, Any]:
        first = event(0).replace("-", "")
        more = {"changeId": self.change_id, "actor": self.actor, "revert": self.revert}
        return {
            **self.moment.call(), **{name: value for name, value in more.items() if value is not None},
            "client": self.client, "target": self.target,
            "looks": MOST_LOOKS, "lookBytes": MOST_LOOK_BYTES,
            "origin": self.origin or ("restore" if self.revert is None else "revert"),
            "event": [first[:16], int(first[16:], 16) - (1 << 64)],
            "most": MOST_CHANGES, "bytes": MOST_BYTES, "largest": LARGEST_RECORD,
        }  # fmt: skip


class Undone(Result, kw_only=True, omit_defaults=True):
    """What became of one record of a restore."""

    table: str
    id: str


def _refused(why: Refusal) -> SyncdError:
    if why.state == UNWRITABLE:
        return Refused(f"{unwritable(why)[0].text}. Nothing was written.", code="rule_refused")
    match why.message:
        case "seq_ahead":
            detail = f"must not be beyond the last seq, which is {why.said}"
            return Malformed(f"seq {detail}.", faults=(Fault("/seq", detail),))
        case "cursor_lost":
            return CursorLost("The listing cannot go on: the database was restored. Ask for its first page again.")
        case "history_gone" if why.said:
            return SyncdError(
                f"The log was compacted up to seq {why.said}, so it is not known to what the actor wrote before. "
                f"Nothing was written. Where it began later, say so: with seq, {why.said} or more, or with instant.",
                code=why.message,
            )
        case "restore_too_large":
            return _too_large(msgspec.json.decode(why.said))
        case "rule_refused":
            return Refused(f"{NOT_ASKED} Nothing was written.", code=why.message)
    return why.as_code()


def _too_large(said: dict[str, int]) -> Refused:
    if "looks" in said or "lookBytes" in said:
        found = f"{said['looks']:,} changes" if "looks" in said else f"more than {MOST_LOOK_BYTES:,} bytes of actors"
        return Refused(
            f"The feed has {found} since then, and a revert looks through {MOST_LOOKS:,} changes with "
            f"{MOST_LOOK_BYTES:,} bytes of actors. Say with seq or instant when the actor began. Nothing was written.",
            code="restore_too_large",
        )
    if "touched" in said:
        found = f"would touch more than {said['touched']:,} bytes of records"
    elif "bytes" in said:
        found = f"would write {said['bytes']:,} bytes to {said['records']:,} records; it may write {MOST_BYTES:,}"
    else:
        found = f"would concern {said['records']:,} records, which changed since; it may concern {MOST_CHANGES:,}"
    return Refused(f"This restore {found}. Nothing was written.", code="restore_too_large")


async def record(history: History, caller: Principal, place: RecordPlace, moment: Moment) -> bytes:
    """A record as it is or was, as JSON text. Raises SyncdError: space_not_found, record_not_found, history_gone,
    invalid_request."""
    return (await _look(history, {**place.call(caller), "what": "record", **moment.call()})).body.encode()


async def changes(
    history: History, caller: Principal, place: RecordPlace, limit: int, before: int | None, after: PageToken | None
) -> bytes:
    """A record's changes before a seq, after a page, or all, newest first, as JSON text. Raises SyncdError:
    space_not_found, record_not_found, cursor_lost."""
    call = {**place.call(caller), "what": "history", "limit": limit, "bytes": PAGE_BYTES}
    if after is not None:
        call |= {"before": after.seq, **_start(after)}
    elif before is not None:
        call["before"] = before
    page = await _look(history, call)
    facts = (page.body.encode(), _json(page.more), _next(page, place.table, place.id), _json(page.complete))
    return b'{"changes":[%b],"hasMore":%b%b,"complete":%b}' % facts


def _start(after: PageToken) -> dict[str, int]:
    return {"start": after.start} if after.start else {}


def _next(page: PastPage, table: str | None, id_: str | None) -> bytes:
    """The member of an answer that says where the next page begins, where there is one."""
    if not page.more or page.seq is None or table is None or id_ is None:
        return b""
    return b',"next":%b' % msgspec.json.encode(PageToken(page.seq, table, id_, page.start).text())


async def space(
    history: History, caller: Principal, place: RecordPlace, moment: Moment, limit: int, after: PageToken | None
) -> bytes:
    """A page of a space as it was, as JSON text; the whole listing is of the first page's moment. Raises SyncdError:
    space_not_found, cursor_lost."""
    call = {**place.call(caller), "what": "space", "limit": limit, "bytes": PAGE_BYTES, **moment.call()}
    if after is not None:
        call |= {"seq": after.seq, "table": after.table, "id": after.id, **_start(after)}
    page = await _look(history, call)
    more = _next(page, page.last_table, page.last_id)
    facts = (page.body.encode(), page.seq or 0, _json(page.more), more, _json(page.complete))
    return b'{"records":[%b],"seq":%d,"hasMore":%b%b,"complete":%b}' % facts


async def restore(
    history: History, caller: Principal, place: RecordPlace, wish: Wish, now: int, ruled: Sequence[str] = ()
) -> PushAnswer:
    """Goes back, as one push of the caller's. `now` (microseconds) goes into the event ids; `ruled`: tables to which
    nothing is written, "*": all.

    Raises SyncdError: space_not_found, record_not_found, not_a_writer, history_gone, change_id_reused,
    record_too_large, restore_too_large, rule_refused, invalid_request.
    """
    call: dict[str, Any] = {**place.call(caller), **wish.call(EventIds(now))}
    if ruled:
        call["ruled"] = list(ruled)
    if place.space == caller.personal:
        call["personal"] = True
    try:
        done = await history.restore(msgspec.json.encode(call))
    except Refusal as why:
        raise _refused(why) from None
    status = "duplicate" if done.repeated else "applied"
    results: list[Result] = [
        Undone(status, None if n else wish.change_id, event, seq, table=table, id=id_)
        for n, (seq, event, table, id_) in enumerate(zip(done.seqs, done.events, done.tables, done.ids, strict=True))
    ]
    written = {place.space: done.seqs[-1]} if done.seqs and not done.repeated else {}
    return PushAnswer(results, [], None, "", written)


async def _look(history: History, call: dict[str, Any]) -> PastPage:
    try:
        return await history.look(msgspec.json.encode(call))
    except Refusal as why:
        raise _refused(why) from None


def _json(value: bool | None) -> bytes:
    return b"true" if value else b"false"
