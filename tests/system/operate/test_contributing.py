"""The worked examples of CONTRIBUTING.md are of the code as it is; the endpoint's is applied to a copy, and served."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from tests.support.harness import Server
from tests.support.programs import REPOSITORY
from tests.support.wire import Device

PAGE = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
ENDPOINT = PAGE.partition("\n## To add an endpoint\n")[2].partition("\n## ")[0]
DIFF = re.compile(r"^```diff\n(.*?)^```", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"^--- \S+\n\+\+\+ b/(\S+)\n", re.MULTILINE)


def files_in(text: str) -> dict[str, str]:
    """The changes of a page's diffs by file."""
    pieces = [FILE.split(diff) for diff in DIFF.findall(text)]
    return {path: body for piece in pieces for path, body in zip(piece[1::2], piece[2::2], strict=True)}


def applied(changes: str, text: str) -> str:
    """A file's text with its changes: what a hunk takes out or keeps stands there once."""
    for hunk in re.split(r"^@@.*\n", changes, flags=re.MULTILINE):
        lines = [line or " " for line in hunk.splitlines()]
        before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
        after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
        if before:
            assert text.count(before) == 1, before
            text = text.replace(before, after)
        else:
            text += after
    return text


def test_what_a_diff_takes_out_is_there() -> None:
    files = files_in(PAGE)
    assert len(files) > 8
    for path, changes in files.items():
        there = REPOSITORY / path
        text = there.read_text(encoding="utf-8") if there.exists() else ""
        for line in changes.splitlines():
            if line.startswith("-"):
                assert line[1:].rstrip("…").rstrip() in text, f"{path}: {line}"


@pytest.fixture(scope="module")
def copy(workspace: Path) -> Path:
    """The tree with the example's endpoint in it."""
    tree = workspace / "contributing"
    for name in ("syncd", "schema"):
        shutil.copytree(REPOSITORY / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path, changes in files_in(ENDPOINT).items():
        there = tree / path
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_text(applied(changes, there.read_text() if there.exists() else ""))
    return tree


def module_of(path: Path) -> ModuleType:
    """A file's names."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_endpoint_is_added_in_five_files_and_its_test_passes(copy: Path, workspace: Path) -> None:
    files = files_in(ENDPOINT)
    assert len(files) <= 5
    (test,) = (path for path in files if path.startswith("tests/"))
    # Without the folder that the tests are run in, which comes before the path otherwise.
    env = {"PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"}
    with Server(workspace / "tables", env=env) as server, httpx.Client(base_url=server.url, timeout=60) as http:

        def device(user: str, **more: object) -> Device:
            return Device(http, server, user, **more)  # type: ignore[arg-type]

        tests = [value for name, value in vars(module_of(copy / test)).items() if name.startswith("test_")]
        assert tests
        for run in tests:
            run(device)
        paths = http.get("/openapi.json").json()["paths"]
        assert "/sync/{app}/tables" in paths
