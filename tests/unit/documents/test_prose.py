"""The pages' prose, as far as a program can judge it: a sentence's length and subject, words that only we know.

EXCEPTIONS says how many faults a page had when the rule came. A number only gets lower; a page that is not
there has none.
"""

from __future__ import annotations

import re

import pytest

from tests.support.programs import REPOSITORY

LONGEST = 45  # words
# Of a sentence that begins so the subject is a clause: "Who left gets …".
CLAUSE = re.compile(r"^(?:Who|What|Whoever|Whatever)\b(?!.*\?$)")
COINED = re.compile(
    r"\b(?:convoys?|mana|husks?|glances?|pokes?|seats|rosters?|borrows?|mends?|mended|mending|anew)\b", re.IGNORECASE
)
PAGES = sorted(
    str(path.relative_to(REPOSITORY))
    for path in [REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")]
    # Decisions stay as they were taken, and what is made from the code is judged there.
    if "adr" not in path.parts
    and path.name not in ("errors.md", "cli.md", "http.md", "metrics.md", "planted-faults.md")
)
EXCEPTIONS = {
    "docs/guide/demonstrations.md": 1,
    "docs/internals/guarantees.md": 3,
    "docs/operate/backup.md": 2,
    "docs/operate/compaction.md": 1,
    "docs/operate/importing-existing-data.md": 12,
    "docs/operate/running.md": 10,
    "docs/operate/security.md": 8,
}


def sentences(text: str) -> list[str]:
    """Those of paragraphs and lists: without blocks, tables, headings, addresses of links, and what is code."""
    prose = re.sub(r"^```.*?^```$|^\|[^\n]*|^#[^\n]*|<[^>]+>|^Held by:[^\n]*", "", text, flags=re.MULTILINE | re.DOTALL)
    prose = re.sub(r"`[^`]*`", "code", re.sub(r"\]\([^)]*\)", "]", prose))
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", prose)
    found = [one.strip() for part in paragraphs for one in re.split(r"(?<=[.:?!])\s+", " ".join(part.split()))]
    return [one for one in (re.sub(r"^(?:[-*]|\d+\.) |[\[\]*]", "", one) for one in found) if one]


def faults(text: str) -> list[str]:
    """Each sentence that breaks a rule, with the rule."""
    found = []
    for sentence in sentences(text):
        if len(sentence.split()) > LONGEST:
            found.append(f"longer than {LONGEST} words: {sentence}")
        if CLAUSE.search(sentence):
            found.append(f"a clause for a subject: {sentence}")
        if word := COINED.search(sentence):
            found.append(f"{word[0]} is no word of the field: {sentence}")
    return found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_written_in_plain_sentences(page: str) -> None:
    found = faults((REPOSITORY / page).read_text(encoding="utf-8"))
    allowed = EXCEPTIONS.get(page, 0)
    assert len(found) <= allowed, "\n".join(found)


def test_the_exceptions_are_of_pages_that_are_there() -> None:
    assert set(EXCEPTIONS) <= set(PAGES)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("Who left gets nothing. A user who left gets nothing.", ["a clause"]),
        ("What is that? A question.", []),
        ("The convoy leaves.", ["convoy"]),
        ("`convoy` is a name in the code. ```\nconvoy\n```", []),
        (f"It is {'very ' * 50}long.", ["longer than"]),
        ("- One.\n- Two two.\n", []),
    ],
)
def test_a_fault_is_found_and_nothing_else(text: str, rules: list[str]) -> None:
    found = faults(text)
    assert len(found) == len(rules)
    assert all(fault.startswith(rule) for fault, rule in zip(found, rules, strict=True))
