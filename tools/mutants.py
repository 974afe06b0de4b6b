"""`make mutants`: puts each planted fault of tests/mutants into a copy of the tree, and looks whether its tests go red.

A fault is a text of a file and what it becomes; the text has to be there exactly once, so a change that moves or
alters it brings the fault along. The working tree is never written to.
`--table` writes docs/internals/planted-faults.md.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FAULTS = ROOT / "tests" / "mutants"
PAGE = ROOT / "docs" / "internals" / "planted-faults.md"
CLIENT = Path("clients/typescript")
# What is built or fetched. node_modules is linked to, so that nothing is fetched again.
LEFT_OUT = (".git", ".venv", "node_modules", "dist", "__pycache__", ".*_cache", ".hypothesis", "syncd-data")
OPTIONS = ("-q", "--tb=short", "-rfE", "-p", "no:cacheprovider", "-m", "not soak")
# Seconds that the tests of one fault may take, and those of all faults together without any.
LONGEST, LONGEST_OF_ALL = 600.0, 3600.0
TOP = "| fault | where | test that goes red |\n|---|---|---|\n"


class Edit(NamedTuple):
    """A text of a file, and what it becomes."""

    file: str
    before: str
    after: str


class Mutant(NamedTuple):
    """A fault. `tests`: as pytest names them, or FILE.test.ts::NAME, each of which has to fail."""

    fault: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


class Outcome(NamedTuple):
    """`green`: tests that did not fail. `broken`: why nothing is known."""

    green: tuple[str, ...]
    broken: str = ""


def mutants(folder: Path = FAULTS) -> list[Mutant]:
    """All faults, in the order of the files and of their places there."""
    found: list[Mutant] = []
    for path in sorted(folder.glob("*.toml")):
        for one in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]:
            found.append(Mutant(one["fault"], tuple(Edit(**edit) for edit in one["edit"]), tuple(one["tests"])))
    return found


def chosen(all_: Sequence[Mutant], words: Sequence[str]) -> list[Mutant]:
    """Those with one of the words in the fault, its files or its tests; without words all."""
    texts = [" ".join((m.fault, *(e.file for e in m.edits), *m.tests)).lower() for m in all_]
    return [m for m, text in zip(all_, texts, strict=True) if not words or any(w.lower() in text for w in words)]


def applied(text: str, edit: Edit) -> str:
    """The file's text with the fault in it. Raises ValueError where it cannot be put there."""
    if (times := text.count(edit.before)) != 1:
        raise ValueError(f"its text is {times} times in {edit.file}, which has changed: change tests/mutants too")
    if edit.before == edit.after:
        raise ValueError("it changes nothing")
    return text.replace(edit.before, edit.after)


def place(text: str, edit: Edit) -> str:
    """Where a fault is: the SQL function, or else the file."""
    functions = re.findall(r"^CREATE OR REPLACE FUNCTION syncd\.(\w+)", text[: text.index(edit.before)], re.MULTILINE)
    return functions[-1] if functions else re.sub(r"^(syncd|schema)/", "", edit.file)


def table(all_: Iterable[Mutant]) -> str:
    """All faults as a table in Markdown."""
    rows = []
    for mutant in all_:
        places = dict.fromkeys(place((ROOT / e.file).read_text(encoding="utf-8"), e) for e in mutant.edits)
        tests = ", ".join(f"`{test.removeprefix('tests/')}`" for test in mutant.tests)
        rows.append(f"| {mutant.fault} | {', '.join(f'`{name}`' for name in places)} | {tests} |\n")
    return TOP + "".join(rows)


def page(text: str, all_: Iterable[Mutant]) -> str:
    """docs/internals/planted-faults.md with the table as it should be."""
    before, _, rest = text.partition(TOP)
    return before + table(all_) + re.sub(r"^(\|.*\n)+", "", rest)


def is_typescript(test: str) -> bool:
    """Whether vitest runs it."""
    return ".test.ts" in test.split("::")[0]


def failed(test: str, output: str) -> bool:
    """Whether a run's output says of a test that it failed: not that it could not begin."""
    vitest = rf"^ *FAIL .*> {re.escape(test.split('::')[-1])}$"
    line = vitest if is_typescript(test) else rf"^FAILED {re.escape(test)}(\[| |$)"
    return re.search(line, output, re.MULTILINE) is not None


