"""syncd_client: a local SQLite database that syncs with a syncd server.

`Replica` (or `AsyncReplica`) is the door; everything else is what it takes, returns or raises.
"""

from .async_replica import AsyncReplica
from .batch import Batch
from .digest import Verified
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
    StoreFailed,
    SyncBusy,
    SyncdError,
    WrongReplica,
)
from .events import Answered, Changes, Event, LiveState, Presence, RecordKey
from .live_handle import AsyncLive, Live
from .merge import Register
from .outbox import Queued
from .records import Record
from .replica import EVERY_SPACE, Replica
from .reply import Conflict
from .retry import LivePolicy, RetryPolicy
from .status import Status
from .sync import Limits, Report

__version__ = "0.1.0"

__all__ = [
    "EVERY_SPACE",
    "Answered",
    "AsyncLive",
    "AsyncReplica",
    "BadReply",
    "Batch",
    "BatchTooLarge",
    "Changes",
    "Conflict",
    "Event",
    "InvalidQuery",
    "InvalidWrite",
    "Limits",
    "Live",
    "LivePolicy",
    "LiveState",
    "NoSuchChange",
    "NotAllowed",
    "NotConnected",
    "Offline",
    "Presence",
    "Queued",
    "Record",
    "RecordKey",
    "Refused",
    "Register",
    "Replica",
    "Report",
    "RetryPolicy",
    "ServerBusy",
    "Status",
    "StoreFailed",
    "SyncBusy",
    "SyncdError",
    "Verified",
    "WrongReplica",
]
