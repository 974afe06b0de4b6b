"""A value is what it was when it was written, comes back as the type that it was, and no answer can be changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from syncd_client import EVERY_SPACE, AsyncReplica, InvalidQuery, InvalidWrite, Replica, history
from syncd_client.data.values import dump, parse

from syncd.core.values import check_value
from tests.support.scripted import Script, page, problem, wire
from tests.support.vectors import check_number, vectors

NUMBERS = vectors("numbers")
EARLY = "2001-01-01T00:00:00.000000Z"
Open = Callable[..., Replica]
by_name = pytest.mark.parametrize("vector", NUMBERS, ids=[vector["name"] for vector in NUMBERS])


@by_name
def test_a_number_is_read_as_what_it_was(vector: Any) -> None:
    check_number(parse(vector["back"]), vector)
    check_number(parse(dump(parse(vector["back"]))), vector)


@by_name
def test_the_server_takes_the_numbers(vector: Any) -> None:
    check_value(vector["sent"].encode(), 64)
    check_value(vector["back"].encode(), 64)


@by_name
def test_a_number_stays_what_it_was_in_the_file_and_for_other_devices(
    open_replica: Open, script: Script, vector: Any
) -> None:
    text = json.dumps(page(wire("a", n=("@", EARLY)))).replace('"@"', vector["back"])
    one, two = open_replica("one"), open_replica("two")
    script.answers = [httpx2.Response(200, text=text)]
    one.pull()
    check_number(one.get("t", "a", space=None)["n"], vector)  # type: ignore[index]
    one.put("t", "b", {"n": one.get("t", "a")["n"], "deep": [{"n": one.get("t", "a")["n"]}]})  # type: ignore[index]
    one.push()
    (pushed,) = [json.loads(p.content, parse_int=str, parse_float=str) for p in script.asked if p.method == "POST"]
    spelled = pushed["changes"][0]["fields"]["n"]["value"]
    script.answers = [httpx2.Response(200, text=text.replace(vector["back"], spelled))]
    two.pull()
    check_number(two.get("t", "a")["n"], vector)  # type: ignore[index]
    assert [record.id for record in one.query("t", {"n": two.get("t", "a")["n"]})] == ["a", "b"]  # type: ignore[index]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_comes_back_as_it_was(number: float) -> None:
    for back in (parse(dump(number)), parse(dump({"e+23": [number, "1e+23"]}))["e+23"][0]):
        assert (type(back), back) == (float, number)


@given(st.floats(1e21, allow_nan=False, allow_infinity=False))
def test_every_large_double_is_known_by_the_digits_of_a_server(number: float) -> None:
    back = parse(dump(number).removesuffix(".0"))
    assert (type(back), back) == (float, number)


@given(st.integers(-(2**63), 2**63 - 1))
@example(10**16)
@example(-(10**18))
@example(2**62)
def test_integers_of_64_bits_keep_every_digit(number: int) -> None:
    back = parse(dump(number))
    assert (type(back), back) == (int, number)


@pytest.mark.parametrize(("value", "text"), [
    (1e15, "1000000000000000.0"), (1e16, "10000000000000000.0"), (-2.5e18, "-2500000000000000000.0"),
    (1e-7, "1e-07"), ({'"1e+16': [1e16, "1e+16"]}, '{"\\"1e+16":[10000000000000000.0,"1e+16"]}'),
])  # fmt: skip
def test_a_double_is_written_with_a_point_so_that_it_is_one_to_everybody(value: Any, text: str) -> None:
    """A server gives 1e+16 back as 10000000000000000, which is an integer of 64 bits."""
    assert dump(value) == text
    back = parse(text)
    assert (type(back), back) == (type(value), value)


@pytest.mark.parametrize("text", ['"1e+23"', '{"a\\"1e+23":"\\\\"}', '["1e+23",1]', '"\\u00e9 1e+99"'])
def test_text_that_looks_like_a_number_is_left_alone(text: str) -> None:
    assert parse(dump(json.loads(text))) == json.loads(text)


def test_one_list_in_several_puts_of_a_batch_is_in_each_what_it_was(replica: Replica, script: Script) -> None:
    tags: list[Any] = ["a"]
    deep: dict[str, Any] = {"in": {"it": tags}}
    with replica.batch() as batch:
        batch.put("t", "1", {"tags": tags, "deep": deep})
        tags.append("b")
        batch.patch("t", "2", {"tags": tags, "deep": deep}, upsert=True)
        deep["in"] = None
        tags.append(object())
    replica.sync()
    values = [{n: r["value"] for n, r in c["fields"].items() if n != "deletedAt"} for c in script.pushes[0]["changes"]]
    assert values == [
        {"tags": ["a"], "deep": {"in": {"it": ["a"]}}},
        {"tags": ["a", "b"], "deep": {"in": {"it": ["a", "b"]}}},
    ]


def test_the_actor_is_who_it_was_when_the_replica_was_opened(open_replica: Open, script: Script) -> None:
    actor: dict[str, Any] = {"name": "Ann", "roles": ["a"]}
    replica = open_replica(actor=actor)
    actor["roles"].append("b")
    replica.put("t", "r", {"n": 1})
    replica.sync()
    assert script.pushes[0]["changes"][0]["actor"] == {"name": "Ann", "roles": ["a"]}
    with pytest.raises(InvalidWrite, match="actor"):
        open_replica("other", actor={"at": object()})


def test_an_async_write_is_what_it_was_when_it_was_asked_for(tmp_path: Path) -> None:
    async def main() -> None:
        async with AsyncReplica(tmp_path / "a.db", app="app") as replica:
            tags: list[Any] = ["a"]
            writing = [asyncio.create_task(replica.put("t", f"{n}", {"tags": tags})) for n in range(20)]
            await asyncio.sleep(0)
            tags.append("b")
            await asyncio.gather(*writing)
            assert {len(record["tags"]) for record in await replica.query("t")} == {1}

    asyncio.run(main())


def test_no_answer_can_be_changed_by_who_got_it(replica: Replica, script: Script) -> None:
    conflict = {"table": "t", "id": "r", "field": "n", "clientValue": ["a"], "serverValue": ["b"]}
    replica.put("t", "r", {"tags": ["a"], "deep": {"in": ["a"]}})

    def spoil() -> None:
        record = replica.get("t", "r")
        assert record is not None
        with pytest.raises(TypeError):
            record["tags"] = []  # type: ignore[index]
        for row in (record, *replica.query("t"), *replica.query("t", {"deep": {"in": ["a"]}})):
            row["tags"].append("spoiled")
            row["deep"]["in"].append("spoiled")
        replica.registers("t", "r")["tags"].value.append("spoiled")
        next(iter(replica.all_registers().values()))["tags"].value.append("spoiled")
        for queued in replica.pending():
            queued.change["fields"]["tags"]["value"].append("spoiled")
        for kept in replica.conflicts():
            kept.client_value.append("spoiled")

    spoil()
    assert replica.get("t", "r") == {"tags": ["a"], "deep": {"in": ["a"]}}
    script.answers = [lambda body: problem(503, "busy", retry_after="0"), page(conflicts=[conflict])]
    replica.pull()
    spoil()
    assert replica.conflicts()[0].client_value == ["a"]
    replica.patch("t", "r", {"tags": ["b"]})
    spoil_me = replica.get("t", "r")
    assert spoil_me is not None
    replica.undo()
    assert replica.get("t", "r") == {"tags": ["a"], "deep": {"in": ["a"]}}


OTHERS = "_personal:somebody"
WRITES: list[Callable[[Replica], Any]] = [
    lambda r: r.put("t", "r", {"n": 1}, space=OTHERS),
    lambda r: r.patch("t", "r", {"n": 1}, space=OTHERS),
    lambda r: r.delete("t", "r", space=OTHERS),
    lambda r: r.undelete("t", "r", space=OTHERS),
    lambda r: r.move("any", OTHERS),
]
READS: list[Callable[[Replica], Any]] = [
    lambda r: r.get("t", "r", space=OTHERS),
    lambda r: r.query("t", space=OTHERS),
    lambda r: r.registers("t", "r", space=OTHERS),
    lambda r: r.why("t", "r", space=OTHERS),
    lambda r: history.record_at(r, "t", "r", space=OTHERS),
    lambda r: list(history.changes(r, "t", "r", space=OTHERS)),
    lambda r: list(history.space_at(r, space=OTHERS)),
    lambda r: history.restore(r, "t", "r", 1, space=OTHERS),
]


@pytest.mark.parametrize("user", [None, "ann"])
def test_the_personal_space_of_somebody_is_refused_at_once(
    open_replica: Open, script: Script, user: str | None
) -> None:
    replica = open_replica(user=user)
    replica.put("t", "r", {"n": "mine"})
    for write in WRITES:
        with pytest.raises(InvalidWrite, match="personal space"):
            write(replica)
    replica.push()
    for read in READS:
        with pytest.raises(InvalidQuery, match="personal space"):
            read(replica)
    assert [record.space for record in replica.query("t", space=EVERY_SPACE)] == [None]
    assert replica.pending() == []


def test_ones_own_personal_space_may_be_named(open_replica: Open) -> None:
    replica = open_replica(user="ann")
    replica.put("t", "r", {"n": 1}, space="_personal:ann")
    assert replica.get("t", "r") == replica.get("t", "r", space="_personal:ann") == {"n": 1}
