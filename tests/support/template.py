"""A database that was made once, for the servers of a session: the template of syncd.testing, without a role more."""

from __future__ import annotations

from syncd.testing.template import DatabaseTemplate as Template

__all__ = ["Template"]
