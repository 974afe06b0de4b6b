"""syncd: an offline-first sync server over PostgreSQL.

`write` and `read` are for an application's own backend (docs/guide/writing-from-your-backend.md), `consume` for what
follows what happens (docs/guide/reacting-to-changes.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from syncd.backend.reading import Record, RecordList, read
    from syncd.backend.writing import WriteRefused, Written, write
    from syncd.consumers.consumer import consume
    from syncd.service.proposed import ProposedChange
    from syncd.service.rules import RuleRefused, rule

__version__ = "0.1.0"
__all__ = [
    "ProposedChange", "Record", "RecordList", "RuleRefused", "WriteRefused", "Written", "consume", "read", "rule",
    "write",
]  # fmt: skip

# Loaded when they are asked for: who starts a server needs none of them, and who writes needs no server.
_PUBLIC = {
    "Record": "syncd.backend.reading", "RecordList": "syncd.backend.reading", "read": "syncd.backend.reading",
    "consume": "syncd.consumers.consumer",
    "ProposedChange": "syncd.service.proposed", "RuleRefused": "syncd.service.rules", "rule": "syncd.service.rules",
    "WriteRefused": "syncd.backend.writing", "Written": "syncd.backend.writing", "write": "syncd.backend.writing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
