"""The `syncd serve` of syncd.testing as a subprocess, as tests, examples and measurements start it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from syncd.testing.process import ServeProcess
from tests.support.template import Template

# TEST_CONTEXT_KEY=…: every server signs who acts; tests that speak SQL as the role that serves are not for that.
CONTEXT_KEY = os.environ.get("TEST_CONTEXT_KEY", "")
# TEST_SERVER=uvicorn|hypercorn: each server is a FastAPI application that has syncd mounted (tests/support/mounted.py),
# run by that one's own protocols.
FORM = os.environ.get("TEST_SERVER", "")
# Below which path that is; nothing where it is `syncd serve`.
MOUNT = "/own/sync"
PATH = MOUNT if FORM else ""
REPOSITORY = Path(__file__).resolve().parents[2]


class Server(ServeProcess):
    """`form`: what serves a FastAPI application that has it mounted; "": it is `syncd serve`."""

    # Where the tests say so, new servers begin with a copy of this database instead of making one.
    template: ClassVar[Template | None] = None
    # Where the tests say so, a `with` block ends by `discard`: a proper stop is a fifth of the work.
    discarded: ClassVar[bool] = False

    def __init__(
        self, data_dir: Path, *, workers: int = 1, settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None, start: bool = True, form: str = FORM,
    ) -> None:  # fmt: skip
        if self.template is not None and "database_url" not in (settings or {}):
            self.template.copy_to(Path(data_dir))
        super().__init__(data_dir, workers=workers, settings=settings, env=env)
        self.form = form
        if start:
            self.start()

    def command_line(self) -> list[str]:
        """What is started."""
        return [sys.executable, "-m", "tests.support.mounted"] if self.form else super().command_line()

    def variables(self) -> dict[str, str]:
        """The settings, and where it is mounted."""
        signed = {"SYNCD_CONTEXT_KEY": CONTEXT_KEY} if CONTEXT_KEY else {}
        mounted = {"PYTHONPATH": str(REPOSITORY), "TEST_SERVER": self.form} if self.form else {}
        return {**mounted, **signed, **super().variables()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.discarded:
            self.discard()
        else:
            self.stop()
