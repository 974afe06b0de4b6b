"""A word that is none of those allowed is refused with those that are."""

from __future__ import annotations

import pytest

from syncd.core.errors import Malformed
from syncd.protocol.live_messages import incoming
from syncd.protocol.messages import MemberBody, PushBody, decode


def test_a_role() -> None:
    with pytest.raises(Malformed) as caught:
        decode(b'{"role": "admin"}', MemberBody)
    assert caught.value.detail == "role has to be one of owner, writer, reader."
    assert [fault.pointer for fault in caught.value.faults] == ["/role"]


def test_an_op() -> None:
    with pytest.raises(Malformed) as caught:
        decode(b'{"changes": [{"table": "t", "id": "i", "op": "upsert"}]}', PushBody)
    assert caught.value.detail == "op has to be one of insert, update, delete."
    assert [fault.pointer for fault in caught.value.faults] == ["/changes/0/op"]


def test_an_op_over_a_socket() -> None:
    with pytest.raises(Malformed, match="op has to be one of insert, update, delete"):
        incoming(b'{"type": "push", "app": "a", "changes": [{"table": "t", "id": "i", "op": "upsert"}]}')
