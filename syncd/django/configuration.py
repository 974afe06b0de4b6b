"""The project's SYNCD and DATABASES, as syncd's settings."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote, urlencode

from django.conf import settings as project
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from syncd.asgi import RECHECK, Authenticate
from syncd.settings import Settings, SettingsError

# Those of SYNCD that are this app's; the others are settings of syncd's, by their names.
SERVE_AS, MIGRATE_AS, PREFIX, AUTHENTICATE, RECHECK_AFTER = (
    "serve_as",
    "migrate_as",
    "prefix",
    "authenticate",
    "recheck",
)
OWN = (SERVE_AS, MIGRATE_AS, PREFIX, AUTHENTICATE, RECHECK_AFTER)
# Of a database's OPTIONS, what syncd's library understands too.
OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile", "target_session_attrs")


def given() -> dict[str, Any]:
    """What the project has set."""
    return dict(getattr(project, "SYNCD", {}))


def serve_as() -> str:
    """The alias in DATABASES as which syncd serves: a login of the role syncd_runtime."""
    return str(given().get(SERVE_AS, "syncd"))


def migrate_as() -> str:
    """The alias in DATABASES as which syncd migrates: an owner's."""
    return str(given().get(MIGRATE_AS, "default"))


def prefix() -> str:
    """Below which path of the project syncd is."""
    return str(given().get(PREFIX, "/sync"))


def recheck() -> float:
    """After how many seconds a live connection's user is asked for again."""
    return float(given().get(RECHECK_AFTER, RECHECK))


def authenticate() -> Authenticate | None:
    """The project's function, by its dotted name; None where it has chosen tokens."""
    found = given().get(AUTHENTICATE, "syncd.django.callers.session_user")
    function: Authenticate | None = import_string(found) if isinstance(found, str) else found
    return function


def settings() -> Settings:
    """Those of syncd. Raises ImproperlyConfigured."""
    more = {name: value for name, value in given().items() if name not in OWN}
    if "database_url" not in more:
        more["database_url"] = url_of(serve_as())
    try:
        return Settings.load(os.environ, **more)
    except SettingsError as wrong:
        raise ImproperlyConfigured(f"SYNCD: {wrong}") from None


def url_of(alias: str) -> str:
    """A database of the project's as a URL. Raises ImproperlyConfigured."""
    if alias not in connections:
        raise ImproperlyConfigured(
            f"DATABASES has no {alias!r}, which syncd needs: the same database as 'default', with a USER of the role "
            "syncd_runtime. See syncd's docs/guide/mounting.md."
        )
    found = connections[alias].settings_dict
    if "postg" not in str(found["ENGINE"]):
        raise ImproperlyConfigured(f"DATABASES[{alias!r}] is no PostgreSQL, which syncd needs.")
    user, password = quote(str(found["USER"]), safe=""), quote(str(found["PASSWORD"]), safe="")
    query = {name: str(value) for name, value in found.get("OPTIONS", {}).items() if name in OPTIONS}
    host = str(found["HOST"])
    if host.startswith("/"):  # the folder of a socket
        host, query["host"] = "", host
    at = f"{user}{f':{password}' if password else ''}@" if user else ""
    port = f":{found['PORT']}" if found["PORT"] and host else ""
    if found["PORT"] and not host:
        query["port"] = str(found["PORT"])
    return f"postgresql://{at}{host}{port}/{quote(str(found['NAME']))}{f'?{urlencode(query)}' if query else ''}"
