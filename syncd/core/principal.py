"""The user that a token names, and the memberships that came with it, if they come from outside."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec


class External(NamedTuple):
    """A membership list from outside: [{"id", "role"}], and when it was made, in microseconds."""

    spaces: list[dict[str, str]]
    as_of: int

    def head(self) -> dict[str, Any]:
        return {"list": self.spaces, "asOf": self.as_of}


class Principal(NamedTuple):
    """A user, acting. `external` is None where the membership table decides. `service`: the one that acts for the user,
    where it is one: what is written has its name in `actor`, and what is noted in the audit in `detail`. `role`: to a
    rule alone, what the user is in the space of the change, "owner" or "writer"; elsewhere None, whatever it says."""

    user: str
    external: External | None = None
    service: str | None = None
    role: str | None = None

    @property
    def personal(self) -> str:
        return f"_personal:{self.user}"

    @property
    def adopt(self) -> tuple[str, int] | None:
        """The list from outside as JSON text, and when it was made, in microseconds."""
        return (
            None if self.external is None else (msgspec.json.encode(self.external.spaces).decode(), self.external.as_of)
        )

    @property
    def noted(self) -> dict[str, str]:
        """Of the audit's detail, who acts in the user's name."""
        return {} if self.service is None else {"service": self.service}

    def head(self) -> dict[str, Any]:
        return {"user": self.user, **(self.external.head() if self.external else {})}


def actor_of(service: str | None, said: str | None) -> str | None:
    """The `actor` of what is written, as JSON text: what is said, and of what a service writes its name, whatever it
    says itself. Nobody else has a member `service` there: what they say as that is in the member `said`."""
    if said is None or (service is None and '"service"' not in said and "\\" not in said):
        return said if service is None else msgspec.json.encode({"service": service}).decode()
    given = msgspec.json.decode(said)
    whole = {"said": given} if given is not None and not isinstance(given, dict) else given or {}
    if service is not None:
        return msgspec.json.encode({**whole, "service": service}).decode()
    if not isinstance(given, dict) or "service" not in given:
        return said
    claimed = {name: given.pop(name) for name in ("said", "service") if name in given}
    return msgspec.json.encode({**given, "said": claimed}).decode()
