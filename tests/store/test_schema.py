"""The schema's files: each function once, where it belongs, no longer than it may be; each call's columns declared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_type_hints

import asyncpg
import pytest

import syncd
from syncd.postgres.embedded import EmbeddedPostgres
from syncd.postgres.schema_files import AREAS, read_schema, release, schema_directory
from syncd.postgres.statements import Statement, statements

# An area calls functions of its own and of lower levels.
LEVELS = {
    "services": 4, "schemas": 3, "writable_by": 2, "import_moves": 12, "write_checks": 1, "write_single": 7, "base": 0,
    "context": 0, "starts": 1, "names": 1, "user_bounds": 1, "first_generation": 1, "page_cuts": 1, "merge": 1,
    "touched": 1, "unseen": 1, "acting": 2, "append": 2, "feeds": 2, "feed_text": 2, "audit": 3, "usage": 3,
    "quotas": 4, "held": 3, "cursors": 3, "devices": 3, "idempotency": 3, "news": 4, "roles": 4, "small_feeds": 4,
    "own_push": 4, "shared_pages": 4, "pull": 5, "push_single": 6, "push": 7, "live": 7, "spaces": 7, "invitations": 8,
    "history": 8, "export": 9, "import_spaces": 9, "import": 9, "import_new": 10, "compaction": 10, "digest": 10,
    "revert": 9, "restore": 10, "moves": 11, "push_groups": 11, "rules": 10, "standbys": 11, "legacy_view": 12,
    "write": 12, "consume": 12, "consume_slots": 13, "webhooks": 13, "reports": 1, "projections": 13, "erased": 1,
    "erase": 14, "erase_names": 14, "erase_user": 15, "erase_begin": 16, "links": 8,
}  # fmt: skip
LONGEST = 60
LONGEST_FILE = 400
# The files before the functions that drop one, which an older worker lacks until they are in. This list only shrinks.
DROPS_TOO_EARLY = {"0025_pre_invitations"}
ELSEWHERE = """
CREATE SCHEMA elsewhere;
CREATE TABLE elsewhere.sync_changes (id text, app_id text, table_name text, record_id text, space_id text, user_id text,
                                     created_at timestamptz);
