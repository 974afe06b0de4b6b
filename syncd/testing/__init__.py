"""A real server for the tests of an application: `with syncd.testing.Server() as server: …`, or the fixture
`syncd_server` of pytest.

    def test_two_devices(syncd_server):
        phone = syncd_server.replica("ada", app="notes")
        laptop = syncd_server.replica("ada", app="notes")

docs/guide/testing-your-app.md goes through it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.testing.clock import Clock
    from syncd.testing.network import Network
    from syncd.testing.proxy import Faults
    from syncd.testing.server import Server, User
    from syncd.testing.template import ServeError

__all__ = ["Clock", "Faults", "Network", "ServeError", "Server", "User"]

# Loaded when they are asked for: pytest loads the plugin in every run, also where nothing of it is used.
_PUBLIC = {
    "Clock": "clock", "Faults": "proxy", "Network": "network", "ServeError": "template", "Server": "server",
    "User": "server",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
