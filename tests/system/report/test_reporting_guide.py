"""docs/guide/reporting.md: what is typed there is typed here, and answers what the page says."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from syncd_client import Replica

from tests.support.direct import run
from tests.support.harness import Server
from tests.support.programs import REPOSITORY

PAGE = (REPOSITORY / "docs/guide/reporting.md").read_text(encoding="utf-8")
OFFERED = """
SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'p', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') ORDER BY 1, 2"""
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def typed(folder: Path, text: str) -> str:
    """What a shell answers."""
    done = subprocess.run(["sh", "-ec", text], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def executed(text: str, names: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """A block of Python, which prints what the comments at its end say."""
    exec(compile(text, "reporting.md", "exec"), names)
    promised = re.findall(r"^# (.*)$", text, re.MULTILINE)
    assert capsys.readouterr().out.splitlines() == promised


@pytest.mark.timeout(180)
def test_what_the_page_says_is_so(
    workspace: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(workspace / "reporting-guide") as server:
        monkeypatch.chdir(folder)
        monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        for name, value in {
            "DATABASE_URL": server.owner_dsn, "REPORTS_URL": server.dsn("bob_reports"), "SYNCD_URL": server.url,
            "ADA": server.token("ada"), "BOB": server.token("bob"),
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        names, said, kinds = dict[str, Any](), "", list[str]()
        for kind, text in BLOCK.findall(PAGE):
            kinds.append(kind)
            if kind == "json":
                (folder / "shop.json").write_text(text)
            elif kind == "sh":
                said = typed(folder, text)
            elif kind == "sql" and "CREATE ROLE" in text:
                asyncio.run(run(server.owner_dsn, *filter(str.strip, text.split(";"))))
            elif kind == "sql":
                found = asyncio.run(eventually_two(server, text))
                assert found == [("o1",), ("o2",)]
            elif kind == "python":
                executed(text, names, capsys)
            else:
                assert [line.rstrip() for line in said.splitlines() if line] == [
                    line.rstrip() for line in text.splitlines() if line
                ]
        assert kinds == ["json", "sh", "sql", "sh", "python", "sh", "", "python", "python", "sh", "", "sh", "", "sql"]
        # What a tool finds by the catalogue is the views, and nothing else that is here.
        found = asyncio.run(run(server.dsn("bob_reports"), OFFERED))
        assert found == [("syncd_app", "shop_orders"), ("syncd_app", "shop_orders_indexed")]
        for opened in names.values():
            if isinstance(opened, Replica):
                opened.close()


async def eventually_two(server: Server, text: str) -> list[Any]:
    """The rows, once the server has filled the copy."""
    for _ in range(600):
        if len(found := sorted(await run(server.dsn("bob_reports"), text))) == 2:
            return found
        await asyncio.sleep(0.05)
    return found
