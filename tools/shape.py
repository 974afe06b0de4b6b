"""`python -m tools.shape FOLDER…`: the shape of a package, ours or another's, as a row of docs/internals/shape.md.

A folder is a Python package or the `src` of a TypeScript one. A room is a folder in it or a file beside those; an arrow
is "a file of this room imports one of that"; floors are the longest way down. In Python imports of types are left out.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MODULES = ROOT / "clients" / "typescript" / "node_modules"
# The lines of each function of a file without its types and comments, as esbuild prints it and rollup reads it.
FUNCTIONS = """
const { transformSync } = require(process.argv[1] + "/esbuild"), { parseAst } = require(process.argv[1] + "/rollup/dist/parseAst.js");
const { readFileSync } = require("fs");
for (const name of process.argv.slice(2)) {
  const { code } = transformSync(readFileSync(name, "utf8"), { loader: "tsx", target: "esnext" });
  const visit = (node) => {
    if (!node || typeof node !== "object") return;
    if (/Function/.test(node.type ?? "")) console.log(code.slice(node.start, node.end).split("\\n").length);
    Object.values(node).forEach(visit);
  };
  visit(parseAst(code));
}
"""  # noqa: E501
Graph = Mapping[str, set[str]]
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Shape(NamedTuple):
    """Lines of the longest file and function, and what the module's docstring names. `documented`: per cent."""

    files: int
    longest_file: int
    longest_function: int
    circles: int
    twice: int
    documented: int | None
    rooms: int
    floors: int
    arrows: int


def python(folder: Path) -> Shape:
    """A package's. Generated files count as well."""
    paths = sorted(folder.rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    classes = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    lengths = [(node.end_lineno or 0) - node.lineno + 1 for node in nodes if isinstance(node, _FUNCTIONS)]
    public = [node for tree in trees.values() for node in _public(tree)]
    # A method that is said elsewhere what it is, in the class or protocol that it is a case of, need not say it again.
    said = {node.name for node in public if ast.get_docstring(node)}
    told = sum(node.name in said for node in public)
    modules = {_module(path, folder): path for path in paths}
    graph = {name: set(_imports(trees[path], name, path, modules)) - {name} for name, path in modules.items()}
    rooms = {name: [*name.split("."), "__init__"][1] for name in modules}
    return Shape(
        len(paths), max(map(_lines, paths)), max(lengths), len(circles(graph)),
        sum(times > 1 for times in classes.values()), 100 * told // max(1, len(public)), *_rooms(graph, rooms),
    )  # fmt: skip


def typescript(folder: Path) -> Shape:
    """A source folder's. Class names and comments are not looked at."""
    paths = sorted(path for path in folder.rglob("*.ts*") if path.suffix in (".ts", ".tsx"))
    names = {str(path.relative_to(folder).with_suffix("")): path for path in paths}
    graph = {}
    for name, path in names.items():
        found = re.findall(r'\b(?:from|import)\s*\(?\s*["\'](\.[^"\']+)["\']', path.read_text("utf-8"))
        targets = {
            str((path.parent / one).resolve().relative_to(folder.resolve())).removesuffix(".js") for one in found
        }
        graph[name] = {target for target in targets if target in names and target != name}
    told = subprocess.run(
        ["node", "-e", FUNCTIONS, str(MODULES), *map(str, paths)], capture_output=True, text=True, check=True
    )
    rooms = {name: name.split("/")[0] for name in names}
    longest = max(map(int, told.stdout.split()))
    return Shape(len(paths), max(map(_lines, paths)), longest, len(circles(graph)), 0, None, *_rooms(graph, rooms))


def sql(folder: Path) -> tuple[int, int, int]:
    """Files of functions, and the lines of the longest file and function."""
    texts = [path.read_text(encoding="utf-8") for path in folder.glob("*.sql")]
    bodies = [re.sub(r"(\n--[^\n]*|\n)*\Z", "", one) for text in texts for one in text.split("CREATE OR REPLACE")[1:]]
    return len(texts), max(text.count("\n") for text in texts), max(body.count("\n") + 1 for body in bodies)


def circles(graph: Graph) -> list[set[str]]:
    """What imports itself by way of others."""
    reach = {name: _reached(graph, name) for name in graph}
    return list(
        {frozenset(b for b in reach[a] if a in reach[b]): set(reach[a]) for a in graph if a in reach[a]}.values()
    )


def _reached(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += graph[name]
    return found


def _rooms(graph: Graph, rooms: Mapping[str, str]) -> tuple[int, int, int]:
    """How many rooms there are, on how many floors, with how many arrows; rooms of a circle are on one floor."""
    between: dict[str, set[str]] = {room: set() for room in rooms.values()}
    for name, targets in graph.items():
        between[rooms[name]] |= {rooms[target] for target in targets} - {rooms[name]}
    reach = {room: _reached(between, room) for room in between}
    below = {a: {b for b in reach[a] if a not in reach[b]} for a in between}
    floors: dict[str, int] = {}
    for room in sorted(between, key=lambda room: len(below[room])):
        floors[room] = 1 + max((floors[other] for other in below[room]), default=0)
    return len(between), max(floors.values()), sum(map(len, between.values()))


def _public(tree: ast.Module) -> Iterator[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in tree.body:
        if isinstance(node, (ast.ClassDef, *_FUNCTIONS)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (one for one in node.body if isinstance(one, _FUNCTIONS) and one.name[0] != "_")


def undocumented(folder: Path) -> list[str]:
    """The public names of a package that nothing is said of."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.py"))]
    public = [node for tree in trees for node in _public(tree)]
    said = {node.name for node in public if ast.get_docstring(node)}
    return sorted({node.name for node in public} - said)


def _module(path: Path, folder: Path) -> str:
    parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in tree.body:
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(filter(None, (above, node.module)))
            found = [one if (one := f"{base}.{alias.name}") in modules else base for alias in node.names]
        yield from (one for one in found if one in modules)


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def main(folders: list[str]) -> None:
    """Prints what was measured, a line each."""
    for folder in map(Path, folders):
        measured = python(folder) if any(folder.rglob("*.py")) else typescript(folder)
        print(folder, json.dumps(measured._asdict()))
    print("SQL: files, longest file, longest function:", *sql(ROOT / "schema" / "functions"))


if __name__ == "__main__":
    main(sys.argv[1:])
