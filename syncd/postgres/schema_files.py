"""The schema's files: numbered ones for the tables, and the functions as they are now.

schema/tables/NNNN_pre_NAME.sql    forward only, before the functions: tables, columns, types, table grants
schema/functions/AREA.sql          the current code, put in as a whole wherever it differs
schema/tables/NNNN_post_NAME.sql   forward only, after the functions: policies, triggers, what may go by now
schema/tables/before.sha256        the migrations that the first two files stand for
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from syncd import __version__

PACKAGE = Path(__file__).resolve().parent.parent
# An area calls those before it, never one after it; the grants come last.
AREAS = (
    "base", "starts", "context", "names", "acting", "devices", "user_bounds", "audit", "usage", "quotas", "cursors",
    "erased", "held", "first_generation", "feed_text", "page_cuts", "news", "roles", "small_feeds", "own_push",
    "shared_pages", "pull", "feeds", "idempotency", "merge", "unseen", "touched", "append", "writable_by",
    "push_single", "push", "spaces", "live", "invitations", "links", "history", "rules", "schemas", "revert", "restore",
    "export", "import_spaces", "import", "import_new", "compaction", "digest", "standbys", "moves", "import_moves",
    "push_groups", "legacy_view", "services", "write_checks", "write_single", "write", "consume", "consume_slots",
    "webhooks", "reports", "projections", "erase", "erase_names", "erase_user", "erase_begin", "grants",
)  # fmt: skip
FUNCTIONS = "functions"
# How a release compares: {0, 2, 0, 2, 1} is 0.2.0rc1, {0, 2, 0, 3, 0} is 0.2.0.
STAGES = {"dev": -1, "a": 0, "b": 1, "rc": 2, None: 3}


class MigrationError(Exception):
    """The schema cannot be brought up to date. `remedy` is what to do about it."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}. {remedy}")
        self.cause = cause
        self.remedy = remedy


class SchemaTooNew(MigrationError):
    """The database was migrated by a newer syncd than this one."""


class ChangedMigration(MigrationError):
    """A file differs from what was applied under its number."""


class SchemaTooOld(MigrationError):
    """The database has only some of the migrations that the baseline stands for."""


class Migration(msgspec.Struct, frozen=True):
    """One numbered file. `first`: it runs before the functions are put in."""

    number: int
    name: str
    sql: str
    sha256: str

    @property
    def label(self) -> str:
        """As the file is called, without its ending."""
        return f"{self.number:04d}_{self.name}"

    @property
    def first(self) -> bool:
        return self.name.startswith("pre_")


class FunctionFile(msgspec.Struct, frozen=True):
    """One area of the functions."""

    area: str
    sql: str


class SchemaFiles(msgspec.Struct, frozen=True):
    """All that the schema is made of. `before`: number and hash of the migrations that the baseline stands for."""

    migrations: list[Migration]
    functions: list[FunctionFile]
    before: dict[int, str]

    @property
    def sha256(self) -> str:
        """The hash of all function files."""
        parts = [f"{file.area}\n{len(file.sql)}\n{file.sql}" for file in self.functions]
        return hashlib.sha256("".join(parts).encode()).hexdigest()

    @property
    def names(self) -> list[str]:
        """The functions that the files make."""
        return sorted({name for file in self.functions for name in _MADE.findall(file.sql)})

    @property
    def sources(self) -> dict[str, str]:
        """The text of each function that has one between `$$`."""
        return {name: source for file in self.functions for name, source in _SOURCE.findall(file.sql)}

    def steps(self) -> list[str]:
        """The labels of everything, in the order in which it is applied."""
        first = [m.label for m in self.migrations if m.first]
        return [*first, FUNCTIONS, *(m.label for m in self.migrations if not m.first)]

    def missing(self, applied: Sequence[tuple[int, str, str]]) -> list[Migration]:
        """The numbered files that are not applied yet, of those in `applied` (number, name, hash), in their order.

        Raises:
            SchemaTooNew: more is applied than there are files.
            SchemaTooOld: some of what the baseline stands for is missing.
            ChangedMigration: a file is not the one that was applied.
        """
        hashes = {**self.before, **{m.number: m.sha256 for m in self.migrations}}
        for number, name, digest in applied:
            if number not in hashes:
                raise SchemaTooNew(
                    f"the database has the migration {number:04d}_{name}, which this syncd does not know",
                    "Run the newer syncd that applied it; going back is not possible.",
                )
            if hashes[number] != digest:
                raise ChangedMigration(
                    f"{number:04d}_{name}.sql is not the file that was applied to this database",
                    "Put the file back as it was and make the change in a new migration.",
                )
        done = {number for number, _, _ in applied}
        if done & self.before.keys() and (lacking := self.before.keys() - done):
            raise SchemaTooOld(
                f"the database stands at {min(lacking) - 1:04d}, and is upgraded from {max(self.before):04d} only",
                "Run `syncd migrate` of the last syncd that has schema/0001_tables.sql and what follows it, or export "
                "the data with the one that served it, and import them into a new database.",
            )
        return [m for m in self.migrations if m.number not in done]

    def stands_for_applied(self, migration: Migration, applied: Sequence[tuple[int, str, str]]) -> bool:
        """Whether a file is of the baseline, and the database has what it stands for."""
        return migration.name.endswith("_baseline") and bool(self.before.keys() & {number for number, _, _ in applied})


