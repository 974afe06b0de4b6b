"""Patterns of `like`, in time that is linear in the text. Pure."""

from __future__ import annotations

_CAPITALS = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


class Pattern:
    """A pattern: `%` is any text, `_` any code point, `\\` takes the next one as it is, A to Z are as a to z."""

    __slots__ = ("_first", "_last", "_least", "_middle")

    def __init__(self, pattern: str) -> None:
        pieces = [_Piece(points) for points in _split(pattern.translate(_CAPITALS))]
        self._first = pieces[0]
        self._middle = pieces[1:-1]
        self._last = pieces[-1] if len(pieces) > 1 else None
        self._least = sum(piece.size for piece in pieces)

    def is_of(self, value: str) -> bool:
        """Whether the whole text is of this pattern."""
        text = value.translate(_CAPITALS)
        if len(text) < self._least:
            return False
        if self._last is None:
            return len(text) == self._least and self._first.find(text, 0, len(text)) == 0
        at, end = self._first.size, len(text) - self._last.size
        if self._first.find(text, 0, at) < 0 or self._last.find(text, end, len(text)) < 0:
            return False
        # Where one has its leftmost place, those after it have the most room: no other place need be tried.
        for piece in self._middle:
            found = piece.find(text, at, end)
            if found < 0:
                return False
            at = found + piece.size
        return True


class _Piece:
    """What stands between two `%`: code points, of which None is any."""

    __slots__ = ("_any", "_masks", "_plain", "size")

    def __init__(self, points: list[str | None]) -> None:
        self.size = len(points)
        self._plain = None if None in points else "".join(point or "" for point in points)
        self._any = sum(1 << at for at, point in enumerate(points) if point is None)
        self._masks: dict[str, int] = {}
        for at, point in enumerate(points):
            if point is not None:
                self._masks[point] = self._masks.get(point, self._any) | 1 << at

    def find(self, text: str, start: int, end: int) -> int:
        """Where its leftmost place in this part of the text begins; -1 where it has none."""
        if self._plain is not None:
            return text.find(self._plain, start, end)
        # Bit n of `begun`: the first n + 1 code points end here. So no letter is looked at twice.
        begun, whole = 0, 1 << self.size - 1
        for at in range(start, end):
            begun = (begun << 1 | 1) & self._masks.get(text[at], self._any)
            if begun & whole:
                return at + 1 - self.size
        return -1


def _split(pattern: str) -> list[list[str | None]]:
    pieces: list[list[str | None]] = [[]]
    points = iter(pattern)
    for point in points:
        if point == "%":
            pieces.append([])
        elif point == "_":
            pieces[-1].append(None)
        else:
            pieces[-1].append(next(points, point) if point == "\\" else point)
    return pieces
