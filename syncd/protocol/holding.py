"""Holding: what a push of the first generation cannot write is kept, because its device forgets what a 200 answers.

The reasons that are known beforehand, and those that the log gives while the push is tried, end in one list, which the
log keeps in the push's own transaction.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from typing import Any

from syncd.core.ids import fault_in_id
from syncd.core.pieces import empty
from syncd.core.values import InvalidValue, check_text
from syncd.protocol.first_generation import UNREADABLE
from syncd.protocol.messages import IncomingChange, raw_changes
from syncd.protocol.normalize import Limits, NormalizedChange, content_id

# Begins what a held change is known by that is a new one when it is written.
UNKNOWN = "\x02"


class Sent:
    """The changes of a push as they came. `schema_version`: the push's, which a change that is kept must carry."""

    def __init__(self, body: bytes, schema_version: int | None, limits: Limits) -> None:
        self.body, self.schema_version, self.limits = body, schema_version, limits

    @cached_property
    def raws(self) -> list[bytes]:
        """Each change as it came, as JSON text."""
        return raw_changes(self.body)

    def let_go(self) -> None:
        """Nobody asks for them any more."""
        empty(self.__dict__.get("raws", []))

    @cached_property
    def too_large(self) -> set[int]:
        """The places of changes that are too large."""
        most = self.limits.max_change
        return set() if len(self.body) <= most else {i for i, raw in enumerate(self.raws) if len(raw) > most}

    @cached_property
    def unstorable(self) -> set[int]:
        """The places of changes with text that no store can hold."""
        return set() if _storable(self.body) else {i for i, raw in enumerate(self.raws) if not _storable(raw)}


class Holding:
    """Keeps the refused changes of one transaction; `places` are those of the whole push. `service`: which pushes it
    in the user's name."""

    def __init__(self, sent: Sent, user: str, service: str | None = None) -> None:
        self._sent, self._personal, self._service = sent, f"_personal:{user}", service
        self._put: dict[str, dict[str, Any]] = {}
        self._met = Counter[str]()
        self._own: set[str] = set()

    def refuse(
        self, place: int, code: str, change: IncomingChange, normalized: NormalizedChange | None, space: str
    ) -> None:
        """Holds a change."""
        raw, version = self._sent.raws[place], self._sent.schema_version
        if version is not None and change.schemaVersion is None and change is not UNREADABLE:
            raw = raw.rstrip()[:-1] + b',"schemaVersion":%d}' % version
        text = raw.decode()
        if normalized is None or change.changeId is not None:
            content = content_id(["held", text])
        elif normalized.c is not None:
            content = normalized.c
        else:
            # Written it would be a new change each time; held it must not fill the quota again with each retry.
            self._met[text] += 1
            content = UNKNOWN + content_id(["held", text, self._met[text]])
        table, record = _name(change.table), _name(change.id)
        row = {"w": code, "k": content, "s": self._space(space), "t": table, "r": record, "d": text}
        if self._service is not None:
            row["v"] = self._service
        self._put.setdefault(content, row)

    def make(self, space: str) -> bool:
        """Whether an unknown space is to be made, which is tried once."""
        if not self.may_make(space) or space in self._own:
            return False
        self._own.add(space)
        return True

    def may_make(self, space: str) -> bool:
        """Whether a space of that id would be made where there is none."""
        named = _name(space) is not None and not space.startswith("_personal:")
        return self._sent.limits.make_spaces and named

    def head(self) -> dict[str, Any]:
        """For the log."""
        limits = self._sent.limits
        head: dict[str, Any] = {"most": [limits.held_changes, limits.held_bytes]}
        if self._put:
            head["put"] = list(self._put.values())
        if self._own:
            head["own"], head["bounds"] = sorted(self._own), limits.space_bounds
        return head

    def _space(self, space: str) -> str | None:
        return space if space == self._personal else _name(space)


def _name(text: str) -> str | None:
    return text if fault_in_id(text) is None else None


def _storable(raw: bytes) -> bool:
    try:
        check_text(raw)
    except InvalidValue:
        return False
    return True


__all__ = ["UNKNOWN", "Holding", "Sent"]
