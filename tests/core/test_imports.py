"""No two modules need each other, not even for the names of types."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SYNCD = Path(__file__).parents[2] / "syncd"


def imports_of(package: Path) -> dict[str, set[str]]:
    """What each module of a package imports of it, wherever the import stands."""
    paths = {".".join(path.relative_to(package.parent).with_suffix("").parts): path for path in package.rglob("*.py")}
    paths = {name.removesuffix(".__init__"): path for name, path in paths.items()}
    found: dict[str, set[str]] = {name: set() for name in paths}
    for name, path in paths.items():
        for node in ast.walk(ast.parse(path.read_text())):
            named = list[str]()
            if isinstance(node, ast.ImportFrom):
                module = absolute(node, name, path)
                within = [f"{module}.{alias.name}" for alias in node.names]
                named = [inner if inner in paths else module for inner in within]
            elif isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            found[name] |= {module for module in named if module in paths and module != name}
    return found


def absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    """The name of what is imported from, where it may begin with dots."""
    if not node.level:
        return node.module or ""
    parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    return ".".join([*parts[: len(parts) - node.level + 1], *([node.module] if node.module else [])])


def test_the_imports_of_the_server_have_no_circle() -> None:
    found = imports_of(SYNCD)
    assert len(found) > 20
    try:
        TopologicalSorter(found).prepare()
    except CycleError as why:
        pytest.fail(f"a circle: {' > '.join(why.args[1])}")


def test_a_circle_of_types_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "pair"
    package.mkdir()
    (package / "one.py").write_text("from . import two\n")
    (package / "two.py").write_text("if TYPE_CHECKING:\n    from pair.one import One\n")
    assert imports_of(package) == {"pair.one": {"pair.two"}, "pair.two": {"pair.one"}}
