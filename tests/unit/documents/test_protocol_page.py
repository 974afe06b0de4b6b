"""docs/reference/protocol.md: its numbers, the tests that it names, the codes that it must not forget."""

from __future__ import annotations

import re

import pytest

from syncd.core.error_codes import ERROR_CODES, GROUPS
from syncd.edge.openapi import document
from tests.support.protocol_page import NO_TEST, NOT_YET, ROOT, Statement, page, statements

STATEMENTS = statements(page())
VECTORS = sorted(path.name for path in (ROOT / "tests/vectors").glob("*.json"))
PYTHON = re.compile(r"`((?:clients/python/)?tests/[\w/]+\.py)::(\w+)`")
TYPESCRIPT = re.compile(r'`(clients/typescript/test/[\w-]+\.test\.tsx?)` "(.+?)"')
# The command line says the first, and of the last two there is only the close code.
NOT_ON_THE_WIRE = {row.code for row in GROUPS["`syncd import --from`"]} | {"auth_timeout", "restarting"}
WIRE = ERROR_CODES.keys() - NOT_ON_THE_WIRE
MANY_WITHOUT = 3
# Given out to several changes that were written side by side, each with numbers to spare.
AHEAD = (*range(253, 311), *range(314, 320), *range(326, 371), *range(373, 394))
# What was to come, and came under other numbers.
GONE = (226, 227)


def test_every_number_is_given_once_and_none_is_left_out() -> None:
    numbers = [statement.number for statement in STATEMENTS]
    assert sorted({*numbers, *AHEAD, *GONE}) == list(range(1, max(*numbers, *AHEAD) + 1))
    assert not {*numbers} & {*GONE}
    assert len(set(numbers)) == len(numbers)
    assert len(re.findall(r"\*\*P\d+\.\*\*", page())) == len(numbers), "a statement without its `Held by`"
    assert [statement.anchor for statement in STATEMENTS] == numbers


def test_every_number_that_is_pointed_to_exists() -> None:
    pointed = {(int(shown), int(to)) for shown, to in re.findall(r"\[P(\d+)\]\(#p(\d+)\)", page())}
    assert {shown for shown, _ in pointed} <= {statement.number for statement in STATEMENTS}
    assert all(shown == to for shown, to in pointed)


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: f"P{s.number}")
def test_every_statement_names_its_tests_or_says_why_not(statement: Statement) -> None:
    if statement.tests in (NO_TEST, NOT_YET):
        assert statement.text.startswith("*Not yet:*") == (statement.tests == NOT_YET)
        return
    for test in re.split(r", (?=`)", statement.tests):
        found = PYTHON.fullmatch(test) or TYPESCRIPT.fullmatch(test)
        assert found is not None, test
        source = (ROOT / found[1]).read_text(encoding="utf-8")
        name = re.escape(found[2])
        defined = rf"^\s*(async )?def {name}\(" if found.re is PYTHON else rf'\(\s*"{name}"'
        assert re.search(defined, source, re.MULTILINE), test


def test_few_statements_have_no_test() -> None:
    assert len([s for s in STATEMENTS if s.tests == NO_TEST]) <= MANY_WITHOUT


def test_every_code_of_the_server_is_on_the_page() -> None:
    assert sorted(code for code in WIRE if f"`{code}`" not in page()) == []


def test_the_page_gives_every_code_its_status() -> None:
    table = page().split("| status | codes |", 1)[1].split("\n\n", 1)[0]
    shown = {
        code: int(status)
        for status, row in re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
        for code in re.findall(r"`([a-z_]+)`", row)
    }
    assert shown == {code: row.status for code, row in ERROR_CODES.items() if row.status is not None}


def members_of(number: int) -> set[str]:
    """What the table of a statement names in its first column."""
    table = page().partition(f"**P{number}.**")[2].partition("Held by:")[0]
    return set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


def test_what_a_request_may_say_is_in_the_openapi_document_too() -> None:
    described = document("0")
    pull, stream = (described["paths"][f"/sync/{{app}}/{name}"]["get"]["parameters"] for name in ("pull", "stream"))
    assert {one["name"] for one in pull} == members_of(78) > {"since", "roles"}
    push = described["components"]["schemas"]["Push"]["properties"]
    assert push.keys() >= members_of(59) > {"changes", "roles"}
    assert {one["name"] for one in stream} == {"since", "collections", "bytes", "roles", "Last-Event-ID"}


def test_every_file_of_vectors_is_on_the_page_and_in_the_readme() -> None:
    readme = (ROOT / "tests/vectors/README.md").read_text(encoding="utf-8")
    assert [name for name in VECTORS if f"`{name}`" not in page() or f"`{name}`" not in readme] == []