def commands(tests: Sequence[str]) -> list[tuple[Path, list[str]]]:
    """What runs the tests, and where."""
    found: list[tuple[Path, list[str]]] = []
    if own := [test for test in tests if not is_typescript(test)]:
        found.append((Path(), [sys.executable, "-m", "pytest", *OPTIONS, *own]))
    if others := [test.split("::") for test in tests if is_typescript(test)]:
        files = sorted({str(Path(path).relative_to(CLIENT)) for path, _ in others})
        names = "|".join(re.escape(name) for _, name in others)
        found.append((CLIENT, ["npx", "--no-install", "vitest", "run", *files, "-t", f"({names})$"]))
    return found


def run(tree: Path, tests: Sequence[str], longest: float = LONGEST) -> tuple[str, bool]:
    """What the tests said in a copy of the tree, and whether all passed. `longest`: seconds, for each kind."""
    path = os.pathsep.join((str(tree), str(tree / "clients/python")))
    env = {**os.environ, "PYTHONPATH": path, "SYNCD_PYTHON": sys.executable, "NO_COLOR": "1", "MUTANTS": "1"}
    said, passed = "", True
    for folder, command in commands(tests):
        with subprocess.Popen(
            command, cwd=tree / folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            try:
                said += process.communicate(timeout=longest)[0]
            except subprocess.TimeoutExpired:
                process.terminate()
                said += process.communicate()[0]
        passed = passed and process.returncode == 0
    return said, passed


def tried(tree: Path, mutant: Mutant) -> Outcome:
    """Puts a fault into the copy, runs its tests there, and takes it out again."""
    whole = {tree / edit.file: (tree / edit.file).read_bytes() for edit in mutant.edits}
    times = {file: file.stat().st_mtime_ns for file in whole}
    try:
        for edit in mutant.edits:
            file = tree / edit.file
            file.write_text(applied(file.read_text(encoding="utf-8"), edit), encoding="utf-8")
        said, _ = run(tree, mutant.tests)
    except ValueError as wrong:
        return Outcome((), str(wrong))
    finally:
        for file, content in whole.items():
            file.write_bytes(content)
            # Python would else take what it compiled of the faulty one for this one.
            os.utime(file, ns=(times[file], times[file]))
    green = tuple(test for test in mutant.tests if not failed(test, said))
    ran = re.search(r"\d+ passed", said) and not re.search(r"^ERROR ", said, re.MULTILINE)
    return Outcome(green) if ran or not green else Outcome((), f"the tests could not run:\n{said[-3000:]}")


def copied(folder: Path) -> Path:
    """A copy of the tree that a database's user can enter."""
    tree = folder / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
    folder.chmod(0o755)
    (tree / CLIENT / "node_modules").symlink_to(ROOT / CLIENT / "node_modules")
    return tree


def main(words: Sequence[str]) -> int:
    """Tries the faults that the words choose; 1 where one survives or cannot be tried."""
    todo, began, survivors = chosen(mutants(), words), time.monotonic(), 0
    tests = sorted({test for mutant in todo for test in mutant.tests})
    with tempfile.TemporaryDirectory(prefix="syncd-mutants-") as folder:
        said, passed = run(tree := copied(Path(folder)), tests, LONGEST_OF_ALL)
        red = {test for test in tests if failed(test, said)}
        if not passed and not red:
            print(f"{said[-6000:]}\nWithout any fault the tests could not all run. Nothing was tried.")
            return 1
        print(f"{len(tests) - len(red)} tests are green without a fault ({time.monotonic() - began:.0f} s)", flush=True)
        for n, mutant in enumerate(todo, 1):
            at = time.monotonic()
            lost = red.intersection(mutant.tests)
            outcome = Outcome((), f"red without it: {', '.join(sorted(lost))}") if lost else tried(tree, mutant)
            word = "BROKEN" if outcome.broken else "SURVIVED" if outcome.green else "caught"
            survivors += word != "caught"
            print(f"{n:3}/{len(todo)} {word:8} {time.monotonic() - at:5.1f} s  {mutant.fault}", flush=True)
            for line in (*outcome.green, *outcome.broken.splitlines()):
                print(f"        {line}", flush=True)
    print(f"{len(todo) - survivors} of {len(todo)} caught in {time.monotonic() - began:.0f} s")
    return 1 if survivors or not todo else 0


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), mutants()), encoding="utf-8")
    else:
        sys.exit(main(sys.argv[1:]))
