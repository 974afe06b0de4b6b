"""syncd: an offline-first sync server over PostgreSQL."""

__version__ = "0.1.0"
