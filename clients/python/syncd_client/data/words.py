"""Pages in words: what comes again and again in a page stands in it once. Pure."""

from __future__ import annotations

import re

# A sign is a control character: where = follows, a word, up to the sign again, which the sign stands for from there on.
# A word has no control characters, so that in which order words are put is all the same.
_SAID = re.compile(rb"([\x00-\x1f])=([^\x00-\x1f]*)\1")
_SIGNS = bytes(sign for sign in range(32) if sign not in b"\t\n\r")
_TIMES, _MORE = 256, 1_000_000  # a server's page stands for three times itself, and for 121 with the longest names


def spelled(page: bytes) -> bytes:
    """The JSON that a page stands for; one without words is JSON. A sign that stands for nothing stays, which no JSON
    has, and so do all those of a page that stands for more than 256 times itself and a megabyte."""
    signs = len(page) - len(page.translate(None, _SIGNS))
    if not signs:
        return page
    before, *said = _SAID.split(page)
    most = signs * max(map(len, said[1::3]), default=0)
    putting, done, held, last = _Putting(_TIMES * len(page) + _MORE, most), list[bytes](), [before], b""
    for sign, word, text in zip(said[0::3], said[1::3], said[2::3], strict=True):
        if sign != last:  # mostly one sign is said again, for each record
            done.append(putting.all(b"".join(held)))
            held, last = [], sign
        putting.words[sign] = word
        held.append(putting.one(text, sign, word))
    done.append(putting.all(b"".join(held)))
    return page if putting.room < 0 else b"".join(done)


class _Putting:
    """Puts words where their signs are. `room`: for how many bytes of words there is room still, of `most` that there
    may be; where there is room for those, they are not counted."""

    __slots__ = ("_counts", "room", "words")

    def __init__(self, room: int, most: int) -> None:
        self.room, self.words, self._counts = room, dict[bytes, bytes](), most > room

    def one(self, text: bytes, sign: bytes, word: bytes) -> bytes:
        if self._counts:
            self.room -= text.count(sign) * len(word)
        return text if self.room < 0 else text.replace(sign, word)

    def all(self, text: bytes) -> bytes:
        for sign, word in self.words.items():
            text = self.one(text, sign, word)
        return text
