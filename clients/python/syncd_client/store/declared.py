"""What the application declares of a file when it opens it: indexes on fields, and tables that are searched."""

from __future__ import annotations

from . import indexes as fields
from . import search as texts
from .indexes import Indexes
from .search import Search
from .store import Store

__all__ = ["Indexes", "Search", "declare"]


def declare(store: Store, indexes: Indexes | None, search: Search | None) -> None:
    """Makes what is declared, and removes what was declared before and is no more. Raises InvalidQuery, StoreFailed."""
    fields.declare(store, indexes)
    texts.declare(store, search)
