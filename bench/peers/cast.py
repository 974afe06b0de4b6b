"""The peers of a run: started when a work asks for them, proved once, killed at its end, and said to be absent where
they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar

from bench.peers.kinto import Kinto
from bench.peers.process import Absent
from bench.peers.tinybase import TinyBase
from bench.peers.triplit import Triplit
from bench.stage import Stage, console
from bench.workload import Device, record

VERSIONS: dict[str, str] = {}
ABSENT: dict[str, str] = {}


class Peer(Protocol):
    """A server that can show that it keeps what it is given."""

    version: str

    @property
    def pid(self) -> int: ...
    def kill(self) -> None: ...
    def prove(self, records: Sequence[dict[str, Any]]) -> None: ...


P = TypeVar("P", bound=Peer)


class Cast:
    """`with Cast(stage) as cast`: peers that live as long as the block."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._here = stage, list[Peer]()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ignored: object) -> None:
        for peer in self._here:
            peer.kill()

    def triplit(self, *, flushed: bool) -> Triplit | None:
        name = f"triplit-{'flushed' if flushed else 'acknowledged'}-{id(self)}"
        return self._started("Triplit", lambda: Triplit(self._stage.folder / name, flushed=flushed))

    def tinybase(self, records: Sequence[dict[str, Any]] = ()) -> TinyBase | None:
        return self._started("TinyBase", lambda: TinyBase(self._stage.folder / f"tinybase-{id(self)}", records))

    def kinto(self) -> Kinto | None:
        folder, dsn = self._stage.folder / f"kinto-{id(self)}", self._stage.server.owner_dsn
        return self._started("Kinto", lambda: Kinto(folder, dsn))

    def _started(self, name: str, start: Callable[[], P]) -> P | None:
        if name in ABSENT:
            return None
        try:
            with console.status(f"starting {name}"):
                peer = start()
        except Absent as why:
            ABSENT[name] = str(why)
            console.print(f"  [yellow]{name} is not there[/]: {why}", soft_wrap=True)
            return None
        self._here.append(peer)
        if name not in VERSIONS:
            VERSIONS[name] = peer.version
            peer.prove(sample(name, 3))
            console.print(f"  [dim]{name} {peer.version}: killed, and what it had been given was there[/]")
        return peer


def sample(name: str, count: int) -> list[dict[str, Any]]:
    """Records of nobody's: new ones, each of the size that all sides write."""
    return [record(change) for change in Device(f"sample-{name}", "sample", edits=0).changes(count)]
