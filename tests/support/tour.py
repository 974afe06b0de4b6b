"""A document's terminal blocks: read into steps, run in one bash, and compared with what the document shows.

White space does not count, because answers are folded to fit the page. Ids, cursors and instants differ from run to
run, but one that is shown twice is the same twice. `…` stands for anything. An instant that a command names is the
document's own, and has to be as it is shown.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"
KINDS = {
    "cursor": rf"{INSTANT}\.[\w-]{{20,}}",
    "id": r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
    "instant": INSTANT,
    "time": r"\(\d+\.\ds\)",
    "anything": "…",
}
VARYING = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in KINDS.items()))
DONE = "\x01"
ENDED = re.compile(r"^bash: line \d+: +\d+ Terminated .*\n", re.MULTILINE)  # the shell's own word, after `kill %1`


@dataclass(frozen=True)
class Step:
    """A command as it is typed, and what the document shows of its output."""

    command: str
    shown: str


def steps(text: str) -> Iterator[Step]:
    """The blocks in order: `sh` prints nothing, `python` is followed by its output, `$ ` begins a command."""
    blocks = iter(BLOCK.findall(text))
    for language, body in blocks:
        if language == "sh":
            yield Step(body, "")
        elif language == "python":
            yield Step(f"python - <<'PYTHON'\n{body}PYTHON\n", next(blocks)[1])
        else:
            yield from _typed(body)


def _typed(body: str) -> Iterator[Step]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        length = next(n for n in range(1, len(lines) + 1) if _whole("".join(lines[:n])))
        yield Step("".join(lines[:length]), "".join(lines[length:]))


def _whole(command: str) -> bool:
    """No quotation is open."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


@dataclass
class Comparison:
    """Compares step by step, and remembers which of this run's ids, cursors and instants is which of the shown ones.

    `commands` are all of the document; an instant in one of them has to be as it is shown.
    """

    commands: Sequence[str]
    known: dict[str, str] = field(default_factory=dict)

    def difference(self, shown: str, got: str) -> str:
        """Where they part, for a human; "" if they do not, and what varies in them is known from then on."""
        parts, names = self._parts(_packed(shown))
        packed = _packed(got)
        if found := re.fullmatch("".join(pattern for pattern, _ in parts), packed):
            self.known |= {text: found[name] for text, name in names.items()}
            return ""
        return _where(parts, packed)

    def _parts(self, shown: str) -> tuple[list[tuple[str, str]], dict[str, str]]:
        """A pattern for each piece of the shown text, with that piece; the groups that what is new is found in."""
        parts, names, end = [], dict[str, str](), 0
        for varying in VARYING.finditer(shown):
            parts.append((re.escape(shown[end : varying.start()]), shown[end : varying.start()]))
            parts.append((self._pattern(varying, names), varying[0]))
            end = varying.end()
        parts.append((re.escape(shown[end:]), shown[end:]))
        return parts, names

    def _pattern(self, varying: re.Match[str], names: dict[str, str]) -> str:
        kind, text = str(varying.lastgroup), varying[0]
        if kind == "anything":
            return ".*?"
        if kind == "time":
            return KINDS[kind]
        if kind == "instant" and any(text[:19] in command for command in self.commands):
            return re.escape(text)
        if text in self.known:
            return re.escape(self.known[text])
        if text in names:
            return f"(?P={names[text]})"
        names[text] = f"v{len(names)}"
        return f"(?P<{names[text]}>{KINDS[kind]})"


def _packed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def _where(parts: Sequence[tuple[str, str]], got: str) -> str:
    for length in range(len(parts) - 1, -1, -1):
        if found := re.match("".join(pattern for pattern, _ in parts[:length]), got):
            shown, rest = "".join(text for _, text in parts[length:]), got[found.end() :]
            text = length % 2 == 0  # and between two texts is something that varies
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(shown, rest, strict=False))) * text
            return f"shown: {shown[same : same + 80]!r}\ngot:   {rest[same : same + 80]!r}"
    raise AssertionError("nothing is a beginning of everything")


class Terminal:
    """One bash, in which commands are typed; what they and the jobs in its background print comes together."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        pipe = subprocess.PIPE
        self._bash = subprocess.Popen(
            ["bash"], cwd=folder, env=env, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._said = b""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        while data := os.read(self._bash.stdout.fileno(), 65536):
            self._said += data

    def type(self, command: str) -> None:
        """Types it; `finished` says when it is."""
        assert self._bash.stdin is not None
        self._said = b""
        self._bash.stdin.write(f"{command}\nprintf '{DONE}'\n".encode())
        self._bash.stdin.flush()

    def said(self) -> str:
        """What was printed since the last command was typed."""
        return ENDED.sub("", self._said.decode().replace(DONE, ""))

    def finished(self) -> bool:
        """The last command has ended or is in the background."""
        return DONE.encode() in self._said or self._bash.poll() is not None

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._bash.pid, signal.SIGINT)

    def close(self) -> None:
        """Closes it, with all that runs in it."""
        assert self._bash.stdin is not None
        assert self._bash.stdout is not None
        self._bash.stdin.close()
        try:
            self._bash.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._bash.pid, signal.SIGKILL)
            self._bash.wait()
        self._reader.join(20)
        self._bash.stdout.close()


def until(met: object, seconds: float) -> bool:
    """Whether `met()` came true in time."""
    assert callable(met)
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
