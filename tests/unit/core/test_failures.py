"""Errors that nobody foresaw are logged in one way, which names the kind and the place, and never what was sent."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from syncd.cli.operator_database import as_runtime
from syncd.core.failures import Failure, log_failure

SYNCD = Path(__file__).parents[3] / "syncd"
ROOMS = ("bus", "edge", "live", "protocol", "service", "store", "transfer")
ALL = ("Exception", "BaseException")
OWN_WAYS = re.compile(r"__traceback__|exc_info|\b_?log_?\.exception\(|traceback\.(format|print)")


class Written:
    """Where a log would be."""

    def __init__(self) -> None:
        self.lines = list[dict[str, Any]]()

    def error(self, event: str, **facts: object) -> None:
        self.lines.append({"event": event, **facts})


def fails(text: str) -> None:
    """Raises what a decoder would, with what was sent in its text."""
    raise ValueError(f"cannot read {text}")


def failed(text: str) -> Exception:
    with pytest.raises(ValueError, match="cannot read") as found:
        fails(text)
    return found.value


def test_the_log_says_what_happened_where_and_an_id_that_the_answer_has() -> None:
    log = Written()
    failure = log_failure(log, "a look failed", failed("secret"), look="socket")
    (line,) = log.lines
    assert line == {
        "event": "a look failed", "look": "socket",
        "error": "ValueError", "where": failure.where, "failure": failure.id,
    }  # fmt: skip
    assert re.fullmatch(r"tests\.unit\.core\.test_failures\.fails:\d+", failure.where)
    assert failure.id in failure.detail
    assert "secret" not in f"{line} {failure.detail}"


def test_one_fault_has_one_id_and_another_fault_another() -> None:
    one, again = Failure.of(failed("a")), Failure.of(failed("b"))
    assert one.id == again.id
    assert re.fullmatch(r"[0-9a-f]{8}", one.id)
    assert Failure("TypeError", one.where).id != one.id != Failure(one.kind, "elsewhere:1").id


def test_an_error_that_was_never_raised_has_no_place() -> None:
    assert Failure.of(KeyError("secret")) == ("KeyError", "", "")


def test_what_a_library_raised_is_placed_where_syncd_called_it() -> None:
    with pytest.raises(ValueError, match="IPv6") as found:
        as_runtime("http://[secret")
    assert re.fullmatch(r"syncd\.cli\.operator_database\.as_runtime:\d+", Failure.of(found.value).where)


def test_no_room_that_clients_reach_has_a_way_of_its_own() -> None:
    """Who catches everything, and logs it as an error, does so by `log_failure`."""
    found = list[str]()
    for path in (path for room in ROOMS for path in sorted((SYNCD / room).rglob("*.py"))):
        text, name = path.read_text(), str(path.relative_to(SYNCD))
        found += [name for _ in OWN_WAYS.finditer(text)]
        found += [f"{name}:{node.lineno}" for node in ast.walk(ast.parse(text)) if logs_by_itself(node)]
    assert found == []


def logs_by_itself(node: ast.AST) -> bool:
    """Whether it is an `except Exception` that calls a logger's `error`."""
    if not isinstance(node, ast.ExceptHandler) or ast.unparse(node.type or ast.Name("Exception")) not in ALL:
        return False
    calls = [ast.unparse(call.func) for call in ast.walk(node) if isinstance(call, ast.Call)]
    return any(re.search(r"\b_?log_?\.(error|critical)$", call) for call in calls)


def test_a_way_of_its_own_is_seen() -> None:
    own = "try:\n    x()\nexcept Exception as why:\n    log.error('no', error=str(why))"
    assert [logs_by_itself(node) for node in ast.walk(ast.parse(own)) if isinstance(node, ast.ExceptHandler)] == [True]
    assert OWN_WAYS.search("log.warning('x', exc_info=True)")
