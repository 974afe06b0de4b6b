"""A push's answer as JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from syncd.core.pieces import in_turns
from syncd.protocol.pull_messages import PullPage

# So many results, or changes, are little work.
PIECE = 100


class Result(msgspec.Struct, gc=False, omit_defaults=True):
    """What became of one change. `held`: it is kept until it may be written; `quota`: which one is used up;
    `overwrote`: what its writer had not seen, {field, value, by, at} each; `field`: the one a rule does not take."""

    status: str
    changeId: str | None = None
    eventId: str | None = None
    seq: int | None = None
    at: dict[str, str] | None = None
    code: str | None = None
    detail: str | None = None
    held: bool = False
    quota: str | None = None
    overwrote: list[Any] | None = None
    field: str | None = None


class PushAnswer(NamedTuple):
    """A push's answer: one result a change, the registers that lost, what the device missed, and how far it brought
    each space's feed."""

    results: list[Result]
    conflicts: list[dict[str, Any]]
    delta: PullPage | None
    since: str
    written: dict[str, int]

    def body(self) -> bytes:
        """The answer as JSON text."""
        results, conflicts = encoded(self.results), encoded(self.conflicts)
        delta = self.delta or PullPage(b"", self.since, False, [], [])
        return delta.body(b'"results":%s,"conflicts":%s,' % (results, conflicts))


def encoded(items: Sequence[Any]) -> bytes:
    """A list as JSON text, made piece by piece: an encoder goes through what it is given at once."""
    pieces = (msgspec.json.encode(items[i : i + PIECE])[1:-1] for i in in_turns(range(0, len(items), PIECE)))
    return b"[%b]" % b",".join(pieces)
