"""The schema as .sql files for psql, or for a host's own migration tooling, in the order of their names."""

from __future__ import annotations

from pathlib import Path

from syncd.postgres import functions
from syncd.postgres.migrate import LOCK_TIMEOUT_MS, PREAMBLE, PROLOGUE
from syncd.postgres.schema_files import Migration, SchemaFiles, read_schema

NUMBERED = """\
-- Written by syncd migrate --emit. Runs once: the second time its record is in the way.
BEGIN;
{prologue}INSERT INTO syncd.sync_migrations (number, name, sha256) VALUES ({number}, '{name}', '{sha256}');

{sql}

COMMIT;
"""
REPEATED = """\
-- Written by syncd migrate --emit. May run again, and has to wherever it changed; refused where a newer one has run.
BEGIN;
{prologue}DO $$ BEGIN
    IF ({state}) = 'older' THEN
        RAISE EXCEPTION 'the database has the functions of a newer syncd' USING HINT = 'Run that one''s files.';
    END IF;
END $$;

{sql}

{printing}{record};
COMMIT;
"""


def emit(target: Path, *, directory: Path | None = None) -> list[Path]:
    """Write the files, and return them in their order. Each is one transaction and records itself.

    The numbered ones run once; the preamble and the functions may run again.
    """
    files = read_schema(directory)
    texts = {"0_preamble": f"BEGIN;\n{PREAMBLE.read_text(encoding='utf-8')}COMMIT;\n"}
    for migration in files.migrations:
        texts[f"{1 if migration.first else 3}_{migration.label}"] = _numbered(migration)
    if files.functions:
        texts["2_functions"] = _repeated(files)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name in sorted(texts):
        written.append(target / f"{name}.sql")
        written[-1].write_text(texts[name], encoding="utf-8")
    return written


def _numbered(migration: Migration) -> str:
    return NUMBERED.format(
        prologue=PROLOGUE.format(lock_timeout=LOCK_TIMEOUT_MS),
        number=migration.number,
        name=migration.name,
        sha256=migration.sha256,
        sql=migration.sql.rstrip(),
    )


def _repeated(files: SchemaFiles) -> str:
    return REPEATED.format(
        prologue=PROLOGUE.format(lock_timeout=LOCK_TIMEOUT_MS),
        state=functions.filled(functions.STATE, files),
        sql="\n".join(file.sql for file in files.functions).rstrip(),
        printing=functions.PRINTING,
        record=functions.filled(functions.RECORD, files),
    )
