"""The options of `syncd import --from`, and which of them belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from syncd.cli.import_from import ImportRequest

Command = TypeVar("Command", bound=Callable[..., Any])
FILES = ("sqlite", "csv", "ndjson")
FILE = click.Path(dir_okay=False, path_type=Path)

OPTIONS = (
    click.option("--from", "kind", type=click.Choice([*FILES, "mana"]), help="Where SOURCE comes from."),
    click.option("--dry-run", is_flag=True, help="Read and check everything, write nothing; needs no server."),
    click.option("--verify-only", is_flag=True, help="Compare everything with the server, write nothing."),
    click.option("--strict", is_flag=True, help="Exit with 1 also when rows were refused."),
    click.option("--refusals", type=FILE, metavar="FILE", help="Every refused row, a JSON object a line."),
    click.option("--members", metavar="authors|none|FILE", help=(
        "Who is in the shared spaces that are made: who wrote there (first: the owner), nobody (tokens or a service "
        "say), or a CSV with the columns space,user,role.")),
    click.option("--since", metavar="INSTANT", help="mana: only rows created then or later."),
    click.option("--state", type=FILE, metavar="FILE", help=(
        "mana: keeps how far it came; the next run begins an hour before that.")),
    click.option("--compare", metavar="URL", help=(
        "mana: SOURCE is the old server's URL: reads both servers as a device would, and lists what differs.")),
    click.option("--table", "tables", multiple=True, metavar="NAME", help=(
        "The table: sqlite, those to read [all]; csv and ndjson, what to call it [as the file]; mana [sync_changes].")),
    click.option("--app", metavar="NAME", help="Files, and --compare: the app that the records belong to."),
    click.option("--id-column", metavar="NAME", help="Files: what names a record.  [id]"),
    click.option("--user", metavar="ID", help="Files: the author of all rows."),
    click.option("--user-column", metavar="NAME", help="Files: the column that names a row's author."),
    click.option("--space", metavar="ID", help="Files: the space of all rows.  [the author's personal one]"),
    click.option("--space-column", metavar="NAME", help="Files: the column that names a row's space; empty: personal."),
    click.option("--at", metavar="INSTANT", help="Files: when all rows were written.  [so early that any edit wins]"),
    click.option("--at-column", metavar="NAME", help="Files: the column that says when a row was written."),
    click.option("--json-column", "json_columns", multiple=True, metavar="NAME", help=(
        "Files: a column whose text is JSON (so also numbers and true, false of a CSV).")),
    click.option("--leave-out", multiple=True, metavar="NAME", help="Files: a column that is not imported."),
    click.option("--delimiter", metavar="CHARACTER", help="csv: what separates values.  [,]"),
    click.option("--encoding", metavar="NAME", help="csv: its encoding.  [utf-8]"),
)  # fmt: skip
OF_MANA = ("since", "state", "compare")
OF_CSV = ("delimiter", "encoding")
OF_FILES = ("id_column", "user", "user_column", "space", "space_column", "at", "at_column", "json_columns",
            "leave_out", *OF_CSV)  # fmt: skip
OF_ANY = ("app", "dry_run", "verify_only", "strict", "refusals", "members", "tables")


def import_from_options(command: Command) -> Command:
    """Adds the options."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def import_from_request(source: str, options: dict[str, Any]) -> ImportRequest | None:
    """Takes the options of --from out of `options`; None where there is no --from. Raises UsageError."""
    given = {name: options.pop(name) for name in ("kind", *OF_MANA, *OF_FILES, *OF_ANY)}
    kind = given["kind"]
    _allow(given, kind)
    if kind is None:
        return None
    if kind in FILES:
        _need(source, given)
    elif len(given["tables"]) > 1:
        raise click.UsageError("--from mana reads one table: give --table once.")
    elif given["app"]:
        raise click.UsageError("--app is for --from sqlite or csv or ndjson, and for --compare: a log names its apps.")
    if given["dry_run"] and given["verify_only"]:
        raise click.UsageError("--dry-run asks no server and --verify-only does: give one of them.")
    if len(given["delimiter"] or ",") != 1:
        raise click.UsageError("--delimiter is one character.")
    if given["members"] not in (None, "authors", "none") and not Path(given["members"]).is_file():
        raise click.UsageError(f"--members is authors, none, or a file: there is no file {given['members']}.")
    return _request(source, given)


