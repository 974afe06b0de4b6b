"""Requests as messages: the place that is at fault in one, and a push taken apart by its brackets."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from syncd.core.errors import Malformed
from syncd.protocol import messages
from syncd.protocol.messages import (
    DEEPEST,
    MOST_SCRAPS,
    SHORTEST,
    IncomingChange,
    MemberBody,
    PushBody,
    RestoreBody,
    SpaceBody,
    decode,
    lone_surrogate,
    malformed,
    raw_changes,
    read_change,
    split_changes,
    without_value,
)

AT = "2026-01-01T10:00:00Z"
CHANGE = {"table": "t", "id": "r", "op": "delete"}
DECODER = msgspec.json.Decoder(IncomingChange)
HALF = rb"\ud800"


def refused(work: Any, *given: Any) -> Malformed:
    with pytest.raises(Malformed) as why:
        work(*given)
    return why.value


def told(why: Malformed) -> tuple[str, str, list[tuple[str, str]]]:
    return why.code, why.detail, [(fault.pointer, fault.detail) for fault in why.faults]


def test_a_body_is_read_as_what_it_is_to_be() -> None:
    assert decode(b'{"name":"S","id":"s"}', SpaceBody) == SpaceBody("S", "s")
    assert decode(b'{"role":"reader"}', MemberBody) == MemberBody("reader")
    assert decode(b'{"seq":9223372036854775807}', RestoreBody).seq == 2**63 - 1
    assert decode(b"{}", PushBody) == PushBody([], None, None, None, False, True, None, None, None)


@pytest.mark.parametrize(("body", "kind", "expected"), [
    (b'{"name":"\xff"}', SpaceBody, ("malformed_json", "The body is not UTF-8: byte 9.", [])),
    (b'{"name":7}', SpaceBody, ("invalid_request", "Expected `str`, got `int`.",
                        [("/name", "Expected `str`, got `int`")])),
    (b"[]", SpaceBody, ("invalid_request", "Expected `object`, got `array`.",
            [("", "Expected `object`, got `array`")])),
    (b"{}", SpaceBody, ("invalid_request", "Object missing required field `name`.",
                        [("", "Object missing required field `name`")])),
    (b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", SpaceBody, ("invalid_value", "The body is nested too deeply.", [])),
    (b'{"seq":-1}', RestoreBody, ("invalid_request", "Expected `int` >= 0.", [("/seq", "Expected `int` >= 0")])),
    (b'{"changes":[{"table":"t","id":"r","op":"delete","fields":{"a/b":{"value":1,"at":7}}}]}', PushBody,
     ("invalid_change", "Expected `str | null`, got `int`.",
      [("/changes/0/fields/at", "Expected `str | null`, got `int`")])),
], ids=str)  # fmt: skip
def test_the_place_that_is_at_fault_is_named(body: bytes, kind: Any, expected: Any) -> None:
    assert told(refused(decode, body, kind)) == expected


@pytest.mark.parametrize("body", [b"", b"{", b'{"name":"S"}x', b"{'a':1}"])
def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    why = refused(decode, body, SpaceBody)
    assert (why.code, why.faults) == ("malformed_json", ())
    assert why.detail.startswith("The body is not JSON: ")


def test_half_a_surrogate_pair_in_a_change_is_named_by_its_place() -> None:
    body = b'{"changes":[%s,{"table":"t","id":"%s","op":"delete"}]}' % (json.dumps(CHANGE).encode(), HALF)
    expected = (
        "invalid_value",
        "a lone surrogate is not text (/changes/1)",
        [("/changes/1", "a lone surrogate is not text")],
    )
    assert told(refused(decode, body, PushBody)) == expected
    found = lone_surrogate(body)
    assert found is not None
    assert told(found) == expected
    for other in (
        b'{"clientId":"%s","changes":[]}' % HALF,
        b'{"clientId":"%s"}' % HALF,
        b'{"x":"%s"' % HALF,
        b"{}",
        b"[]",
    ):
        assert lone_surrogate(other) is None
    assert refused(decode, b'{"clientId":"%s","changes":[]}' % HALF, PushBody).code == "malformed_json"
    assert lone_surrogate(b'{"changes":' + b"[" * 5000 + b"]" * 5000 + b"}") is None


def test_what_a_client_sent_is_not_repeated() -> None:
    assert without_value(ValueError("Invalid value 'secret' - at `$.x`")) == "Invalid value - at `$.x`"
    assert without_value(ValueError('Invalid value "sec\nret" here')) == "Invalid value here"
    assert without_value(ValueError("Invalid enum value 'x' - at `$.op`")) == (
        "op has to be one of insert, update, delete - at `$.op`"
    )
    assert without_value(ValueError("Invalid enum value 'x' - at `$.role`")) == (
        "role has to be one of owner, writer, reader - at `$.role`"
    )
    assert without_value(ValueError("Invalid enum value 'x' - at `$.scope`")) == "Invalid enum value - at `$.scope`"


@pytest.mark.parametrize(("said", "within", "expected"), [
    ("Expected `str` - at `$.a`", "", ("invalid_request", "Expected `str`.", [("/a", "Expected `str`")])),
    ("Expected `str` - at `$.a[3].b`", "", ("invalid_request", "Expected `str`.", [("/a/3/b", "Expected `str`")])),
    ("Expected `str` - at `$.changes[2].fields[...].at`", "",
     ("invalid_change", "Expected `str`.", [("/changes/2/fields/at", "Expected `str`")])),
    ("Expected `str` - at `$.changes`", "", ("invalid_request", "Expected `str`.", [("/changes", "Expected `str`")])),
    ("Expected `str` - at `$.id`", "/changes/4", ("invalid_change", "Expected `str`.", [("/changes/4/id",
    "Expected `str`")])),
    ("Expected `object`", "/changes/4", ("invalid_change", "Expected `object`.", [("/changes/4",
    "Expected `object`")])),
    ("Expected `object`", "", ("invalid_request", "Expected `object`.", [("", "Expected `object`")])),
])  # fmt: skip
def test_what_the_decoder_says_becomes_a_pointer(said: str, within: str, expected: Any) -> None:
    assert told(malformed(msgspec.ValidationError(said), within)) == expected


def test_a_change_of_a_push_that_was_taken_apart() -> None:
    assert read_change(0, json.dumps(CHANGE).encode(), DECODER) == IncomingChange("t", "r", "delete")
    assert read_change(0, Raw(json.dumps(CHANGE).encode()), DECODER).id == "r"
    why = refused(read_change, 3, b'{"table":"t","id":7,"op":"delete"}', DECODER)
    assert told(why) == (
        "invalid_change",
        "Expected `str`, got `int`.",
        [("/changes/3/id", "Expected `str`, got `int`")],
    )
    why = refused(read_change, 3, b'{"table"', DECODER)
    assert why.code == "malformed_json"
    assert why.detail.startswith("The body is not JSON: ")
    assert why.detail.endswith(" (/changes/3).")
    why = refused(read_change, 3, b'{"x":' + b"[" * 5000 + b"]" * 5000 + b"}", DECODER)
    assert told(why) == ("invalid_value", "The body is nested too deeply.", [])


@pytest.mark.parametrize(("body", "raws"), [
    (b'{"changes":[{"a":1}, 2 ,"x"]}', [b'{"a":1}', b"2", b'"x"']), (b'{"changes":null}', []), (b"{}", []),
    (b'{"changes":[{"a":"%s"},2]}' % HALF, [b'{"a":"%s"}' % HALF, b"2"]),
    (b'{"changes":5}', []), (b'{"changes":[' + b"[" * 5000 + b"]" * 5000 + b"]}", [b"[" * 5000 + b"]" * 5000]),
])  # fmt: skip
def test_the_texts_of_a_push_s_changes(body: bytes, raws: list[bytes]) -> None:
    assert raw_changes(body) == raws


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab"\\[]{},: \u00e9', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "changes", '"']), inner, max_size=3)
    ),
    max_leaves=8,
)
large = json_values.map(lambda value: {"table": "some table", "id": "record", "op": value})


@given(
    st.lists(large | json_values, max_size=5),
    st.dictionaries(st.sampled_from(["a", "b", 'changes"', "[", ""]), json_values, max_size=2),
    st.dictionaries(st.sampled_from(["c", "d"]), json_values, max_size=2), st.sampled_from([None, 1]), st.booleans(),
)  # fmt: skip
def test_a_push_is_taken_apart_by_its_brackets(
    changes: list[Any], before: dict[str, Any], after: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    push = {**before, "changes": changes, **after}
    envelope, raws = split_changes(json.dumps(push, indent=indent, ensure_ascii=ascii_only).encode())
    assert [json.loads(raw) for raw in raws] == changes
    assert json.loads(envelope) == {**push, "changes": []}
    assert list(json.loads(envelope)) == list(push)


def test_a_push_without_a_list_of_changes_stays_whole() -> None:
    for body in (
        b'{"changes":5}',
        b'{"a":[1,2]}',
        b"[1,2]",
        b"",
        b'{"a":{"changes":[1,2]}}',
        b'{"x":"changes","y":[1]}',
    ):
        assert split_changes(body) == (body, [])


def test_of_two_lists_of_changes_the_last_counts_as_for_a_parser() -> None:
    _, raws = split_changes(b'{"changes":[1,2],"changes":[3]}')
    assert raws == [b"3"]


def test_a_push_that_is_cut_short_is_taken_apart_as_far_as_it_goes() -> None:
    body = b'{"changes":[{"a":1},{"b":2},{"c"'
    assert split_changes(body) == (body, [b'{"a":1}', b'{"b":2}'])
    assert split_changes(b'{"changes":[{"a":[1,2],"b":{"c":3}}]}')[1] == [b'{"a":[1,2],"b":{"c":3}}']


@given(st.text('"\\[]{},:a', max_size=30).map(str.encode), st.sampled_from([b"", b'{"changes":[', b'"', b'{"x":"']))
def test_every_quote_is_within_a_token(text: bytes, before: bytes) -> None:
    """A token that is looked for in vain is looked for again at the next quote: of n quotes, n times to the end."""
    body = before + text
    found = [token[0] for token in messages._TOKEN.finditer(body)]
    assert sum(token.count(b'"') for token in found) == body.count(b'"')


@pytest.mark.parametrize("count", [30, 60, 3_000_000])
def test_a_text_without_an_end_is_one_token(count: int) -> None:
    body = b'{"changes":["' + b'\\"' * count
    assert [len(token[0]) for token in messages._TOKEN.finditer(body)] == [1, 9, 1, 1, 2 * count + 1]
    assert split_changes(body) == (body, [])
    client = b'{"clientId":"' + b'\\"' * count + b'","changes":[{"a":1}]}'
    assert [token[0] for token in messages._TOKEN.finditer(client, 0, 41)][-1] == client[12:41]
    assert split_changes(client)[1] == [b'{"a":1}']


def test_so_deep_is_taken_apart_and_no_deeper() -> None:
    def deep(depth: int) -> bytes:
        return b'{"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    assert split_changes(deep(DEEPEST)) == (deep(DEEPEST), [])
    why = refused(split_changes, deep(DEEPEST + 1))
    assert told(why) == ("invalid_value", "The body is nested too deeply.", [])


def test_so_many_scraps_are_taken_for_changes_and_no_more() -> None:
    def push(scrap: bytes, count: int) -> bytes:
        return b'{"changes":[' + b",".join([scrap] * count) + b"]}"

    shortest = b"1" * SHORTEST
    assert len(json.dumps({"table": "", "id": "", "op": "delete"}, separators=(",", ":"))) == SHORTEST
    assert len(split_changes(push(shortest, MOST_SCRAPS + 1))[1]) == MOST_SCRAPS + 1
    assert len(split_changes(push(shortest[1:], MOST_SCRAPS))[1]) == MOST_SCRAPS
    why = refused(split_changes, push(shortest[1:], MOST_SCRAPS + 1))
    assert told(why) == ("invalid_request", "The body holds what are no changes.", [])


def test_of_a_push_every_member_is_read() -> None:
    body = {"changes": [CHANGE], "clientId": "c", "since": "s", "schemaVersion": 3, "atomic": True, "pull": False,
            "bytes": 9, "incarnations": ["i"], "pushed": ["p"]}  # fmt: skip
    change = IncomingChange("t", "r", "delete")
    assert decode(json.dumps(body).encode(), PushBody) == PushBody([change], "c", "s", 3, True, False, 9, ["i"], ["p"])
