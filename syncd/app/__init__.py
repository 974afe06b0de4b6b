"""The composition root: the only room that names concrete classes and puts them together."""

from syncd.app.assembly import Assembly, build
from syncd.app.backend import Host

__all__ = ["Assembly", "Host", "build"]
