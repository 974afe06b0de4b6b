"""The tour of the wire and the tutorial, typed from their first lines to their last, print what they show."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.programs import REPOSITORY, need
from tests.support.tour import Comparison, Step, Terminal, steps, until

TOUR = list(steps((REPOSITORY / "docs/reference/tour.md").read_text(encoding="utf-8")))
# Its part in TypeScript is run by the client's own tests.
TUTORIAL_TEXT = (REPOSITORY / "docs/tutorial.md").read_text(encoding="utf-8").split("## The same in a browser")[0]
TUTORIAL = list(steps(TUTORIAL_TEXT))
PORT, FOLDER = "127.0.0.1:3050", "/tmp/tour"
# What is logged, and what root is told whose interpreter nobody else can run.
LOG = re.compile(r"^(?:\S+Z \[\w+ *\]|the workers run as root:) .*\n", re.MULTILINE)

A, B = "01a1fc4b-52b2-7122-99cd-f18aab3e2965", "01a1fc4b-537f-73a3-9cb4-407d0b458b91"
C, D = "01a1fd10-d74d-7d83-8d80-37fb223804f7", "01a1fcd0-5651-7721-9293-a9499138c43a"
CURSOR = "AfeW9rCYmJgDAAECXgHmGl6t-EuU"


@pytest.fixture
def address() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def terminals(folder: Path, address: str) -> Iterator[tuple[Terminal, Terminal]]:
    """Two, in one folder. The port is free, where that of the pages might not be."""
    need("curl")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "SYNCD_PORT": address.split(":")[1], "HOME": str(folder)}
    first, second = Terminal(folder, env), Terminal(folder, env)
    yield first, second
    second.close()
    first.interrupt()
    first.close()


@pytest.mark.timeout(300)
def test_the_pages_print_what_they_show(terminals: tuple[Terminal, Terminal], folder: Path, address: str) -> None:
    serving, typing = terminals
    comparison = Comparison([step.command for step in (*TOUR, *TUTORIAL)])

    def got(terminal: Terminal) -> str:
        return LOG.sub("", terminal.said()).replace(address, PORT).replace(str(folder), FOLDER)

    def as_shown(terminal: Terminal, step: Step, *, type_it: bool = True) -> None:
        starts = step.command == TOUR[0].command
        if type_it:
            terminal.type(step.command.replace(PORT, address))
        if not starts:
            assert until(terminal.finished, 60), f"$ {step.command}does not end"
        # What comes from the background comes a little later.
        if not until(lambda: not comparison.difference(step.shown, got(terminal)), 60 if starts else 15):
            where = comparison.difference(step.shown, got(terminal))
            said = f"$ {step.command}\nThe page shows:\n{step.shown}\nIt prints:\n{got(terminal)}\nThey part here:"
            pytest.fail(f"{said}\n{where}", pytrace=False)

    as_shown(serving, TOUR[0])
    # Both begin with the same command, which is typed once.
    assert TUTORIAL[0].command == TOUR[0].command
    as_shown(serving, TUTORIAL[0], type_it=False)
    for step in (*TOUR[1:], *TUTORIAL[1:]):
        as_shown(typing, step)


def test_they_are_read_with_all_their_commands() -> None:
    assert TOUR[0].command == "syncd serve\n"
    assert sum("curl" in step.command or re.match(r"(ada|bob) ", step.command) is not None for step in TOUR) >= 14
    assert sum("python - <<" in step.command for step in TOUR) == 1
    assert sum("python - <<" in step.command for step in TUTORIAL) == 3
    assert all(step.command.strip() for step in (*TOUR, *TUTORIAL))


def test_lines_quotations_and_languages_make_steps() -> None:
    text = "```sh\nU=1\n```\nand\n```\n$ one 'a\nb' c\nsaid\n$ two\n```\n```python\nprint(1)\n```\n```\n1\n```\n"
    assert list(steps(text)) == [
        Step("U=1\n", ""),
        Step("one 'a\nb' c\n", "said\n"),
        Step("two\n", ""),
        Step("python - <<'PYTHON'\nprint(1)\nPYTHON\n", "1\n"),
    ]


@pytest.mark.parametrize(
    ("shown", "said", "same"),
    [
        ("a  b\n", "ab", True),
        ("a", "b", False),
        ("a", "ab", False),
        (f"{A} {A}", f"{C} {C}", True),
        (f"{A} {A}", f"{C} {D}", False),
        ("at 2026-01-01T00:00:00Z", "at 2026-02-02T01:02:03.5Z", True),
        ("at 2026-11-20T10:00:00Z", "at 2026-11-20T10:00:01Z", False),
        (f"2026-01-01T00:00:00Z.{CURSOR}", f"2026-01-02T00:00:00.1Z.{CURSOR[::-1]}", True),
        (f"2026-01-01T00:00:00Z.{CURSOR}", "", False),
        ("up (2.7 s)", "up (11.0 s)", True),
        ('{…,"b":1}', '{"a":{},"b":1}', True),
        ('{…,"b":1}', '{"a":{},"b":2}', False),
    ],
)
def test_only_what_has_to_may_differ(shown: str, said: str, same: bool) -> None:
    found = Comparison(["put --at 2026-11-20T10:00:00Z"]).difference(shown, said)
    assert (found == "") == same, found


def test_an_id_of_an_earlier_step_is_the_same_in_a_later_one() -> None:
    comparison = Comparison([])
    assert comparison.difference(f"one {A}, two {B}", f"one {C}, two {D}") == ""
    assert comparison.difference(A, C) == ""
    assert comparison.difference(A, D) == f"shown: {A!r}\ngot:   {D!r}"
