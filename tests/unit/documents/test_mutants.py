"""The planted faults can be put in, name tests that exist, and are those of the page. Mutants are drawn and counted."""

from __future__ import annotations

import re

import pytest

from tools import mutants, mutation
from tools.mutants import Edit, Mutant

ALL = mutants.mutants()
VECTORS = "".join(path.read_text(encoding="utf-8") for path in (mutants.ROOT / "tests/vectors").glob("*.json"))


def in_typescript(name: str, source: str) -> bool:
    """Whether a test of this name is in a file; that of a case of the vectors has a name that ends with the case's."""
    begins, _, case = name.partition(": ")
    return f'"{name}"' in source or (f'"{begins}: %s"' in source and f'"name": "{case}"' in VECTORS)


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.fault)
def test_a_fault_can_be_put_in_at_one_place_and_its_tests_exist(mutant: Mutant) -> None:
    for edit in mutant.edits:
        text = (mutants.ROOT / edit.file).read_text(encoding="utf-8")
        assert mutants.applied(text, edit) != text
    for test in mutant.tests:
        path, name = test.split("::")[0], test.split("::")[-1]
        source = (mutants.ROOT / path).read_text(encoding="utf-8")
        script = mutants.is_typescript(test)
        defined = in_typescript(name, source) if script else re.search(rf"\bdef {name}\(", source)
        assert defined, f"{test} does not exist"


def test_a_fault_is_named_once_and_the_page_has_them_all() -> None:
    assert len({mutant.fault for mutant in ALL}) == len(ALL) > 0
    said = mutants.PAGE.read_text(encoding="utf-8")
    assert said == mutants.page(said, ALL), "write it with: make mutants ARGS=--table"


@pytest.mark.parametrize("text", ["", "one one"])
def test_a_text_that_is_not_there_once_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"times in some\.py"):
        mutants.applied(text, Edit("some.py", "one", "two"))


def test_some_are_chosen_by_words_and_all_without() -> None:
    by_name, by_file = (Mutant(name, (Edit(f"{name}.py", "a", "b"),), ("tests/t.py::t",)) for name in ("x y", "z"))
    assert mutants.chosen([by_name, by_file], []) == [by_name, by_file]
    assert mutants.chosen([by_name, by_file], ["Z.PY"]) == [by_file]
    assert mutants.chosen([by_name, by_file], ["q"]) == []


def test_a_test_that_could_not_begin_has_not_failed() -> None:
    name = "tests/system/test_x.py::test_a"
    assert mutants.failed(name, f"..F\nFAILED {name}[1] - assert\n1 failed")
    assert not mutants.failed(name, f"ERROR {name} - no database\n1 error")
    assert not mutants.failed(name, f"FAILED {name}_longer - assert")
    script = "clients/typescript/test/x.test.ts::it is so"
    assert mutants.failed(script, " FAIL  test/x.test.ts > a group > it is so\n")
    assert not mutants.failed(script, " FAIL  test/x.test.ts > a group > it is so indeed\n")


def test_what_stands_around_the_table_stays() -> None:
    mutant = Mutant("a fault", (Edit("Makefile", "DEVICES ?= 12", ""),), ("tests/core/test_x.py::test_a",))
    row = "| a fault | `Makefile` | `core/test_x.py::test_a` |\n"
    assert mutants.page(f"before\n{mutants.TOP}| old | old | old |\nafter\n", [mutant]) == (
        f"before\n{mutants.TOP}{row}after\n"
    )


STATES = {"a": "killed", "b": "timed out", "c": "survived", "d": "survived", "e": "no test"}


def module() -> mutation.Module:
    """A module with six mutants of one function, one of them not tried."""
    found = mutation.Module("clients/python/syncd_client/data/none.py")
    found.mutants = [mutation.Mutant(name, "xǁAǁf", f"{name} → {name}{name}") for name in "abcdef"]
    found.states = dict(STATES)
    return found


def test_a_mutant_is_shown_by_the_lines_that_it_changes() -> None:
    spans = {
        "x_f__mutmut_orig": ["def x_f__mutmut_orig(a=1):", "    b = a", "    return b"],
        "x_f__mutmut_1": ["def x_f__mutmut_1(a=2):", "    b = a", "    return b"],
        "x_f__mutmut_2": ["def x_f__mutmut_2(a=1):", "    b = None", "    return b"],
    }
    assert mutation.change(spans, "x_f", "x_f__mutmut_1") == "def …(a=1): → def …(a=2):"
    assert mutation.change(spans, "x_f", "x_f__mutmut_2") == "b = a → b = None"


def test_mutants_are_drawn_by_a_seed_and_those_that_are_killed_are_not_tried_again() -> None:
    assert [one.name for one in module().drawn(6, "1")] == ["c", "d", "e", "f"]
    draws = {seed: {one.name for one in module().drawn(3, seed)} for seed in "123456789"}
    assert draws == {seed: {one.name for one in module().drawn(3, seed)} for seed in draws}
    assert len(set(map(frozenset, draws.values()))) > 1
    assert all(drawn <= set("cdef") and len(drawn) <= 3 for drawn in draws.values())


def test_mutants_are_counted_and_the_equivalent_ones_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"syncd_client.data.none": {"f: c → cc": "the same", "f: a → aa": "killed after all"}}
    monkeypatch.setattr(mutation, "equivalent", lambda: known)
    row = "| 6 | 5 | 2 | 2 | 1 | 1 | 50 % |\n"
    found = {module().path: mutation.counts(module())}
    text = f"before\n{mutation.TOP}| old |\nafter\n"
    told = f"| `syncd_client/data/none.py` {row}| together {row}"
    assert mutation.page(text, found) == f"before\n{mutation.TOP}{told}after\n"


def test_what_mutates_is_there_and_so_are_the_modules_of_equivalent_mutants() -> None:
    for glob in mutation.settings()["modules"]:
        assert list(mutation.ROOT.glob(glob)), glob
    for test in mutation.settings()["without"]:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (mutation.ROOT / path).read_text(encoding="utf-8"), test
    names = {found.name for found in mutation.modules(())}
    assert set(mutation.equivalent()) <= names
    assert all(reason for known in mutation.equivalent().values() for reason in known.values())
