"""A register of this device and another's that stand against each other. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """A value of this device (`mine`) and one of another (`theirs`), of which one was written without having seen the
    other. Timestamps are RFC 3339 text.

    `kind`: "lost": mine lost when it arrived. "overwritten": theirs stands over mine. "overwrote": mine stands over
    theirs. "deleted": mine, {field: value}, went to a record that is deleted; theirs is when. `by`: the device that
    theirs is of, where the server said so.
    """

    table: str
    space: str | None
    id: str
    field: str
    client_value: Any
    client_timestamp: str
    server_value: Any
    server_timestamp: str
    kind: str = "lost"
    by: str | None = None

    @property
    def mine(self) -> Any:
        """This device's value: `client_value`."""
        return self.client_value

    @property
    def theirs(self) -> Any:
        """The other's value: `server_value`."""
        return self.server_value
