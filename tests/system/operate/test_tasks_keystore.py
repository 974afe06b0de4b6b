"""The keystore of examples/tasks: tasks get what they ask for, and the values are nowhere in the clear."""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography.fernet import Fernet

from examples.tasks.keystore import keys, sealed
from examples.tasks.runs import Call, NoSecret, Run, replay
from syncd.testing import Server
from tests.support.programs import REPOSITORY
from tests.support.task_workers import Workers, asked, started

VALUE = 'a "long" secret \\ of änn\nin two lines'


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A key in the environment, of workers too."""
    made = Fernet.generate_key().decode()
    monkeypatch.setenv("TASKS_KEY", made)
    return made


@pytest.fixture
def workers(syncd_server: Server, key: str) -> Iterator[Workers]:
    with started(syncd_server, 2) as workers:
        yield workers


def keystore(server: Server, *words: str, value: str = "", key: str | None = None) -> subprocess.Popen[str]:
    """`python -m examples.tasks.keystore`, begun."""
    environment = {**os.environ, "TASKS_DATABASE": server.database_url} | ({} if key is None else {"TASKS_KEY": key})
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.tasks.keystore", *words], cwd=REPOSITORY, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(value)
    process.stdin.close()
    process.stdin = None
    return process


def done(process: subprocess.Popen[str]) -> str:
    said, wrong = process.communicate(timeout=120)
    assert process.returncode == 0, wrong
    return said


def test_a_task_has_its_secret_and_nobody_else(syncd_server: Server, workers: Workers) -> None:
    seed = int(os.environ.get("SEED") or secrets.randbits(32))
    print("SEED", seed)
    drawn = random.Random(seed)
    done(keystore(syncd_server, "set", "*", "signing", value=f"{VALUE}\n"))
    done(keystore(syncd_server, "set", "_personal:bob", "signing", value="bob's own secret"))
    assert [line.split()[:2] for line in done(keystore(syncd_server, "list")).splitlines()] == [
        ["*", "signing"],
        ["_personal:bob", "signing"],
    ]
    ada, bob = (syncd_server.replica(user, app="tasks") for user in ("ada", "bob"))
    for n in range(4):
        asked(ada, f"a{n}", "sign", text="hello", seconds=0.3)
    asked(bob, "b", "sign", text="hello")
    ada.sync()
    bob.sync()
    for _ in range(4):
        time.sleep(drawn.uniform(0, 0.4))
        workers.disaster(drawn)
    workers.until("count(*) = 5 FROM task_runs WHERE state = 'done'")
    ada.sync()
    bob.sync()
    results = {ada.get("runs", f"a{n}")["result"] for n in range(4)}
    assert len(results) == 1
    assert bob.get("runs", "b")["result"] not in results
    stored = workers.sql("SELECT string_agg(to_jsonb(s)::text, '') FROM task_secrets s")
    stored += workers.sql("SELECT string_agg(encode(value, 'escape'), '') FROM task_secrets")
    kept = workers.sql("SELECT string_agg(to_jsonb(c)::text, '') FROM syncd.sync_changes c")
    log = (syncd_server.folder / "workers.log").read_text() + syncd_server.output()
    for text in (stored, kept, log, workers.sql("SELECT string_agg(to_jsonb(r)::text, '') FROM task_runs r")):
        assert text
        assert "secret" not in text.replace("task_secrets", "")


def test_what_is_missing_is_said_by_its_name(syncd_server: Server, workers: Workers) -> None:
    phone = syncd_server.replica("ada", app="tasks")
    asked(phone, "without", "sign", text="hello")
    phone.sync()
    workers.until("count(*) = 1 FROM task_runs WHERE state = 'failed'")
    phone.sync()
    assert phone.get("runs", "without")["error"] == "NoSecret('signing')"
    # A value that is newer than the workers' key: they begin with the run again until theirs opens it.
    done(keystore(syncd_server, "set", "*", "signing", value=VALUE, key=Fernet.generate_key().decode()))
    asked(phone, "other-key", "sign", text="hello")
    phone.sync()
    workers.until("attempt > 1 FROM task_runs WHERE id = 'other-key'")
    assert workers.sql("SELECT state FROM task_runs WHERE id = 'other-key'") == "running"
    done(keystore(syncd_server, "set", "*", "signing", value=VALUE))
    workers.until("state = 'done' FROM task_runs WHERE id = 'other-key'")
    # A row that is put in another's place.
    workers.sql(f"UPDATE task_secrets SET value = '{sealed('*', 'other', VALUE).decode()}'")
    asked(phone, "swapped", "sign", text="hello")
    phone.sync()
    workers.until("count(*) = 2 FROM task_runs WHERE state = 'failed'")
    phone.sync()
    assert phone.get("runs", "swapped")["error"] == "NoSecret('signing: the row is of another secret')"


def run_of(task: str, value: str = VALUE) -> Run:
    return Run("s", "r", "ada", task, {}, [], None, 1, ask=lambda name: value)


def test_a_run_that_would_show_a_secret_keeps_nothing() -> None:
    def returns(run: Run) -> object:
        return {"deep": [f"x{run.secret('signing')}x"]}

    def writes(run: Run) -> None:
        run.write("entries", "e", {"text": run.secret("signing")})

    def raises(run: Run) -> None:
        run.write("entries", "e", {})
        raise ValueError("refused: " + run.secret("signing"))

    def says(run: Run) -> None:
        raise ValueError({"of": run.secret("signing")})

    tasks = {"returns": returns, "writes": writes, "raises": raises, "says": says}
    for name, error in (
        ("returns", "SecretShown('signing')"),
        ("writes", "SecretShown('signing')"),
        ("raises", "ValueError(<signing>)"),
        ("says", "ValueError(<signing>)"),
    ):
        run = run_of(name)
        assert replay(run, tasks) == {"error": error}
        assert run.writes == []
        assert "long" not in repr(run)


@pytest.mark.parametrize("value", [VALUE, "pass'word123", "a'b\"c\\\\'d", "\u00e4\U0001f600 'kl' 12", "'12345678"])
def test_a_secret_is_found_however_it_is_written(value: str) -> None:
    ways: list[Callable[[str], Any]] = [
        str,
        repr,
        ascii,
        json.dumps,
        lambda s: repr(f'login "ada" refused with {s}'),
        lambda s: json.dumps([s], ensure_ascii=False),
        lambda s: json.dumps({"body": json.dumps({"key": s})}),
        lambda s: repr(s.encode()),
        lambda s: {s: 1},
        lambda s: [{"a": ({"b": s},)}],
    ]

    def raised(what: Any) -> None:
        raise ValueError(f'login "ada" refused with {what}', what)

    def called(what: Any) -> Iterator[Call]:
        yield Call("t" if isinstance(what, dict) else str(what), {"of": what})

    for way in ways:
        tasks = {
            "returns": lambda run, way=way: way(run.secret("signing")),
            "writes": lambda run, way=way: run.write("t", "i", {"f": way(run.secret("signing"))}),
            "calls": lambda run, way=way: called(way(run.secret("signing"))),
            "raises": lambda run, way=way: raised(way(run.secret("signing"))),
        }
        for name in tasks:
            error = "ValueError(<signing>)" if name == "raises" else "SecretShown('signing')"
            assert replay(run_of(name, value), tasks) == {"error": error}, (name, value)


def test_what_has_no_secret_in_it_is_kept() -> None:
    def fails(run: Run) -> None:
        run.secret("signing")
        raise ValueError("no room")

    def goes_well(run: Run) -> Any:
        run.secret("signing")
        return {"long": "of two lines"}

    tasks = {"fails": fails, "goes_well": goes_well}
    assert replay(run_of("fails"), tasks) == {"error": "ValueError('no room')"}
    assert replay(run_of("goes_well"), tasks) == {"result": {"long": "of two lines"}}


def test_a_passing_fault_is_no_end_of_a_run_and_an_exit_is_one() -> None:
    def asks(run: Run) -> str:
        return run.secret("signing")

    def swallows(run: Run) -> str:
        with contextlib.suppress(Exception):
            return run.secret("signing")
        return "without"

    def ends(run: Run) -> None:
        run.write("entries", "e", {})
        sys.exit("enough")

    def cut(name: str) -> str:
        raise ConnectionResetError

    tasks = {"asks": asks, "swallows": swallows, "ends": ends}
    for name in ("asks", "swallows"):
        run = run_of(name)
        run.ask = cut
        with pytest.raises(ConnectionResetError):
            replay(run, tasks)
    run = run_of("ends")
    assert replay(run, tasks) == {"error": "SystemExit('enough')"}
    assert run.writes == []


def test_a_rotation_names_what_no_key_opens(syncd_server: Server, key: str) -> None:
    lost, new = (Fernet.generate_key().decode() for _ in range(2))
    done(keystore(syncd_server, "set", "*", "kept", value=VALUE))
    done(keystore(syncd_server, "set", "garden", "lost", value=VALUE, key=lost))
    process = keystore(syncd_server, "rotate", key=f"{new},{key}")
    said, wrong = process.communicate(timeout=120)
    assert (process.returncode, said, wrong) == (1, "", "nothing is rotated, as no key opens: garden lost\n")
    done(keystore(syncd_server, "remove", "garden", "lost"))
    assert done(keystore(syncd_server, "rotate", key=f"{new},{key}")) == "1\n"


def test_a_key_is_changed_in_one_step_wherever_it_is_killed(syncd_server: Server, key: str) -> None:
    done(keystore(syncd_server, "set", "*", "n0", value=VALUE))
    sql = Workers(syncd_server, 0).sql
    with pytest.raises(ValueError, match="8 characters"):
        sealed("*", "short", "1234567")
    rows = ", ".join(f"('*', 'n{n}', '{sealed('*', f'n{n}', VALUE).decode()}')" for n in range(1, 300))
    sql(f"INSERT INTO task_secrets VALUES {rows}")
    for turn in range(6):
        new = Fernet.generate_key().decode()
        process = keystore(syncd_server, "rotate", key=f"{new},{key}")
        try:
            process.wait(0.3 + 0.15 * turn)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        values = [row.encode() for row in sql("SELECT encode(value, 'escape') FROM task_secrets").splitlines()]
        opened = {name: sum(opens(name, value) for value in values) for name in (new, key)}
        assert sorted(opened.values()) == [0, 300]
        key = new if opened[new] else key
    assert done(keystore(syncd_server, "rotate", key=f"{new},{key}")) == "300\n"


def opens(key: str, value: bytes) -> bool:
    try:
        Fernet(key).decrypt(value)
    except Exception:
        return False
    return True


def test_without_a_key_there_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("", "short", "a,b"):
        monkeypatch.setenv("TASKS_KEY", wrong)
        with pytest.raises(NoSecret, match="TASKS_KEY"):
            keys()
    monkeypatch.delenv("TASKS_KEY")
    with pytest.raises(NoSecret, match="TASKS_KEY"):
        keys()
