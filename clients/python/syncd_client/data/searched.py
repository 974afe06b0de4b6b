"""The words of texts, as they are searched for, the same in every client. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .order import value_at

RULE = 1  # of what is below: an index of another one is made again
MOST_WORDS = 32  # of a question
_LONGEST = 64  # characters of a word
_RUN = re.compile(r"[^\W_]+")  # letters and digits, by Unicode
# Thai, Lao, Burmese, Khmer, Japanese and Chinese letters, between whose words is no space.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
_PIECES = re.compile(f"([{_UNSPACED}]+)")


class _Folding(dict[int, int | str | None]):
    """What `str.translate` makes of a letter, found out once for each: a mark is dropped."""

    def __missing__(self, letter: int) -> int | str | None:
        mark = unicodedata.category(chr(letter)).startswith("M")
        self[letter] = None if mark else {0xDF: "ss", 0x3C2: "\u03c3"}.get(letter, letter)
        return self[letter]


_folding = _Folding()


class Asked(NamedTuple):
    """A word that is searched for; `begins`: words that begin with it are meant too."""

    word: str
    begins: bool


def fold(text: str) -> str:
    """A text without what words are not told apart by: compatible forms, marks, and case."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKD", text).translate(_folding).lower().translate(_folding)


def words_of(text: str) -> list[str]:
    """The words of a text, in their order. Where a script has no spaces: each letter with the next one."""
    if text.isascii():
        return [run[:_LONGEST] for run in _RUN.findall(text.lower())]
    found: list[str] = []
    for piece, unspaced in _pieces(text):
        found += [piece[n : n + 2] for n in range(len(piece))] if unspaced else [piece[:_LONGEST]]
    return found


def asked_words(text: str) -> list[Asked]:
    """What a question searches for, each once: all its words, and for the last one also words that begin with it.

    Of its words the first `MOST_WORDS` count.
    """
    asked: list[Asked] = []
    for piece, unspaced in _pieces(text):
        if not unspaced:
            asked.append(Asked(piece[:_LONGEST], False))
        elif len(piece) == 1:
            asked.append(Asked(piece, True))  # it stands before any other letter
        else:
            asked += [Asked(piece[n : n + 2], False) for n in range(len(piece) - 1)]
    some = list(dict.fromkeys(asked[:MOST_WORDS]))
    if some and not asked[MOST_WORDS:]:
        last = Asked(asked[-1].word, True)
        some = [*(one for one in some if one.word != last.word), last]
    return some


def texts_at(fields: Mapping[str, Any], paths: tuple[str, ...]) -> list[str]:
    """Of each field the words as one text, each between two spaces of its own; of a list those of the texts in it."""
    return [
        "".join(f" {word} " for text in _texts(value_at(fields, path)) for word in words_of(text)) for path in paths
    ]


def _text_of(text: str) -> str:
    words = words_of(text)
    return f" {'  '.join(words)} " if words else ""


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The runs of letters and digits, divided where a script without spaces begins or ends; and whether it is one."""
    for run in _RUN.findall(fold(text)):
        if run.isascii():
            yield run, False
            continue
        for n, piece in enumerate(_PIECES.split(run)):
            if piece:
                yield piece, n % 2 == 1
