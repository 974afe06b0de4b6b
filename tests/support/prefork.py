"""`python -m syncd …` without loading it anew each time: a process that has loaded it, and forks for each start.

To load what `syncd serve` runs takes most of a start, and a run of all tests starts some hundred servers. The forked
process does what an executed one does: environment, descriptors, user, signals, exit status and the words of `ps` are
its own. What is about starts, users, memory or the environment of processes is tested with executed ones.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[2]
# Room for the words of `ps`, which a process can write over but not make longer.
ROOM = "-" * 400
FORK_SERVER = "syncd.cli.fork_server"
# What a process reads of its environment when it begins, and no more afterwards.
AT_ITS_BEGINNING = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "TZ")


class PreforkedProcess:
    """What `subprocess.Popen` is for its caller, of a process that somebody else forked. `ends` gets its status."""

    def __init__(self, args: Sequence[str], pid: int, ends: int, stdout: IO[str] | None) -> None:
        self.args, self.pid, self.stdout = list(args), pid, stdout
        self.returncode: int | None = None
        self._ends = ends

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, sign: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sign)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ends], [], [], timeout)[0]:
            told = os.read(self._ends, 32)
            os.close(self._ends)
            # Nothing was told where the process that waits for it is gone as well.
            self.returncode = int(told) if told else -signal.SIGKILL
        return self.returncode


class Prefork:
    """The process that forks, from the first start on. It ends with the one that made this; what it forked goes on."""

    def __init__(self) -> None:
        self._environment, self._turn = _at_its_beginning(os.environ), threading.Lock()
        self._line: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def suits(self, more: Mapping[str, str]) -> bool:
        """Whether what it forks is as if it were executed with the environment of now, and more."""
        return _at_its_beginning({**os.environ, **more}) == self._environment

    def start(self, arguments: Sequence[str], env: Mapping[str, str], errors: int) -> PreforkedProcess:
        """`python -m syncd` with these arguments, its output by a pipe. Raises RuntimeError where it cannot be."""
        output, end = os.pipe()
        try:
            return self._fork(arguments, env, end, errors, open(output))
        finally:
            os.close(end)

    def run(self, arguments: Sequence[str], env: Mapping[str, str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Such a one to its end, with what it said. Raises subprocess.TimeoutExpired when it was killed."""
        with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
            process = self._fork(arguments, env, output.fileno(), errors.fileno(), None)
            try:
                status = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise
            output.seek(0)
            errors.seek(0)
            return subprocess.CompletedProcess(process.args, status, output.read(), errors.read())

    def _fork(
        self, arguments: Sequence[str], env: Mapping[str, str], output: int, errors: int, stdout: IO[str] | None
    ) -> PreforkedProcess:
        ends, end = os.pipe()
        asked = json.dumps({"arguments": list(arguments), "env": dict(env), "cwd": os.getcwd()}).encode()
        try:
            handed = array.array("i", [output, errors, end])
            with self._turn:
                self._line = self._line or self._begin()
                self._line.sendmsg([asked], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handed)])
                answer = self._line.recv(64)
        finally:
            os.close(end)
        if not answer:
            raise RuntimeError("the process that forks servers has ended")
        return PreforkedProcess(["syncd", *arguments], int(answer), ends, stdout)

    def close(self) -> None:
        """Ends it."""
        if self._line is not None and self._process is not None:
            self._line.close()
            self._process.wait(30)

    def _begin(self) -> socket.socket:
        line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno()), ROOM]
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd=REPOSITORY
            )
        return line


def _at_its_beginning(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_ITS_BEGINNING)}


class _ForkedChild:
    """What the supervisor sees of the fork server that it forked: a part of `subprocess.Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        deadline = time.monotonic() + timeout if timeout is not None else 0
        while timeout is not None and self._look(os.WNOHANG) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(FORK_SERVER, timeout)
            time.sleep(0.01)
        return self._look(0)

    def send_signal(self, sign: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sign)

    def _look(self, how: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, how)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _Subprocess:
    """The module of that name for the supervisor: a fork server is forked, all else is executed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: list[str], **how: Any) -> Any:
        if command[1:3] != ["-m", FORK_SERVER]:
            return subprocess.Popen(command, **how)
        pid = os.fork()
        if pid == 0:
            _be(lambda: _fork_server(command, **how), command, keep=how["pass_fds"])
        return _ForkedChild(pid)


