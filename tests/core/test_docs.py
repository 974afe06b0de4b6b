"""What the documents say exists: tests, files, headings, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncd.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
GUARANTEES = (ROOT / "docs/internals/guarantees.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "docs/operate/security.md").read_text(encoding="utf-8")


def headings(text: str) -> set[str]:
    """The anchors of a document: those that forges make of headings, and its own."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    own = set(re.findall(r'<a id="([\w-]+)">', text))
    return own | {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize(("path", "name"), sorted({*TEST.findall(GUARANTEES), *TEST.findall(SECURITY)}))
def test_every_test_that_a_promise_names_exists(path: str, name: str) -> None:
    assert re.search(rf"^\s*(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)


def test_every_guarantee_is_there_and_has_a_test_or_says_why_not() -> None:
    parts = re.split(r"^### ", GUARANTEES, flags=re.MULTILINE)[1:]
    assert [part.split()[0] for part in parts] == [f"G{number}" for number in range(1, 19)]
    bare = [part.split()[0] for part in parts if not TEST.search(part) and "*Not yet*" not in part]
    assert bare == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_internal_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for target in LINK.findall(prose):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / document).parent / path if path else ROOT / document
        assert file.exists(), f"{document} links to {target}"
        assert not anchor or anchor in headings(file.read_text(encoding="utf-8")), f"{document} links to {target}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`syncd {command}`" in (ROOT / "README.md").read_text(encoding="utf-8")
