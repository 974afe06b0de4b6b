"""Names that may be surprising: tests/vectors/names.json, as the server, TypeScript and RxDB have them."""

from __future__ import annotations

from typing import Any

import pytest
from syncd_client import InvalidQuery, InvalidWrite, Replica, aggregate, group_by

from tests.support.vectors import names

each = pytest.mark.parametrize(("name", "case"), names(), ids=[case["name"] for _, case in names()])


@each
def test_a_name_is_a_table_a_record_a_field_and_a_space(replica: Replica, name: str, case: Any) -> None:
    if not case["valid"]:
        for table, record, fields, space in (
            (name, "r", {"n": 1}, None),
            ("t", name, {"n": 1}, None),
            ("t", "r", {name: 1}, None),
            *([("t", "r", {"n": 1}, name)] if name else []),
        ):
            with pytest.raises(InvalidWrite):
                replica.put(table, record, fields, space=space)
        for asked in ((name, "r"), ("t", name)):
            with pytest.raises(InvalidQuery):
                replica.get(*asked)
        for where, order in ({name: 1}, ()), ({}, [name]):
            with pytest.raises(InvalidQuery):
                replica.query("t", where, order=order)
        return
    replica.put("t", "other", {"n": 1})
    assert replica.get("t", "other") == {"n": 1}
    assert replica.get(name, name, space=name) is None
    replica.put(name, name, {name: {name: 1}}, space=name)
    replica.patch(name, name, {f"{name[:250]}.b"[:255]: 2}, space=name)
    found = replica.get(name, name, space=name)
    assert found is not None
    assert found[name] == {name: 1}
    assert (found.table, found.id, found.space) == (name, name, name)
    assert name in replica.registers(name, name, space=name)
    assert replica.query(name, {name: {"=": {name: 1}}}, order=f"-{name}", space=name) == [found]
    ascending = [] if name.startswith("-") else [name]  # it would be the descending order of another
    assert replica.query(name, {"other": None}, order=ascending, space=name) == [found]
    assert aggregate([found], {name: {"count": name}}) == {name: 1}
    assert group_by([found], name, {"all": "count"}) == [{"all": 1, "by": {name: 1}}]
    (change, *_) = replica.pending()[1:]
    assert (change.table, change.id, change.space, list(change.change["fields"])) == (
        name, name, name, [name, "deletedAt"],
    )  # fmt: skip
    replica.delete(name, name, space=name)
    assert replica.query(name, space=name) == []


def test_names_that_look_alike_are_different(replica: Replica) -> None:
    valid = [name for name, case in names() if case["valid"]]
    assert len(set(valid)) == len(valid)
    with replica.batch() as batch:
        for name in valid:
            batch.put("t", name, {"n": name})
    assert {record.id: record["n"] for record in replica.query("t")} == {name: name for name in valid}
    assert [record.id for record in replica.query("t")] == sorted(valid)
