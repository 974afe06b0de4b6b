"""Fields that a rule of the application writes beside those of a change. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from syncd.core.clock import LAST, format_instant
from syncd.core.values import check_value
from syncd.protocol.normalize import LogRegister, NormalizedChange, StateRegister


def derive(change: NormalizedChange, values: Mapping[str, Any], client: str, max_depth: int = 64) -> None:
    """Writes further fields into a change, at a stamp above those that it has, so that they win over what its device
    wrote there itself. Raises InvalidValue."""
    if change.b == []:
        # "All fields were written over nothing" speaks for those of the device alone.
        change.b = {name: {"clientId": client} for name in change.f}
    settled = change.hi < LAST
    micros = change.hi + 1 if settled else LAST
    text, sent = format_instant(micros), UNSET if settled else None
    for name, value in values.items():
        raw = Raw(msgspec.json.encode(value))
        check_value(bytes(raw), max_depth)
        change.f[name] = LogRegister(raw, text, sent)
        change.g[name] = StateRegister(raw, text, client, sent)
    change.hi = micros
