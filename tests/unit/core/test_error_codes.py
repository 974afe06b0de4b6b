"""One table of error codes: all that is made from it is up to date, and every code in the sources is in it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from syncd.core import errors
from syncd.core.error_codes import (
    CLIENT_CODES,
    CLIENT_GROUPS,
    CLOSED,
    ERROR_CODES,
    GROUPS,
    ErrorCode,
    Retry,
    close_code_of,
)
from syncd.core.errors import Fault, SyncdError
from syncd.edge.error_page import error_page
from syncd.edge.problems import LONGEST_REASON, close_code, status_of
from tools.error_codes import FILES, ROOT

ALL = ERROR_CODES | CLIENT_CODES
ROWS = [row for rows in (GROUPS | CLIENT_GROUPS).values() for row in rows]
SERVER = [path for path in sorted((ROOT / "syncd").rglob("*.py")) if path.name != "error_codes.py"]
SCHEMA = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "schema").rglob("*.sql")))
# What the schema raises and Python says with another code, and in its own words.
# The last three are told to operators by `syncd erase`.
TRANSLATED = {"seq_ahead", "member_not_found", "user_not_found", "not_begun"}
WORD = re.compile(r"[a-z]+(_[a-z]+)*")
# Functions that take a code: the place of it among their arguments.
TAKES_CODE = {"UnreadableRow": 0, "Verdict": 0, "reject": 1, "_invalid": 2, "_fault": 2}


def strings(node: ast.expr | None) -> Iterator[str]:
    """The texts that an expression may be, of a condition both."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)


def name_of(target: ast.expr) -> str:
    return target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""


@cache
def codes_in(source: str) -> frozenset[str]:
    """The codes that a module names: `code=…`, `code = …`, arguments that are codes, MARKS and REASONS."""
    return frozenset(_codes_in(source))


def _codes_in(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == "code":
                    yield from strings(keyword.value)
            place = TAKES_CODE.get(name_of(node.func))
            if place is not None and len(node.args) > place:
                yield from strings(node.args[place])
        elif isinstance(node, ast.Assign):
            names = {name_of(target) for target in node.targets}
            if "code" in names:
                yield from strings(node.value)
            if names & {"MARKS", "REASONS"} and isinstance(node.value, ast.Dict):
                for value in node.value.values:
                    yield from strings(value)
        elif isinstance(node, ast.Subscript) and name_of(node.value) in ("ERROR_CODES", "TEXTS"):
            yield from strings(node.slice)


def raised_in_sql() -> set[str]:
    """The messages that the schema raises to be told as they are: SY010."""
    raised = re.findall(r"RAISE EXCEPTION(?: '(\w+)')? USING ([^;]*'SY010'[^;]*);", SCHEMA)
    return {
        code
        for message, rest in raised
        for code in [message, *re.findall(r"'([a-z_]+)'", rest.partition("DETAIL")[0])]
        if code
    }


@pytest.mark.parametrize("path", FILES)
def test_what_is_made_from_the_table_is_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == FILES[path](), "run `make error-codes`"


def test_no_code_is_there_twice() -> None:
    assert len({row.code for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("path", SERVER, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_code_that_the_server_names_is_in_the_table(path: Path) -> None:
    assert set(codes_in(path.read_text(encoding="utf-8"))) <= ERROR_CODES.keys()


def test_every_code_that_the_schema_raises_is_in_the_table() -> None:
    assert raised_in_sql() >= {"space_not_found", "last_owner", "history_gone", "record_not_found", "digest_behind"}
    assert raised_in_sql() - TRANSLATED <= ERROR_CODES.keys()


def test_every_code_in_the_table_is_one_that_the_server_can_send() -> None:
    named = {code for path in SERVER for code in codes_in(path.read_text(encoding="utf-8"))} | raised_in_sql()
    assert named >= ERROR_CODES.keys()


PYTHON = sorted((ROOT / "clients/python/syncd_client").glob("*.py"))


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.name)
def test_every_code_that_the_python_client_names_is_in_the_table(path: Path) -> None:
    assert set(codes_in(path.read_text(encoding="utf-8"))) <= ALL.keys()


TYPESCRIPT = sorted((ROOT / "clients/typescript/src").rglob("*.ts"))
IN_TYPESCRIPT = re.compile(r"""\bcode(?:: | = | === )"([a-z_]+)"|super\("([a-z_]+)",|SyncdError\("([a-z_]+)",""")


@pytest.mark.parametrize("path", TYPESCRIPT, ids=lambda path: path.name)
def test_every_code_that_the_typescript_client_names_is_in_the_table(path: Path) -> None:
    found = {code for match in IN_TYPESCRIPT.findall(path.read_text(encoding="utf-8")) for code in match if code}
    assert found <= ALL.keys()


def test_every_code_of_a_client_is_one_that_a_client_can_say() -> None:
    made = [ROOT / path for path in FILES]
    text = "\n".join(path.read_text(encoding="utf-8") for path in (*PYTHON, *TYPESCRIPT) if path not in made)
    assert {*CLOSED.values(), *re.findall(r"[\"']([a-z_]+)[\"']", text)} >= CLIENT_CODES.keys()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_a_row_says_cause_and_remedy_in_sentences(row: ErrorCode) -> None:
    assert WORD.fullmatch(row.code)
    assert all(re.fullmatch(r"[A-Z].*\.", text) for text in (row.cause, row.remedy))
    # A close frame has no room for more.
    assert len(row.cause.encode()) <= LONGEST_REASON
    assert (row.retry_after is None) or row.retry is Retry.LATER


@pytest.mark.parametrize("row", ERROR_CODES.values(), ids=lambda row: row.code)
def test_what_passes_by_itself_is_408_429_or_5xx_and_nothing_else_is(row: ErrorCode) -> None:
    passes = row.status is not None and (row.status in (408, 429) or (row.status >= 500 and row.status != 507))
    assert row.status is None or (row.retry is Retry.LATER) == passes


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.code)
def test_every_code_has_a_paragraph_on_the_page_and_in_the_document(row: ErrorCode) -> None:
    assert error_page().body.decode().count(f'id="{row.code}"') == 1
    document = (ROOT / "docs/reference/errors.md").read_text(encoding="utf-8")
    assert len(re.findall(rf"^### {row.code}$", document, re.MULTILINE)) == 1


KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SyncdError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_without_words_of_its_own_says_those_of_the_table(kind: type[SyncdError]) -> None:
    error = kind("GET") if kind is errors.MethodNotAllowed else kind()
    row = ERROR_CODES[kind.code]
    assert (error.code, error.retry_after, status_of(error)) == (row.code, row.retry_after, row.status)
    assert kind is errors.MethodNotAllowed or error.detail == f"{row.cause} {row.remedy}"


def test_a_reason_that_is_too_long_for_a_close_frame_is_the_cause() -> None:
    assert close_code(errors.Unauthorized("short")) == (4401, "short")
    assert close_code(errors.Unauthorized("ü" * 61)) == (4401, ERROR_CODES["unauthorized"].cause)


@pytest.mark.parametrize("number", [n for n in CLOSED if n > 1006 and n != 1011])
def test_a_client_calls_a_close_code_by_a_code_that_is_closed_with_it(number: int) -> None:
    assert close_code_of(ALL[CLOSED[number]]) == number


def test_a_fault_says_its_code_where_it_has_one() -> None:
    assert Fault("/a", "wrong").wire() == {"pointer": "/a", "detail": "wrong"}
    assert Fault("/a", "wrong", "busy").wire() == {"pointer": "/a", "detail": "wrong", "code": "busy"}
