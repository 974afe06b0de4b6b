"""A real Chromium: where it is, how it is launched, and how it dies."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.async_api import Playwright

from tests.support.programs import need_chromium

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


def executable(playwright: Playwright) -> str:
    """Chromium's path: CHROMIUM, else one in PATH, else what Playwright has downloaded; installed if there is none."""
    if not Path(found := _found(playwright)).is_file():
        need_chromium()
        found = _found(playwright)
    if not Path(found).is_file():
        pytest.fail(f"there is no Chromium at {found}: set CHROMIUM to its path", pytrace=False)
    return found


def _found(playwright: Playwright) -> str:
    named = os.environ.get("CHROMIUM")
    in_path = next((path for name in NAMES if (path := shutil.which(name))), None)
    return named or in_path or playwright.chromium.executable_path


def options(playwright: Playwright) -> dict[str, Any]:
    """How it is launched. Root has no sandbox."""
    flags = [*FLAGS, "--no-sandbox"] if os.geteuid() == 0 else [*FLAGS]
    return {"executable_path": executable(playwright), "args": flags}


def kill(profile: Path) -> None:
    """SIGKILL to every process of the Chromium that uses this profile: it gets no chance to tidy up."""
    own = [p for p in psutil.Process().children(recursive=True) if _uses(p, profile)]
    assert own, f"no Chromium uses {profile}"
    family = [*own, *(child for p in own for child in p.children(recursive=True))]
    for process in family:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=10)


def _uses(process: psutil.Process, profile: Path) -> bool:
    try:
        return f"--user-data-dir={profile}" in process.cmdline()
    except psutil.Error:
        return False
