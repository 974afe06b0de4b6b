"""Histories with all that may stand in a record, for what is made of their text."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from tests.support.wire import Device, Json, at, edit, unique

# What looks like the form itself, and what numbers, texts and nesting may be.
SURPRISES: Sequence[Any] = (
    None, True, 0, -1.5, 2**80, 1e300, 10**22, "", "ü \u2028 𝄞", "=", "\x04=\x04", "\x05\x06\x07\x10}", 'a "b" \\ c',
    "x" * 3000,
    '": {"at": "', '", "value": ', ', "clientId": "c1"}',
    {}, [], [[None]], {"clientId": "c1"}, {"x": 1, "clientId": "c1"},
    {"at": at(5), "value": {"at": at(5), "value": [{"clientId": "c0"}], "clientId": "c0"}, "clientId": "c0"},
    {"at": "", "value": 1}, {"": {"=": "=", "\x04": "\x04=ü\x04"}},
    [{"at": at(7), "value": 1}, {"at": "x"}], {"fields": {"at": 1}},
    "=1", ["=", ["=1"]], {"k": {"at": "=1"}}, {"at": "=1"}, {"k": {"at": "=", "value": "="}}, {"=": {"at": "=="}},
    {"a": "=", "value": "="}, {"at": {"at": "="}, "value": {"value": "="}}, {"x": "=", "clientId": "=c"},
    '": {"at": ', ', "value": ', '{"seq":', ',"id":', ',"op":"insert","spaceId":', ',"table":"t0"', {'": {"at": ': "="},
)  # fmt: skip
FIELDS = ("v", "at", "value", "clientId", "fields", "sent", "=", 'a"b', "\\", "ü", "__proto__", "constructor", "seq",
          "=1", '": {"at": ', ', "value": ', '"at": "=')  # fmt: skip
NAMES = ("r1", "=", 'r"2', "ü", "r\\", "=r", '": {"at": ', ', "value": ', '{"seq":', ',"id":"=', '"')
CLIENTS = ("=", '=c"', '": {"at": "=', ', "value": "=', ', "clientId": "c1"}')


class Crowd:
    """Devices of members of a space, more than have a sign, who write to more tables than have one."""

    def __init__(self, device: Callable[..., Device], chance: random.Random) -> None:
        self.chance, self.app = chance, unique("app")
        self.user = unique("ann")
        self.devices = [
            device(self.user, name, app=self.app) for name in ('c"0\\', "c1", "c2", *CLIENTS, "c8", "c9", "c10")
        ]
        self.space = self.devices[0].create(unique("hall"))

    def change(self, n: int) -> Json:
        """A write to some record, of some surprising values at some instants, or its end."""
        chance, table = self.chance, f"t{min(self.chance.randrange(12), self.chance.randrange(12))}"
        name = chance.choice(NAMES) + str(chance.randrange(30))
        where = {"table": table, "spaceId": self.space}
        if chance.random() < 0.08:
            return {"changeId": unique("d"), "op": "delete", "deletedAt": at(n), "id": name, **where}
        change = edit(name, n, **{field: chance.choice(SURPRISES) for field in chance.sample(FIELDS, 3)})
        for register in change["fields"].values():
            register["at"] = at(n - chance.randrange(3))
        return {**change, "op": chance.choice(("insert", "update", "update")), **where}

    def write(self, count: int) -> None:
        """So many changes, the most of them by a few of the devices. Those to what is forgotten are refused."""
        for n in range(10, 10 + count, 5):
            writer = self.devices[min(self.chance.randrange(11), self.chance.randrange(11))]
            writer.push(*(self.change(n + k) for k in range(5)))
