"""docs/reference/conformance.md: every list of the vectors, with each member of its cases; and its runner runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from tests.support.programs import REPOSITORY

PAGE = (REPOSITORY / "docs/reference/conformance.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`\w+\.json`)? ?\| (`\w+`|the file) \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)


def on_the_page() -> dict[tuple[str, str], set[str]]:
    """The members of cases, by file and list."""
    found, file = {}, ""
    for named, part, members in ROWS:
        file = named.strip("`") or file
        found[file, part.strip("`")] = set(re.findall(r"`(\w+)`", members))
    return found


def in_the_files() -> Iterator[tuple[tuple[str, str], set[str]]]:
    for path in sorted((REPOSITORY / "tests/vectors").glob("*.json")):
        held = json.loads(path.read_text(encoding="utf-8"))
        for part, cases in held.items() if isinstance(held, dict) else [("the file", held)]:
            if isinstance(cases, list):
                yield (path.name, part), {name for case in cases if isinstance(case, dict) for name in case}


@pytest.mark.parametrize("place", dict(in_the_files()), ids="-".join)
def test_every_list_is_on_the_page_with_the_members_of_its_cases(place: tuple[str, str]) -> None:
    assert on_the_page()[place] == dict(in_the_files())[place]


def test_nothing_is_on_the_page_that_no_file_has() -> None:
    assert on_the_page().keys() == dict(in_the_files()).keys()


def test_the_runner_of_the_page_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    [runner] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(REPOSITORY)
    exec(compile(runner, "docs/reference/conformance.md", "exec"), {})
    assert capsys.readouterr().out == "conforms\n"
