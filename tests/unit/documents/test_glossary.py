"""Words: a class name has one meaning, and each term of the glossary is in the code."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
CODE = {"syncd": ROOT / "syncd", "syncd_client": ROOT / "clients/python/syncd_client"}
GLOSSARY = (ROOT / "docs/reference/glossary.md").read_text(encoding="utf-8")
TERMS = re.findall(r"^\| ([a-z][a-z ]*) \| `(\w+)` \| \S", GLOSSARY, re.MULTILINE)


@pytest.mark.parametrize("package", CODE)
def test_a_class_name_exists_once(package: str) -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in CODE[package].rglob("*.py")]
    names = Counter(node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert names
    assert [name for name, times in names.items() if times > 1] == []


def test_each_term_of_the_glossary_exists_in_the_code() -> None:
    files = (*CODE["syncd"].rglob("*.py"), *(ROOT / "schema").rglob("*.sql"))
    words = {word for path in files for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))}
    assert [name for _, name in TERMS if name not in words] == []


def test_the_glossary_is_read_whole_and_has_each_term_once() -> None:
    rows = [line for line in GLOSSARY.splitlines() if line.startswith("|") and not line.startswith(("|--", "| term"))]
    assert len(TERMS) == len(rows)
    assert max(Counter(term for term, _ in TERMS).values()) == 1
