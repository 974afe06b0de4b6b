"""The documentation's site, built once for all tests: what is up to date is left alone."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support import node
from tests.support.programs import REPOSITORY, alone


def site() -> Path:
    """Its folder."""
    with alone(REPOSITORY / "docs"):
        node.run(REPOSITORY, sys.executable, "-m", "tools.docs")
    return REPOSITORY / "build" / "docs"
