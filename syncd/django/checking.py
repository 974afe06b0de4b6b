"""`manage.py check` says what is wrong with syncd's settings, and with `--database syncd` all that its doctor finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from syncd.asgi import SettingsError, create_app
from syncd.cli.doctor import examine
from syncd.django import configuration
from syncd.django.running import finished
from syncd.postgres.findings import Finding

# What `manage.py migrate` puts right, before which a check must not stand in its way.
MIGRATES = ("migrations", "functions", "memberships taken over")
# A syncd that is not mounted has a folder and a secret of its own.
NOT_MOUNTED = ("data directory", "secret", "socket")


def check_settings(app_configs: Any = None, **_: Any) -> list[checks.CheckMessage]:
    """Whether the project's settings can be used; no database is asked."""
    try:
        create_app(
            configuration.settings(), authenticate=configuration.authenticate(), prefix=configuration.prefix(),
            recheck=configuration.recheck(),
        )  # fmt: skip
    except (ImproperlyConfigured, SettingsError, ImportError) as wrong:
        return [checks.Error(str(wrong), id="syncd.E001")]
    return []


def check_database(
    app_configs: Any = None, databases: Sequence[str] | None = None, **_: Any
) -> list[checks.CheckMessage]:
    """What the doctor finds, where the database as which syncd serves is among those to be checked."""
    if configuration.serve_as() not in (databases or ()) or check_settings():
        return []
    return [_message(finding) for finding in finished(examine(configuration.settings())) if _counts(finding)]


def _counts(finding: Finding) -> bool:
    return finding.status != "ok" and finding.check not in NOT_MOUNTED


def _message(finding: Finding) -> checks.CheckMessage:
    said = f"{finding.check}: {finding.detail}"
    if finding.check in MIGRATES:
        return checks.Warning(said, hint="python manage.py migrate", id="syncd.W002")
    if finding.status == "warn":
        return checks.Warning(said, hint=finding.remedy or None, id="syncd.W001")
    return checks.Error(said, hint=finding.remedy or None, id="syncd.E002")
