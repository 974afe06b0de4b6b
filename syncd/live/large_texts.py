"""Large texts that several connections are being sent, each kept once: a push is never split, and may be megabytes."""

from __future__ import annotations

from weakref import WeakValueDictionary

from syncd.core.shared_text import SharedText

LARGE = 256 * 1024


class _Held(bytearray):
    """What can be held weakly. A transport keeps a view of it, and so it itself, until all is written."""


class LargeTexts:
    """What was given is found again for as long as somebody holds it."""

    def __init__(self) -> None:
        self._held: WeakValueDictionary[int, _Held] = WeakValueDictionary()

    def __call__(self, text: bytes) -> bytes | bytearray:
        """The same text, in memory that others have already where it is large and they do."""
        if len(text) < LARGE or isinstance(text, SharedText):
            return text
        name, same = hash(text), _Held(text)
        held = self._held.get(name)
        if held is None or held != same:
            held = self._held[name] = same
        return held
