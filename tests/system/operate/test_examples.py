"""The examples run as a newcomer runs them, tell the truth, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from examples.demo.history import NoHistory, parse, read_history
from examples.demo.proof import Holding, differences
from tests.support.programs import need

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def temporary(folder: Path) -> Path:
    """Where the examples put their files, so that what they leave can be seen."""
    path = folder / "t"
    path.mkdir()
    path.chmod(0o755)
    return path


@pytest.fixture
def repository(folder: Path) -> Path:
    """Three authors, with names and paths that need care; edits of one file, a deletion, a renaming."""
    need("git")
    path = folder / "repository"
    path.mkdir()
    _git(path, "init", "-q")
    for number in range(12):
        with (path / "shared.txt").open("a") as shared:
            shared.write(f"line {number}\n")
        (path / f"own {number}\nü.txt").write_text(f"x{number}" * 20)
        if number == 6:
            _git(path, "rm", "-q", "own 0\nü.txt")
            _git(path, "mv", "own 1\nü.txt", "moved.txt")
        _git(path, "add", "-A")
        author = ("x/y", "日本 語", "bot[bot]")[number % 3]
        _git(path, "commit", "-qm", f'[bold]"commit" {number}', author=author, at=number)
    return path


def _git(path: Path, *arguments: str, author: str = "a", at: int = 0) -> None:
    """Every commit in a second of its own: git keeps no more, and of two in one the device decides, not the order."""
    configured = ["-c", f"user.name={author}", "-c", "user.email=e@example.org"]
    dates = {f"GIT_{who}_DATE": f"{1_780_000_000 + at} +0000" for who in ("AUTHOR", "COMMITTER")}
    command = ["git", *configured, "-C", str(path), *arguments]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **dates})


def _environment(temporary: Path, **more: str) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary), **more}


def _demo(temporary: Path, repository: Path, devices: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "examples.demo"],
        cwd=ROOT,
        env=_environment(temporary, REPO=str(repository), DEVICES=str(devices)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_ends_with_the_proof_and_leaves_nothing(temporary: Path, repository: Path) -> None:
    demo = _demo(temporary, repository, 5)
    said, _ = demo.communicate(timeout=500)
    assert demo.returncode == 0, said
    assert "All 5 replicas and the server hold the same 12 records." in said
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_leaves_nothing(temporary: Path, repository: Path, sign: signal.Signals) -> None:
    demo = _demo(temporary, repository, 30)
    assert demo.stdout is not None
    while "database" not in (line := demo.stdout.readline()) and "server" not in line:
        assert line, "it ended"
    time.sleep(1.0)
    demo.send_signal(sign)
    said, _ = demo.communicate(timeout=500)
    assert demo.returncode in (130, 0), said
    assert list(temporary.iterdir()) == []


def test_a_folder_without_a_history_is_told_what_to_do(temporary: Path, folder: Path) -> None:
    demo = _demo(temporary, folder, 3)
    said, _ = demo.communicate(timeout=500)
    assert demo.returncode == 2
    assert "make demo REPO=" in said


def test_the_history_is_read_with_its_deletions_and_renamings(repository: Path) -> None:
    commits = read_history(repository)
    assert [len(commit.edits) for commit in commits] == [2] * 6 + [4] + [2] * 5
    assert {edit.status for commit in commits for edit in commit.edits} == {"added", "modified", "deleted", "renamed"}
    assert [edit.old for commit in commits for edit in commit.edits if edit.path == "moved.txt"] == ["own 1\nü.txt"]
    assert {commit.author for commit in commits} == {"x/y", "日本 語", "bot[bot]"}
    assert list(parse("")) == []


def test_one_commit_is_too_few(repository: Path) -> None:
    with pytest.raises(NoHistory, match="too few"):
        read_history(repository, most=1)


def test_the_proof_can_fail() -> None:
    one = Holding("one", {("t", "a"): {"f": (1, "2026", "d")}}, {("t", "b"): {"deletedAt": ("x", "2026", "d")}})
    assert one.agrees(Holding("other", one.records, {}))
    later = Holding("later", {("t", "a"): {"f": (1, "2027", "d")}}, {})
    assert not one.agrees(later)
    assert differences(one, later) == ["t/a f: (1, '2026', 'd') here, (1, '2027', 'd') there"]
    assert not one.agrees(Holding("other", one.records, {("t", "b"): {"deletedAt": ("y", "2027", "d")}}))
    assert not one.agrees(Holding("none", {}, {}))


def test_the_todo_example_ends_with_both_devices_alike(temporary: Path) -> None:
    command = [sys.executable, str(ROOT / "examples/todo.py")]
    done = subprocess.run(
        command, env=_environment(temporary), cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "its when 'tomorrow' lost to 'tonight'" in done.stdout
    assert done.stdout.endswith("  phone  [x] Buy oat milk (tonight)\n  laptop [x] Buy oat milk (tonight)\n")
    assert done.stdout.strip() in (ROOT / "docs/guide/demonstrations.md").read_text(encoding="utf-8")
    assert list(temporary.iterdir()) == []


def test_the_live_demo_is_live_and_ends_with_the_proof(temporary: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "examples.live"],
        cwd=ROOT,
        env=_environment(temporary, DEVICES="3", SECONDS="2"),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    assert "All 3 devices and the server hold the same" in said.stdout
    assert "99 % within" in said.stdout
    assert len(said.stdout.splitlines()) < 25, said.stdout
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(("name", "value"), [("DEVICES", "1"), ("DEVICES", "x"), ("SECONDS", "0")])
def test_the_live_demo_says_what_it_takes(temporary: Path, name: str, value: str) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "examples.live"],
        cwd=ROOT,
        env=_environment(temporary, **{name: value}),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert said.returncode == 2
    assert "DEVICES is 2 to 6" in said.stderr
