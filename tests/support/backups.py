"""A user's exports: asked for, taken apart, signed anew, and read back in."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

from tests.support.wire import Device, Json, ahead, at, edit, unique

Make = Callable[..., Device]
NDJSON, ZIP = "application/x-ndjson", "application/zip"


def export(device: Device, media: str = NDJSON) -> bytes:
    """A whole export."""
    answer = device.request("GET", "/backup/export", headers={"accept": media})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == media
    return answer.content


def restore(device: Device, data: bytes, media: str = NDJSON) -> Any:
    """An import that must be taken."""
    answer = device.request("POST", "/backup/import", content=data, headers={"content-type": media})
    assert answer.status_code == 200, answer.text
    return answer.json()


def parts(data: bytes) -> tuple[list[Json], Json]:
    """The changes and the manifest of an export."""
    *lines, last = [json.loads(line) for line in data.splitlines()]
    return lines, last["manifest"]


def undated(data: bytes) -> bytes:
    """An export without the date in its manifest."""
    head, _, manifest = data.rpartition(b'{"manifest":')
    return head + json.dumps({**json.loads(b'{"manifest":' + manifest)["manifest"], "createdAt": ""}).encode()


def signed(lines: list[Json], **manifest: Any) -> bytes:
    """An export of these lines with a manifest that fits them."""
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    fitting = {"formatVersion": 1, "createdAt": at(0), "eventCount": len(lines)}
    fitting |= {"eventsSha256": hashlib.sha256(body).hexdigest(), **manifest}
    return body + json.dumps({"manifest": fitting}).encode() + b"\n"


def line(user: str, seq: int = 1, **members: Any) -> Json:
    """A change as an export has it."""
    when = at(seq % 1_000_000)
    change: Json = {"appId": "app", "userId": user, "createdAt": when, "seq": seq, "table": "t", "id": f"r{seq}"}
    change |= {
        "eventId": f"01990000-0000-7000-8000-{seq % 1_000_000:012x}",
        "op": "update",
        "spaceId": f"_personal:{user}",
    }
    return {**change, "clientId": "c1", "fields": {"x": {"value": seq, "at": when}}, **members}


def live_through(make: Make, user: str, seed: int = 1) -> list[Device]:
    """A user's devices after some time: edits that won and lost, deletions, revivals, batches, legacy inserts."""
    rnd = random.Random(seed)
    phone, laptop = make(user, "phone"), make(user, "laptop", app="other")
    old = make(user, "old", legacy=True)
    space = phone.create(unique("garden"))
    for n in range(60):
        device, place = rnd.choice([phone, laptop]), rnd.choice([{}, {"spaceId": space}])
        record, when = f"r{rnd.randrange(6)}", rnd.randrange(10_000)
        if n % 9 == 8:
            device.push(
                {"table": "t", "id": record, "op": "delete", "deletedAt": at(when), "changeId": f"d{n}", **place}
            )
            continue
        value = rnd.choice([n, 1.50, "ä\n\u2028", None, {"deep": [1, {"k": "v"}]}, 12345678901234567890])
        changes = [{**edit(record, when, x=value), **place} for _ in range(rnd.randint(1, 3))]
        changes.append({**edit("s", when, change_id=None, y=n), **place, "actor": {"a": 1}, "origin": "agent"})
        device.push(*changes, schemaVersion=rnd.choice([None, 2]))
    for n, name in enumerate(("tablet", "watch", "tablet", "watch")):  # over what was not seen, not always newer
        changes = [edit(f"r{r}", 30_000 - 5_000 * n, z=n) for r in range(2 - n % 2)]
        for change in changes:
            change["fields"]["x"] = {"value": name, "at": at(30_000 + n)}
        make(user, name).push(*changes, bases=True)
    old.push({"table": "t", "id": "untimed", "op": "insert", "data": {"a": 1}})
    old.push({"table": "t", "id": "timed", "op": "insert", "data": {"a": 1, "createdAt": at(1)}})
    old.push({"table": "t", "id": "late", "op": "update", "fields": {"a": {"value": 1, "at": ahead(9000)}}})
    fields = b'{"w":{"at":"%s","value":{ "a" :\r\n [1]}}}' % at(20_000).encode()
    spaced = b'{"changes":[{"table":"t","id":"s","op":"update","changeId":"w","fields":%s}]}' % fields
    sent = phone.request("POST", "/sync/app", content=spaced, headers={"content-type": "application/json"})
    assert sent.status_code == 200
    return [phone, laptop, old]


def everything(device: Device) -> Any:
    """All that a new device is sent: the state, the log, the spaces and their members."""
    spaces = device.request("GET", "/spaces").json()["spaces"]
    members = [device.request("GET", f"/spaces/{space['id']}/members").json() for space in spaces]
    named = [space for space in spaces if not space["id"].startswith("_personal:")]
    shared = [m for space, m in zip(spaces, members, strict=True) if space in named]
    state, log = (
        sorted(found, key=lambda c: (c["spaceId"], c["seq"]))
        for found in (device.drain()[0], device.drain(history=1)[0])
    )
    return state, log, named, shared


def pushes(device: Device) -> list[list[Any]]:
    """What came in one page each, the smallest that there are."""
    pages = device.pages(history=1, limit=1)
    return sorted([(c["spaceId"], c["seq"]) for c in page["serverChanges"]] for page in pages)
