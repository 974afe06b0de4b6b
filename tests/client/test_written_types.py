"""`syncd types`: the modules of a schema with all that is awkward, in both languages, and what a type checker says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest

from syncd.cli.types import _written
from tests.support.command_line import syncd
from tests.support.programs import REPOSITORY

HERE = Path(__file__).parent / "types"
SHOP = HERE / "shop.json"
# What each language's tests are given: tsc reads the TypeScript in clients/typescript/test/package.test.ts.
MADE = {"typescript": HERE / "shop.ts.txt", "python": HERE / "shop.py.txt"}


@pytest.mark.parametrize("language", MADE)
def test_the_modules_are_as_they_are_made_now(language: str, tmp_path: Path) -> None:
    out = tmp_path / "made"
    first = syncd("types", language, "--file", SHOP, "--out", out)
    assert (first.returncode, first.stdout) == (0, ""), first.stderr
    wanted = f"run `syncd types {language} --file {SHOP} --out {MADE[language]}`"
    assert out.read_text(encoding="utf-8") == MADE[language].read_text(encoding="utf-8"), wanted
    before = out.stat().st_mtime_ns
    again = syncd("types", language, "--file", SHOP, "--out", out)
    assert "as it was" in again.stderr
    assert out.stat().st_mtime_ns == before


def test_a_type_checker_takes_what_is_right_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    for name in ("shop.py", "used.py"):
        (tmp_path / name).write_text((HERE / f"{name}.txt").read_text(encoding="utf-8"), encoding="utf-8")
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", "", "--cache-dir", REPOSITORY / ".mypy_cache/types",
         "used.py", "shop.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_module_does_what_the_client_does(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MADE["python"].read_text(encoding="utf-8"), encoding="utf-8")
    program = (
        "from shop import typed\nfrom syncd_client import Replica\n"
        "with Replica('a.db', app='shop') as replica:\n"
        "    typed(replica).put('orders', 'o1', {'item': 'Tulips', 'pieces': 3})\n"
        "    print(typed(replica).query('orders', {'pieces': ('>', 2)})[0]['item'])\n"
    )
    said = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.stdout == "Tulips\n", said.stderr


def test_a_schema_in_force_that_is_not_read_here_is_told() -> None:
    with pytest.raises(click.ClickException, match=r"a/t: this syncd cannot read its schema: \$ref: only parts of"):
        _written("python", "a", {"t": {"$ref": "https://a.example/b"}})


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ('{"app": "a", "tables": {}}', [], "no table has a schema"),
        ('{"app": "a", "tables": {"t": {"type": "string"}}}', [], "tables/t/type: a record is an object"),
        ('{"app": "a", "tables": {"t": {}}}', ["--app", "b"], "there is no schema of b; there are those of a"),
        ('{"app": "a", "tables": {"t": {}}}', ["--file", str(SHOP)], "there are schemas of a, shop: name one by --app"),
        ('{"app": "a", "tables": {"t": {}}}', ["--out", "no/such/folder"], "No such file or directory"),
    ],
    ids=["none", "no object", "another app", "two apps", "no folder"],
)
def test_what_cannot_be_written_is_told(text: str, arguments: list[str], says: str, tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(text, encoding="utf-8")
    done = syncd("types", "python", "--file", file, *arguments)
    assert done.returncode != 0
    assert says in done.stderr
    assert done.stdout == ""
