"""One sync, decided step by step and performed elsewhere: what to send next, and what an answer changes.

`Session.next()` answers with a step; the shell that performs it (with threads or with asyncio) tells the
session how it went and asks again, until the step is `Done`. Nothing here does network I/O.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from ..data.change import Packed, Refusal
from ..data.conflict import Conflict
from ..data.values import dump
from ..errors import BadReply, NotAllowed, Offline, Refused, ServerBusy, StoreFailed, SyncdError
from ..store import copied, outbox
from ..store.copied import Sender
from ..store.identity import Identity
from ..store.ids import new_id
from ..store.store import Store, get_meta
from . import apply, partial, verification
from .failures import describe
from .pace import Paces
from .reply import Page, Problem, read_page, read_problem
from .report import Applied, Limits, Report
from .retry import RetryPolicy, parse_retry_after, passes
from .steps import Done, Renew, Scope, Send, Step, Wait
from .verification import DigestAction, Verification

_MOST_COPIES = 3  # client ids to take in one sync


@dataclass(frozen=True, slots=True)
class Device:
    """The device that every request of a replica names."""

    app_path: str
    identity: Identity
    schema_version: int | None


class Session:
    """The state of one sync of one file, from taking its lock to releasing it."""

    def __init__(
        self,
        store: Store,
        device: Device,
        limits: Limits,
        policy: RetryPolicy,
        wall: Callable[[], int],
        scope: Scope,
        publish: Callable[[Page | None, Applied], None] = lambda page, done: None,
        verify_every: float | None = None,
        paces: Paces | None = None,
    ) -> None:
        self._store, self._device, self._policy, self._wall = store, device, policy, wall
        self._limits, self._scope, self._publish = limits, scope, publish
        self._paces = paces or limits.paces()
        self._acknowledged: list[str] = []
        self._roles = self._there = ""
        self._chosen: dict[str, list[str]] = {}
        self._baseline = partial.Baseline()
        self._pause: float | None = None
        self._until: float | None = None
        self._attempt = self._copied = 0
        self._sender, self._new = Sender(device.identity.client_id), True
        self._renew, self._renewed, self._caught_up = False, False, scope == "push"
        self._asked, self._every = scope in ("verify", "renew"), verify_every
        self._verification = self._verify() if self._asked else None
        self.report = Report()
        if scope == "renew" and self._verification is not None:
            self._restart()
            self._verification.result.restarted = True
        with store.read() as db:
            self._restarting = bool(get_meta(db, "restarting", 0))
            self._last = db.execute("SELECT coalesce(max(position), 0) FROM outbox").fetchone()[0]

    def limit(self, seconds: float | None) -> None:
        """So long may it take from now on, in seconds; None: as long as it goes on."""
        self._until = None if seconds is None else time.monotonic() + seconds

    @property
    def left(self) -> float | None:
        """How many seconds are left of the limit, if there is one."""
        return None if self._until is None else self._until - time.monotonic()

    def next(self) -> Step:
        """The next step. Writes that are queued after the sync began are left to the next one.

        Raises Offline when the time is up.
        """
        if self.left is not None and self.left <= 0:
            self._give_up("offline", Offline("the time for this sync is up.", code="no_answer"))
        if self._pause is not None:
            pause, self._pause = self._pause, None
            return Wait(pause)
        if self._renew:
            self._renew = False
            return Renew()
        packed: list[Packed] = []
        with self._store.read() as db:
            self._restarting = bool(get_meta(db, "restarting", 0))
            cursor, self._acknowledged = get_meta(db, "cursor", ""), apply.acknowledged(db)
            self._roles, self._chosen = get_meta(db, "roles", ""), partial.asked(db)
            self._baseline = partial.baseline(db)
            if self._restarting:
                return self._pull(cursor)
            if self._scope in ("both", "push"):
                packed = outbox.pack(db, self._last, self._limits.push_changes, self._paces.push.size)
        if packed:
            self._present()
            return self._push(cursor, packed)
        return self._at_rest(cursor) if self._caught_up else self._pull(cursor)

    def _at_rest(self, cursor: str) -> Step:
        """Everything is exchanged: perhaps it is time to see whether it is right."""
        idle = self._scope != "push" and not (self.report.pulled or self.report.pushed or self.report.verified)
        if self._verification is None and idle and verification.due(self._store, self._every, self._wall()):
            self._verification = self._verify()
        match self._verification.next(cursor) if self._verification else None:
            case DigestAction("wait", seconds):
                return Wait(seconds)
            case DigestAction("restart"):
                self._restart()
                return self._pull("")
            case DigestAction():
                self._caught_up = False
                return self._pull(cursor)
            case None:
                self._verified()
                return Done()
            case request:
                return Send(request.method, self._digest_path, request.params, request.body, ())

    @property
    def _digest_path(self) -> str:
        return f"{self._device.app_path}/digest"

    def _verify(self) -> Verification:
        return Verification(self._store, self._wall, lambda done: self._publish(None, done), patient=self._asked)

    def _verified(self, *, failed: bool = False) -> None:
        """Takes note of a verification that is over; one that has not seen everything is made again soon."""
        if self._verification is None:
            return
        found, self._verification = self._verification.result, None
        early = max(0.0, (self._every or 0.0) - verification.AGAIN) if failed or found.skipped else 0.0
        verification.note(self._store, self._wall() - int(early * 1_000_000))
        if not failed:
            self.report.verified = found
            self._publish(None, Applied(verified=found))

    def _receive_digest(self, status: int, body: bytes) -> bool:
        """Whether an answer was taken: one that nobody waits for may fail without harm."""
        if self._verification is None:
            return True
        if status == 200:
            try:
                self._verification.receive(body)
            except BadReply as error:
                if self._asked:
                    self._give_up("refused", error)
                self._verified(failed=True)
            self._attempt, self._renewed = 0, False
        elif status == 409:
            self._verification.moved()
        elif self._asked:
            return False
        else:
            self._verified(failed=True)
        return True

    def _pull(self, cursor: str) -> Send:
        params: dict[str, str | list[str]] = {
            "since": cursor, "limit": str(self._paces.pull.size), "words": "1", "roles": self._roles,
            "until": self._there,
        }  # fmt: skip
        params |= partial.params(self._chosen)
        if self._limits.first:
            params["first"] = ",".join(self._limits.first)
        if self._acknowledged:
            params |= {"clientId": self.client, "pushed": self._acknowledged}
        return Send("GET", f"{self._device.app_path}/pull", params, None, ())

    @property
    def client(self) -> str:
        """Under which client id it asks."""
        return self._sender.client

    def _present(self) -> None:
        """Takes the names to push under from the file."""
        incarnation = self._device.identity.incarnation
        if incarnation is None:
            return
        with self._store.write() as db:
            names, client = incarnation.present(db, renew=self._new), str(get_meta(db, "client"))
        self._new = False
        if client != self.client:
            self._device.identity.rename(client)
        self._sender = Sender(client, tuple(names))

    def _push(self, cursor: str, packed: list[Packed]) -> Send:
        # What has come to a part of the server's is asked for apart: to the answer of a push the cursor is of all.
        since = {"pull": False} if self._chosen else {"since": cursor}
        head: dict[str, Any] = {"clientId": self.client, **since, "bases": True}
        if self._sender.incarnations:
            head["incarnations"] = list(self._sender.incarnations)
        if self._acknowledged:
            head["pushed"] = self._acknowledged
        if self._scope == "both":  # its answer says whether to ask
            head["roles"] = self._roles
        if self._device.schema_version is not None:
            head["schemaVersion"] = self._device.schema_version
        if len({change.batch for change in packed}) < len(packed):
            head["atomic"] = True
        body = f'{dump(head)[:-1]},"changes":[{",".join(change.body for change in packed)}]}}'
        return Send("POST", self._device.app_path, {}, body.encode(), tuple(packed), self._sender)

    def receive(
        self, sent: Send, status: int, headers: Mapping[str, str], body: bytes, seconds: float | None = None
    ) -> list[Conflict]:
        """Applies an answer, in one transaction with its cursor. Returns the conflicts it reported.

        `seconds`: how long it took to come, where that was measured. Raises SyncdError where there is no point in
        going on; nothing is lost then.
        """
        self.report.requests += 1
        if sent.path == self._digest_path and self._receive_digest(status, body):
            return []
        if status == 200:
            return self._receive_page(sent, body, seconds)
        problem = read_problem(status, body)
        if passes(status):
            if status == 408:
                self._slow_down(sent)
            self._retry(ServerBusy(f"{problem.detail} ({status} {problem.code})", code=problem.code), headers)
        elif status == 401 and not self._renewed:
            self._renew = self._renewed = True
        elif status in (401, 403):
            self._give_up("forbidden", NotAllowed(problem.detail or f"{status}", code=problem.code))
        elif problem.code in ("cursor_lost", "bad_cursor") and not self.report.restarted:
            self._restart()
        elif problem.code == "device_copied" and sent.sender and self._copied < _MOST_COPIES:
            self._copied += 1
            with self._store.write() as db:
                copied.rename_if_unchanged(db, sent.sender, new_id(self._wall()))
        else:
            self._refused(sent, problem)
        return []

    def _slow_down(self, sent: Send) -> None:
        """Asks for less, or sends less, after a request that did not go through whole."""
        (self._paces.pull if sent.body is None else self._paces.push).failed()

    def failed(self, sent: Send, cause: Exception) -> None:
        """The request did not get a whole answer. Raises Offline when the retries have run out."""
        self._slow_down(sent)
        if self._verification is not None and not self._asked:
            self._verified(failed=True)
            return
        self._retry(Offline(f"{describe(cause)}."), {})

    def no_token(self, error: SyncdError) -> NoReturn:
        """There is no token to ask with. Raises the error, after `why` has heard of it."""
        self._give_up("forbidden" if isinstance(error, NotAllowed) else "offline", error)

    def _receive_page(self, sent: Send, body: bytes, seconds: float | None) -> list[Conflict]:
        try:
            page = read_page(body, sent.pushed)
        except BadReply as error:
            if error.garbled:
                self._slow_down(sent)
                self._retry(error, {})
                return []
            self._give_up("refused", error)
        if seconds is not None and sent.body is None:
            self._paces.pull.took(len(page.changes), seconds)
        elif seconds is not None:
            self._paces.push.took(len(sent.body or b""), seconds)
        if sent.pushed and self._chosen:
            page = replace(page, cursor=None, more=True)
        with self._store.write() as db:
            page = partial.current(db, page, self._baseline)
            done = apply.apply_page(db, page, sent.pushed, self._acknowledged)
            if sent.pushed:
                copied.acknowledge(db)
        if done.erased:
            self._store.scrub()
        self._attempt, self._renewed = 0, False
        self._caught_up = self._scope == "push" or not page.more
        self._there = page.until  # of a push none: what it brought may not be read yet
        self.report.count(page, done)
        self._publish(page, done)
        return list(done.conflicts)

    def _retry(self, error: SyncdError, headers: Mapping[str, str]) -> None:
        self._attempt += 1
        wanted = parse_retry_after(headers, time.time())
        self._pause = self._policy.delay(self._attempt, wanted, random.random())
        if self._pause is None or (self.left is not None and self._pause >= self.left):
            if isinstance(error, ServerBusy):
                error.retry_after = wanted
            self._give_up("busy" if isinstance(error, ServerBusy) else "offline", error)

    def _restart(self) -> None:
        with self._store.write() as db:
            partial.begin_restart(db)
            self._chosen, self._baseline = partial.asked(db), partial.baseline(db)
        self._acknowledged, self._roles = [], ""
        self._restarting = self.report.restarted = True
        self._caught_up = False

    def _refused(self, sent: Send, problem: Problem) -> None:
        """A push that is refused whole: the changes at fault are set aside, the rest is sent again."""
        batches = {change.batch for change in sent.pushed}
        blamed = {
            sent.pushed[index].change_id: reason for index, reason in problem.blamed.items() if index < len(sent.pushed)
        }
        if problem.status in (400, 413, 422) and blamed:
            self._reject(blamed)
        elif problem.status in (413, 422) and len(batches) > 1:
            self._limits = replace(self._limits, push_changes=max(1, len(sent.pushed) // 2))
        elif problem.status in (413, 422) and batches:
            self._reject({change.change_id: Refusal(problem.code, problem.detail) for change in sent.pushed})
        else:
            error = Refused(problem.detail, code=problem.code, status=problem.status, errors=problem.errors)
            self._give_up("refused", error)

    def _reject(self, refusals: Mapping[str, Refusal]) -> None:
        with self._store.write() as db:
            rejected = outbox.reject(db, refusals)
        self.report.rejected += rejected
        self._publish(None, Applied(rejected))

    def _give_up(self, kind: str, error: SyncdError) -> NoReturn:
        with suppress(StoreFailed), self._store.write() as db:
            apply.note_trouble(db, kind, error.code, error.detail)
        raise error
