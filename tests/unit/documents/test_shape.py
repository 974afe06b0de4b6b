"""How long files and functions may be, and that tools/shape.py finds what it is to find."""

from __future__ import annotations

import ast
from pathlib import Path

from tools import shape

ROOT = Path(__file__).resolve().parents[3]
LONGEST_FILE, LONGEST_TEST, LONGEST_FUNCTION = 400, 450, 40


def test_files_are_short() -> None:
    lengths = {}
    code, tests = ("syncd", "clients/python/syncd_client", "tools"), ("tests", "clients/python/tests")
    for folder, most in (*((name, LONGEST_FILE) for name in code), *((name, LONGEST_TEST) for name in tests)):
        for path in (ROOT / folder).rglob("*.py"):
            lines, name = path.read_text(encoding="utf-8").count("\n"), str(path.relative_to(ROOT))
            if lines > most:
                lengths[name] = lines
    assert lengths == {}


def test_each_process_collects_the_same_tests() -> None:
    """A part of the suite is run by several, which compare what they collected: nothing drawn is in a test's name."""
    drawn = []
    for folder in ("tests", "clients/python/tests"):
        for path in (ROOT / folder).rglob("test_*.py"):
            for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    said = " ".join(map(ast.unparse, function.decorator_list))
                    if any(f"{module}." in said for module in ("random", "secrets", "uuid", "time")):
                        drawn.append(f"{path.relative_to(ROOT)}::{function.name}")
    assert drawn == []


def test_functions_are_short_no_name_means_two_things_and_nothing_goes_in_circles() -> None:
    for folder in ("syncd", "clients/python/syncd_client"):
        found = shape.python(ROOT / folder)
        assert found.longest_function <= LONGEST_FUNCTION
        assert (found.circles, found.twice) == (0, 0)
        assert shape.undocumented(ROOT / folder) == []


def test_a_circle_and_a_name_of_two_meanings_are_found(tmp_path: Path) -> None:
    texts = {"a/__init__.py": "", "a/x.py": "from pkg.b import y\n\n\nclass Room:\n    pass\n",
             "b/__init__.py": "", "b/y.py": "from pkg.a.x import Room as R\n\n\nclass Room:\n    pass\n",
             "c.py": '"""A room."""\nfrom .a import x\n\n\ndef f() -> None:\n    """It is described."""\n'}  # fmt: skip
    for name, text in texts.items():
        path = tmp_path / "pkg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    found = shape.python(tmp_path / "pkg")
    assert (found.circles, found.twice, found.rooms, found.floors, found.arrows) == (1, 1, 3, 2, 3)
    assert found.documented == 33
