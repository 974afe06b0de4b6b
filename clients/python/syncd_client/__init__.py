"""syncd_client: a local SQLite database that syncs with a syncd server.

`Replica` (or `AsyncReplica`) is the door; everything else is what it takes, returns or raises.
"""

from .async_replica import AsyncReplica
from .batch import Batch
from .condition import and_, not_, or_
from .data.conflict import Conflict
from .data.events import (
    Answered,
    Changes,
    Event,
    JoinedSpace,
    LiveState,
    Presence,
    RecordKey,
    SpacesChanged,
    Verified,
)
from .data.merge import Register
from .data.record import Record
from .errors import (
    BadReply,
    BatchTooLarge,
    InvalidQuery,
    InvalidWrite,
    NoSuchChange,
    NoSuchRecord,
    NotAllowed,
    NotConnected,
    NotReplicated,
    Offline,
    Refused,
    ServerBusy,
    StoreFailed,
    SyncBusy,
    SyncdError,
    WrongReplica,
)
from .live.live import AsyncLive, Live
from .measures import aggregate, group_by
from .query import QueryPlan
from .reading import EVERY_SPACE
from .related import include
from .replica import Replica
from .status import Status
from .store.outbox import Queued
from .sync.http import AsyncHttpSender, HttpRequest, HttpResponse, HttpSender, SendFailed
from .sync.report import Limits, Report
from .sync.retry import LivePolicy, RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "EVERY_SPACE",
    "Answered",
    "AsyncHttpSender",
    "AsyncLive",
    "AsyncReplica",
    "BadReply",
    "Batch",
    "BatchTooLarge",
    "Changes",
    "Conflict",
    "Event",
    "HttpRequest",
    "HttpResponse",
    "HttpSender",
    "InvalidQuery",
    "InvalidWrite",
    "JoinedSpace",
    "Limits",
    "Live",
    "LivePolicy",
    "LiveState",
    "NoSuchChange",
    "NoSuchRecord",
    "NotAllowed",
    "NotConnected",
    "NotReplicated",
    "Offline",
    "Presence",
    "QueryPlan",
    "Queued",
    "Record",
    "RecordKey",
    "Refused",
    "Register",
    "Replica",
    "Report",
    "RetryPolicy",
    "SendFailed",
    "ServerBusy",
    "SpacesChanged",
    "Status",
    "StoreFailed",
    "SyncBusy",
    "SyncdError",
    "Verified",
    "WrongReplica",
    "aggregate",
    "and_",
    "group_by",
    "include",
    "not_",
    "or_",
]
