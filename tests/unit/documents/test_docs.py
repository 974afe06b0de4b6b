"""What the documents say exists: tests, files, headings, commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from syncd.cli import COMMANDS
from tools import docs, reference

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")),
]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST = re.compile(r"`((?:clients/python/)?tests/[\w/]+\.py)::(\w+)`")
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
    assert [part.split()[0] for part in parts] == [f"G{number}" for number in range(1, 27)]
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
def test_every_command_is_in_the_reference(command: str) -> None:
    assert f"`syncd {command}`" in (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", reference.FILES)
def test_the_reference_is_as_the_code_is(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == reference.FILES[path](), "run `make reference`"


def test_every_page_is_on_the_site_and_in_its_order() -> None:
    there = {page.removesuffix(".md") for page in docs.pages().values()} - {"index"}
    listed = [page for _, page in docs.toctree((ROOT / "docs/index.md").read_text(encoding="utf-8"))]
    decisions = {page for page in there if page.startswith("internals/adr/")}
    assert sorted(listed) == sorted({*there - decisions, "internals/adr/index"})


def test_a_link_to_a_file_is_on_the_site_a_link_to_its_page_or_its_name() -> None:
    there = {"docs/a/b.md": "a/b.md", "CONTRIBUTING.md": "internals/contributing.md"}
    block = "\n```\n[x](../../CONTRIBUTING.md)\n```\n"
    said = f"[x](../../CONTRIBUTING.md#y) [`z`](../../z.py) [w](https://w) ![i](../i.png){block}"
    made = f"[x](../internals/contributing.md#y) `z` [w](https://w) ![i](../i.png){block}"
    assert docs.gathered(said, "docs/a/b.md", there) == made
