"""Up to where a device was told of its user's spaces, by a text that it gives back. Pure.

Text: the number of the user's last change, the database start (us) under which it was told, and while all spaces are
told, the number of the last one. It gives nothing away and is not signed: who changes it is told other parts of what
is the user's own. What cannot be read counts as nothing, and then all are told.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

_FORM = re.compile(r"([0-9]{1,18})\.([0-9]{1,18})(?:\.([0-9]{1,10}))?", re.ASCII)
# So many of a page's bytes are for one space, and so many spaces are told with one page at most, and at least.
BYTES_A_SPACE, MOST_TOLD, FEWEST_TOLD = 256, 500, 4


class ToldUntil(NamedTuple):
    """Up to where a device was told. `after`: while all are told, the number of the last space, else None."""

    head: int
    boot: int
    after: int | None = None

    @property
    def text(self) -> str:
        """As the device keeps it."""
        return f"{self.head}.{self.boot}" + ("" if self.after is None else f".{self.after}")

    def since(self) -> dict[str, Any]:
        """As the functions of the schema take it."""
        since = {"head": self.head, "boot": self.boot}
        return since if self.after is None else {**since, "after": self.after}


def told_until(text: str) -> ToldUntil | None:
    """What a device gave back; None where it was told nothing yet."""
    if (found := _FORM.fullmatch(text)) is None:
        return None
    head, boot, after = found.groups()
    return ToldUntil(int(head), int(boot), None if after is None else int(after))


def most_told(page_bytes: int) -> int:
    """How many spaces are told with a page of about so many bytes."""
    return max(FEWEST_TOLD, min(MOST_TOLD, page_bytes // BYTES_A_SPACE))