def _fork_server(
    command: list[str], *, env: dict[str, str], preexec_fn: Callable[[], None], cwd: str | None = None,
    user: int | None = None, group: int | None = None, extra_groups: Sequence[int] | None = None, **how: Any,
) -> int:  # fmt: skip
    from syncd.cli import fork_server

    gc.disable()
    os.setsid()
    os.chdir(cwd or ".")
    if extra_groups is not None:
        os.setgroups(extra_groups)
    if group is not None:
        os.setregid(group, group)
    if user is not None:
        os.setreuid(user, user)
    preexec_fn()
    _take(env)
    return fork_server.main(*map(int, command[3:]))


def _syncd(arguments: list[str], env: dict[str, str], cwd: str) -> int:
    from syncd.cli import main, supervisor

    gc.enable()
    vars(supervisor)["subprocess"] = _Subprocess()
    os.chdir(cwd)
    _take(env)
    main(arguments, prog_name="syncd")
    return 0


def _take(env: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)


def _be(work: Callable[[], int], command: Sequence[str], keep: Iterable[int] = ()) -> NoReturn:
    """What a child does, never to come back to where it was forked: `work`, with no descriptor but the first three and
    those to keep, and with no handler of its parent."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for sign in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(sign, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        kept = {0, 1, 2, *keep}
        for descriptor in map(int, os.listdir("/proc/self/fd")):
            if descriptor not in kept:
                with contextlib.suppress(OSError):  # the one that the list was read by
                    os.close(descriptor)
        sys.argv = [_file_of(command[2]), *command[3:]]
        _show(command)
        status = work()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _file_of(module: str) -> str:
    """What `python -m` has as the first word: messages say how a program was called."""
    found = find_spec(f"{module}.__main__") if module == "syncd" else find_spec(module)
    return str(found.origin) if found is not None else module


def _show(command: Sequence[str]) -> None:
    """Writes over the words that `ps` shows of this process."""
    stat = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(stat[45]), int(stat[46])
    words = b"\0".join(word.encode() for word in command)[: end - start - 1]
    ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


class _Forker:
    """What runs in the process that forks: no thread, no event loop."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._ends: dict[int, int] = {}

    def run(self) -> None:
        wakes, woken = socket.socketpair()
        for end in (wakes, woken):
            end.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        # Who interrupts the tests means the tests, which end this.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        gc.collect()
        gc.freeze()
        while True:
            ready, _, _ = select.select([self._line, wakes], [], [])
            if wakes in ready:
                wakes.recv(4096)
            self._reap()
            if self._line in ready and not self._answer():
                return

    def _answer(self) -> bool:
        asked, rights, _, _ = self._line.recvmsg(1 << 20, socket.CMSG_SPACE(12))
        if not asked:
            return False
        output, errors, ends = array.array("i", rights[0][2])
        told = json.loads(asked)
        pid = os.fork()
        if pid == 0:
            os.dup2(output, 1)
            os.dup2(errors, 2)
            command = [sys.executable, "-m", "syncd", *told["arguments"]]
            _be(lambda: _syncd(told["arguments"], told["env"], told["cwd"]), command)
        for descriptor in (output, errors):
            os.close(descriptor)
        self._ends[pid] = ends
        self._line.send(str(pid).encode())
        return True

    def _reap(self) -> None:
        while self._ends:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            ends = self._ends.pop(pid)
            with contextlib.suppress(BrokenPipeError):
                os.write(ends, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(ends)


def _main() -> None:
    import rich.progress
    from click import Context

    # What serves does without it, and says so to all that it loads; what shows progress does not.
    coloured = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == rich.__name__}
    import syncd.cli.fork_server
    import syncd.cli.supervisor
    import syncd.postgres.migrate

    for name in syncd.cli.COMMANDS:
        syncd.cli.main.get_command(Context(syncd.cli.main), name)
    sys.modules.update(coloured)
    _Forker(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    _main()
