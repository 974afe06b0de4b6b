"""Names that may be surprising, through a real server and back: tests/vectors/names.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from syncd_client import Refused, Replica
from syncd_client.history import changes, record_at
from syncd_client.spaces import create_space, spaces

from tests.support.harness import Server
from tests.support.vectors import names
from tests.support.wire import unique

VALID = [name for name, case in names() if case["valid"]]
INVALID = [(name, case) for name, case in names() if not case["valid"]]


def open_replica(server: Server, path: Path, user: str) -> Replica:
    return Replica(path, app="app", url=server.url, token=server.token(user), durability="normal")


def test_what_has_such_names_goes_through_the_server(server: Server, tmp_path: Path) -> None:
    user = unique("names")
    with open_replica(server, tmp_path / "one.db", user) as one, open_replica(server, tmp_path / "two.db", user) as two:
        with one.batch() as batch:
            for name in VALID:
                batch.put(name, name, {name: {name: name}})
        one.sync()
        assert one.rejected() == []
        two.sync()
        assert two.all_registers().keys() == one.all_registers().keys()
        for name in VALID:
            assert two.get(name, name) == {name: {name: name}}
            version = record_at(two, name, name)
            assert version is not None
            assert version.fields[name] == {name: name}
            assert [name in change.fields for change in changes(two, name, name)] == [True]
            two.delete(name, name)
        assert one.verify().differences == 0
        two.sync()
        one.sync()
        assert [name for name in VALID if one.get(name, name) is not None] == []


def test_spaces_may_be_called_so_where_they_can_be_seen(server: Server, tmp_path: Path) -> None:
    suffix = unique("")
    user, made = unique("names"), []
    with open_replica(server, tmp_path / "one.db", user) as one, open_replica(server, tmp_path / "two.db", user) as two:
        for name, case in names():
            space = name if len(name) > 200 else f"{name}{suffix}" if case.get("newSpace", True) else name
            if not case["valid"] and len(name) > 1:
                continue  # told apart below
            if case["valid"] and case.get("newSpace", True):
                assert create_space(one, "space", space).id == space
                made.append(space)
            elif case["valid"]:
                with pytest.raises(Refused):
                    create_space(one, "space", space)
        one.sync()
        for space in made:
            one.put("t", "r", {"n": space}, space=space)
        one.sync()
        assert one.rejected() == []
        two.sync()
        assert {space: two.get("t", "r", space=space) for space in made} == {space: {"n": space} for space in made}
        assert sorted(space.id for space in spaces(two)) == sorted(made)


def test_what_is_no_name_is_refused_with_its_place(server: Server) -> None:
    headers = {"Authorization": f"Bearer {server.token(unique('names'))}", "X-Client-Id": "raw", "X-Sync-Protocol": "1"}
    with httpx.Client(base_url=server.url, headers=headers) as http:
        for name, case in INVALID:
            for place in ("table", "id", "spaceId", "field"):
                # with escapes, so that half a pair goes on its way
                body = json.dumps({"changes": [change_with(name, place)]})
                answer = http.post("/sync/app", content=body, headers={"Content-Type": "application/json"})
                assert (answer.status_code, case["name"], place) == (400, case["name"], place), answer.text
        assert http.get("/sync/app/pull").json()["serverChanges"] == []


def change_with(name: str, place: str) -> Any:
    field = {"value": 1, "at": "2026-01-01T10:00:00.000000Z"}
    change = {"changeId": "c", "table": "t", "id": "r", "op": "insert", "fields": {"n": field}}
    return {**change, **({"fields": {name: field}} if place == "field" else {place: name})}
