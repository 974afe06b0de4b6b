"""The planted faults can be put in, name tests that exist, and are those of the page."""

from __future__ import annotations

import re

import pytest

from tools import mutants
from tools.mutants import Edit, Mutant

ALL = mutants.mutants()


@pytest.mark.parametrize("mutant", ALL, ids=lambda mutant: mutant.fault)
def test_a_fault_can_be_put_in_at_one_place_and_its_tests_exist(mutant: Mutant) -> None:
    for edit in mutant.edits:
        text = (mutants.ROOT / edit.file).read_text(encoding="utf-8")
        assert mutants.applied(text, edit) != text
    for test in mutant.tests:
        path, name = test.split("::")[0], test.split("::")[-1]
        source = (mutants.ROOT / path).read_text(encoding="utf-8")
        defined = f'"{name}"' in source if mutants.is_typescript(test) else re.search(rf"\bdef {name}\(", source)
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
