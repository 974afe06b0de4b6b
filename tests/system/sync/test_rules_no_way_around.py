"""No change passes the rules by as an import or a restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.backups import line, restore, signed
from tests.support.harness import Server
from tests.support.wire import Device, Json, at, edit, unique, values

Make = Callable[..., Device]


@pytest.fixture(scope="module")
def served(workspace: Path) -> Iterator[Server]:
    with Server(workspace / "ruled-ways", settings={"rules": "tests.support.clinic_rules"}) as server:
        yield server


@pytest.fixture
def ruled(served: Server) -> Iterator[Make]:
    with httpx.Client(base_url=served.url, timeout=30) as http:

        def make(user: str = "", client: str = "c1", **more: Any) -> Device:
            return Device(http, served, user or unique("ann"), client, app=more.pop("app", "clinic"), **more)

        yield make


def visit(record: str, when: int = 1, **fields: Any) -> Json:
    return edit(record, when, **fields) | {"table": "visits"}


def test_of_a_user_s_import_nothing_is_written_to_tables_with_rules(ruled: Make) -> None:
    ann = ruled()
    fields = {"by": {"value": "somebody", "at": at(1)}}
    lines = [line(ann.user, n, appId="clinic", table=table, fields=fields) for n, table in ((1, "visits"), (2, "t"))]
    report = restore(ann, signed(lines))
    assert (report["imported"], report["refused"], report["refusals"][0]["code"]) == (1, 1, "rule_refused")
    assert "imports and restores" in report["refusals"][0]["detail"]
    assert set(values(ann.drain()[0])) == {"r2"}


def test_for_all_tables_of_an_app(ruled: Make) -> None:
    ann = ruled(app="ward")
    fields = {"x": {"value": 1, "at": at(1)}}
    report = restore(ann, signed([line(ann.user, 1, appId="ward", table="any", fields=fields)]))
    assert (report["imported"], report["refused"]) == (0, 1)


def back(device: Device, where: str, **goal: Any) -> httpx.Response:
    body = {"clientId": device.client, **goal}
    return device.request("POST", f"/sync/{device.app}/{where}/restore", json=body)


def test_a_restore_writes_nothing_to_tables_with_rules(ruled: Make) -> None:
    ann = ruled()
    seq = ann.push(visit("v1", reason="x"), edit("n1", title="a"))["results"][1]["seq"]
    ann.write(visit("v1", 2, closed=True))
    before = values(ann.drain()[0])
    space = f"_personal:{ann.user}"
    for where in ("records/visits/v1", f"spaces/{space}"):
        answer = back(ann, where, seq=seq)
        assert (answer.status_code, answer.json()["code"]) == (422, "rule_refused"), answer.text
    assert values(ann.drain()[0]) == before


def test_a_restore_that_concerns_no_table_with_rules_is_done(ruled: Make) -> None:
    ann = ruled()
    seq = ann.push(visit("v1", reason="x"), edit("n1", title="a"))["results"][1]["seq"]
    ann.write(edit("n1", 2, title="b"))
    answer = back(ann, f"spaces/_personal:{ann.user}", seq=seq)
    assert answer.status_code == 200, answer.text
    assert values(ann.drain()[0])["n1"]["title"] == "a"
    ward = ruled(ann.user, app="ward")
    seq = ward.push(edit("w1", title="a"))["results"][0]["seq"]
    ward.write(edit("w1", 2, title="b"))
    assert back(ward, "records/t/w1", seq=seq).json()["code"] == "rule_refused"
