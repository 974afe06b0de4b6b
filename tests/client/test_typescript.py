"""The TypeScript client's own checks and tests, against this repository's server and Python client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import node
from tests.support.template import Template

pytestmark = pytest.mark.usefixtures("installed")


@pytest.fixture(scope="module")
def installed() -> None:
    """The packages of its lock file."""
    node.packages(node.CLIENT)


@pytest.mark.timeout(600)
def test_the_typescript_client_type_checks_and_has_the_house_s_style() -> None:
    node.checked(node.CLIENT)


@pytest.mark.timeout(2400)
def test_the_typescript_client_is_small_and_passes_its_own_tests(
    folder: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Template(workspace / "template").copy_to(folder / "data")
    monkeypatch.setenv("TEST_DATA", str(folder / "data"))
    monkeypatch.setenv("TMPDIR", str(folder))
    node.run(node.CLIENT, "npm", "test")
