"""How much a text is to match by a regular expression: how many places of it a text may be at, at once. Pure."""

from __future__ import annotations

import math
from typing import NamedTuple

# A pattern of so few states is a table of all of them in each engine. Of a larger one each state may be followed.
FEW_STATES = 10
# Those that words' ends count as: a character takes some 8 steps.
AT_WORDS = 11


class PatternCost(NamedTuple):
    """Steps of each character that is read, and how many characters are read at most."""

    rate: float
    longest: float


def cost_of(pattern: str) -> PatternCost:
    """What a pattern costs. One that begins with `^` ends where no longer text can match."""
    states, longest, grouped, free = _parsed(pattern)
    if "\\b" in pattern or "\\B" in pattern:  # where words end is no matter of a table, outside of ASCII
        states = max(states, AT_WORDS)
    anchored = pattern[:1] == "^" and "(?" not in pattern.replace("(?:", "") and not _has_choice_outside(pattern)
    if not anchored:
        return PatternCost(_per_character(states), math.inf)
    # Without groups one place is followed up to the first atom that may be repeated more or less often.
    return PatternCost(_per_character(states if grouped or states == AT_WORDS else 3 + free), longest + 1)


def states_of(pattern: str) -> int:
    """How many places of a pattern a text may be at, at once: what is repeated so many times counts so often."""
    return _parsed(pattern)[0]


def _per_character(states: int) -> float:
    return 0.5 if states <= FEW_STATES else 2.0 * states


def _parsed(pattern: str) -> tuple[int, float, bool, int]:
    """Its states; the characters of the longest text that it takes; whether it has groups; the states behind the first
    atom that is repeated more or less often."""
    sums, last, at = [(0, 0.0)], (0, 0.0), 0  # of each group that is open; what the last atom has; where
    grouped, fixed = False, -1
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign == "{" and (end := pattern.find("}", at)) > 0 and (times := _times(pattern[at:end])):
            said, at = pattern[at:end], end + 1
            long = math.inf if said.strip().endswith(",") else last[1] * times
            sums[-1] = sums[-1][0] + last[0] * (times - 1), sums[-1][1] - last[1] + long
            last = last[0] * times, long
            fixed = sum(one for one, _ in sums) if fixed < 0 and "," in said else fixed
        elif sign == "(":
            grouped = True
            sums.append((0, 0.0))
        elif sign == ")" and len(sums) > 1:
            last = sums.pop()
            sums[-1] = sums[-1][0] + last[0], sums[-1][1] + last[1]
        elif sign in "*+?":
            sums[-1] = sums[-1][0], sums[-1][1] if sign == "?" else math.inf
            fixed = sum(one for one, _ in sums) if fixed < 0 else fixed
        elif sign not in "|^$":
            end = _end_of_atom(pattern, at - 1)
            last = (3 if _is_of_many(pattern[at - 1 : end]) else 1), 1.0
            sums[-1] = sums[-1][0] + last[0], sums[-1][1] + 1
            at = end
    states = sum(one for one, _ in sums)
    return states, sum(long for _, long in sums), grouped, states - fixed if fixed >= 0 else 0


def _has_choice_outside(pattern: str) -> bool:
    """Whether a pattern may have a `|` that is in no group."""
    depth, at = 0, 0
    while at < len(pattern):
        sign = pattern[at]
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and depth <= 0:
            return True
        at = _end_of_atom(pattern, at) if sign in "\\[" else at + 1
    return False


def _is_of_many(atom: str) -> bool:
    """Whether an atom takes characters of many lengths in UTF-8."""
    return atom == "." or atom[:2] == "[^" or not atom.isascii() or any(f"\\{one}" in atom for one in "wWdDsSpP")


def _times(said: str) -> int:
    """The most of `{n,m}`; 0 where it is none."""
    parts = said.split(",")
    if len(parts) > 2 or not all(part.strip().isdigit() or not part.strip() for part in parts):
        return 0
    return max((int(part) for part in parts if part.strip()), default=0)


def _end_of_atom(pattern: str, at: int) -> int:
    """Where a character, an escape or a class ends that begins here."""
    if pattern[at] == "\\":
        braced = pattern[at + 1 : at + 3] in ("p{", "P{", "x{", "u{", "U{")
        return max(pattern.find("}", at), at + 2) + 1 if braced else at + 2
    if pattern[at] != "[":
        return at + 1
    depth, at = 0, at
    while at < len(pattern):
        sign = pattern[at]
        depth += (sign == "[") - (sign == "]")
        at += 2 if sign == "\\" else 1
        if depth == 0:
            break
    return at
