"""What a replica asks of the server, and what each kind of answer does to it."""

from __future__ import annotations

from syncd_client import Replica

from tests.client.scripted import Script

LATER = "2099-01-01T00:00:00.000000Z"


def test_a_write_is_seen_at_once_and_pushed_with_its_cursor(replica: Replica, script: Script) -> None:
    change_id = replica.put("t", "r", {"title": "one"})
    assert replica.get("t", "r") == {"title": "one"}
    report = replica.sync()
    (push,) = script.pushes
    assert push["since"] == ""
    assert push["changes"][0]["changeId"] == change_id
    assert script.asked[0].headers["x-sync-protocol"] == "1"
    assert script.asked[0].headers["x-client-id"] == push["clientId"] == replica.client_id
    assert script.asked[0].headers["authorization"] == "Bearer t"
    assert (report.pushed, replica.pending(), replica.cursor) == (1, [], "c1")
    assert replica.why("t", "r").state == "synced"
