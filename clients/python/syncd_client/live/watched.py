"""Reads of a replica that are told again when they answer otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from ..data.conflict import Conflict
from ..data.events import Answered, Changes, Event, SpacesChanged
from ..data.record import Record

T = TypeVar("T")
KINDS: Final = (Changes, Answered, Conflict, SpacesChanged)


def says(answer: Any) -> Any:
    """What an answer says, to be compared with another: records by all that they have, True not as 1."""
    match answer:
        case Record():
            return repr(answer), answer.deleted_at, {name: says(one) for name, one in answer.included.items()}
        case list() | tuple():
            return [says(one) for one in answer]
        case _:
            return repr(answer)


class Watched(Generic[T]):
    """A read, and who is told of its answers, in their order, from any thread."""

    def __init__(self, read: Callable[[], T], tell: Callable[[T], object]) -> None:
        self._read, self._tell = read, tell
        self._lock = threading.Lock()
        self._said: Any = None

    def look(self, event: Event | None = None) -> None:
        """Reads again, and tells the answer if it is another one."""
        with self._lock:
            answer = self._read()
            if (said := says(answer)) != self._said:
                self._said = said
                self._tell(answer)
