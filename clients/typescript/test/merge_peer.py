"""The Python client's answers, for a differential test: one JSON value a line in, one out."""

import json
import sys

from syncd_client.data.change import read_change
from syncd_client.data.clock import format_instant, parse_instant, tick
from syncd_client.data.merge import is_deleted, merge, overlay


def plain(registers):
    return {
        name: {"value": r.value, "at": format_instant(r.at), "clientId": r.client}
        | ({} if r.sent is None else {"sent": format_instant(r.sent)})
        for name, r in registers.items()
    }


def merged(changes, pending):
    held = {}
    for change in changes:
        merge(held, read_change(change).registers)
    view = overlay(held, [read_change(change).registers for change in pending])
    return {"registers": plain(held), "deleted": is_deleted(held), "view": plain(view)}


def instant(text):
    try:
        return format_instant(parse_instant(text))
    except ValueError:
        return None


def clock(last, wall):
    return format_instant(tick(parse_instant(last), wall))


for line in sys.stdin:
    asked = json.loads(line)
    answer = {"merge": merged, "instant": instant, "clock": clock}[asked["what"]](*asked["args"])
    print(json.dumps(answer), flush=True)
