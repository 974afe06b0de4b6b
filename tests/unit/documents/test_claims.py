"""What the documents claim about the code: files, settings, options, defaults, metrics, decisions."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import click
import pytest
import syncd_client

import examples
import syncd
from syncd.cli import COMMANDS, main
from syncd.edge.metrics import CONSUMERS, COUNTERS, GAUGES, PROJECTIONS
from syncd.settings import table

ROOT = Path(__file__).resolve().parents[3]
SHALLOW = [*ROOT.glob("*.md"), *ROOT.glob("clients/*/*.md"), *ROOT.glob("examples/board/*.md")]
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*SHALLOW, *ROOT.glob("docs/**/*.md")])
SETTINGS = {setting.variable: setting for setting in table()}
OF_CLIENTS = {"SYNCD_PYTHON", "SYNCD_TOKEN", "SYNCD_URL"}
DEFAULT = re.compile(r"`(SYNCD_\w+)`(?: \(|, )(\d[\d,.]*(?: (?:s|MiB|KiB))?|a year)\b")


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_that_are_named_are_there(document: str) -> None:
    places = [ROOT, (ROOT / document).parent, *(ROOT / name for name in ("syncd", "clients/python", "tests", "schema"))]
    for path in re.findall(r"`([\w./-]+/[\w.-]+\.(?:py|ts|tsx|js|sql|md|json|toml))`", read(document)):
        assert any((place / path).exists() for place in places), path


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_row_of_a_table_is_there_twice(document: str) -> None:
    """As when two changes of one row were put together."""
    for rows in re.findall(r"(?:^\|.*\n)+", read(document), re.MULTILINE):
        firsts = [row.split("|")[1].strip() for row in rows.splitlines()]
        paths = [first for first in firsts if first.startswith("`") and "/" in first]
        assert len(paths) == len(set(paths)), document


@pytest.mark.parametrize("document", DOCUMENTS)
def test_settings_that_are_named_are_there(document: str) -> None:
    assert set(re.findall(r"\bSYNCD_[A-Z_]+[A-Z]\b", read(document))) - set(SETTINGS) - OF_CLIENTS <= {"SYNCD_SOAK"}


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if not name.startswith(("clients", "examples"))])
def test_defaults_that_are_named_are_so(document: str) -> None:
    for variable, shown in DEFAULT.findall(read(document)):
        text = shown.replace(",", "").replace("a year", "365d").replace(" ", "")
        if variable.endswith("_MS"):
            text = str(int(float(text.removesuffix("s")) * 1000))
        assert SETTINGS[variable].read(text) == SETTINGS[variable].default, f"{variable}: {shown}"


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.startswith(("README", "docs"))])
def test_options_that_are_named_are_there(document: str) -> None:
    named = re.findall(r"syncd (?:import|export|serve|token|migrate|doctor|compact)\b[^`\n#]*", read(document))
    used = set(chain.from_iterable(re.findall(r"(?<!\S)(--[a-z][a-z-]*)", text) for text in named))
    assert used <= {*options(), "--help", "--version"}


def options() -> Iterator[str]:
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert command is not None
        inner = command.commands.values() if isinstance(command, click.Group) else ()
        for option in (option for one in (command, *inner) for option in one.params):
            yield from (*option.opts, *option.secondary_opts)


def test_metrics_that_are_named_are_there() -> None:
    there = {f"syncd_{name}" for name in GAUGES} | {f"syncd_{name}_total" for name in COUNTERS}
    there |= {f"syncd_consumer_{name}" for name in CONSUMERS} | {f"syncd_projection_{name}" for name in PROJECTIONS}
    section = read("docs/operate/running.md").split("## Metrics")[1].split("\n## ")[0]
    named = set(re.findall(r"`(syncd_[a-z_]+)`", section))
    apart = {"syncd_bus_up", "syncd_fanout_lag_seconds", "syncd_held", "syncd_numbers_used"}
    apart |= {"syncd_full_spaces", "syncd_quota_hits_total", "syncd_reads_total", "syncd_standby_up"}
    apart |= {f"syncd_webhook_{what}" for what in ("retries_total", "duration_seconds", "dead_letters")}
    assert named - there <= apart


def test_the_proxy_passes_the_host_with_its_port() -> None:
    """A socket's `Origin` is compared with it; nginx's `$host` has no port."""
    configuration = read("docs/operate/running.md").split("```nginx\n")[1].split("```")[0]
    assert re.findall(r"proxy_set_header Host (\S+);", configuration) == ["$http_host"] * configuration.count(
        "proxy_pass"
    )


def test_every_decision_is_in_the_list() -> None:
    listed = re.findall(r"\[(\d+) [^\]]+\]\((docs/internals/adr/(\d{4})-[\w-]+\.md)\)", read("ARCHITECTURE.md"))
    assert all(int(number) == int(digits) for number, _, digits in listed)
    assert sorted(path for _, path, _ in listed) == sorted(
        str(path.relative_to(ROOT)) for path in ROOT.glob("docs/internals/adr/[0-9]*.md")
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_in_the_map(command: str) -> None:
    assert command in re.findall(r"\w+", next(li for li in read("ARCHITECTURE.md").splitlines() if "`syncd/cli`" in li))


@pytest.mark.parametrize("package", [syncd, syncd_client, examples])
def test_every_package_says_what_it_is(package: object) -> None:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")  # type: ignore[attr-defined]
    bare = [module.name for module in found if module.ispkg and not importlib.import_module(module.name).__doc__]
    assert bare == []


def test_the_typescript_client_is_as_small_as_it_says() -> None:
    limit = re.search(r"LIMIT = (\d+)_[0-4]\d\d", read("clients/typescript/scripts/size.js"))
    assert limit is not None
    assert f" {limit[1]} kB gzipped" in read("clients/typescript/README.md")
