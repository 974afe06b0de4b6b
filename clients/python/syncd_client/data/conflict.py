"""A register of this device that lost on the server. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Conflict:
    """A register of this device that lost against what the server had. Timestamps are RFC 3339 text."""

    table: str
    space: str | None
    id: str
    field: str
    client_value: Any
    client_timestamp: str
    server_value: Any
    server_timestamp: str
