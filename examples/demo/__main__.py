"""`make demo`: real history, real devices, a real server, and the proof that all hold the same in the end."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

import httpx2
from syncd_client import HttpSender

from examples.demo import proof
from examples.demo.devices import Device, Part, cast
from examples.demo.history import MOST_EDITS, Commit, NoHistory, read_history
from examples.demo.play import Play, Wave, open_space, plan
from examples.demo.screen import Screen
from examples.server import Server, ServerError

# What is written is later read by every device: this many records read keep the demo well under two minutes.
MOST_READS = 250_000
MOST_SHOWN = 3


def main() -> int:
    """The exit code: 0 all hold the same, 1 they differ, 2 there is nothing to replay."""
    try:
        wanted = int(os.environ.get("DEVICES") or 12)
    except ValueError:
        wanted = 0
    if not 1 <= wanted <= 200:
        print(f"DEVICES={os.environ.get('DEVICES')} cannot be used: a number from 1 to 200", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return run(Path(os.environ.get("REPO") or ".").expanduser(), wanted)
    except (NoHistory, ServerError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; nothing is left behind", file=sys.stderr)
        return 130


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def run(repository: Path, wanted: int) -> int:
    """Replays the history of `repository` with at least `wanted` devices."""
    with Screen() as screen:
        screen.stage(f"reading the history of {repository.resolve().name}")
        parts = choose(read_history(repository), wanted, screen)
        screen.stage("starting a server and its PostgreSQL")
        with Server() as server, httpx2.Client(timeout=60.0) as http:
            users = list(dict.fromkeys(part.user for part in parts))
            open_space(server.url, users[0], users, server.token, http)
            with company(parts, server, http) as devices:
                seconds = replay(devices, screen)
                screen.stage("comparing every replica with the server")
                holdings = [proof.of_replica(device.part.name, device.replica) for device in devices]
                token = server.token(users[0])
                kept = [proof.of_snapshot(server.url, token, http), proof.of_log(server.url, token, http)]
            screen.stage("stopping the server")
    report(screen, devices, seconds)
    return judge(screen, devices, holdings, kept)


def choose(commits: Sequence[Commit], wanted: int, screen: Screen) -> list[Part]:
    """The parts that are played, and how much of each; says what was left out."""
    parts = cast(commits, wanted)
    users = {part.user for part in parts}
    chosen = [commit for commit in commits if commit.author in users]
    reads, first = 0, len(chosen)
    while first and (reads := reads + len(chosen[first - 1].edits) * len(parts)) <= MOST_READS:
        first -= 1
    chosen = chosen[min(first, len(chosen) - 1) :]
    screen.say(
        f"{len(chosen)} commits by {len({c.author for c in chosen})} authors, {sum(len(c.edits) for c in chosen)} "
        f"edits of files{_left_out(len(commits) - len(chosen))}"
    )
    if large := sum(len(commit.edits) == MOST_EDITS for commit in chosen):
        screen.say(f"{large} commits are larger than a demo: {MOST_EDITS:,} edits of each are played")
    return cast(chosen, wanted)


def _left_out(number: int) -> str:
    return f" (the latest that fit a demo; {number} left out)" if number else ""


@contextlib.contextmanager
def company(parts: Sequence[Part], server: Server, http: httpx2.Client) -> Iterator[list[Device]]:
    """The devices, opened and closed together."""
    with contextlib.ExitStack() as stack:
        devices = []
        for part in parts:
            device = Device(part, server.folder, server.url, server.token(part.user), HttpSender(http))
            stack.callback(device.close)
            devices.append(device)
        yield devices


def replay(devices: Sequence[Device], screen: Screen) -> float:
    """All waves, then everybody comes home. Returns the seconds it took."""
    waves = plan(devices)
    screen.expect(sum(wave.commits + sum(wave.online) for wave in waves) + 2 * len(devices))
    started = time.monotonic()
    with contextlib.closing(Play(devices, screen.advance)) as play:
        for wave in waves:
            screen.stage(_describe(wave, len(waves)))
            play.wave(wave)
        screen.stage(f"all {len(devices)} devices come home")
        play.come_home()
    return time.monotonic() - started


def _describe(wave: Wave, number: int) -> str:
    return f"wave {wave.number} of {number}: {wave.commits} commits offline, {sum(wave.online)} devices come online"


def report(screen: Screen, devices: Sequence[Device], seconds: float) -> None:
    """The figures."""
    tallies = [device.tally for device in devices]
    written, pulled = sum(device.written for device in devices), sum(tally.pulled for tally in tallies)
    spans = sorted(span for tally in tallies for span in tally.spans)
    rows = [
        ("devices", f"{len(devices)}"),
        ("users", f"{len({device.part.user for device in devices})}"),
        ("commits, each an atomic batch", f"{sum(len(device.part.commits) for device in devices):,}"),
        ("changes written offline", f"{written:,}"),
        ("changes the server took", f"{sum(tally.pushed for tally in tallies):,}"),
        ("changes the devices fetched", f"{pulled:,}"),
        ("conflicts settled (a newer register stood)", f"{sum(tally.conflicts for tally in tallies):,}"),
        ("changes that lost altogether", f"{sum(tally.superseded for tally in tallies):,}"),
        ("changes refused", f"{sum(tally.rejected for tally in tallies):,}"),
        ("syncs, median and longest", f"{len(spans)}, {spans[len(spans) // 2]:.2f} s, {spans[-1]:.2f} s"),
        ("time", f"{seconds:.1f} s"),
        ("changes/s, written and fetched", f"{(written + pulled) / seconds:,.0f}"),
    ]
    screen.table("the replay", rows)


def judge(
    screen: Screen, devices: Sequence[Device], holdings: Sequence[proof.Holding], kept: Sequence[proof.Holding]
) -> int:
    """Shows who holds what, and says whether it is the same."""
    screen.proof(devices, holdings, kept)
    snapshot, log = kept
    wrong = [holding for holding in (*holdings, log) if not holding.agrees(snapshot) or not holding.agrees(log)]
    for holding in wrong[:MOST_SHOWN]:
        against = log if holding is not log and not holding.agrees(log) else snapshot
        screen.say(f"{holding.who} differs from {against.who}:")
        for line in proof.differences(holding, against):
            screen.say(f"  {line}")
    unsent = sum(device.tally.rejected for device in devices)
    if wrong or unsent:
        screen.say(f"NOT the same: {len(wrong)} differ, {unsent} changes were refused.")
        return 1
    screen.say(f"All {len(holdings)} replicas and the server hold the same {len(snapshot.records)} records.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
