"""Where a listing of the past goes on. Pure. Opaque to clients; forged, it only names another place."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

import msgspec

from syncd.core.errors import Fault, Malformed
from syncd.core.ids import fault_in_id

Seq = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
# Two ids of 255 characters, each escaped to at most six bytes in JSON, and two numbers.
MAX_LENGTH = 5000


class PageToken(msgspec.Struct, array_like=True, frozen=True):
    """The last record that was looked at, and the moment that the listing is of; or the record, and its last change.

    `start`: the start of the database under which `seq` was told, in microseconds; 0 in those of before.
    """

    seq: Seq
    table: str
    id: str
    start: Seq = 0

    def text(self) -> str:
        """As it stands in an address."""
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()


def read_bookmark(text: str) -> PageToken:
    """The bookmark in `text`. Raises Malformed."""
    try:
        if len(text) <= MAX_LENGTH:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            found = msgspec.json.decode(raw, type=PageToken)
            if fault_in_id(found.table) is None and fault_in_id(found.id) is None:
                return found
    except (ValueError, binascii.Error, msgspec.MsgspecError):
        pass
    raise Malformed("after is not from an answer of this server.", faults=(Fault("/after", "is none of ours"),))
