"""The project's settings. A new database is made so, where PGUSER may make roles:

psql -c "CREATE ROLE notes LOGIN" -c "CREATE ROLE syncd_app LOGIN" -c "CREATE DATABASE notes OWNER notes"
python manage.py migrate
python manage.py migrate --database owner
psql notes -c "GRANT syncd_writer TO notes" -c "GRANT syncd_runtime TO syncd_app"
python manage.py check --database syncd
uvicorn notes.asgi:application --timeout-graceful-shutdown 20
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def login(role: str, password: str = "") -> dict[str, Any]:
    """One PostgreSQL, as a role."""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": os.environ.get("PGHOST", "localhost"),
        "PORT": os.environ.get("PGPORT", "5432"),
        "NAME": os.environ.get("PGDATABASE", "notes"),
        "USER": role,
        "PASSWORD": password,
        "TEST": {"MIRROR": "default"},
    }


# Django has its tables as `notes`, which may write records too; syncd serves the phones as `syncd_app`, which row
# security binds; and who owns syncd's tables is needed to migrate alone.
DATABASES = {
    "default": login("notes", os.environ.get("NOTES_PASSWORD", "")) | {"TEST": {}},
    "syncd": login("syncd_app", os.environ.get("SYNCD_APP_PASSWORD", "")),
}
if "PGUSER" in os.environ:
    DATABASES["owner"] = login(os.environ["PGUSER"], os.environ.get("PGPASSWORD", ""))

SYNCD = {"migrate_as": "owner", "authenticate": "notes.phones.caller"}

SECRET_KEY = os.environ["NOTES_SECRET"]
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "notes",
    "syncd.django",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent / "templates"],
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    }
]
ROOT_URLCONF = "notes.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LOGIN_URL, LOGIN_REDIRECT_URL = "/sign-in/", "/"
USE_TZ = True
