"""A text that many are sent, which remembers what it was made into. Pure."""

from __future__ import annotations

from collections.abc import Callable


class SharedText(bytes):
    """Bytes with their packed forms, each made once. A copy, or a slice, is plain bytes again."""

    def form(self, name: str, make: Callable[[bytes], bytes]) -> bytes:
        """What `make` makes of it, the first time. Two that ask at once may both make it."""
        forms: dict[str, bytes] = self.__dict__
        found = forms.get(name)
        if found is None:
            found = forms[name] = make(self)
        return found

    @property
    def held(self) -> int:
        """Its bytes, with those of its forms."""
        return len(self) + sum(map(len, list(self.__dict__.values())))  # a thread may be making one

    def has(self, name: str) -> bool:
        """Whether that was made already."""
        return name in self.__dict__
