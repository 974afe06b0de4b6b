"""`make mutation`: small faults made by mutmut in the pure rooms and in the Python client, and which no test notices.

mutmut makes all mutants of a file at once, behind a switch. They lie in build/mutation/tree, which is the repository
but for them; tools/mutation_forks.py runs the tests there. What was found stays in build/mutation/found, and a second
run tries what is new, changed or survived. Words choose modules, as `core.clock merge`, and TESTS files of tests;
SAMPLE=150 tries so many of a module at most, drawn by SEED; MINUTES ends it, and the next run goes on from there.

`--shown` prints what was found, without a run; `--table` writes it into docs/internals/mutation.md.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
import random
import re
import shutil
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "mutation"
TREE, FOUND = BUILD / "tree", BUILD / "found"
PAGE = ROOT / "docs" / "internals" / "mutation.md"
EQUIVALENT = ROOT / "docs" / "internals" / "equivalent-mutants.toml"
CLIENT = Path("clients/python")
PACKAGES = (Path("syncd"), CLIENT / "syncd_client")
NOT_LINKED = {".git", ".venv", "build", "syncd", "clients"}
SQL = re.compile(r"execute(many)?\(|select\(db")
KILLED = ("killed", "timed out")
TOP = (
    "| file | mutants | tried | killed | survived | of them equivalent | no test | killed of those reached |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


class Mutant(NamedTuple):
    """One change of one function. `change`: its lines before and after, as `before → after`."""

    name: str
    function: str
    change: str


class Module:
    """A file with its mutants, and what is known of them."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.file = FOUND / f"{path.replace('/', '.')}.json"
        held = json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}
        self.code = self.file.with_suffix(".py.mutated")
        self.source: str = held.get("source", "")
        self.hashes: dict[str, str] = held.get("hashes", {})
        self.mutants = [Mutant(*one) for one in held.get("mutants", [])]
        self.states: dict[str, str] = held.get("states", {})

    @property
    def name(self) -> str:
        """As it is imported."""
        return self.path.removeprefix(f"{CLIENT}/").removesuffix(".py").replace("/", ".")

    def make(self) -> None:
        """Makes its mutants, in the tree. What is known of functions that are as they were is kept."""
        text = (ROOT / self.path).read_text(encoding="utf-8")
        digest = hashlib.sha256(text.encode()).hexdigest()
        if self.source != digest or not self.code.exists():
            self._mutate(text)
            self.source = digest
        shutil.copy(self.code, TREE / self.path)

    def _mutate(self, text: str) -> None:
        from mutmut.mutation.file_mutation import mutate_file_contents

        made = mutate_file_contents(self.path, text)
        self.code.parent.mkdir(parents=True, exist_ok=True)
        self.code.write_text(made.code, encoding="utf-8")
        lines = made.code.splitlines()
        spans = {name: lines[span.start - 1 : span.end] for name, span in made.line_span_by_function_name.items()}
        self.mutants, before = [], self.hashes
        for name in made.mutant_names:
            function = name.rpartition("__mutmut_")[0]
            self.mutants.append(Mutant(name, function, change(spans, function, name)))
        self.hashes = dict(made.hash_by_function_name)
        same = {function for function, digest in self.hashes.items() if before.get(function) == digest}
        here = {mutant.name for mutant in self.mutants if mutant.function in same}
        self.states = {name: state for name, state in self.states.items() if name in here}

    def keep(self) -> None:
        """Writes down what is known."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        held = {"source": self.source, "hashes": self.hashes, "mutants": self.mutants, "states": self.states}
        self.file.write_text(json.dumps(held, ensure_ascii=False), encoding="utf-8")

    def drawn(self, most: int, seed: str) -> list[Mutant]:
        """So many at most, always the same ones for a seed, without those that are killed."""
        chosen = self.mutants
        if len(chosen) > most:
            chosen = random.Random(f"{seed} {self.name}").sample(chosen, most)
        return [mutant for mutant in chosen if self.states.get(mutant.name) not in KILLED]


def change(spans: Mapping[str, Sequence[str]], function: str, name: str) -> str:
    """What a mutant changes: lines of code as they were and as they are in it."""
    original, mutated = (
        [line.replace(one, "…").strip() for line in spans[one]] for one in (f"{function}__mutmut_orig", name)
    )
    diff = list(difflib.ndiff(original, mutated))
    before, after = (" ".join(line[2:] for line in diff if line[0] == sign) for sign in "-+")
    return f"{before} → {after}"


def settings() -> Any:
    """What mutates, and which tests run."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutation"]


def modules(words: Sequence[str]) -> list[Module]:
    """Those that the words choose; without words all."""
    paths = sorted({str(path.relative_to(ROOT)) for glob in settings()["modules"] for path in ROOT.glob(glob)})
    found = [Module(path) for path in paths if not path.endswith("__init__.py")]
    return [module for module in found if not words or any(word in module.name for word in words)]