def comparison(source: str, options: dict[str, Any]) -> tuple[str, str, str, tuple[str, ...]] | None:
    """What --compare asks for: the old server's URL, the new one's, the app, and the collections (none: all together).

    None where there is no --compare. Raises UsageError.
    """
    if options["compare"] is None:
        return None
    if options["kind"] != "mana":
        raise click.UsageError("--compare is for --from mana.")
    others = [name for name in (*OF_MANA, *OF_FILES, *OF_ANY) if name not in ("compare", "app", "tables")]
    if wrong := next((name for name in others if options[name]), None):
        raise click.UsageError(f"--compare only reads: --{wrong.replace('_', '-')} would do nothing.")
    for url in (source, options["compare"]):
        if not url.startswith(("http://", "https://")):
            raise click.UsageError(
                f"--compare reads two servers, as URLs: {url} does not begin with http:// or https://."
            )
    if not options["app"]:
        raise click.UsageError("--app NAME says which app is compared.")
    return source, options["compare"], options["app"], options["tables"]


def _request(source: str, given: dict[str, Any]) -> ImportRequest:
    from syncd.cli.import_from import ImportRequest
    from syncd.core.clock import format_instant
    from syncd.transfer.sources.foreign import UnreadableRow, instant
    from syncd.transfer.sources.tables import Columns

    try:
        at, since = (given[name] and instant(given[name], f"--{name}") for name in ("at", "since"))
        "".encode(given["encoding"] or "utf-8")
    except (UnreadableRow, LookupError) as why:
        raise click.UsageError(f"{why}.") from None
    columns = Columns(
        given["app"] or "", given["id_column"] or "id", given["user"], given["user_column"], given["space"],
        given["space_column"], at, given["at_column"], frozenset(given["json_columns"]),
        frozenset(given["leave_out"]), format_instant(_now()),
    )  # fmt: skip
    return ImportRequest(
        given["kind"], source, columns, given["tables"], given["delimiter"] or ",", given["encoding"] or "utf-8",
        given["members"], since, given["state"], given["refusals"], given["dry_run"], given["verify_only"],
        given["strict"],
    )  # fmt: skip


def _now() -> int:
    import time

    return time.time_ns() // 1000


def _allow(given: dict[str, Any], kind: str | None) -> None:
    """Refuses an option that would do nothing."""
    for names, kinds in ((OF_MANA, ("mana",)), (OF_CSV, ("csv",)), (OF_FILES, FILES), (OF_ANY, (*FILES, "mana"))):
        for name in names:
            if given[name] and kind not in kinds:
                option = {"tables": "table", "json_columns": "json-column"}.get(name, name.replace("_", "-"))
                raise click.UsageError(f"--{option} is for --from {' or '.join(kinds)}.")


def _need(source: str, given: dict[str, Any]) -> None:
    """What a file of rows does not say itself."""
    if not Path(source).is_file():
        raise click.UsageError(f"there is no file {source}.")
    if not given["app"]:
        raise click.UsageError("--app NAME says which app the records belong to.")
    if (given["user"] is None) == (given["user_column"] is None):
        raise click.UsageError("--user ID or --user-column NAME says whose the rows are: one of them.")
    for one in ("space", "at"):
        if given[one] and given[f"{one}_column"]:
            raise click.UsageError(f"--{one} or --{one}-column: one of them.")
    if given["kind"] != "sqlite" and len(given["tables"]) > 1:
        raise click.UsageError(f"a file of {given['kind']} is one table: give --table once.")
