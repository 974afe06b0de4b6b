"""docs/reference/protocol.md, read: its statements, and its examples as something to send and something to compare."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/reference/protocol.md"
NOT_YET, NO_TEST = "*not yet*", "*no test*"

_STATEMENT = re.compile(r'^<a id="p(\d+)"></a>\*\*P(\d+)\.\*\* (.*?)^Held by: (.*?)$', re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(http|ws)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE = re.compile(r"<([a-z]+(?:-[a-z0-9]+)?)>")
_FRAME = re.compile(r"([a-z]+)([<>]) (.*)")
_KINDS = {
    "event": re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"),
    "instant": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"),
    "cursor": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z\.[A-Za-z0-9_-]+"),
    "place": re.compile(r"[A-Za-z0-9_-]+"),
    "hash": re.compile(r"[0-9a-f]{16,64}"),
}


class Statement(NamedTuple):
    """One numbered statement. `anchor` and `number` should be the same; `tests` is what stands behind "Held by"."""

    anchor: int
    number: int
    text: str
    tests: str


class Http(NamedTuple):
    """A request or an answer as the page shows it; `first` is its first line."""

    first: str
    headers: dict[str, str]
    body: str


class Frame(NamedTuple):
    """A line of a block of frames: sent by a connection, or received by it."""

    connection: str
    sent: bool
    text: str


class Exchange(NamedTuple):
    request: Http
    answer: Http


def page() -> str:
    """The text of the page."""
    return PAGE.read_text(encoding="utf-8")


def statements(text: str) -> list[Statement]:
    """All statements, in the order of the page."""
    return [Statement(int(a), int(n), said.strip(), tests.strip()) for a, n, said, tests in _STATEMENT.findall(text)]


def examples(text: str) -> list[Exchange | list[Frame]]:
    """All examples, in the order of the page: a request with its answer, or a block of frames. Raises ValueError."""
    found: list[Exchange | list[Frame]] = []
    request: Http | None = None
    for language, block in _BLOCK.findall(text):
        if language == "ws":
            found.append([_frame(line) for line in block.splitlines()])
            continue
        message = _http(block)
        if not message.first.startswith("HTTP/1.1 "):
            request = message
        elif request is None:
            raise ValueError(f"an answer to no request: {message.first}")
        else:
            found.append(Exchange(request, message))
            request = None
    if request is not None:
        raise ValueError(f"a request without an answer: {request.first}")
    return found


def _frame(line: str) -> Frame:
    match = _FRAME.fullmatch(line)
    if match is None:
        raise ValueError(f"no frame: {line}")
    return Frame(match[1], match[2] == ">", match[3])


def _http(block: str) -> Http:
    head, _, body = block.partition("\n\n")
    first, *lines = head.strip().splitlines()
    pairs = (line.partition(": ") for line in lines)
    return Http(first, {name.lower(): value for name, _, value in pairs}, body)


class Bound:
    """What the placeholders stand for, as far as is known."""

    def __init__(self, **known: str) -> None:
        self._known = known

    def fill(self, text: str, *, in_address: bool = False) -> str:
        """A text to send, with its placeholders replaced. Raises KeyError for one that nothing was seen for."""
        known = self._known
        return _PLACE.sub(lambda place: quote(known[place[1]], safe="") if in_address else known[place[1]], text)

    def difference(self, shown: Any, real: Any, where: str = "$") -> str | None:
        """Where an answer is not what is shown, or None. Placeholders are bound to what they are seen for."""
        if isinstance(shown, str) and (place := _PLACE.fullmatch(shown)):
            return self._bind(place[1], real, where)
        if isinstance(shown, dict) and isinstance(real, dict):
            if shown.keys() != real.keys():
                return f"{where} has the members {sorted(real)}, shown are {sorted(shown)}"
            pairs = ((shown[name], real[name], f"{where}.{name}") for name in shown)
        elif isinstance(shown, list) and isinstance(real, list):
            if len(shown) != len(real):
                return f"{where} has {len(real)} elements, shown are {len(shown)}"
            pairs = ((one, other, f"{where}[{n}]") for n, (one, other) in enumerate(zip(shown, real, strict=True)))
        else:
            same = json.dumps(shown) == json.dumps(real)
            return None if same else f"{where} is {json.dumps(real)}, shown is {json.dumps(shown)}"
        return next((found for pair in pairs if (found := self.difference(*pair))), None)

    def _bind(self, name: str, real: Any, where: str) -> str | None:
        kind = _KINDS[name.partition("-")[0]]
        if not isinstance(real, str) or not kind.fullmatch(real):
            return f"{where} is {json.dumps(real)}, which cannot be <{name}>"
        if self._known.setdefault(name, real) != real:
            return f"{where} is {real}, but <{name}> was {self._known[name]}"
        return None


def parsed(media: str, body: str) -> Any:
    """A body as something that can be compared: JSON, lines of it, or events."""
    if media.startswith("application/x-ndjson"):
        return [json.loads(line) for line in body.splitlines()]
    if media.startswith("text/event-stream"):
        return [_event(text) for text in body.strip().split("\n\n")]
    return json.loads(body) if body.strip() else None


def _event(text: str) -> dict[str, Any]:
    fields = dict(line.split(": ", 1) for line in text.splitlines())
    return {**fields, "data": json.loads(fields["data"])}
