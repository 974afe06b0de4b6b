"""A first-generation device on a socket: it says who it is, may subscribe a collection, and pushes what is pending."""

from __future__ import annotations

import json

from websockets.sync.client import ClientConnection, connect

from tests.support.harness import Server
from tests.support.legacy_devices import FIRST, Json, LegacyDevice

WITHIN = 60.0


def push_over_socket(device: LegacyDevice, server: Server, table: str, *, subscribes: bool) -> None:
    """One push of all that is pending, and what comes until it was answered."""
    if not device.pending:
        return
    address = server.url.replace("http", "ws", 1) + "/ws"
    with connect(address, proxy=None, compression=None, max_size=None, open_timeout=WITHIN) as socket:
        wire = device.wire
        said(socket, {"type": "auth", "token": server.token(wire.user), "clientId": wire.client})
        until(socket, device, table, "auth-ok")
        if subscribes:
            since = device.cursors.get(table, FIRST)
            said(socket, {"type": "subscribe", "appId": wire.app, "since": since, "collections": [table]})
            while until(socket, device, table, "changes")["hasMore"]:
                pass
        said(socket, {"type": "push", "appId": wire.app, "requestId": "r", "changes": device.pending})
        result = until(socket, device, table, "push-result")
        assert all((one["status"] == "rejected") == one.get("held", False) for one in result["results"]), result
        device.pending.clear()
        for change in result.get("serverChanges", ()):
            device._apply(change)


def said(socket: ClientConnection, frame: Json) -> None:
    socket.send(json.dumps(frame))


def until(socket: ClientConnection, device: LegacyDevice, table: str, kind: str) -> Json:
    """The next frame of a type; what the device is sent before it, and with it, it takes."""
    while True:
        frame: Json = json.loads(socket.recv(timeout=WITHIN))
        assert frame["type"] != "error", frame
        if frame["type"] == "changes":
            for change in frame["changes"]:
                device._apply(change)
            device.cursors[table] = max(device.cursors.get(table, ""), frame["syncedUntil"])
        if frame["type"] == kind:
            return frame