"""


class Function(NamedTuple):
    """One function as its file has it, without the comment above it."""

    name: str
    area: str
    sql: str


def functions() -> list[Function]:
    """All of them."""
    found = []
    for file in read_schema().functions:
        starts = list(re.finditer(r"^CREATE OR REPLACE FUNCTION syncd\.(\w+)", file.sql, re.MULTILINE))
        places = [*(start.start() for start in starts), len(file.sql)]
        for start, (begin, end) in zip(starts, pairwise(places), strict=True):
            text = re.sub(r"(\n--[^\n]*|\n)*\Z", "", file.sql[begin:end])
            found.append(Function(start[1], file.area, text))
    return found


def without_comments(sql: str) -> str:
    return re.sub(r"--.*", "", sql)


def test_every_area_has_a_file_and_says_who_calls_it() -> None:
    found = {path.stem: path.read_text() for path in (schema_directory() / "functions").glob("*.sql")}
    assert set(found) == set(AREAS)
    assert set(LEVELS) == set(AREAS) - {"grants"}
    for area, text in found.items():
        head = text.split("\n\n")[0] if area != "grants" else text.split("\nREVOKE")[0]
        assert all(line.startswith("--") for line in head.split("\n"))
        assert "Called by" in head or "Which role may execute what" in head, area


def test_each_function_is_there_once() -> None:
    names = [function.name for function in functions()]
    assert sorted(names) == read_schema().names
    assert len(names) > 100


def test_no_function_is_made_outside_of_its_file() -> None:
    for migration in read_schema().migrations:
        made = re.search(r"CREATE\s+(OR\s+REPLACE\s+)?(FUNCTION|PROCEDURE)|\$\$", without_comments(migration.sql))
        assert made is None, migration.label


def test_no_function_goes_before_the_others_are_in() -> None:
    dropping = {
        migration.label
        for migration in read_schema().migrations
        if "_pre_" in migration.label and "DROP FUNCTION" in migration.sql
    }
    assert dropping == DROPS_TOO_EARLY


def test_function_files_only_replace_functions_and_grant() -> None:
    for file in read_schema().functions:
        wanted = ("REVOKE ALL", "GRANT EXECUTE") if file.area == "grants" else ("CREATE OR REPLACE FUNCTION syncd.",)
        without_texts = re.sub(r"\$\$.*?\$\$|'(?:[^']|'')*'", "", without_comments(file.sql), flags=re.DOTALL)
        other = [text.strip() for text in without_texts.split(";") if not text.strip().startswith(wanted)]
        # Which parameter says who acts depends on what the owner was granted.
        assert other == (["DO", ""] if file.area in ("context", "grants") else [""]), file.area


def test_the_calls_between_areas_have_no_circle() -> None:
    area = {function.name: function.area for function in functions()}
    upward = [
        f"{function.name} ({function.area}) calls {name} ({area[name]})"
        for function in functions()
        for name in set(re.findall(r"\bsyncd\.(\w+)\s*\(", without_comments(function.sql))) & area.keys()
        if area[name] != function.area and LEVELS[area[name]] >= LEVELS[function.area]
    ]
    assert upward == []


def test_functions_are_of_sixty_lines_at_most() -> None:
    lengths = {function.name: function.sql.count("\n") + 1 for function in functions()}
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_files_of_functions_are_of_400_lines_at_most() -> None:
    lengths = {file.area: file.sql.count("\n") for file in read_schema().functions}
    assert {area: length for area, length in lengths.items() if length > LONGEST_FILE} == {}


@pytest.fixture(scope="module")
async def prepared(database: EmbeddedPostgres) -> Any:
    """A connection that knows a first-generation log, too."""
    conn = await asyncpg.connect(database.owner_dsn)
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute(ELSEWHERE)
    yield conn
    await transaction.rollback()
    await conn.close()


@pytest.mark.parametrize("call", statements().values(), ids=lambda call: call.name)
async def test_a_call_answers_what_it_says(prepared: asyncpg.Connection, call: Statement) -> None:
    async with prepared.transaction():
        columns = (await prepared.prepare(call.sql)).get_attributes()
    if call.returns == "nothing":
        assert [column.type.name for column in columns] in ([], ["void"])
    elif call.returns == "one value":
        assert len(columns) == 1
        assert columns[0].type.name != "void"
    else:
        await same_fields(prepared, declared(call.returns), columns)


async def same_fields(conn: asyncpg.Connection, type_: Any, columns: Any) -> None:
    """Composite columns are compared with the class that their field has."""
    assert [column.name for column in columns] == list(type_._fields)
    for column in columns:
        if column.type.kind == "composite":
            names = await conn.fetch(
                "SELECT attname FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid"
                " WHERE t.oid = $1 AND attnum > 0 ORDER BY attnum",
                column.type.oid,
            )
            inner = [kind for kind in get_args(get_type_hints(type_)[column.name]) if hasattr(kind, "_fields")]
            assert [row[0] for row in names] == list(inner[0]._fields)


def declared(path: str) -> Any:
    module, name = f"syncd.{path}".rsplit(".", 1)
    return getattr(import_module(module), name)


def sources() -> Iterator[str]:
    for path in Path(syncd.__file__).parent.rglob("*.py"):
        yield path.read_text()


def test_every_call_is_made_somewhere() -> None:
    code = "\n".join(sources())
    assert [name for name in statements() if f'"{name}"' not in code] == []


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("0.1.0", "0.1.1"),
        ("0.9.12", "0.10.0"),
        ("0.2.0.dev7", "0.2.0a1"),
        ("0.2.0a2", "0.2.0b1"),
        ("0.2.0b9", "0.2.0rc1"),
        ("0.2.0rc10", "0.2.0"),
    ],
)
def test_releases_compare_as_versions_do(older: str, newer: str) -> None:
    assert release(older) < release(newer)


def test_this_version_is_one() -> None:
    assert len(release()) == 5
    with pytest.raises(ValueError, match="is not a version"):
        release("next")
