"""A manifest and lines that would take a parser long are refused where others wait for it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from syncd.core.errors import Malformed, TooLarge
from syncd.protocol.import_lines import LONG, MOST_MEMBERS
from syncd.transfer.export import EVENTS, MANIFEST, Format
from syncd.transfer.export_reader import LONGEST_OWN, MOST_OWN_COMMAS, ExportReader
from tests.unit.protocol.test_export_format import AT, reader, text

NOTHING = hashlib.sha256(b"").hexdigest()


def manifest(**members: Any) -> bytes:
    said = {"formatVersion": 1, "createdAt": AT, "eventCount": 0, "eventsSha256": NOTHING, **members}
    return json.dumps(said, separators=(",", ":")).encode()


def lines(words: bytes) -> bytes:
    return b'{"manifest":%b}\n' % words


def archive(words: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(EVENTS, b"")
        packed.writestr(MANIFEST, words)
    return file.getvalue()


@pytest.mark.parametrize(("form", "made"), [("ndjson", lines), ("zip", archive)])
@pytest.mark.parametrize("members", [
    {"apps": [""] * (MOST_OWN_COMMAS + 10)},
    {"apps": ["a" * (LONGEST_OWN + 10)]},
    {"spaces": [{"id": f"s{n}", "name": "n", "createdAt": AT, "members": []} for n in range(MOST_OWN_COMMAS // 4 + 1)]},
], ids=["many", "long", "spaces"])  # fmt: skip
def test_a_long_manifest_is_an_operator_s_to_import(
    form: Format, made: Callable[[bytes], bytes], members: dict[str, Any]
) -> None:
    file = made(manifest(**members))
    with pytest.raises(TooLarge, match="An operator can import it"):
        ExportReader(io.BytesIO(file), form, 1 << 30, own=True).verify()
    assert ExportReader(io.BytesIO(file), form, 1 << 30).verify().eventCount == 0


@pytest.mark.parametrize(("form", "made"), [("ndjson", lines), ("zip", archive)])
def test_one_that_is_not_is_read(form: Format, made: Callable[[bytes], bytes]) -> None:
    file = made(manifest(apps=["a"] * (MOST_OWN_COMMAS - 100)))
    assert ExportReader(io.BytesIO(file), form, 1 << 30, own=True).verify().eventCount == 0


def test_a_line_of_very_many_fields_is_refused_by_itself() -> None:
    at = {"value": 1, "at": AT}
    members = {f"f{n}": at for n in range(MOST_MEMBERS // 3 + 10)}
    with pytest.raises(Malformed, match="members") as refused:
        reader(author="ann").read(text(fields=members))
    assert refused.value.code == "change_too_large"
    few = reader(author="ann").read(text(fields={"x": {"value": "a" * (2 * LONG), "at": AT}}))
    assert few.number == 1
