"""The prose of pages and of the code's comments, as far as a program can judge it: a sentence's length and subject,
words that only we know.

EXCEPTIONS says how many faults a page had when the rule came. A number only gets lower; a page that is not
there has none.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

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


# The code whose comments and docstrings are looked at; `Who left gets …` is a clause for a subject there too.
CODE = [
    path
    for room in ("syncd", "schema/functions", "schema/calls", "clients/python/syncd_client", "clients/typescript/src",
                 "examples", "bench", "tools")
    for path in sorted((REPOSITORY / room).rglob("*"))
    if path.suffix in (".py", ".sql", ".ts") and not {"node_modules", ".venv"} & set(path.parts)
]  # fmt: skip
WHO = re.compile(r"^(?:Who|Whoever|Whatever)\b(?!.*\?$)")
# How many faults a folder has that is still to be gone through.
CODE_EXCEPTIONS = {"syncd/live": 13}
# Words that names of the server's code had.
RETIRED = frozenset({"allowance", "callers", "convoy", "firsts", "gate", "glance", "talk"})


def remarks(path: Path) -> Iterator[str]:
    """The comments and docstrings of a file that may be at fault, each run of lines as one text."""
    text = path.read_text(encoding="utf-8")
    if not (re.search(r"\b(?:Who|Whoever|Whatever)\b", text) or COINED.search(text)):
        return  # mostly, and to look closer takes fifty times as long
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, DOCUMENTED)]
        yield from (found for node in nodes if (found := ast.get_docstring(node)))
        comments = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.COMMENT]
        yield from runs([(token.start[0], token.string.lstrip("#! ")) for token in comments])
    elif path.suffix == ".sql":
        lines = enumerate(text.split("\n"))
        yield from runs([(number, line.partition("--")[2].strip()) for number, line in lines if "--" in line])
    else:
        yield from (
            re.sub(r"^\s*\* ?", "", found, flags=re.MULTILINE)
            for found in re.findall(r"/\*\*?(.*?)\*/", text, re.DOTALL)
        )
        lines = enumerate(text.split("\n"))
        yield from runs([(n, line.strip()[2:].strip()) for n, line in lines if line.strip().startswith("//")])


DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def runs(lines: list[tuple[int, str]]) -> list[str]:
    """Lines by number, those that follow each other as one text."""
    found: list[str] = []
    last = -1
    for number, line in lines:
        if found and number == last + 1:
            found[-1] += " " + line
        else:
            found.append(line)
        last = number
    return found


def faults_of_remarks(texts: Iterator[str]) -> list[str]:
    """Each sentence of comments with a word that only we know, or a clause for a subject."""
    found = [sentence for text in texts for sentence in sentences(text)]
    return [one for one in found if WHO.search(one) or (COINED.search(one) and "mana" not in one)]


def test_comments_are_written_in_plain_words() -> None:
    found: dict[str, list[str]] = {}
    for path in CODE:
        found.setdefault(str(path.parent.relative_to(REPOSITORY)), []).extend(faults_of_remarks(remarks(path)))
    grown = {room: texts for room, texts in found.items() if len(texts) > CODE_EXCEPTIONS.get(room, 0)}
    assert grown == {}


def test_a_name_that_was_replaced_does_not_come_back() -> None:
    word = re.compile(rf"(?<![a-zA-Z])(?:{'|'.join(RETIRED)})(?![a-zA-Z])", re.IGNORECASE)
    names = {
        f"{path.relative_to(REPOSITORY)}: {token.string}"
        for path in (REPOSITORY / "syncd").rglob("*.py")
        if path.parent.name != "live" and word.search(text := path.read_text(encoding="utf-8"))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.NAME and RETIRED.intersection(token.string.lower().split("_"))
    }
    assert names == set()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("# Who left gets\n# nothing. A convoy\n# leaves.\n", 2),
        ('def one():\n    """The line is made anew."""\n', 1),
        ("# Who is that? Nobody.\nwho = 'anew'  # a `husk`\n", 0),
    ],
)
def test_a_comment_s_fault_is_found_and_nothing_else(text: str, count: int, tmp_path: Path) -> None:
    path = tmp_path / "one.py"
    path.write_text(text, encoding="utf-8")
    assert len(faults_of_remarks(remarks(path))) == count


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
