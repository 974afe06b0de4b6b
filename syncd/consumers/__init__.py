"""Programs on the server's side that read what happens in feeds: `consume`."""

from syncd.consumers.batch import ConsumedChange, ConsumedRegister, ConsumerBatch, ResetFeed
from syncd.consumers.consumer import consume
from syncd.store.consumers import BatchLost, UnknownConsumer

__all__ = [
    "BatchLost",
    "ConsumedChange",
    "ConsumedRegister",
    "ConsumerBatch",
    "ResetFeed",
    "UnknownConsumer",
    "consume",
]
