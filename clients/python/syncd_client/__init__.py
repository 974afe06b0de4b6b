"""syncd_client: a local SQLite database that syncs with a syncd server.

`Replica` (or `AsyncReplica`) is the door; everything else is what it takes, returns or raises.
"""

from .async_replica import AsyncReplica
from .batch import Batch
from .errors import (
    BadReply,
    BatchTooLarge,
    InvalidQuery,
    InvalidWrite,
    NoSuchChange,
    NotAllowed,
    NotConnected,
    Offline,
    Refused,
    ServerBusy,
    SyncBusy,
    SyncdError,
    WrongReplica,
)
from .merge import Register
from .outbox import Queued
from .records import Record
from .replica import EVERY_SPACE, Replica
from .reply import Conflict
from .retry import RetryPolicy
from .status import Status
from .sync import Limits, Report

__version__ = "0.1.0"

__all__ = [
    "EVERY_SPACE",
    "AsyncReplica",
    "BadReply",
    "Batch",
    "BatchTooLarge",
    "Conflict",
    "InvalidQuery",
    "InvalidWrite",
    "Limits",
    "NoSuchChange",
    "NotAllowed",
    "NotConnected",
    "Offline",
    "Queued",
    "Record",
    "Refused",
    "Register",
    "Replica",
    "Report",
    "RetryPolicy",
    "ServerBusy",
    "Status",
    "SyncBusy",
    "SyncdError",
    "WrongReplica",
]
