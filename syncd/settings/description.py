"""The description of all settings, as the documentation has it."""

from __future__ import annotations

from collections.abc import Iterator

from syncd.settings.declared import NOT_AN_OPTION
from syncd.settings.setting import Setting, table


def markdown() -> str:
    """The table as it stands in docs/operate/settings.md."""
    return "\n".join(_markdown_rows()) + "\n"


def _markdown_rows() -> Iterator[str]:
    yield "| variable | option | default | what and why |"
    yield "|---|---|---|---|"
    for s in table():
        option = "" if s.name in NOT_AN_OPTION else f"`{s.option}`"
        choices = f" One of {', '.join(f'`{c}`' for c in s.choices)}." if s.choices else ""
        yield f"| `{s.variable}` | {option} | {_shown(s)} | {s.reason}{choices} |"


def _shown(setting: Setting) -> str:
    return "" if setting.default in (None, ()) else f"`{setting.show(setting.default)}`"
