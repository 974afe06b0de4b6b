"""Pages in words: what comes again and again in a page stands in it once. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

# A sign is a control character: where = follows, a word, up to the sign again, which the sign stands for from there on.
_SAID = re.compile(rb"([\x00-\x1f])=(.*?)\1", re.DOTALL)
_FIRST = b"\x04="  # the first word of a page that has some


def spelled(page: bytes) -> bytes:
    """The JSON that a page stands for; one without words is JSON. A sign that stands for nothing stays, which no JSON
    has."""
    if _FIRST not in page:
        return page
    before, *said = _SAID.split(page)
    words, done, held, last = dict[bytes, bytes](), list[bytes](), [before], b""
    for sign, word, text in zip(said[0::3], said[1::3], said[2::3], strict=True):
        if sign != last:  # mostly one sign is said again, for each record
            done.append(_put(b"".join(held), words))
            held, last = [], sign
        words[sign] = word
        held.append(text.replace(sign, word))
    return b"".join((*done, _put(b"".join(held), words)))


def _put(text: bytes, words: Mapping[bytes, bytes]) -> bytes:
    for sign, word in words.items():
        text = text.replace(sign, word)
    return text
