"""Devices of the Python client, in a process of their own: `python -m tests.soak.device_process '<job>'`.

They write, look and sync as they like until told to rest; the events of tests/soak/history.py go to standard output,
orders come by standard input: `{"do": "clock", "micros": n}`, `{"do": "rest"}`, `{"do": "show"}`. The end of the input
is the end. clients/typescript/test/soak/device.ts does the same.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

from syncd_client import InvalidWrite, Limits, LivePolicy, NotAllowed, Replica, RetryPolicy, SyncdError
from syncd_client.data.clock import format_instant

PARTS = 3
SHARED = 5
# Changes of a page of those that ask: less than two pushes.
SMALL = 7
QUICK = RetryPolicy(attempts=3, first=0.1, longest=1.0)
Job = dict[str, Any]


class Device:
    """One device: a file, a thread, and what it has told."""

    def __init__(self, job: Job, given: Job) -> None:
        self.name, self.user, self.live = given["name"], given["user"], given["live"]
        self.spaces: list[str] = job["spaces"]
        self.chance = random.Random(f"{job['seed']} {self.name} {time.time()}")
        self.offset = 0
        self.resting = threading.Event()
        path = Path(job["folder"]) / f"{self.name}.db"
        known = path.exists()
        self.replica = Replica(
            path, app=job["app"], url=given["url"], token=given["token"], durability="normal", retry=QUICK,
            limits=Limits() if self.live else Limits(pull_limit=SMALL),
            wall=lambda: time.time_ns() // 1000 + self.offset,
        )  # fmt: skip
        self.tell("started", again=known)
        self.sent = {q.change_id for q in self.replica.pending()}
        self.told: dict[str, Any] = {}
        self.refused: set[str] = set()
        self.numbers = {space: self.heads(space)[0].get(self.name, 0) for space in self.spaces}
        self.settled = False
        self.sync = self.replica.live(policy=LivePolicy()) if self.live else None

    def tell(self, ev: str, **more: Any) -> None:
        line = json.dumps({"t": time.time(), "who": self.name, "ev": ev, **more})
        os.write(1, line.encode() + b"\n")

    def run(self) -> None:
        """Until it is told to rest; then until nothing is left to be sent."""
        while not self.resting.is_set():
            self.turn()
            time.sleep(self.chance.uniform(0.05, 0.25))
        while self.replica.pending():
            self.exchange()
            self.account()
            time.sleep(0.1)
        self.account()
        self.tell("idle")

    def turn(self) -> None:
        """Something that an application does."""
        space = self.spaces[0] if self.chance.random() < 0.7 else self.chance.choice(self.spaces)
        for each in self.spaces:
            self.look(each)
        if self.chance.random() < 0.6:
            self.write(space)
        if not self.live and self.chance.random() < 0.4:
            self.exchange()
        self.account()

    def exchange(self) -> None:
        """A sync, which may fail."""
        if self.live:
            return
        try:
            self.replica.sync(timeout=5)
            self.settled = True
        except SyncdError as why:
            self.tell("failed", code=why.code, detail=str(why))

    def heads(self, space: str) -> tuple[dict[str, int], list[str], list[str]]:
        """What is seen of a space at one instant: how far each device has come, halves of pushes, canaries."""
        parts: dict[str, list[int]] = {}
        canaries = []
        for record in self.replica.query("items", space=space):
            device, _, _ = record.id.rpartition("-")
            if device == "canary":
                canaries.append(record.id)
            elif device != "shared":
                parts.setdefault(device, []).append(int(str(record["value"]).rpartition(":")[2]))
        torn = [device for device, found in parts.items() if len(found) != PARTS or len({*found}) > 1]
        return {device: min(found) for device, found in parts.items()}, torn, sorted(canaries)

    def look(self, space: str) -> dict[str, int]:
        heads, torn, canaries = self.heads(space)
        if (heads, canaries) != self.told.get(space):
            self.told[space] = (heads, canaries)
            self.tell("seen", space=space, user=self.user, heads=heads, torn=torn, canaries=canaries,
                      settled=self.settled or self.live)  # fmt: skip
        return heads

    def write(self, space: str) -> None:
        """A batch: the same to three records of its own, and mostly something to one that all write to."""
        self.numbers[space] += 1
        n, saw = self.numbers[space], self.look(space)
        value = f"{self.name}:{n}"
        # What is told first is an attempt; what is told again, with its ids, was written.
        self.tell("wrote", space=space, n=n, saw=saw, ids=[])
        try:
            with self.replica.batch() as batch:
                for part in range(PARTS):
                    batch.put("items", f"{self.name}-{part}", {"value": value}, space=space)
                self.shared(batch, space, value)
        except NotAllowed as why:  # a reader for a while, which the device knows
            self.tell("refused", space=space, id="", code=why.code)
            return
        except InvalidWrite as why:
            self.tell("failed", code="invalid_write", detail=str(why))
            return
        self.sent |= {*batch.change_ids}
        self.tell("wrote", space=space, n=n, saw=saw, ids=batch.change_ids)

    def shared(self, batch: Any, space: str, value: str) -> None:
        record, what = f"shared-{self.chance.randrange(SHARED)}", self.chance.random()
        fields = {self.chance.choice(("x", "y")): value}
        if what < 0.4:
            batch.put("items", record, fields, space=space)
        elif what < 0.6:
            batch.patch("items", record, fields, space=space, upsert=True)
        elif what < 0.75:
            batch.delete("items", record, space=space, upsert=True)

    def account(self) -> None:
        """Tells what has left the outbox: the server has it. What was refused is given up, as a user would."""
        pending = {q.change_id for q in self.replica.pending()}
        stopped = [*self.replica.rejected(), *self.replica.kept_aside()]
        for queued in stopped:
            if queued.change_id not in self.refused:
                self.refused.add(queued.change_id)
                self.tell("refused", space=queued.space, id=queued.change_id, code=queued.code or queued.state)
        left = self.sent - pending - self.refused
        if left:
            self.tell("acked", ids=sorted(left))
        self.sent &= pending
        for queued in stopped:
            try:
                self.replica.drop(queued.change_id)
            except SyncdError:
                continue  # with another of its batch

    def show(self) -> None:
        """All that it holds, after a sync where it is not live."""
        self.exchange()
        self.account()
        spaces: dict[str, Any] = {}
        for (space, table, record), registers in self.replica.all_registers().items():
            held = {name: [r.value, format_instant(r.at), r.client] for name, r in registers.items()}
            spaces.setdefault(space or "personal", {})[f"{table}/{record}"] = held
        state = self.sync.state.name if self.sync is not None else ""
        self.tell("shown", spaces=spaces, state=state, pending=len(self.replica.pending()))


def ended(why: threading.ExceptHookArgs) -> None:
    """A device that fails ends its process, so that nobody waits for it."""
    sys.__excepthook__(why.exc_type, why.exc_value or why.exc_type(), why.exc_traceback)
    sys.stderr.flush()
    os._exit(1)


def main(job: Job) -> None:
    threading.excepthook = ended
    devices = [Device(job, given) for given in job["devices"]]
    threads = [threading.Thread(target=device.run, daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        order = json.loads(line)
        for device in devices:
            if order["do"] == "clock":
                device.offset = order["micros"]
            elif order["do"] == "rest":
                device.resting.set()
            elif order["do"] == "show":
                device.show()
    for device in devices:
        device.replica.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
