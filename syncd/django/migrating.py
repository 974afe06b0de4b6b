"""`manage.py migrate` brings syncd's schema up to date as well, behind the project's own migrations.

By Django's signal and not by migration files of Django's: syncd's are SQL with a runner of their own, which several
servers may run at once, which steps aside for traffic, and which puts in all functions where any has changed.
"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError

from syncd.django import configuration
from syncd.django.running import finished
from syncd.postgres.migrate import migrate
from syncd.postgres.schema_files import MigrationError
from syncd.postgres.sessions import refusals


def migrate_too(using: str, verbosity: int = 1, **_: Any) -> None:
    """After Django has migrated the database that syncd migrates as. Raises CommandError."""
    if using != configuration.migrate_as():
        return
    settings, said = configuration.settings(), list[str]()
    try:
        finished(
            migrate(
                configuration.url_of(using), say=said.append,
                memberships="table" if settings.memberships == "table" else "external",
            )
        )  # fmt: skip
    except MigrationError as why:
        raise CommandError(f"syncd: {why}") from None
    except refusals() as why:
        raise CommandError(f"syncd: the database {using!r} cannot be reached: {why}") from None
    if said and verbosity:
        print("\n".join(["Running syncd's migrations:", *(f"  {step}" for step in said)]))
