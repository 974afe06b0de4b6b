"""The command line as a subprocess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.harness import Server


def syncd(*arguments: str | Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `syncd` to its end."""
    prefork = Server.prefork
    if prefork is not None and not Server.executed and prefork.suits(env or {}):
        return prefork.run([str(argument) for argument in arguments], {**os.environ, **(env or {})}, 500)
    return subprocess.run(
        [sys.executable, "-m", "syncd", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        timeout=500,
        check=False,
    )


def doctor(*arguments: str | Path, env: Mapping[str, str] | None = None) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and the worst finding of each check."""
    done = syncd("doctor", "--json", *arguments, env=env)
    found: dict[str, dict[str, str]] = {}
    for finding in json.loads(done.stdout):
        if finding["check"] not in found or finding["status"] == "FAIL":
            found[finding["check"]] = finding
    return done.returncode, found
