"""Who calls: the user a token names, and the memberships that came with it, if they come from outside."""

from __future__ import annotations

from typing import Any, NamedTuple


class External(NamedTuple):
    """A membership list from outside: [{"id", "role"}], and when it was made, in microseconds."""

    spaces: list[dict[str, str]]
    as_of: int

    def head(self) -> dict[str, Any]:
        return {"list": self.spaces, "asOf": self.as_of}


class Principal(NamedTuple):
    """A user, acting. `external` is None where the membership table decides."""

    user: str
    external: External | None = None

    @property
    def personal(self) -> str:
        return f"_personal:{self.user}"

    def head(self) -> dict[str, Any]:
        return {"user": self.user, **(self.external.head() if self.external else {})}
