"""The command line. A command is imported when it is used, and what is heavy inside it later still."""

from __future__ import annotations

import importlib
import keyword
import signal

import click

from syncd import __version__

COMMANDS = {
    "serve": "Serve, with a database of its own or yours.",
    "token": "Print a token for a user.",
    "migrate": "Apply the schema to a database, or write it as files.",
    "doctor": "Check database, roles, row security and configuration, and say how to fix them.",
    "export": "Write a user's changes, a space or everything to a file.",
    "import": "Write an export back, or bring in what another store has.",
    "restore": "Put a dump of pg_dump in the place of the database.",
    "held": "What first-generation clients pushed and may not be written: list, retry, export or drop it.",
    "compact": "Fold what was overwritten long ago out of the log.",
    "consume": "Hand what happens to a command, batch by batch.",
    "consumers": "Programs that read what happens: list, add, begin again, remove, and how far they are.",
    "webhooks": "Addresses that are told what happens: add, run, pause, retry, and how they are.",
    "erase": "Erase a user or a record for good, and say so in a receipt.",
    "audit": "What was done to spaces and by whom, and what was refused, as lines of JSON.",
    "schema": "JSON Schemas of an application's tables: apply, list, show or remove.",
    "types": "Types for applications, in TypeScript and Python, from these schemas.",
    "views": "Views in SQL of tables with a schema, and the logins that read them: apply, list, drop, grant.",
    "rules": "What schemas and the application's rules would refuse of what was written.",
    "quota": "What users and spaces have, and quotas of their own: list, set or recount.",
}


class LazyGroup(click.Group):
    """A group whose command NAME is the function NAME of the module syncd.cli.NAME (with _command)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"syncd.cli.{cmd_name}{'_' * keyword.iskeyword(cmd_name)}")
        # While modules are loaded an interrupt ends the process at once: raised in there it would leave a traceback, or
        # be lost where Python calls back and goes on.
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        command = getattr(module, f"{cmd_name}_command")
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="syncd", message="%(prog)s %(version)s")
def main() -> None:
    """An offline-first sync server over PostgreSQL.

    `syncd serve` starts it; everything else is for setting it up and looking after it. Every option is also
    an environment variable, SYNCD_ and its name in capitals: docs/operate/settings.md lists them with their reasons.
    """
