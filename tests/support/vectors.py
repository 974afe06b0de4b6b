"""The vectors that every implementation reads (tests/vectors)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"


def vectors(name: str) -> Any:
    """What is in the file of this name, as JSON has it."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def names() -> list[tuple[str, Any]]:
    """The names of names.json, each with its case."""
    return [(case["text"] * case.get("times", 1), case) for case in vectors("names")]


def check_number(value: Any, vector: Any) -> None:
    """A value is of the type and the size that a case of numbers.json says."""
    match vector["kind"]:
        case "double":
            assert (type(value), value) == (float, float(vector["sent"]))
        case "integer":
            assert (type(value), value) == (int, int(vector["sent"]))
        case _:
            assert value == int(float(vector["sent"]))
