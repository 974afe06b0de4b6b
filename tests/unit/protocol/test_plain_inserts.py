"""An insert whose values have one stamp is read the quick way, and comes to the same."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from syncd.core.errors import Malformed
from syncd.protocol.messages import IncomingChange, IncomingRegister
from syncd.protocol.normalize import Limits, NormalizedChange, Stamps, normalize_change
from syncd.protocol.plain_inserts import PlainInserts

AT = "2026-01-01T10:00:00.000000Z"
LIMITS = Limits(max_depth=3)
FEED = ("app", "s")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
).map(lambda value: json.dumps(value).encode())
names = st.sampled_from(["x", "title", "é", "deletedAt", "a\nb", ""])
instants = st.sampled_from([AT, AT, AT, "2026-01-01T10:00:00Z", "2025-01-01T10:00:00.000000Z", "never"])
registers = st.builds(IncomingRegister, (values | st.sampled_from([b"1e999", b"1e-400"])).map(Raw), instants)
inserts = st.builds(
    IncomingChange, st.sampled_from(["t", "\x00"]), st.sampled_from(["r", "."]), st.sampled_from(["insert", "update"]),
    fields=st.none() | st.dictionaries(names, registers, max_size=4), origin=st.sampled_from([None, "user"]),
    changeId=st.sampled_from([None, None, "c"]), schemaVersion=st.sampled_from([None, None, 2]),
    actor=st.sampled_from([UNSET, UNSET, Raw(b"1")]),
)  # fmt: skip


def plain(**fields: Any) -> IncomingChange:
    found = {name: IncomingRegister(Raw(json.dumps(value).encode()), AT) for name, value in fields.items()}
    return IncomingChange("t", "r", "insert", fields=found)


def any_way(change: IncomingChange) -> NormalizedChange | None:
    """As every change is read; None where it cannot be."""
    try:
        return normalize_change(change, 1, "import", Stamps(), LIMITS, FEED)
    except Malformed:
        return None


@given(inserts)
@example(plain(title="a", done=False, position=0.1234567890123456789, deep=[1, {"a": None}]))
@example(plain(big=10**30, small=1e-300))
def test_it_comes_to_the_same_or_is_left_to_the_other_way(change: IncomingChange) -> None:
    found = PlainInserts(LIMITS).read(change, "import", Stamps(), FEED)
    assert found is None or found == any_way(change)


def test_what_a_table_s_rows_are_goes_the_quick_way() -> None:
    reader = PlainInserts(LIMITS)
    for change in (plain(title="a", done=True), plain(title="é", number=1.5, nothing=None, list=[[1]])):
        assert reader.read(change, "import", Stamps(), FEED) is not None
    assert reader.read(plain(title=[[[[1]]]]), "import", Stamps(), FEED) is None
