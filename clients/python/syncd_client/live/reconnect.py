"""The reasons why a connection ends, and the plan for each. Pure: time and chance are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..error_codes import CLOSED, RETRYABLE, TEXTS
from ..errors import NotAllowed, Offline, ServerBusy, StoreFailed, SyncdError
from ..sync.retry import LivePolicy

_NOT_ALLOWED = frozenset({"unauthorized", "forbidden", "no_token", "bad_token", "token_too_large"})


@dataclass(frozen=True, slots=True)
class Ending:
    """The reason why a connection is over, or why there was none.

    `opened`: the server had accepted the token. `renew`: it does not accept it. `restarting`: it said that
    it goes away, so every device comes back at once. `suspect`: the push that was under way may be why.
    `unanswered`: a push was under way. `local`: this device's file is at fault, not the line or the server.
    """

    state: Literal["offline", "busy", "refused"]
    code: str
    detail: str
    opened: bool = False
    renew: bool = False
    restarting: bool = False
    suspect: bool = False
    unanswered: bool = False
    retry_after: float | None = None
    local: bool = False

    @property
    def trouble(self) -> str:
        """How the outbox calls it; see `status.explain`."""
        return "forbidden" if self.state == "refused" and self.code in _NOT_ALLOWED else self.state

    @property
    def login(self) -> Literal["signed_out", "refused"] | None:
        """What is wrong with the login, if that is it. The server says of a token that ended that it "has expired"."""
        if self.trouble != "forbidden":
            return None
        return "signed_out" if self.code == "no_token" or "has expired" in self.detail else "refused"


_SUSPECT = frozenset({"body_too_large", "invalid_message"})
_RESTARTING = frozenset({"closing", "restarting"})


def closed(code: int | None, reason: str, opened: bool) -> Ending:
    """A socket that was closed with `code` by the server; None where it just ended."""
    name = CLOSED.get(code or 1006, f"closed_{code}")
    refused = name in _SUSPECT or name in _NOT_ALLOWED
    return Ending(
        "busy" if name in RETRYABLE else "refused" if refused else "offline",
        name,
        reason or TEXTS.get(name, TEXTS["connection_lost"])[0],
        opened=opened,
        renew=name in _NOT_ALLOWED,
        restarting=name in _RESTARTING,
        suspect=name in _SUSPECT,
    )


def not_upgraded(status: int, retry_after: float | None) -> Ending:
    """A handshake that was answered with an HTTP status instead of a socket."""
    if status == 429 or status >= 500:
        return Ending("busy", f"http_{status}", f"No socket: the answer was {status}.", retry_after=retry_after)
    return Ending("offline", f"http_{status}", f"No socket: the answer was {status}.")


def failed(error: SyncdError) -> Ending:
    """The ending for an error of a sync over HTTP, or of the replica itself."""
    match error:
        case Offline():
            return Ending("offline", error.code, error.detail)
        case StoreFailed():
            return Ending("busy", error.code, error.detail, local=True)
        case ServerBusy():
            return Ending("busy", error.code, error.detail, retry_after=error.retry_after)
        case NotAllowed():
            return Ending("refused", error.code if error.code in _NOT_ALLOWED else "unauthorized", error.detail)
        case _:
            return Ending("refused", error.code, error.detail)


@dataclass(frozen=True, slots=True)
class Plan:
    """The next thing to do: a pause in seconds, or polling. `silent`: the application need not hear of it.

    `fix`: one sync over HTTP before the pause, which finds out what is wrong with the push.
    """

    pause: float
    poll: bool = False
    silent: bool = False
    fix: bool = False


class Reconnect:
    """Decides when to connect again, over the life of a live sync. `renewable`: the token comes from a callable."""

    def __init__(self, policy: LivePolicy, renewable: bool) -> None:
        self._policy, self._renewable = policy, renewable
        self._attempt = self._blocked = self._unanswered = 0
        self._renewed = False

    def after(self, ending: Ending, lasted: float, chance: float) -> Plan:
        """The plan after a connection that lasted so many seconds; `chance` is uniform in [0, 1)."""
        if ending.opened and lasted >= self._policy.steady:
            self._attempt, self._renewed = 0, False
        if ending.local:
            return Plan(0.0)
        if ending.renew:
            return self._refused_token(chance)
        self._blocked = 0 if ending.opened else self._blocked + 1
        self._unanswered = self._unanswered + 1 if ending.unanswered else self._unanswered * (not ending.opened)
        poll = self._blocked >= self._policy.blocked_after
        if ending.state == "refused" and not ending.suspect:
            return Plan(self._slowly(chance), poll)
        self._attempt += 1
        return Plan(self._backoff(ending, chance), poll, fix=ending.suspect or self._too_often_unanswered())

    def _too_often_unanswered(self) -> bool:
        """Whether sockets break under the push, which is too much for a slow line: HTTP takes longer over it."""
        if self._unanswered < self._policy.blocked_after:
            return False
        self._unanswered = 0
        return True

    def _refused_token(self, chance: float) -> Plan:
        if self._renewable and not self._renewed:
            self._renewed = True
            return Plan(0.0, silent=True)
        return Plan(self._slowly(chance))

    def _slowly(self, chance: float) -> float:
        return self._policy.refused_interval * (0.5 + chance / 2)

    def _backoff(self, ending: Ending, chance: float) -> float:
        longest = min(self._policy.longest, self._policy.first * 2.0 ** min(self._attempt - 1, 30))
        if ending.restarting:
            longest = max(longest, self._policy.restart_spread)
        return self._policy.bounded(ending.retry_after) + chance * longest
