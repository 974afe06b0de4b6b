"""Every setting of syncd, with its default and the reason for it.

A setting is a field in `declared`; its environment variable is `SYNCD_` and the field's name in capitals, and
`syncd serve` has an option of the same name. Only `app.py`, `asgi.py`, `django/` and `cli/` read
this package.
"""

from syncd.settings.declared import NOT_AN_OPTION, TOPICS
from syncd.settings.description import markdown
from syncd.settings.loaded import Settings
from syncd.settings.setting import PREFIX, Setting, SettingsError, parse_bytes, parse_seconds, table

__all__ = [
    "NOT_AN_OPTION",
    "PREFIX",
    "TOPICS",
    "Setting",
    "Settings",
    "SettingsError",
    "markdown",
    "parse_bytes",
    "parse_seconds",
    "table",
]
