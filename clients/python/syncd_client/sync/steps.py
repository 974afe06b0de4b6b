"""The steps that a session asks its transport to take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..data.change import Packed
from ..store.copied import Sender

Scope = Literal["both", "push", "pull", "verify", "renew"]


@dataclass(frozen=True, slots=True)
class Send:
    """Perform this request and hand the answer to `receive`, or the failure to `failed`."""

    method: str
    path: str
    params: Mapping[str, str | list[str]]
    body: bytes | None
    pushed: tuple[Packed, ...]
    sender: Sender | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Sleep so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Renew:
    """Ask for a new token: the one used was refused."""


@dataclass(frozen=True, slots=True)
class Done:
    """The sync is over."""


Step = Send | Wait | Renew | Done
