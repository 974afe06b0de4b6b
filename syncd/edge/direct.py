"""A short way between a request and Uvicorn's parser where nothing stands between: no messages, no look at headers.

ASGI's `receive` and `send` cost a small push as much as its checks. Both functions say where the short way is not open:
a body that is still coming, a client that does not take what it was sent, a middleware, another server. Then the caller
goes the long one.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from syncd.edge.answers import Answer, Receive, Send


def whole_body(receive: Receive) -> bytes | None:
    """A request's body, where all of it is there and nothing of it was received."""
    cycle = _cycle(receive)
    if cycle is None or cycle.more_body or cycle.disconnected or cycle.response_complete:
        return None
    if cycle.waiting_for_100_continue:
        return None
    body = bytes(cycle.body)
    cycle.body = bytearray()
    # As after `receive`: the next one waits until the client has gone.
    cycle.message_event.clear()
    return body


def respond(send: Send, answer: Answer) -> bool:
    """Writes an answer as it is, whole; False where it was not, and `send` has to be used."""
    cycle = _cycle(send)
    if cycle is None or cycle.response_started or cycle.disconnected or cycle.flow.write_paused:
        return False
    if cycle.scope["method"] == "HEAD" or not all(map(_is_plain, answer.headers)):
        return False
    cycle.transport.write(_written(cycle, answer))
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


def _cycle(call: Any) -> RequestResponseCycle | None:
    """Whose `receive` or `send` it is; None where a middleware or another server made it."""
    cycle = getattr(call, "__self__", None)
    return cycle if type(cycle) is RequestResponseCycle else None


def _is_plain(header: tuple[bytes, bytes]) -> bool:
    """Whether a header is one line, and says nothing about how the answer travels."""
    name, value = header
    return name != b"connection" and name != b"transfer-encoding" and b"\n" not in value and b"\r" not in value


def _written(cycle: RequestResponseCycle, answer: Answer) -> bytes:
    lines = [b"%b: %b\r\n" % header for header in (*cycle.default_headers, *answer.headers)]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    head = b"content-type: %b\r\ncontent-length: %d\r\n\r\n" % (answer.media_type, len(answer.body))
    return b"".join((STATUS_LINE[answer.status], *lines, head, answer.body))