_MADE = re.compile(r"CREATE OR REPLACE FUNCTION syncd\.(\w+)")
_SOURCE = re.compile(r"^CREATE OR REPLACE FUNCTION syncd\.(\w+)[^$;]*\$\$(.*?)\$\$", re.MULTILINE | re.DOTALL)


def schema_directory() -> Path:
    """Inside an installed package, else in the repository beside it."""
    inside = PACKAGE / "schema"
    return inside if inside.is_dir() else PACKAGE.parent / "schema"


def read_schema(directory: Path | None = None) -> SchemaFiles:
    """The files of a schema; its numbers go on without a gap from those that its baseline stands for.

    Raises:
        MigrationError: a file is not called as it should be, or one is missing.
    """
    folder = directory or schema_directory()
    before = _before(folder / "tables" / "before.sha256")
    migrations = [_read(path) for path in sorted((folder / "tables").glob("*.sql"))]
    first = max(before, default=0) + 1
    if [m.number for m in migrations] != list(range(first, first + len(migrations))):
        raise MigrationError(
            f"the files in {folder / 'tables'} are not numbered {first:04d}, {first + 1:04d}, … "
            "without gap or repetition",
            "Rename the newest so that it follows the last one.",
        )
    return SchemaFiles(migrations, _functions(folder / "functions"), before)


def _read(path: Path) -> Migration:
    match = re.fullmatch(r"(\d{4})_((?:pre|post)_\w+)\.sql", path.name)
    if match is None:
        raise MigrationError(f"{path} is not called NNNN_pre_name.sql or NNNN_post_name.sql", "Rename it.")
    content = path.read_bytes()
    return Migration(int(match[1]), match[2], content.decode(), hashlib.sha256(content).hexdigest())


def _functions(folder: Path) -> list[FunctionFile]:
    found = {path.stem: path for path in folder.glob("*.sql")}
    if unknown := sorted(found.keys() - set(AREAS)):
        raise MigrationError(
            f"{found[unknown[0]]} is of no area that is known",
            f"Its functions belong in one of {', '.join(AREAS)}; a new area gets its place in AREAS.",
        )
    return [FunctionFile(area, found[area].read_text(encoding="utf-8")) for area in AREAS if area in found]


def _before(path: Path) -> dict[int, str]:
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    return {int(name[:4]): digest for digest, name in (line.split() for line in lines)}


def named_parts(file: str) -> dict[str, str]:
    """The statements of a file of the schema that begin with `-- name: …`, by name."""
    text = (schema_directory() / file).read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def release(version: str = __version__) -> list[int]:
    """A version as numbers that compare. Raises ValueError for what is none."""
    match = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)(?:\.?(dev|a|b|rc)(\d+))?", version)
    if match is None:
        raise ValueError(f"{version} is not a version such as 1.2.3 or 1.2.3rc1")
    return [int(match[1]), int(match[2]), int(match[3]), STAGES[match[4]], int(match[5] or 0)]
