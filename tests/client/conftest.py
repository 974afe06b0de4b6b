"""Replicas whose server is scripted, for tests beside them that have a real one."""

from tests.support.replicas import open_replica, replica, script
from tests.support.scripted_live import live_script

__all__ = ["live_script", "open_replica", "replica", "script"]
