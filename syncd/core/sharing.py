"""What users may do to each other: whether they are asked, and the bounds that hold whoever asks. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple


class Sharing(NamedTuple):
    """`ask`: a membership that somebody else makes counts when its user accepts it. The others are counts of one user,
    None for no bound: spaces owned, and in all, by own hand; spaces by others' hands, invitations included; spaces
    made, and members added, in an hour; blocks."""

    ask: bool = False
    owned: int | None = None
    joined: int | None = None
    added: int | None = None
    made: int | None = None
    members: int | None = None
    blocks: int | None = None

    def bounds(self) -> dict[str, Any]:
        """As functions/user_bounds.sql reads them. Spaces renamed and links made are counted apart, with the bounds of
        spaces made and members added."""
        found = {**self._asdict(), "renamed": self.made, "links": self.members}
        return {name: most for name, most in found.items() if name != "ask" and most is not None}


UNBOUNDED = Sharing()

# What is said where a bound is met, by its name.
_RATES = {
    "made": "You made as many spaces as one user may in an hour ({most}).",
    "renamed": "You renamed as many spaces as one user may in an hour ({most}).",
    "links": "You made as many links to spaces as one user may in an hour ({most}).",
    "joining": "As many users joined by the links of one user as may in an hour ({most}).",
    "joins": "You joined as many spaces by links as one user may in an hour ({most}).",
    "members": "You added as many members to spaces as one user may in an hour ({most}).",
}
_TOTALS = {
    "owned": "You own as many spaces as one user may ({most}). Delete or leave one first.",
    "joined": "You are in as many spaces as one user may be ({most}). Leave one first.",
    "space_links": "This space has as many links in force as one may ({most}). Withdraw one first.",
    "blocks": "You block as many users as one may ({most}). Unblock one first.",
}


def told(what: str, most: int) -> str | None:
    """The sentence for a bound that was met; None for a name that is not known here."""
    text = (_RATES | _TOTALS).get(what)
    return None if text is None else text.format(most=most)
