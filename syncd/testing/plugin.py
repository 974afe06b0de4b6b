"""What pytest has where syncd is installed: the fixtures `syncd_server`, `syncd_shared_server` and `syncd_settings`.

It is loaded in every run of pytest, so it loads nothing of syncd before a test asks for a server.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from syncd.testing.server import Server

FIXTURES = ("syncd_server", "syncd_shared_server")
SHOWN = 8000


@pytest.fixture(scope="session")
def syncd_settings() -> Mapping[str, Any]:
    """The settings of the servers, by name: a conftest.py has its own fixture of this name to change them."""
    return {}


@pytest.fixture
def syncd_server(syncd_settings: Mapping[str, Any]) -> Iterator[Server]:
    """A real server with a database of this test's own, which is thrown away behind it."""
    from syncd.testing.server import Server

    with Server(**syncd_settings) as server:
        yield server


@pytest.fixture(scope="session")
def syncd_shared_server(syncd_settings: Mapping[str, Any]) -> Iterator[Server]:
    """A real server for all tests of the run: quicker, where each takes names by `unique` for its users and spaces."""
    from syncd.testing.server import Server

    with Server(**syncd_settings) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that failed is shown with what its server said."""
    report: Any = yield
    if report.failed:
        for name in FIXTURES:
            server = getattr(item, "funcargs", {}).get(name)
            if server is not None and (said := server.output()):
                report.sections.append((f"what {name} said", said[-SHOWN:]))
    return report
