"""Writes the pages of reference that are made from the code: `make reference`. A test compares the files with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from syncd.cli import COMMANDS, main
from syncd.edge.metrics import Board, Numbers, render
from syncd.edge.openapi import document
from syncd.service.counts import BUCKETS
from syncd.settings import table

ROOT = Path(__file__).resolve().parents[1]
METHODS = ("get", "post", "put", "patch", "delete")
MADE = "Made by `make reference` from the code: change it there."


def cli() -> str:
    """docs/reference/cli.md: every command with its options, but for those of `serve` that are settings."""
    parts = [f"# The command line\n\n{MADE}\n", "| command | what for |\n|---|---|"]
    parts += [f"| [`syncd {name}`](#syncd-{name}) | {_cell(what)} |" for name, what in COMMANDS.items()]
    parts.append("\nThe exit code is 0 where all went well, 2 where the call was wrong, and 1 for everything else.\n")
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        parts.append(f"## syncd {name}\n\n{_command(command, f'syncd {name}')}")
    return "\n".join(parts).rstrip() + "\n"


def _command(command: click.Command, called: str) -> str:
    arguments = [param.make_metavar(click.Context(command)) for param in command.params if _is_argument(param)]
    usage = " ".join([called, *(["[OPTIONS]"] if len(command.params) > len(arguments) else []), *arguments])
    parts = [f"```text\n{usage}\n```\n", _prose(command.help or "")]
    settings = {setting.name for setting in table()}
    shown = [param for param in command.params if isinstance(param, click.Option) and param.name not in settings]
    taken = [param for param in command.params if isinstance(param, click.Option) and param.name in settings]
    if shown:
        parts.append("| option | |\n|---|---|\n" + "".join(map(_option, shown)))
    if taken:
        names = ", ".join(f"`{param.opts[0]}`" for param in taken)
        what = "every setting" if len(taken) > 20 else names
        parts.append(f"Takes {what} of the [settings](../operate/settings.md).\n")
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            parts.append(f"### {called} {name}\n\n{_command(inner, f'{called} {name}')}")
    return "\n".join(parts)


def _is_argument(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument)


def _option(option: click.Option) -> str:
    value = "" if option.is_flag else f" {_cell(option.make_metavar(click.Context(main)))}"
    default = f" Default: `{option.default}`." if option.show_default else ""
    return f"| `{', '.join(option.opts)}{value}` | {_cell((option.help or '') + default)} |\n"


def _prose(text: str) -> str:
    """Help as paragraphs; click's mark for a paragraph that keeps its lines makes it a block."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n".join(
        f"```text\n{part[1:].strip(chr(10))}\n```\n" if part.startswith("\b") else f"{' '.join(part.split())}\n"
        for part in paragraphs
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def http() -> str:
    """docs/reference/http.md: every address, from the OpenAPI document."""
    served = document("")
    parts = [
        f"# HTTP addresses\n\n{MADE} `/openapi.json` of a server has the same with every schema, for programs. "
        "[The protocol](protocol.md) says what the addresses mean. Each needs `Authorization: Bearer <token>`, unless "
        "it says *no token*. A refusal is a problem with a [code](errors.md).\n"
    ]
    for path, at in served["paths"].items():
        for method in METHODS:
            if method in at:
                parts.append(_operation(served, path, method, at))
    return "\n".join(parts).rstrip() + "\n"


def _operation(served: dict[str, Any], path: str, method: str, at: dict[str, Any]) -> str:
    operation = at[method]
    given = [_found(served, one) for one in [*at.get("parameters", []), *operation.get("parameters", [])]]
    free = " *No token.*" if operation.get("security") == [] else ""
    parts = [f"## {method.upper()} {path}\n\n{operation['summary'].rstrip('.')}.{free}\n"]
    rows = [row for row in given if row["in"] in ("query", "header")]
    if rows:
        parts.append("| parameter | in | |\n|---|---|---|\n" + "".join(map(_parameter, rows)))
    codes = ", ".join(f"{code}" for code in operation["responses"])
    parts.append(f"Answers: {codes}.\n")
    return "\n".join(parts)


def _found(served: dict[str, Any], what: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    found: Any = what
    if "$ref" in what:
        found = served
        for name in what["$ref"].removeprefix("#/").split("/"):
            found = found[name]
    return dict(found)


def _parameter(row: dict[str, Any]) -> str:
    needed = "Required. " if row.get("required") else ""
    return f"| `{row['name']}` | {row['in']} | {_cell(needed + row.get('description', ''))} |\n"


def metrics() -> str:
    """docs/reference/metrics.md: every metric, with what it counts, as `/metrics` says."""
    rows = "".join(f"| `{name}` | {kind} | {_cell(what)} |\n" for name, kind, what in _metrics())
    return (
        f"# Metrics\n\n{MADE} `/metrics` is in Prometheus' format, needs no token, and has every worker's numbers, "
        "whichever worker answers. [Running syncd](../operate/running.md#metrics) says which are worth a look.\n\n"
        f"| metric | kind | what it is |\n|---|---|---|\n{rows}"
    )


def _metrics() -> Iterator[tuple[str, str, str]]:
    text = render(Board(None, 0), lambda: Numbers(lags=[0] * (len(BUCKETS) + 1))).decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    for name, what in re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE):
        yield name, kinds[name], what


FILES: dict[str, Callable[[], str]] = {
    "docs/reference/cli.md": cli,
    "docs/reference/http.md": http,
    "docs/reference/metrics.md": metrics,
}


if __name__ == "__main__":
    for path, made in FILES.items():
        (ROOT / path).write_text(made(), encoding="utf-8")
