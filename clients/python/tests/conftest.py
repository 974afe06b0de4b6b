"""The fixtures of all tests of this client: none of them has a server or starts a process."""

from tests.support.replicas import open_replica, replica, script
from tests.support.scripted_live import live_script

__all__ = ["live_script", "open_replica", "replica", "script"]
