"""A line that says nothing but its change's own values is read the quick way, and comes to the same."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import Malformed
from syncd.protocol.export_format import Line
from syncd.protocol.import_lines import MOST_GOOD, LineReader
from syncd.protocol.normalize import Limits
from tests.unit.protocol.test_export_format import AT, LATER, LIMITS, NOW, text


class Thorough(LineReader):
    """Reads every line as one that may say anything."""

    def _plain(self, line: Line) -> None:
        return None


values = st.sampled_from([1, "a", None, True, [1], [[[[1]]]], {"a": 1}, 1.5, 10**20])
registers = st.fixed_dictionaries(
    {"value": values, "at": st.sampled_from([AT, AT, LATER, "2026-01-01T10:00:00Z", "2027-01-01T10:00:00Z", "never"])},
    optional={
        "clientId": st.sampled_from(["phone", "tablet"]), "sent": st.sampled_from([None, AT, "never"]),
        "base": st.sampled_from([None, AT, "never"]), "movedTo": st.just("s2"), "erased": st.booleans(),
    },
)  # fmt: skip
plain = st.fixed_dictionaries({"value": values, "at": st.sampled_from([AT, LATER])})
fields = st.dictionaries(st.sampled_from(["x", "y", "deletedAt", ""]), plain | registers, max_size=3)
members = st.fixed_dictionaries(
    {"fields": fields},
    optional={
        "superseded": st.dictionaries(st.sampled_from(["x", "z"]), registers, max_size=1),
        "husk": st.dictionaries(st.sampled_from(["x", "z"]), registers, max_size=1),
        "createdAt": st.sampled_from([AT, "2026-01-01T11:00:00+01:00", "never"]),
        "schemaVersion": st.sampled_from([2, 9]),
        "id": st.sampled_from(["r", ".", "_personal:ann"]), "table": st.sampled_from(["t", "", "_personal:ann"]),
        "changeId": st.sampled_from([None, "c", ""]), "actor": st.just({"n": 1}), "folded": st.booleans(),
    },
)  # fmt: skip


def told(reader: LineReader, line: bytes) -> Any:
    """What becomes of a line."""
    try:
        found = reader.read(line)
    except Malformed as why:
        return why.code, why.detail
    return found.number, found.push, found.after, msgspec.json.encode(found.row)


@given(st.lists(members, min_size=1, max_size=4), st.sampled_from([None, "ann"]))
def test_it_comes_to_the_same(some: list[dict[str, Any]], author: str | None) -> None:
    quick, thorough = LineReader(LIMITS, author, NOW), Thorough(LIMITS, author, NOW)
    for seq, one in enumerate([*some, *some], 1):
        line = text(**one, seq=seq)
        assert told(quick, line) == told(thorough, line)


def test_a_stamp_that_is_spelled_otherwise_is_kept_as_all_are() -> None:
    plain, spelled = (
        text(seq=seq, fields={"x": {"value": 1, "at": at}}) for seq, at in ((1, AT), (2, "2026-01-01T10:00:00Z"))
    )
    readers = [kind(LIMITS, None, NOW) for kind in (LineReader, Thorough)]
    for reader in readers:
        reader.read(plain)
    quick, thorough = (told(reader, spelled) for reader in readers)
    assert quick == thorough
    assert b"2026-01-01T10:00:00.000000Z" in quick[3]


def test_what_most_lines_are_goes_the_quick_way() -> None:
    reader = LineReader(LIMITS, None, NOW)
    lines = [text(seq=seq, fields={"x": {"value": seq, "at": AT}, "y": {"value": "a", "at": LATER}}) for seq in (1, 2)]
    first, second = (reader.read(line) for line in lines)
    assert first.row.f is not first.line.fields
    assert second.row.f is second.line.fields


def test_what_is_remembered_has_a_bound() -> None:
    reader = LineReader(Limits(), None, NOW)
    for n in range(1, MOST_GOOD + 50):
        reader.read(text(seq=n, userId=f"u{n}", fields={f"f{n}": {"value": 1, "at": AT}}))
    assert len(reader._places) == len(reader._fields) == MOST_GOOD
