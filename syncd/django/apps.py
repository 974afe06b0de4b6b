"""What Django loads for `"syncd.django"` in INSTALLED_APPS."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.db.models.signals import post_migrate


class SyncdConfig(AppConfig):
    """The app. It has no models: its tables are in a schema of their own, under row security."""

    name = "syncd.django"
    label = "syncd"
    verbose_name = "syncd"

    def ready(self) -> None:
        """Has Django's commands do syncd's part as well."""
        from syncd.django import checking, migrating

        checks.register(checking.check_settings)
        checks.register(checking.check_database, checks.Tags.database)
        post_migrate.connect(migrating.migrate_too, sender=self, dispatch_uid="syncd.migrate")