def link(target: Path, names: Iterator[Path], left_out: set[str]) -> None:
    """Links to all of a folder but some."""
    target.mkdir(parents=True, exist_ok=True)
    for path in names:
        if path.name not in left_out:
            (target / path.name).symlink_to(path)


def tree() -> None:
    """The repository in links, but both packages, which are copied."""
    shutil.rmtree(TREE, ignore_errors=True)
    link(TREE, ROOT.iterdir(), NOT_LINKED)
    link(TREE / "clients", (ROOT / "clients").iterdir(), {"python"})
    link(TREE / CLIENT, (ROOT / CLIENT).iterdir(), {"syncd_client"})
    for package in PACKAGES:
        shutil.copytree(ROOT / package, TREE / package, ignore=shutil.ignore_patterns("__pycache__"))


def counts(module: Module) -> Counter[str]:
    """How many are killed, survived, equivalent (which survived too), without a test, and not tried."""
    found = Counter[str]()
    for mutant in module.mutants:
        state = module.states.get(mutant.name, "not tried")
        found["killed" if state in KILLED else state] += 1
        found["equivalent"] += state == "survived" and reason(module, mutant) is not None
    return found


@functools.cache
def equivalent() -> dict[str, dict[str, str]]:
    """{module: {change: reason}} of the mutants that no test can tell from the code."""
    return dict(tomllib.loads(EQUIVALENT.read_text(encoding="utf-8")))


def reason(module: Module, mutant: Mutant) -> str | None:
    """Why a mutant cannot be killed, where it is known to be so."""
    before, _, after = mutant.change.partition(" → ")
    if SQL.search(before) and before.lower() == after.lower() and (after == after.lower() or "'" not in after):
        return "SQL's words mean the same in another case"
    known = equivalent().get(module.name, {})
    return known.get(f"{mutant.function.split('ǁ')[-1].removeprefix('x_')}: {mutant.change}")


def row(name: str, found: Counter[str]) -> str:
    """A row of the table."""
    tried = found["killed"] + found["survived"] + found["no test"]
    reached = tried - found["no test"]
    share = f"{100 * found['killed'] // reached} %" if reached else "–"
    all_ = tried + found["not tried"]
    cells = (all_, tried, found["killed"], found["survived"], found["equivalent"], found["no test"], share)
    return f"| {name} | {' | '.join(str(cell) for cell in cells)} |\n"


def table(found: Mapping[str, Counter[str]]) -> str:
    """What was found, a row a module."""
    rows = [row(f"`{path.removeprefix(f'{CLIENT}/')}`", one) for path, one in found.items()]
    return TOP + "".join(rows) + row("together", sum(found.values(), Counter[str]()))


def page(text: str, found: Mapping[str, Counter[str]]) -> str:
    """docs/internals/mutation.md with the table as it should be."""
    before, _, rest = text.partition(TOP)
    return before + table(found) + re.sub(r"^(\|.*\n)+", "", rest)


def shown(chosen: Sequence[Module]) -> None:
    """A line for each mutant that no test notices and that is not known to be equivalent, and the table."""
    for module in chosen:
        for mutant in module.mutants:
            state = module.states.get(mutant.name)
            if state in ("survived", "no test") and (state != "survived" or reason(module, mutant) is None):
                print(f"{state}: {module.path} {mutant.name.replace('__mutmut_', ' ')}: {mutant.change}")
    print(table({module.path: counts(module) for module in chosen}))


def main(words: Sequence[str]) -> None:
    """Tries mutants of the modules that the words choose, and shows what became of them."""
    from tools.mutation_forks import Forks

    chosen = modules(words)
    tree()
    os.chdir(TREE)
    for module in chosen:
        module.make()
        module.keep()
    sys.path[:0] = [str(TREE / CLIENT), str(TREE)]
    os.environ |= {"MUTANTS": "1", "MUTANT_UNDER_TEST": "stats"}
    import pytest

    draw = int(os.environ.get("SAMPLE") or sys.maxsize), os.environ.get("SEED") or "1"
    todo = [(module, mutant) for module in chosen for mutant in module.drawn(*draw)]
    end = time.monotonic() + 60 * float(os.environ.get("MINUTES") or 60)
    forks = Forks(TREE, todo, end, int(os.environ.get("PROCESSES") or 2), float(os.environ.get("SECONDS") or 20))
    config = settings()
    left_out = [word for test in config["without"] for word in ("--deselect", test)]
    pytest.main(
        [*config["options"], *left_out, *(os.environ.get("TESTS", "").split() or config["tests"])], plugins=[forks]
    )
    shown(chosen)


if __name__ == "__main__":
    if sys.argv[1:] == ["--table"]:
        known = {module.path: counts(module) for module in modules(()) if module.mutants}
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), known), encoding="utf-8")
    elif sys.argv[1:2] == ["--shown"]:
        shown(modules(sys.argv[2:]))
    else:
        main(sys.argv[1:])
