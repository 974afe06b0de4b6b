"""`make mutation`: small faults made by mutmut in the pure rooms and in the Python client, and which no test notices.

mutmut names a module by its path. So it works in build/mutation, a folder of links where the server's package and the
client's lie as they are imported; what it found stays there, and a second run tries what is new, changed or survived.
It is given up after MINUTES, and goes on from there the next time. Words choose modules, as `core.clock merge`; with
SAMPLE=4 every fourth mutant is tried, always the same ones.
"""

from __future__ import annotations

import difflib
import json
import os
import signal
import subprocess
import sys
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TREE = ROOT / "build" / "mutation"
FOUND = TREE / "mutants"
STATS = FOUND / "mutmut-stats.json"
# "src." is what mutmut leaves out of a module's name.
LINKS = {
    name: name for name in ("syncd", "tests", "clients/python/tests", "schema", "pyproject.toml")
} | {"src/syncd_client": "clients/python/syncd_client"}  # fmt: skip
KILLED, TIMED_OUT, UNTESTED = {1, 3}, {-24, 24, 36, 152, 255}, {5, 33}
PROCESSES = os.environ.get("PROCESSES", "2")


def tree() -> None:
    """The folder in which mutmut works. Which tests reach a function is asked again when a test has changed."""
    for name, target in LINKS.items():
        link = TREE / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path(os.path.relpath(ROOT / target, link.parent)))
    tests = [ROOT / name for name in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
             ["tool"]["mutmut"]["pytest_add_cli_args_test_selection"]]  # fmt: skip
    files = [file for path in tests for file in (path.rglob("*.py") if path.is_dir() else [path])]
    if STATS.exists() and any(file.stat().st_mtime > STATS.stat().st_mtime for file in files):
        STATS.unlink()


def status(code: int | None) -> str:
    """What became of a mutant, by the code that mutmut keeps."""
    if code is None:
        return "not tried"
    if code in KILLED | TIMED_OUT:
        return "killed"
    return "no test" if code in UNTESTED else "survived" if code == 0 else "broken"


def results(words: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Each file with its mutants, of those that the words choose."""
    for meta in sorted(FOUND.rglob("*.meta")):
        path = str(meta.relative_to(FOUND)).removesuffix(".meta")
        module = path.removesuffix(".py").removeprefix("src/").replace("/", ".")
        if not words or any(word in module for word in words):
            codes = json.loads(meta.read_text(encoding="utf-8"))["exit_code_by_key"]
            yield path, {name: status(code) for name, code in codes.items()}


def change(path: str, mutant: str) -> list[str]:
    """The lines in which a mutant differs."""
    spans = json.loads((FOUND / f"{path}.spans").read_text(encoding="utf-8"))["spans"]
    lines = (FOUND / path).read_text(encoding="utf-8").splitlines()
    name = mutant.rpartition(".")[2]
    texts: list[list[str]] = []
    for one in (f"{name.partition('__mutmut_')[0]}__mutmut_orig", name):
        first, last = spans[one]
        texts.append([line.replace(one, "…") for line in lines[first - 1 : last]])
    return [line for line in difflib.ndiff(texts[0], texts[1]) if line[0] in "-+"]


def run(names: Sequence[str]) -> None:
    """mutmut, with what it is to try, or all that is new, for MINUTES at most."""
    command = [str(Path(sys.executable).parent / "mutmut"), "run", "--max-children", PROCESSES, *names]
    with subprocess.Popen(command, cwd=TREE, env={**os.environ, "MUTANTS": "1"}) as process:
        try:
            process.wait(float(os.environ.get("MINUTES", "60")) * 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # a shell's background job does not hear this one
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.terminate()


def shown(words: Sequence[str], survivors: bool = True) -> None:
    """A line for each file, and the change of each mutant that no test notices."""
    total = Counter[str]()
    for path, mutants in results(words):
        counts = Counter(mutants.values())
        total += counts
        for name, state in mutants.items():
            if survivors and state not in ("killed", "not tried"):
                print(f"  {state}: {name}", *(f"    {line}" for line in change(path, name)), sep="\n")
        print(line(path.removeprefix("src/"), counts))
    print(line("together", total))


def line(name: str, counts: Counter[str]) -> str:
    """How many of a file's mutants were killed, of those that were tried."""
    tried = counts.total() - counts["not tried"]
    rest = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()) if state != "killed")
    return f"{name}: {counts['killed']} of {tried} killed ({100 * counts['killed'] / max(tried, 1):.0f} %); {rest}"


def main(words: Sequence[str]) -> None:
    """Tries the mutants that the words choose and that are not killed, and shows what became of all of them."""
    tree()
    known = dict(results(words))
    again = [name for mutants in known.values() for name, state in mutants.items() if state != "killed"]
    sample = int(os.environ.get("SAMPLE", "1"))
    names = [name for name in again if zlib.crc32(name.encode()) % sample == 0]
    if names or not known:
        run(names or [f"*{word}*" for word in words])
    shown(words)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--shown"]:
        shown(sys.argv[2:])
    else:
        main(sys.argv[1:])
