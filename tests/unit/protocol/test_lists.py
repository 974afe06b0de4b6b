"""Lists of names: a long one is refused by its length, whatever is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from syncd.core.errors import Malformed
from syncd.edge.requests import checked_tables
from syncd.protocol.live_messages import MAX_NAMES, MAX_PRIORITY, MAX_PUSHED, MAX_TABLES, pushed_in, tables_in


class LookedInto(Exception):
    """Somebody looked at what is beyond the bound."""


class Names(list[str]):
    """So many names, of which no more than `seen` may be looked at."""

    def __init__(self, count: int, seen: int) -> None:
        super().__init__(f"t{n}" for n in range(count))
        self._seen = seen

    def __iter__(self) -> Iterator[str]:
        for n, name in enumerate(super().__iter__()):
            if n == self._seen:
                raise LookedInto
            yield name


class Text(str):
    """A text that may not be taken apart."""

    def split(self, *_: Any, **__: Any) -> list[str]:  # type: ignore[override]
        raise LookedInto


def refused(work: Callable[..., Any], *given: Any) -> tuple[str, str]:
    """The pointer and the detail with which it is."""
    with pytest.raises(Malformed) as why:
        work(*given)
    return why.value.faults[0].pointer, why.value.faults[0].detail


@pytest.mark.parametrize(("name", "most"), [("collections", MAX_TABLES), ("first", MAX_PRIORITY)])
def test_a_list_that_is_too_long_is_not_looked_into(name: str, most: int) -> None:
    assert refused(tables_in, Names(MAX_NAMES + 1, 0), name, most) == (f"/{name}", "too many")
    assert refused(checked_tables, name, Names(MAX_NAMES + 1, 0), most) == (f"/{name}", "too many")
    commas = Text("t," * MAX_NAMES)
    assert refused(tables_in, commas, name, most) == (f"/{name}", "too many")
    assert refused(checked_tables, name, [commas, commas], most) == (f"/{name}", "too many")
    assert refused(pushed_in, Names(MAX_PUSHED + 1, 0)) == ("/pushed", "too many")


@pytest.mark.parametrize(("name", "most"), [("collections", MAX_TABLES), ("first", MAX_PRIORITY)])
def test_of_a_list_with_too_many_no_more_is_looked_at_than_the_first_of_them(name: str, most: int) -> None:
    assert refused(tables_in, Names(MAX_NAMES, most + 1), name, most) == (f"/{name}", "too many")
    assert refused(checked_tables, name, [*Names(most + 1, most + 1), "\0"], most) == (f"/{name}", "too many")


def test_names_that_are_there_often_count_once() -> None:
    often = [f"t{n % MAX_TABLES:03}" for n in range(MAX_NAMES)]
    expected = tuple(sorted({*often}))
    assert len(expected) == MAX_TABLES
    assert tables_in(often) == tables_in(",".join(often)) == expected
    assert checked_tables("collection", often, MAX_TABLES) == expected
    assert checked_tables("collection", ["b,a", "", "c,,a"], MAX_TABLES) == tables_in(["b", "a", "", "c"])
    assert refused(tables_in, ["t", "\0"])[0] == "/collections"
