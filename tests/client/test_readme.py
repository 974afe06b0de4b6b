"""The Python of the READMEs and of the guides works as written, and prints what they say it prints."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from syncd_client import Replica

from tests.support.harness import Server
from tests.support.page_schemas import put_in_force
from tests.support.programs import REPOSITORY

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SQL = re.compile(r"^```sql\n(.*?)^```", re.MULTILINE | re.DOTALL)
SAYS = re.compile(r"print\(.*\)  # (.*)")
# What is made of the language's parts, and no program of its own.
GUIDES = [path for path in sorted((REPOSITORY / "docs/guide").glob("*.md")) if BLOCK.search(path.read_text())]
# Their blocks are files of applications, or need a login: see test_mounting_guide.py, test_testing_guide.py,
# test_reporting_guide.py, test_signing_in_guide.py and test_types_guide.py.
ELSEWHERE = ("mounting.md", "testing-your-app.md", "reporting.md", "signing-in.md", "types-from-schemas.md")
GUIDES = [path for path in GUIDES if path.name not in ELSEWHERE]
PAGES = [REPOSITORY / "README.md", REPOSITORY / "clients/python/README.md", *GUIDES]


@pytest.fixture(scope="module")
def guides(workspace: Path) -> Iterator[Server]:
    """A server for the pages' users, whose names are the same on each."""
    with Server(workspace / "guides", settings={"rules": "tests.support.page_rules"}) as server:
        put_in_force(server)
        yield server


async def executed(dsn: str, sql: str) -> None:
    """Runs statements as a superuser."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(sql or "SELECT")
    await connection.close()


def is_in_order(promised: list[str], said: list[str]) -> bool:
    rest = iter(said)
    return all(line in rest for line in promised)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_the_code_of_the_page_runs(
    page: Path, guides: Server, folder: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for name, value in {"SYNCD_URL": guides.url, "SYNCD_TOKEN": guides.token("readme"),
                        "DATABASE_URL": guides.owner_dsn}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    for user in ("ada", "bob", "eve"):
        monkeypatch.setenv(user.upper(), guides.token(user))
    monkeypatch.setenv("SHOP_DATABASE_URL", guides.dsn("shop"))
    asyncio.run(executed(guides.owner_dsn, "".join(SQL.findall(page.read_text(encoding="utf-8")))))
    code = "\n".join(BLOCK.findall(page.read_text(encoding="utf-8"))).replace("http://127.0.0.1:3050", guides.url)
    names: dict[str, Any] = {"token": guides.token("ada")}
    try:
        exec(compile(code, str(page), "exec"), names)
    finally:
        for opened in names.values():
            if isinstance(opened, Replica):
                opened.close()
    promised, said = SAYS.findall(code), capsys.readouterr().out.splitlines()
    assert promised
    assert is_in_order(promised, said), f"promised: {promised}\nsaid: {said}"
