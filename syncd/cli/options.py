"""Options made from the table of settings, so that there is one name, one default and one reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from syncd.settings import NOT_AN_OPTION, Setting, Settings, SettingsError, table

Command = TypeVar("Command", bound=Callable[..., Any])


def settings_options(*names: str) -> Callable[[Command], Command]:
    """An option for each setting named, or for every one."""

    def add(command: Command) -> Command:
        for setting in reversed(table()):
            if setting.name not in NOT_AN_OPTION and (not names or setting.name in names):
                command = _option(setting)(command)
        return command

    return add


class TopicsCommand(click.Command):
    """A command whose help has its settings by topic, and its own options first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The sections of options."""
        topics = {setting.name: setting.topic for setting in table()}
        sections: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            if (record := param.get_help_record(ctx)) is not None:
                sections.setdefault(topics.get(param.name or "", "Options"), []).append(record)
        for topic, records in sections.items():
            with formatter.section(topic):
                formatter.write_dl(records)


def _option(setting: Setting) -> Callable[[Command], Command]:
    if setting.default is False:
        # A switch: named, it is on; the environment can still be overruled with --no-….
        switch = f"{setting.option}/--no-{setting.option.removeprefix('--')}"
        return click.option(switch, setting.name, default=None, help=setting.reason)
    default = f"  [{setting.show(setting.default)}]" if setting.default not in (None, ()) else ""
    return click.option(
        setting.option,
        setting.name,
        default=None,
        metavar="|".join(setting.choices) or setting.metavar,
        help=f"{setting.reason}{default}",
    )


def load_settings(**options: Any) -> Settings:
    """The settings from the environment and the options; a bad value ends the program with its sentence."""
    try:
        return Settings.load(os.environ, **options)
    except SettingsError as error:
        raise click.ClickException(str(error)) from None


def progress(text: str) -> None:
    """One line for people; standard output is for what a program reads."""
    click.echo(text, err=True)
