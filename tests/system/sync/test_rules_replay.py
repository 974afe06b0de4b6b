"""`syncd rules test`: the log is replayed through schemas and rules, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import httpx

from tests.support.command_line import syncd
from tests.support.harness import Server
from tests.support.wire import Device, edit, unique

VISITS = {"properties": {"reason": {"type": "string", "maxLength": 10}}, "required": ["room"]}


def test_what_would_have_been_refused_is_listed_and_nothing_is_written(
    server: Server, http: httpx.Client, folder: Path
) -> None:
    app, ann = unique("clinic"), unique("ann")
    device = Device(http, server, ann, app=app)
    visits = {"table": "visits"}
    device.write(edit("v1", reason="x" * 20) | visits, edit("v2", reason="Cough", room=1) | visits)
    device.write(edit("v2", when=2, reason="") | visits, edit("v2", when=3, reason="x" * 20) | visits)
    gone = {"table": "visits", "id": "v2", "op": "delete", "deletedAt": "2026-02-01T00:00:00Z"}
    device.write({**gone, "changeId": unique("c")}, edit("n", other=1))
    closed = {"table": "plans", "id": "p", "spaceId": device.create(unique("ward"))}
    device.write(edit("p", when=4, state="approved") | closed)
    before = device.drain(history=1)[0]
    rules = folder / "own_rules.py"
    rules.write_text(
        f"from syncd import RuleRefused, rule\n@rule('{app}/visits')\nasync def check(change, record, principal):\n"
        "    if change.fields.get('reason') == '':\n        raise RuleRefused('reason', 'A visit needs a reason.')\n"
        f"@rule('{app}/plans')\ndef plans(change, record, principal):\n"
        "    raise RuleRefused('state', f'{principal.role} {change.written_at.isoformat()}')\n"
    )
    schemas = folder / "schemas.json"
    schemas.write_text(json.dumps({"app": app, "tables": {"visits": VISITS}}))
    command = ("rules", "test", "--since", "1h", "--app", app, "--database-url", server.owner_dsn)
    both = syncd(*command, "--rules", "own_rules", "--schema", schemas, env={"PYTHONPATH": str(folder)})
    assert both.returncode == 0, both.stderr
    assert sorted(line.split("  ")[1:] for line in both.stdout.splitlines()) == [
        [f"{app}/plans/p", ann, "owner 2026-01-01T00:00:00.000004+00:00"],
        [f"{app}/visits/v1", ann, "reason: must be at most 10 characters; room: is needed"],
        [f"{app}/visits/v2", ann, "A visit needs a reason."],
        [f"{app}/visits/v2", ann, "reason: must be at most 10 characters"],
    ]
    assert "4 of 7 changes would be refused" in both.stderr
    neither = syncd(*command)
    assert (neither.stdout, "0 of 7 changes" in neither.stderr) == ("", True), neither.stderr
    assert device.drain(history=1)[0] == before
